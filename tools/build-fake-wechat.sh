#!/usr/bin/env bash
# Builds dist/fake-wechat as one static program, so that any container image can carry it, whatever C library that has.
# Needs what `tools/setup.sh build` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Named also where it is this machine's own: without --target the flags would reach the procedural macros, which cannot be static.
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --release -p support --bin fake-wechat --target "$target"
mkdir -p dist
cp "${CARGO_TARGET_DIR:-target}/$target/release/fake-wechat" dist/.fake-wechat.new
mv dist/.fake-wechat.new dist/fake-wechat
printf 'dist/fake-wechat: %s bytes\n' "$(stat -c %s dist/fake-wechat)"
