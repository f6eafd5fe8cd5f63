"""A neighbour that keeps its token with wechatpy, 1 or 2, and that library's RedisStorage."""

import json
import os
import time
import types
import urllib.parse

import redis
import requests
import wechatpy
import wechatpy.client.base
from requests.adapters import HTTPAdapter
from wechatpy import WeChatClient
from wechatpy.exceptions import WeChatException
from wechatpy.session.redisstorage import RedisStorage

REFUSED = (40001, 40014, 42001)
TOKEN_PATHS = ("/cgi-bin/token", "/cgi-bin/stable_token")


def env(name, fallback=None):
    value = os.environ.get("NEIGHBOUR_" + name) or fallback
    if value is None:
        raise SystemExit(f"NEIGHBOUR_{name} is missing")
    return value


class Events:
    """One JSON line per event, and the counters of the last line. Never a token, a secret or an error's text."""

    def __init__(self, kind, mode):
        self.about = {"kind": kind, "mode": mode}
        names = ("calls", "ok", "failed", "beside", "mesh", "rejected", "token_calls", "token_failures")
        self.counters = dict.fromkeys(names, 0)

    def emit(self, event, **fields):
        print(json.dumps({"event": event, **fields}), flush=True)

    def call(self, via, errcode, error=None):
        """How a business call ended for its caller; errcode is None where there was none."""
        ok = errcode == 0
        for name in ("calls", via, "ok" if ok else "failed"):
            self.counters[name] += 1
        self.emit("call", via=via, ok=ok, errcode=errcode, **({"error": error} if error else {}))

    def rejected(self, via, errcode):
        if errcode in REFUSED:
            self.counters["rejected"] += 1
            self.emit("rejected", via=via, errcode=errcode)

    def token_call(self, ok, errcode):
        self.counters["token_calls"] += 1
        self.counters["token_failures"] += not ok
        self.emit("token_call", ok=ok, errcode=errcode)


def errcode_of(body):
    """0 where the answer has none; it may be a text, or sit in base_resp."""
    try:
        answer = json.loads(body)
        return int(answer.get("base_resp", answer).get("errcode", 0))
    except (ValueError, AttributeError):
        return 0


class Wire(HTTPAdapter):
    """Stands for https://api.weixin.qq.com, whose name the library's token call has as a constant; sees every answer."""

    def __init__(self, wechat, events, scale):
        super().__init__()
        self.wechat, self.events, self.scale = wechat, events, scale

    def send(self, request, **options):
        request.url = request.url.replace("https://api.weixin.qq.com", self.wechat, 1)
        response = super().send(request, **options)
        errcode = errcode_of(response.content)
        if urllib.parse.urlsplit(request.url).path in TOKEN_PATHS:
            self.events.token_call(response.status_code == 200 and errcode == 0, errcode)
            self.scale_life(response)
        else:
            self.events.rejected("beside", errcode)
        return response

    def scale_life(self, response):
        """Tells the library the life in WeChat's seconds, so that its fixed margin of 60 s stays in proportion."""
        answer = response.json()
        if self.scale != 1 and "expires_in" in answer:
            answer["expires_in"] = round(answer["expires_in"] / self.scale)
            response._content = json.dumps(answer).encode()


class ScaledRedis:
    """What RedisStorage wants of a client, with times to live in WeChat's seconds scaled to real milliseconds."""

    def __init__(self, client, scale):
        self.get, self.delete = client.get, client.delete
        self.client, self.scale = client, scale

    def set(self, key, value, ex=None):
        return self.client.set(key, value, px=None if ex is None else int(ex * 1000 * self.scale))


def through_the_mesh(mesh, number, events):
    """A plain call without a token: GET and POST in turn."""
    headers = {"Host": "api.weixin.qq.com", "Content-Type": "application/json"}
    try:
        if number % 2 == 0:
            response = requests.get(mesh + "/cgi-bin/getcallbackip", headers=headers, timeout=30)
        else:
            url = mesh + "/cgi-bin/message/template/send"
            response = requests.post(url, data=b'{"touser":"o1"}', headers=headers, timeout=30)
    except requests.RequestException as error:
        events.call("mesh", None, type(error).__name__)
        return
    if response.status_code != 200:
        events.call("mesh", None, f"status {response.status_code}")
        return
    errcode = errcode_of(response.content)
    events.rejected("mesh", errcode)
    events.call("mesh", errcode)


def main():
    host, port = env("REDIS", "127.0.0.1:6379").rsplit(":", 1)
    scale, mode, mesh = float(env("LIFE_SCALE", "1")), env("MODE", "own"), env("MESH", "")
    kind = "wechatpy-2" if wechatpy.__version__.startswith("2.") else "wechatpy"
    store = redis.Redis(host, int(port), int(env("REDIS_DB", "0")))
    if scale != 1:
        if kind == "wechatpy-2":
            raise SystemExit("NEIGHBOUR_LIFE_SCALE: wechatpy 2 shares its deadline in Redis, so its clock must be the real one")
        store = ScaledRedis(store, scale)
        # The library compares its own deadline with this clock; it is the only thing that it takes from `time`.
        start = time.time()
        clock = types.SimpleNamespace(time=lambda: start + (time.time() - start) / scale)
        wechatpy.client.base.time = clock
    events = Events(kind, mode)
    # A reader has no valid secret, so every token that it uses was written by somebody else.
    secret = "no-secret" if mode == "reader" else env("SECRET")
    client = WeChatClient(env("APPID"), secret, session=RedisStorage(store, env("PREFIX", "wechatpy")))
    client._http.mount("https://api.weixin.qq.com", Wire(env("WECHAT"), events, scale))

    events.emit("ready", **events.about)
    end, pause = time.monotonic() + float(env("RUN_MS", "10000")) / 1000, float(env("PAUSE_MS", "200")) / 1000
    number = 0
    while number == 0 or time.monotonic() < end:
        failures = events.counters["token_failures"]
        try:
            client.misc.get_wechat_ips()
            events.call("beside", 0)
        except WeChatException as error:
            # The token call's own errcode is in its event.
            no_token = events.counters["token_failures"] > failures
            events.call("beside", *((None, "no token") if no_token else (error.errcode,)))
        except (requests.RequestException, redis.RedisError, RecursionError, ValueError, TypeError) as error:
            # The last two: what the keys hold is not JSON, or not of the expected type.
            events.call("beside", None, type(error).__name__)
        if mesh:
            through_the_mesh(mesh, number, events)
        number += 1
        time.sleep(pause)
    events.emit("summary", **events.about, **events.counters)


main()
