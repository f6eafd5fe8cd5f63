#!/usr/bin/env bash
# Builds the plugin a second time and compares: check-reproducible.sh FOLDER
#
# The second build is of a copy of the tracked files, in FOLDER/source, with its own CARGO_HOME, so that the crates are unpacked elsewhere, too, and its own
# target folder. Crates that were downloaded are not downloaded again. dist/wechat-token.wasm must be there (tools/build.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${1:?a folder for the second build}
readonly FIRST=$PWD/dist/wechat-token.wasm
here=${CARGO_HOME:-$HOME/.cargo}

mkdir -p "$folder/source" "$folder/cargo home/registry"
folder=$(cd "$folder" && pwd)
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$folder/source"
# A source's downloads and its settings, without what was unpacked from them.
for part in index cache; do
    cp -a "$here/registry/$part" "$folder/cargo home/registry/"
done
for settings in config.toml config; do
    [[ ! -f $here/$settings ]] || cp "$here/$settings" "$folder/cargo home/"
done

(
    cd "$folder/source"
    CARGO_HOME="$folder/cargo home" CARGO_TARGET_DIR="$folder/another target" CARGO_NET_OFFLINE=true tools/build.sh >/dev/null
)

sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
first=$(sum "$FIRST")
second=$(sum "$folder/source/dist/wechat-token.wasm")
if [[ $first != "$second" ]]; then
    printf 'not reproducible: %s here, %s in %s\n' "$first" "$second" "$folder" >&2
    exit 1
fi
printf 'reproducible: two builds in two folders have the SHA-256 %s\n' "$first"
