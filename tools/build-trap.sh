#!/usr/bin/env bash
# Builds the plugin whose virtual machines trap on command, for the end-to-end tests: target/trap/wechat-token-trap.wasm. It never goes into dist/.
# Needs what `tools/setup.sh build` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --locked --release --lib --features trap --target wasm32-wasip1 --target-dir target/trap
cp target/trap/wasm32-wasip1/release/wechat_token.wasm target/trap/wechat-token-trap.wasm
