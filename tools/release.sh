#!/usr/bin/env bash
# Makes dist/release/, all that a release publishes, from the commit that is checked out (docs/release.md):
#
#   wechat-token.wasm        built twice, in two folders, with the same bytes
#   image/                   an OCI image layout with plugin.wasm, for Istio and Envoy Gateway
#   wechat-token-image.tar   the same as one file, for `docker load`, `skopeo copy`, `crane push`
#   wechat-token.cdx.json    CycloneDX SBOM
#   LICENSE, THIRD-PARTY-LICENSES.txt, RUST-STANDARD-LIBRARY-LICENSES.html
#   BUILD.txt                what it was built from and with: whoever has the same gets the same bytes
#   SHA256SUMS               of the files above
#
# Every file is the same wherever it is made: times come from the commit, nothing from the machine. Needs what `tools/setup.sh release`
# sets up. The result is looked at by readers that others wrote: tests/release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly OUT=dist/release
export LC_ALL=C TZ=UTC

version=$(cargo metadata --quiet --format-version 1 --locked --no-deps |
    python3 -c 'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "envoy-wechat-token"))')
revision=$(git rev-parse HEAD)
# The state of tracked files beside the commit's: a release of something else is only good to look at.
git diff --quiet HEAD -- || revision+=-modified
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

tools/build.sh
rm -rf "$OUT"
mkdir -p "$OUT"
cp dist/wechat-token.wasm "$OUT/"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools/check-reproducible.sh "$work/elsewhere"

# In the copy, because cargo-cyclonedx writes beside each Cargo.toml.
(
    cd "$work/elsewhere/source"
    "$OLDPWD/.tools/cargo/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 \
        --target wasm32-wasip1 --override-filename bom
)
python3 tools/inventory.py sbom "$work/elsewhere/source/bom.json" "$OUT/wechat-token.cdx.json" "$OUT/wechat-token.wasm"

.tools/cargo/bin/cargo-about about generate --locked --fail --format json --config tools/about.toml --output-file "$work/about.json"
python3 tools/inventory.py licences "$work/about.json" "$OUT/THIRD-PARTY-LICENSES.txt"
cp LICENSE "$OUT/"
cp "$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html" "$OUT/RUST-STANDARD-LIBRARY-LICENSES.html"

{
    printf 'version:           %s\n' "$version"
    printf 'commit:            %s\n' "$revision"
    printf 'SOURCE_DATE_EPOCH: %s\n' "$SOURCE_DATE_EPOCH"
    printf 'rustc:             %s\n' "$(rustc --version)"
    printf 'wasm-opt:          %s\n' "$(wasm-opt --version)"
} >"$OUT/BUILD.txt"

python3 tools/oci-image.py --version "$version" --revision "$revision" --created "$SOURCE_DATE_EPOCH" \
    --layout "$OUT/image" --tar "$OUT/wechat-token-image.tar" --name envoy-wechat-token \
    "plugin.wasm=$OUT/wechat-token.wasm" "licenses/LICENSE=LICENSE" \
    "licenses/THIRD-PARTY-LICENSES.txt=$OUT/THIRD-PARTY-LICENSES.txt" >"$work/digest"

(cd "$OUT" && find . -maxdepth 1 -type f -printf '%P\0' | sort -z | xargs -0 sha256sum) >"$work/sums"
cp "$work/sums" "$OUT/SHA256SUMS"
(cd tests/release && RELEASE_DIR="$PWD/../../$OUT" GOTOOLCHAIN=local go test -mod=readonly -count=1 ./...)
printf '%s: version %s, image %s\n' "$OUT" "$version" "$(cat "$work/digest")"
