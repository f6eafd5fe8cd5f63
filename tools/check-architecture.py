#!/usr/bin/env python3
"""Keeps the architecture that the compiler cannot: the core decides, the shell acts.

- Only src/lib.rs, src/host.rs and src/host/ name the host: `extern "C"`, a hostcall (`proxy_…`), the module `host`.
- `unsafe` stands in src/host/abi.rs alone.
- No source file over 400 lines, no mod.rs.
- Nothing half done: no `todo!`, `unimplemented!`, `#[ignore]`, and no comment that promises to do it later.

Comments are left out where code is meant, so that the core's documentation may speak of the host. Prints every breach as path:line; exit code 1 if any.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
SOURCES = {".rs", ".py", ".sh", ".lua", ".go"}

SHELL = re.compile(r"src/(lib\.rs|host\.rs|host/.*)")
HOST = re.compile(r'extern "C"|\bproxy_[a-z]|\bhostcalls?\b|\b(crate|super)::host\b')
UNSAFE = re.compile(r"\bunsafe\b")
UNFINISHED = re.compile(r"\b(todo|unimplemented)!|#\[ignore\b|\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def without_comment(line: str) -> str:
    """The code of a Rust line. A `//` after an odd number of quotes is inside a string, as in a URL."""
    at = line.find("//")
    while at >= 0 and line[:at].count('"') % 2 == 1:
        at = line.find("//", at + 2)
    return line if at < 0 else line[:at]


def breaches(name: str, lines: list[str]) -> Iterator[tuple[int, str]]:
    if len(lines) > MAX_LINES:
        yield len(lines), f"{len(lines)} lines, more than {MAX_LINES}: split it"
    if name.endswith("/mod.rs"):
        yield 1, "mod.rs: name the file after its module"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            yield number, "unfinished work: do it, or file an issue"
        if not (name.startswith("src/") and name.endswith(".rs")):
            continue
        code = without_comment(line)
        if HOST.search(code) and not SHELL.fullmatch(name):
            yield number, "the core names the host: only src/lib.rs, src/host.rs and src/host/ may"
        if UNSAFE.search(code) and name != "src/host/abi.rs":
            yield number, "unsafe code: only src/host/abi.rs may have it"


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = 0
    for name in sorted(set(listed.stdout.splitlines())):
        path = ROOT / name
        if path.suffix in SOURCES and path.is_file() and path.resolve() != Path(__file__).resolve():
            for number, problem in breaches(name, path.read_text(encoding="utf-8").splitlines()):
                print(f"{name}:{number}: {problem}", file=sys.stderr)
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
