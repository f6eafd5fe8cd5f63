#!/usr/bin/env python3
"""Checks the Prometheus of a compose file: it has the shipped rules, gets metrics from these Envoys, and sees the service's calls.

    compose-monitoring.py PROMETHEUS ENVOY…     Prometheus' URL, the names of the Envoys' services
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

RULES = Path(__file__).resolve().parent.parent / "envoy/monitoring/rules.yaml"


def fail(what):
    sys.exit(f"compose-monitoring: {what}")


def get(url, call, **query):
    with urllib.request.urlopen(f"{url}/api/v1/{call}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
        return json.load(answer)["data"]


def wait_for(what, holds, seconds=60):
    """Prometheus may not listen yet, and its first scrapes come within 15 s."""
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                print(f"compose-monitoring: {what}")
                return
        except OSError as error:
            last = error
        else:
            last = "not so"
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what} ({last})")
        time.sleep(0.5)


def main():
    url, *envoys = sys.argv[1:]
    wanted = re.findall(r"^  - alert: (\w+)$", RULES.read_text(), re.MULTILINE)

    def rules():
        groups = get(url, "rules")["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "err"] == wanted

    def targets():
        active = get(url, "targets")["activeTargets"]
        up = {target["labels"]["instance"] for target in active if target["health"] == "up"}
        return up == {f"{envoy}:9902" for envoy in envoys} and len(active) == len(envoys)

    def value(expr):
        result = get(url, "query", query=expr)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    wait_for(f"all {len(wanted)} rules are loaded", rules)
    wait_for(f"it gets metrics from {' and '.join(envoys)}", targets)
    calls = 'wechat_token_injected_total{instance="envoy:9902"}'
    wait_for("the service's calls get tokens", lambda: value(f"sum(increase({calls}[1m]))") > 0)


main()
