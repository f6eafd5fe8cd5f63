#!/usr/bin/env bash
# Builds the plugin in the variants that tests need, never into dist/: target/variants/wechat-token-trap.wasm, whose virtual machines trap on command, and
# target/variants/wechat-token-skew.wasm, which stands for a later version with another layout of shared data.
# Needs what `tools/setup.sh build` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for variant in trap skew; do
    folder=target/variants/$variant
    cargo build --quiet --locked --release --lib --features "$variant" --target wasm32-wasip1 --target-dir "$folder"
    cp "$folder/wasm32-wasip1/release/wechat_token.wasm" "target/variants/wechat-token-$variant.wasm"
done
