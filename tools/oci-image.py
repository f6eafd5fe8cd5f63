#!/usr/bin/env python3
"""Makes an OCI image of some files, without a container engine, with the same bytes wherever it is made.

    oci-image.py --version V --revision R --created SECONDS --name NAME --layout FOLDER --tar FILE INSIDE=FILE…

It is what `FROM scratch` and COPY make: one layer. Istio's WasmPlugin and Envoy Gateway's EnvoyExtensionPolicy take the last layer of such an image ("compat"
variant of the Wasm image specification), which must be application/vnd.oci.image.layer.v1.tar+gzip, and read the first plugin.wasm in it; kubelets mount it as an
image volume. FOLDER is an OCI image layout; FILE is the same as a tar with a manifest.json beside it, which `docker load` reads.

The layer is gzip without compression: how well zlib compresses depends on its version, and the image's digest must not. Prints that digest.
"""

import argparse
import datetime
import hashlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# Where a node looks at it at all, it looks for its own operating system; a plugin runs on any processor.
PLATFORM = {"os": "linux", "architecture": "amd64"}
STORED_BLOCK = 0xFFFF


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def stored_gzip(data: bytes) -> bytes:
    """RFC 1952 around stored blocks of RFC 1951; no name, no time, unknown operating system."""
    parts = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]
    for start in range(0, max(len(data), 1), STORED_BLOCK):
        block = data[start : start + STORED_BLOCK]
        is_last = start + STORED_BLOCK >= len(data)
        parts += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)


def tar_of(files: list[tuple[str, bytes]], time: int) -> bytes:
    """Regular files of root, and the folders that they need, in the given order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        made: set[str] = set()
        for name, data in files:
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in made:
                    made.add(str(parent))
                    archive.addfile(entry(str(parent), time, tarfile.DIRTYPE, 0o755))
            info = entry(name, time, tarfile.REGTYPE, 0o644)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, time: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, time
    return info


def image(files: list[tuple[str, bytes]], options: argparse.Namespace) -> tuple[dict[str, bytes], str]:
    """The layout's files by name, and the digest of the image's manifest."""
    created = datetime.datetime.fromtimestamp(options.created, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.description": "A proxy-wasm plugin that gives every outbound WeChat call in Envoy a live access_token",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": options.revision,
        "org.opencontainers.image.title": options.name,
        "org.opencontainers.image.version": options.version,
    }
    blobs: dict[str, bytes] = {}

    def describe(media_type: str, data: bytes) -> dict[str, object]:
        digest = sha256(data)
        blobs["blobs/" + digest.replace(":", "/")] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layer = tar_of(files, options.created)
    config = {
        **PLATFORM,
        "created": created,
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        "history": [{"created": created, "created_by": "tools/oci-image.py"}],
    }
    layers = [describe(LAYER, stored_gzip(layer))]
    config_part = describe(CONFIG, to_json(config))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_part, "layers": layers, "annotations": labels}
    manifest_part = describe(MANIFEST, to_json(manifest))
    digest = str(manifest_part["digest"])
    named = {**manifest_part, "platform": PLATFORM, "annotations": {"org.opencontainers.image.ref.name": options.version}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}
    # For readers of `docker save`; those of the layout do not look at it.
    path = lambda part: "blobs/" + str(part["digest"]).replace(":", "/")
    docker = [{"Config": path(config_part), "RepoTags": [f"{options.name}:{options.version}"], "Layers": [path(part) for part in layers]}]
    head = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"}), "index.json": to_json(index), "manifest.json": to_json(docker)}
    return {**head, **dict(sorted(blobs.items()))}, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("version", "revision", "name", "layout", "tar"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--created", required=True, type=int)
    parser.add_argument("files", nargs="+", metavar="INSIDE=FILE")
    options = parser.parse_args()
    pairs = [pair.split("=", 1) for pair in options.files]
    parts, digest = image([(inside, Path(file).read_bytes()) for inside, file in pairs], options)
    for name, data in parts.items():
        if name != "manifest.json":
            target = Path(options.layout, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    Path(options.tar).write_bytes(tar_of(list(parts.items()), options.created))
    print(digest)


if __name__ == "__main__":
    main()
