#!/usr/bin/env python3
"""Shows that the neighbours work, without the plugin: each one alone with a real Redis and the fake WeChat.

    tests/interop/neighbours/check.py [NAME…]      all of them without an argument; about three minutes

Each neighbour is run three times: `own` with tokens that live some seconds, over some rotations; `reader` without a valid secret, with tokens that
this script writes in the library's own format; and `own` once more while WeChat revokes the token. What the third run expects are the
libraries' real ways, also where they are bad: see the README's table.
"""

import contextlib
import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SECRET = "an-app-secret-for-the-neighbours"
# WeChat tells whole seconds: 8 of 8.5. So nobody is refused who believes it.
LIFETIME_MS, TOLD_S = 8500, 8
SCALE = TOLD_S / 7200
# For a library with a fixed margin of 60 s and a clock that must be the real one: six seconds more than that.
UNSCALED_S = 66
# What this script writes: as long as the seed does, which renews a key that has less than ten minutes left.
KEY_LIFE_MS = 6_600_000
# At most so many neighbours at once: it is about seconds, on two cores.
AT_ONCE = 3


def plain(token):
    return token.encode()


def quoted(token):
    return json.dumps(token).encode()


def kryo(token):
    """Kryo 5's class id of String, then the length plus one as a number with a flag in its first byte, then the text. For 63 characters or more."""
    length = len(token) + 1
    return bytes([3, 0xC0 | length & 0x3F, length >> 6]) + token.encode()


@dataclass
class Case:
    name: str
    key: str
    # What the library writes as time to live, in WeChat's seconds.
    ttl: float
    encode: object = plain
    env: dict = field(default_factory=dict)
    # The key that the reader is told, where the default one has the secret in it.
    reader_key: str = ""
    refreshes_when_refused: bool = True
    # Its rules cannot be scaled: tokens of UNSCALED_S in its first run.
    unscaled: bool = False

    def title(self):
        return " ".join([self.name, *(f"{name.lower()}={value}" for name, value in self.env.items())])


CASES = [
    Case("seed", "wechat:access_token", 6600),
    Case("wxjava-redis", "wx:access_token:{appid}", 7200),
    Case("wxjava-redis", "shop:access_token:{appid}", 7200, env={"STABLE": "1", "PREFIX": "shop"}),
    Case("wxjava-redisson", "wechat_ma_access_token_key:{appid}", 7200, kryo),
    Case("wxjava-redisson", "shop:wechat_ma_access_token_key:{appid}", 7200, env={"CODEC": "string", "PREFIX": "shop"}),
    Case("silenceper", "gowechat_officialaccount__access_token_{appid}", 5700, refreshes_when_refused=False),
    Case("silenceper", "gowechat_officialaccount__stable_access_token_{appid}", 6900, env={"STABLE": "1"}, refreshes_when_refused=False),
    Case("wechatpy", "wechatpy:{appid}_access_token", 7200, quoted),
    Case("wechatpy-2", "wechatpy:{appid}_access_token", UNSCALED_S, quoted, unscaled=True),
    Case("easywechat", "official_account.access_token.{appid}.{secret}.0", 7200, reader_key="shop.{appid}", refreshes_when_refused=False),
    Case("easywechat", "official_account.access_token.{appid}.{secret}.1", 7200, env={"STABLE": "1"}, reader_key="shop.{appid}", refreshes_when_refused=False),
]


class Failed(Exception):
    pass


def expect(holds, what):
    if not holds:
        raise Failed(what)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(holds, what, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        expect(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Redis:
    """Just enough of the protocol; a connection per command."""

    def __init__(self, port, db):
        self.port, self.db = port, db

    def __call__(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection, connection.makefile("rwb") as stream:
            for command in (["SELECT", self.db], words):
                stream.write(b"*%d\r\n" % len(command))
                for word in command:
                    word = word if isinstance(word, bytes) else str(word).encode()
                    stream.write(b"$%d\r\n%s\r\n" % (len(word), word))
                stream.flush()
                reply = self.read(stream)
            return reply

    def read(self, stream):
        line = stream.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
        expect(kind != b"-", f"redis: {rest.decode()}")
        return int(rest) if kind == b":" else rest


class WeChat:
    """A fake WeChat with one app for each case."""

    def __init__(self, stack, folder, *options):
        self.api, self.control = free_port(), free_port()
        command = [ROOT / "target/debug/fake-wechat", "--listen", f"127.0.0.1:{self.api}", "--control", f"127.0.0.1:{self.control}"]
        for number in range(len(CASES)):
            command += ["--app", f"{appid(number)}:{SECRET}"]
        start(stack, [*command, *options], folder / f"fake-{self.api}.log", self.control)

    def get(self, path):
        return self.call("GET", self.control, path)

    def post(self, path, body):
        return self.call("POST", self.control, path, json.dumps(body))

    def token(self, app):
        return self.call("GET", self.api, f"/cgi-bin/token?grant_type=client_credential&appid={app}&secret={SECRET}")["access_token"]

    def call(self, method, port, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, body)
        return json.loads(connection.getresponse().read())


class Mesh(http.server.BaseHTTPRequestHandler):
    """Stands for the Envoy: checks what a caller must send through the mesh."""

    complaints = []
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        good = self.headers["Host"] == "api.weixin.qq.com" and "access_token" not in self.path and self.path.startswith("/cgi-bin/")
        if not good or (self.command == "POST") != bool(body):
            self.complaints.append(f"{self.command} {self.path} to {self.headers['Host']}, {len(body)} bytes")
        reply = b'{"errcode":0,"errmsg":"ok"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Run:
    """A neighbour at work, and its events so far."""

    def __init__(self, case, world, number, fake, mode, seconds, **more):
        settings = {
            "REDIS": f"127.0.0.1:{world.redis_port}",
            "REDIS_DB": str(number),
            "WECHAT": f"http://127.0.0.1:{fake.api}",
            "MESH": f"http://127.0.0.1:{world.mesh_port}",
            "APPID": appid(number),
            "MODE": mode,
            "RUN_MS": str(int(seconds * 1000)),
            "PAUSE_MS": "100",
            **({"SECRET": SECRET} if mode == "own" else {}),
            **case.env,
            **more,
        }
        environment = {**os.environ, **{f"NEIGHBOUR_{name}": value for name, value in settings.items()}}
        self.events, self.errors = [], tempfile.TemporaryFile()
        self.process = subprocess.Popen([HERE / "run.sh", case.name], env=environment, stdout=subprocess.PIPE, stderr=self.errors)
        self.text = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.text += line
            self.events.append(json.loads(line))

    def count(self, event, **fields):
        return sum(e["event"] == event and fields.items() <= e.items() for e in list(self.events))

    def ready(self):
        until(lambda: self.count("call", ok=True) >= 3, "three good calls")

    def finish(self, fake, seconds=60):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"still running after {seconds} s") from None
        self.reader.join(5)
        self.errors.seek(0)
        told = self.text + self.errors.read()
        expect(status == 0, f"exit code {status}: {told[-300:]!r}")
        leaks = [leak for leak in fake.get("/control/secrets")["leaks"] if leak.encode() in told]
        expect(not leaks, f"{len(leaks)} tokens or secrets in the output")
        summary = self.events[-1]
        expect(summary["event"] == "summary", f"the last line is {summary}")
        expect(summary["calls"] == summary["beside"] + summary["mesh"] == self.count("call"), f"the counters differ: {summary}")
        return summary


@dataclass
class World:
    redis_port: int
    mesh_port: int
    # Tokens of 8.5 s, of 66.5 s, and of two hours.
    short: WeChat
    unscaled: WeChat
    long: WeChat


def appid(number):
    return f"wx{number:016d}"


def start(stack, command, log, port):
    process = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)

    def listens():
        expect(process.poll() is None, f"{command[0]} does not start: {log.read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, f"{command[0]} listens")


def check_own(case, world, number):
    """Some rotations: every call succeeds, nothing was refused, and the key looks as the README says."""
    app, redis = appid(number), Redis(world.redis_port, number)
    key = case.key.format(appid=app, secret=SECRET)
    fake, scale = (world.unscaled, 1) if case.unscaled else (world.short, SCALE)
    run = Run(case, world, number, fake, "own", 20, LIFE_SCALE=str(scale))
    longest, values = 0, set()
    while run.process.poll() is None:
        longest = max(longest, redis("PTTL", key))
        values.add(redis("GET", key))
        time.sleep(0.02)
    summary = run.finish(fake)
    expect(summary["failed"] == summary["rejected"] == summary["token_failures"] == 0, f"own: {summary}")
    expect(summary["token_calls"] >= 3, f"own: fewer than two rotations: {summary}")
    seen = fake.get("/control/report")["apps"][app]["token_calls"]
    expect(summary["token_calls"] == seen, f"own: {summary['token_calls']} token calls told, {seen} seen by WeChat")
    expect(0.9 * case.ttl * scale <= longest / 1000 <= case.ttl * scale + 0.001, f"own: the time to live was {longest} ms")
    known = {case.encode(token) for token in fake.get("/control/secrets")["leaks"]}
    expect(values - {None} <= known, f"own: a value that is no token in the expected format: {[value[:8] for value in values - {None} - known]}")
    return f"own {summary['calls']} calls, {summary['token_calls']} token calls"


def check_reader(case, world, number):
    """Another one's tokens: the first one and its successor are used as soon as they are written, without a token call."""
    app, redis, fake = appid(number), Redis(world.redis_port, number), world.long
    redis("FLUSHDB")
    key = (case.reader_key or case.key).format(appid=app, secret=SECRET)
    redis("SET", key, case.encode(fake.token(app)), "PX", KEY_LIFE_MS)
    run = Run(case, world, number, fake, "reader", 5, **({"KEY": key} if case.reader_key else {}))
    run.ready()
    redis("SET", key, case.encode(fake.token(app)), "PX", KEY_LIFE_MS)
    summary = run.finish(fake)
    expect(summary["failed"] == summary["rejected"] == summary["token_calls"] == 0, f"reader: {summary}")
    calls = [call for call in fake.get("/control/calls?tail=4096") if call["appid"] == app]
    tokens = [call["token"] for call in calls if call["target"].startswith("/cgi-bin/getcallbackip")]
    expect(len(set(tokens)) == 2 and tokens == sorted(tokens), f"reader: the tokens used were {tokens}")
    return f"reader {summary['calls']} calls with {len(set(tokens))} tokens"


def check_refused(case, world, number):
    """WeChat revokes the token: some libraries get another one within the same call, others go on with it."""
    app, redis, fake = appid(number), Redis(world.redis_port, number), world.long
    redis("FLUSHDB")
    run = Run(case, world, number, fake, "own", 6)
    run.ready()
    fake.post("/control/revoke", {"appid": app, "errcode": 40001})
    until(lambda: run.count("rejected") >= 1, "a refused token")
    if not case.refreshes_when_refused:
        until(lambda: run.count("call", ok=False, errcode=40001) >= 5, "five refused calls")
        key = case.key.format(appid=app, secret=SECRET)
        redis("SET", key, case.encode(fake.token(app)), "PX", KEY_LIFE_MS)
    good = run.count("call", ok=True, via="beside")
    until(lambda: run.count("call", ok=True, via="beside") > good + 3, "good calls again")
    summary = run.finish(fake)
    if case.refreshes_when_refused:
        expect(summary["failed"] == 0 and summary["rejected"] == 1 and summary["token_calls"] == 2, f"refused: {summary}")
    else:
        expect(summary["failed"] == summary["rejected"] >= 5 and summary["token_calls"] == 1, f"refused: {summary}")
    return f"refused {summary['rejected']}, {summary['token_calls']} token calls, {summary['failed']} calls failed"


def check(case, world, number):
    done = []
    try:
        for step in (check_own, check_reader, check_refused):
            done.append(step(case, world, number))
    except Failed as failure:
        return f"{case.title()}: {'; '.join(done)}\n    FAILED {failure}", False
    return f"{case.title()}: {'; '.join(done)}", True


def main():
    names = sys.argv[1:]
    cases = [(number, case) for number, case in enumerate(CASES) if not names or case.name in names]
    subprocess.run([HERE / "setup.sh"], check=True)
    subprocess.run(["cargo", "build", "--quiet", "-p", "support", "--bin", "fake-wechat"], cwd=ROOT, check=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_port = free_port()
        redis = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        start(stack, redis, folder / "redis.log", redis_port)
        mesh = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mesh)
        stack.callback(mesh.shutdown)
        threading.Thread(target=mesh.serve_forever, daemon=True).start()
        # WeChat's 300 s would be a third of a second: less than expires_in can tell, and less than the 2 s before the end in which WxJava asks.
        short = WeChat(stack, folder, "--token-lifetime", f"{LIFETIME_MS}ms", "--overlap", "3s")
        unscaled = WeChat(stack, folder, "--token-lifetime", f"{UNSCALED_S * 1000 + 500}ms")
        world = World(redis_port, mesh.server_address[1], short, unscaled, WeChat(stack, folder))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda item: check(item[1], world, item[0]), cases))
        for text, _ in results:
            print(text)
        failed = sum(not good for _, good in results)
        for fake in (world.short, world.unscaled, world.long):
            for violation in fake.get("/control/report")["violations"]:
                print(f"FAILED WeChat complains: {violation['rule']} {violation['path']} {re.sub(r'[A-Za-z0-9_-]{32,}', '…', violation['detail'])}")
                failed += 1
        for complaint in Mesh.complaints:
            print(f"FAILED the mesh complains: {complaint}")
            failed += 1
    print(f"{sum(good for _, good in results)} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
