#!/usr/bin/env bash
# Builds the control planes that read the shipped manifests into .tools/manifests/.
#
#   tests/manifests/setup.sh [gateway|istio]     all of them without an argument
#
# Each is a Go module of its own here, in which the versions are pinned. What has not changed since its last build is left alone: a second run does nothing and
# says nothing. It leaves out Go itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
out=$(cd ../.. && pwd)/.tools/manifests

say() { printf 'set-up: %s\n' "$*"; }

die() {
    printf 'set-up: %s\n' "$*" >&2
    exit 1
}

# What a part's build is made of, as one hash.
stamp_of() {
    (cd "$here" && find "$1" setup.sh -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

# Called with `||`, so `set -e` does not hold in what follows: each command is chained to the next.

# Envoy Gateway's translation, and the schemas that its installation gives to Kubernetes. What it takes to call the translation is internal to its module, so the
# program is built inside a copy of that.
build_gateway() {
    local source
    source=$(cd gateway && go mod download -json github.com/envoyproxy/gateway | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') &&
        cp -r "$source" "$out/gateway/source" &&
        chmod -R u+w "$out/gateway/source" &&
        cp -r gateway/_inside "$out/gateway/source/cmd/inside" &&
        cp -r "$out/gateway/source/charts/gateway-helm/charts/crds/crds" "$out/gateway/crds" &&
        (cd "$out/gateway/source" && go build -mod=readonly -trimpath -ldflags=-s -o ../inside ./cmd/inside) &&
        rm -rf "$out/gateway/source"
}

# istio-files, which has istiod's discovery and injection, the agent of Istio's proxy image, and the template of the bootstrap that goes with it. Not with
# -trimpath: Istio's code finds its own files by the paths that are left out then.
build_istio() {
    local istio
    cd istio &&
        go build -mod=readonly -ldflags=-s -o "$out/istio/istio-files" . &&
        go build -mod=readonly -ldflags=-s -o "$out/istio/pilot-agent" istio.io/istio/pilot/cmd/pilot-agent &&
        istio=$(go list -mod=readonly -m -f '{{.Dir}}' istio.io/istio) &&
        install -m 644 "$istio/tools/packaging/common/envoy_bootstrap.json" "$out/istio/envoy_bootstrap.json"
}

command -v go >/dev/null 2>&1 || die "go is missing: install Go 1.26 or newer"
[[ $# -gt 0 ]] || set -- gateway istio
for part in "$@"; do
    [[ $part =~ ^(gateway|istio)$ ]] || die "unknown part '$part': one of gateway istio"
    stamp=$(stamp_of "$part")
    [[ -f $out/$part.stamp && $(<"$out/$part.stamp") == "$stamp" ]] && continue
    say "building the control plane $part (once, some minutes)"
    rm -rf "${out:?}/$part"
    mkdir -p "$out/$part"
    (build_"$part") || die "the control plane $part could not be built: see above"
    printf '%s\n' "$stamp" >"$out/$part.stamp"
done
