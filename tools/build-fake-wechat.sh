#!/usr/bin/env bash
# Builds dist/fake-wechat, the fake WeChat as one static program that runs in any container image (envoy/docker-compose.yaml).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(uname -m)-unknown-linux-musl
libdir=$(rustc --print target-libdir --target "$target")
if [[ ! -d $libdir ]]; then
    command -v rustup >/dev/null || {
        echo "Rust's target $target is missing: install Rust with rustup (https://rustup.rs), then run 'rustup target add $target'" >&2
        exit 1
    }
    rustup target add "$target"
fi
cargo build --quiet --locked --release --package support --bin fake-wechat --target "$target"
mkdir -p dist
install -m 755 "${CARGO_TARGET_DIR:-target}/$target/release/fake-wechat" dist/fake-wechat
