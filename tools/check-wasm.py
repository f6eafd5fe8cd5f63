#!/usr/bin/env python3
"""Holds the built .wasm to what it may ask of its host and what it may offer.

    check-wasm.py FILE.wasm [LINKED.wasm]

- Imports are a subset of tools/wasm-imports.txt: a new hostcall is a decision, not an accident.
- Exports equal tools/wasm-exports.txt: Envoy calls every callback that it finds, on every request, also an empty one.
- At most MAX_BYTES.
- No path of the machine that built it (panic messages hold source paths): the file is the same wherever it is built.
- No command wrappers in LINKED.wasm, the linker's output before wasm-opt (they show in its name section): without an `_initialize`
  that calls `__wasm_call_ctors`, the linker wraps every export in constructor and destructor calls, paid at each callback.

It reads the sections named above and leaves the code alone: wasm-opt and Envoy validate that. Prints every problem; exit code 1 if any.
"""

import os
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

TOOLS = Path(__file__).resolve().parent
# Each worker compiles and holds the file; docs/design.md says where the bytes are.
MAX_BYTES = 330_000

SECTION_CUSTOM, SECTION_IMPORT, SECTION_EXPORT = 0, 2, 7
KINDS = ("function", "table", "memory", "global", "tag")

# Where toolchains, registries and check-outs live, besides the folders that this machine really uses.
FORBIDDEN = (b".cargo/", b".rustup/", b"/home/", b"/Users/")


class Malformed(Exception):
    """The file is not a WebAssembly module as we know it."""


class Module(NamedTuple):
    imports: list[str]
    exports: list[str]
    names: bytes


class Reader:
    """A cursor over bytes; every read past the end is Malformed."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Malformed(f"ends at byte {len(self.data)}, {count} more expected at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise Malformed(f"number too long at {self.at}")

    def name(self) -> str:
        return self.take(self.unsigned()).decode("utf-8")

    def limits(self) -> None:
        flags = self.take(1)[0]
        self.unsigned()
        if flags & 1:
            self.unsigned()


def sections(data: bytes) -> Iterator[tuple[int, Reader]]:
    reader = Reader(data)
    if reader.take(8) != b"\0asm\1\0\0\0":
        raise Malformed("no WebAssembly 1 header")
    while reader.at < len(data):
        kind = reader.take(1)[0]
        yield kind, Reader(reader.take(reader.unsigned()))


def read_import(reader: Reader) -> str:
    module, name, kind = reader.name(), reader.name(), reader.take(1)[0]
    if kind == 0:  # function: its type
        reader.unsigned()
    elif kind == 1:  # table: element type, limits
        reader.take(1)
        reader.limits()
    elif kind == 2:
        reader.limits()
    elif kind == 3:  # global: value type, mutability
        reader.take(2)
    else:
        raise Malformed(f"import {module}.{name} of unknown kind {kind}")
    return f"{module}.{name}" if kind == 0 else f"{module}.{name} ({KINDS[kind]})"


def read_export(reader: Reader) -> str:
    name, kind = reader.name(), reader.take(1)[0]
    reader.unsigned()
    return name if kind in (0, 2) else f"{name} ({KINDS[kind]})"


def read_module(data: bytes) -> Module:
    imports: list[str] = []
    exports: list[str] = []
    names = b""
    for kind, reader in sections(data):
        if kind == SECTION_IMPORT:
            imports = [read_import(reader) for _ in range(reader.unsigned())]
        elif kind == SECTION_EXPORT:
            exports = [read_export(reader) for _ in range(reader.unsigned())]
        elif kind == SECTION_CUSTOM and reader.name() == "name":
            names = reader.take(len(reader.data) - reader.at)
    return Module(imports, exports, names)


def read_list(name: str) -> set[str]:
    lines = (line.split("#")[0].strip() for line in (TOOLS / name).read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def machine_paths(data: bytes) -> Iterator[str]:
    here = (str(TOOLS.parent), str(Path.home()), os.environ.get("CARGO_HOME", ""), os.environ.get("CARGO_TARGET_DIR", ""))
    for text in (*FORBIDDEN, *(os.fsencode(path.rstrip("/") + "/") for path in here if path.strip("/"))):
        if (at := data.find(text)) >= 0:
            yield data[max(0, at - 40) : at + 80].decode("utf-8", "replace")


def problems(data: bytes, module: Module) -> Iterator[str]:
    for extra in sorted(set(module.imports) - read_list("wasm-imports.txt")):
        yield f"imports {extra}, which tools/wasm-imports.txt does not allow"
    expected = read_list("wasm-exports.txt")
    for extra in sorted(set(module.exports) - expected):
        yield f"exports {extra}, which tools/wasm-exports.txt does not list: Envoy would call it"
    for missing in sorted(expected - set(module.exports)):
        yield f"does not export {missing}, which tools/wasm-exports.txt lists"
    if len(data) > MAX_BYTES:
        yield f"has {len(data)} bytes, more than {MAX_BYTES}"
    for path in machine_paths(data):
        yield f"holds a path of the machine that built it: …{path}…"


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    try:
        data = path.read_bytes()
        found = list(problems(data, read_module(data)))
        if len(sys.argv) == 3 and b".command_export" in read_module(Path(sys.argv[2]).read_bytes()).names:
            found.append("has command wrappers around its exports: export an `_initialize` that calls `__wasm_call_ctors`")
    except (OSError, Malformed, UnicodeDecodeError) as error:
        found = [str(error)]
    for problem in found:
        print(f"check-wasm: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
