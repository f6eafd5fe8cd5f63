#!/usr/bin/env python3
"""Holds a release's tag to Cargo.toml and CHANGELOG.md, and prints what the CHANGELOG says of it.

    changelog.py TAG

The tag is `v` and the version of Cargo.toml; CHANGELOG.md has the section `## VERSION - YYYY-MM-DD`, with something in it. Exit code 1 and one line otherwise.
"""

import re
import sys
from pathlib import Path

VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
HEADING = re.compile(r"^## (?P<version>\S+) - (?P<date>.+)$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Refused(Exception):
    """Why this is no release."""


def notes(tag: str, cargo: str, changelog: str) -> str:
    found = VERSION.search(cargo)
    version = found.group(1) if found else "none"
    if tag != f"v{version}":
        raise Refused(f"the tag is {tag}, and Cargo.toml has version {version}: expected v{version}")
    headings = list(HEADING.finditer(changelog))
    for heading, following in zip(headings, [*headings[1:], None]):
        if heading["version"] != version:
            continue
        if not DATE.fullmatch(heading["date"]):
            raise Refused(f"CHANGELOG.md has no date for {version} but '{heading['date']}': write the day of the release")
        text = changelog[heading.end() : following.start() if following else None].strip()
        if not text:
            raise Refused(f"CHANGELOG.md says nothing about {version}")
        return text
    raise Refused(f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(__file__).resolve().parent.parent
    read = lambda name: (root / name).read_text(encoding="utf-8")
    try:
        print(notes(sys.argv[1], read("Cargo.toml"), read("CHANGELOG.md")))
    except Refused as refused:
        print(f"changelog: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
