#!/usr/bin/env bash
# Builds the neighbours into .tools/interop/.
#
#   tests/interop/neighbours/setup.sh [java] [go] [python] [node]     all of them without an argument
#
# A part whose sources have not changed since its last build is left alone: a second run does nothing and says nothing. It leaves out the
# languages themselves and redis-server: tools/setup.sh and the machine's packages have those.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
out=$(cd ../../.. && pwd)/.tools/interop

say() { printf 'set-up: %s\n' "$*"; }

die() {
    printf 'set-up: %s\n' "$*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"
}

# What a part's build is made of, as one hash.
stamp_of() {
    (cd "$here" && find "$1" setup.sh -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

# Called with `||`, so `set -e` does not hold in what follows: each command is chained to the next.

build_java() {
    need java "install a JDK 17 or newer"
    need mvn "run 'sudo apt-get install maven'"
    # Even a quiet Maven writes escape sequences.
    mvn -B -q -f java/pom.xml "-Dout=$out/java" package >"$out/java.log" 2>&1 || {
        cat "$out/java.log" >&2
        return 1
    }
}

build_go() {
    need go "install Go 1.24 or newer"
    (cd go && GOTOOLCHAIN=local go build -mod=readonly -trimpath -o "$out/go/neighbour" .)
}

build_python() {
    need python3 "run 'sudo apt-get install python3 python3-venv'"
    local install=(-m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes)
    python3 -m venv "$out/python" &&
        "$out/python/bin/python" "${install[@]}" -r python/requirements.txt &&
        # In a folder of its own, which run.sh puts before the other one.
        "$out/python/bin/python" "${install[@]}" --target "$out/python/wechatpy-2" -r python/wechatpy-2.txt &&
        cp python/neighbour.py "$out/python/"
}

build_node() {
    need npm "run 'sudo apt-get install nodejs npm'"
    cp node/package.json node/package-lock.json node/neighbour.js "$out/node/" &&
        (cd "$out/node" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts >/dev/null)
}

[[ $# -gt 0 ]] || set -- java go python node
for part in "$@"; do
    [[ $part =~ ^(java|go|python|node)$ ]] || die "unknown part '$part': one of java go python node"
    stamp=$(stamp_of "$part")
    [[ -f $out/$part.stamp && $(<"$out/$part.stamp") == "$stamp" ]] && continue
    say "building the neighbours in $part"
    rm -rf "${out:?}/$part"
    mkdir -p "$out/$part"
    "build_$part" || die "the neighbours in $part could not be built: see above"
    printf '%s\n' "$stamp" >"$out/$part.stamp"
done
