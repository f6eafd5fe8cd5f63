#!/usr/bin/env python3
"""What is in the .wasm, for a release.

    inventory.py sbom BOM.json OUT.json FILE.wasm    cargo-cyclonedx's inventory, fit to publish
    inventory.py licences ABOUT.json OUT.txt         the licences that cargo-about found, as a text

In the .wasm are the crates that the plugin needs on wasm32-wasip1, without those that only the compiler runs (procedural macros and what they need). cargo-cyclonedx
and cargo-about do not tell these apart: an SBOM keeps them as `excluded`, which is CycloneDX's word for what is not there at run time; the licences leave them out.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "envoy-wechat-token"
LINE = "=" * 80


def metadata() -> dict:
    command = ["cargo", "metadata", "--quiet", "--locked", "--format-version", "1", "--filter-platform", "wasm32-wasip1"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def crates_in_wasm() -> set[tuple[str, str]]:
    """Name and version of each, without the plugin itself."""
    data = metadata()
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    plugin = next(package["id"] for package in data["packages"] if package["name"] == PLUGIN)
    seen, open_ends = {plugin}, [plugin]
    while open_ends:
        for need in nodes[open_ends.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in need["dep_kinds"])
            is_macro = any("proc-macro" in target["kind"] for target in packages[need["pkg"]]["targets"])
            if is_normal and not is_macro and need["pkg"] not in seen:
                seen.add(need["pkg"])
                open_ends.append(need["pkg"])
    return {(packages[id_]["name"], packages[id_]["version"]) for id_ in seen - {plugin}}


def sbom(source: Path, target: Path, wasm: Path) -> None:
    # Ids of the workspace's own crates hold the folder in which it was looked at.
    text = source.read_text(encoding="utf-8").replace(f"path+file://{source.resolve().parent}", f"path+file:///{PLUGIN}")
    bom = json.loads(text)
    wanted = crates_in_wasm()
    found = set()
    for component in bom["components"]:
        crate = (component["name"], component["version"])
        is_inside = crate in wanted
        component["scope"] = "required" if is_inside else "excluded"
        found |= {crate} if is_inside else set()
    if found != wanted:
        raise SystemExit(f"inventory: not in {source.name}: {sorted(wanted - found)}")
    digest = hashlib.sha256(wasm.read_bytes()).hexdigest()
    bom["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    target.write_text(json.dumps(bom, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def licences(source: Path, target: Path) -> None:
    wanted = crates_in_wasm()
    parts = []
    found = set()
    for licence in json.loads(source.read_text(encoding="utf-8"))["licenses"]:
        users = {(user["crate"]["name"], user["crate"]["version"]) for user in licence["used_by"]} & wanted
        if users:
            found |= users
            names = ", ".join(f"{name} {version}" for name, version in sorted(users))
            parts.append((licence["id"], names, licence["text"].strip()))
    if found != wanted:
        raise SystemExit(f"inventory: no licence text for {sorted(wanted - found)}")
    toolchain = (ROOT / "tools/toolchain-licenses.txt").read_text(encoding="utf-8").strip()
    parts.append(("MIT", "Rust's standard library, and wasi-libc with musl", toolchain))
    head = (
        f"{PLUGIN} is under the Apache License 2.0 (LICENSE). In wechat-token.wasm are also the crates below, each under the terms that follow its name, and\n"
        "what Rust's compiler links in.\n"
    )
    texts = [f"{LINE}\n{names}: {id_}\n{LINE}\n\n{text}\n" for id_, names, text in sorted(parts)]
    target.write_text("\n".join([head, *texts]), encoding="utf-8")


def main() -> None:
    command, *files = sys.argv[1:] or [""]
    if command == "sbom" and len(files) == 3:
        sbom(*map(Path, files))
    elif command == "licences" and len(files) == 2:
        licences(*map(Path, files))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
