"""A service that calls WeChat once a second and knows nothing of tokens: no appid, no secret, no access_token.

It calls WeChat by its name; the environment variable http_proxy leads it through Envoy. It needs Python's standard library only.
"""

import json
import signal
import sys
import time
import urllib.request

URL = "http://api.weixin.qq.com/cgi-bin/get_api_domain_ip"

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while True:
    try:
        with urllib.request.urlopen(URL, timeout=20) as answer:
            print(answer.status, json.load(answer), flush=True)
    except OSError as error:  # also an answer with a status such as 503
        print("no answer:", error, flush=True)
    time.sleep(1)
