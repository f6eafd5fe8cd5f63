#!/usr/bin/env python3
"""Checks what envoy/docker-compose.redis.yaml starts: two Envoys with one token, also while Redis is away.

    compose-redis.py URL URL CONTROL STOP START     the Envoys, the fake WeChat's control API, commands that stop and start Redis
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

PATH = "/cgi-bin/get_api_domain_ip"


def fail(what):
    sys.exit(f"compose-redis: {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def call(url):
    try:
        answer = get(url + PATH)
    except (OSError, urllib.error.HTTPError) as error:
        fail(f"a call through {url}: {error}")
    if "ip_list" not in answer:
        fail(f"a call through {url} was answered {answer}")


def call_until(urls, holds, what, seconds=60):
    """Calls through both until something holds; every call must be good."""
    end, calls = time.monotonic() + seconds, 0
    while not holds():
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what}")
        for url in urls:
            call(url)
            calls += 1
    print(f"compose-redis: {what} ({calls} calls, all good)")


def main():
    *urls, control, stop, start = sys.argv[1:]

    def made():
        return [call for call in get(control + "/control/report")["token_log"] if call["outcome"] == "made"]

    def agree():
        for url in urls:
            call(url)
        tail = [seen for seen in get(control + "/control/calls?tail=32") if seen["target"].startswith(PATH)]
        return len({seen["token"] for seen in tail[-len(urls):]}) == 1

    end = time.monotonic() + 60
    for url in urls:
        while True:
            try:
                get(url + PATH)
                break
            except OSError as error:
                if time.monotonic() > end:
                    fail(f"{url} does not serve: {error}")
                time.sleep(0.2)
    # Envoys that start before Redis go round it, each with a call of its own. From the next token on it is one refresher.
    call_until(urls, lambda: made()[-1:] and made()[-1]["api"] == "classic" and agree(), "both Envoys use a token that one of them made")
    calls = len(get(control + "/control/report")["token_log"])
    call_until(urls, lambda: len(get(control + "/control/report")["token_log"]) >= calls + 4, "three rotations, and a fourth begun")
    log = get(control + "/control/report")["token_log"][calls:][:3]
    if any(call["api"] != "classic" or call["outcome"] != "made" for call in log):
        fail(f"the token calls are not those of one refresher: {log}")
    if any(later["at_ms"] < call["ended_ms"] for call, later in zip(log, log[1:])):
        fail(f"two Envoys called WeChat at once: {log}")
    call_until(urls, agree, "both Envoys use the same token")
    subprocess.run(stop, shell=True, check=True)
    away = len(made())
    call_until(urls, lambda: len(made()) >= away + 2, "two rotations without Redis")
    subprocess.run(start, shell=True, check=True)
    back = len(made())
    call_until(urls, lambda: made()[-1]["api"] == "classic" and len(made()) > back, "Redis is back, and a token of the classic endpoint", 90)
    call_until(urls, agree, "both Envoys use the same token again")
    report = get(control + "/control/report")
    if report["business_errcodes"] or report["violations_total"]:
        fail(f"WeChat refused calls: {report['business_errcodes']}, {report['violations']}")


main()
