#!/usr/bin/env bash
# Builds dist/wechat-token.wasm and its SHA-256.
#
# Two steps: rustc with fat LTO, then wasm-opt (a third smaller, and faster). The paths of the machine are taken out of the panic messages,
# so that the same source, toolchain and wasm-opt give the same bytes in any folder. Needs what `tools/setup.sh build` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TARGET=wasm32-wasip1
readonly OUT=dist/wechat-token.wasm
target_dir=${CARGO_TARGET_DIR:-target}
readonly RAW=$target_dir/$TARGET/release/wechat_token.wasm

# What rustc's output for this target uses; wasm-opt refuses what is not named.
readonly FEATURES=(
    --enable-bulk-memory
    --enable-sign-ext
    --enable-mutable-globals
    --enable-nontrapping-float-to-int
    --enable-reference-types
    --enable-multivalue
)

# The registry's folder is named after its host, so it must be there before it can be renamed.
cargo fetch --quiet --locked --target "$TARGET"

sysroot=$(rustc --print sysroot)
# Inlining less than usual, and unrolling no loops, saves 34 KB (measured at opt-level 3) at no cost that a request shows; opt-level "s" would make its share
# a third slower.
flags=(
    "-Cllvm-args=-inline-threshold=60 -inlinehint-threshold=60 -unroll-max-count=1 -unroll-runtime=false"
    "--remap-path-prefix=$PWD=."
    "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=std"
)
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=("--remap-path-prefix=${registry%/}=/cargo")
done

# Cargo splits this variable at the unit separator, so that a path may hold spaces.
CARGO_ENCODED_RUSTFLAGS=$(
    IFS=$'\x1f'
    printf '%s' "${flags[*]}"
)
export CARGO_ENCODED_RUSTFLAGS
cargo build --quiet --locked --release --lib --target "$TARGET"

mkdir -p dist
temporary=$(mktemp dist/.build-XXXXXX)
trap 'rm -f "$temporary"' EXIT
wasm-opt -O3 "${FEATURES[@]}" --strip-producers --strip-target-features "$RAW" -o "$temporary"
python3 tools/check-wasm.py "$temporary" "$RAW"
chmod 644 "$temporary"
mv "$temporary" "$OUT"
(cd dist && sha256sum wechat-token.wasm >wechat-token.wasm.sha256)
printf '%s: %s bytes, sha256 %s\n' "$OUT" "$(stat -c %s "$OUT")" "$(cut -c1-16 dist/wechat-token.wasm.sha256)…"
