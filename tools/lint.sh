#!/usr/bin/env bash
# Every check that runs no test; warnings are errors. Goes on after a failure, so that one run shows all there is to mend.
# Needs what `tools/setup.sh lint` sets up.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

failed=()

check() {
    local name=$1
    shift
    printf 'lint: %s\n' "$name"
    "$@" || failed+=("$name")
}

scripts() {
    local files
    mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
    shellcheck "${files[@]}"
}

# It looks at the shell commands in them with shellcheck.
workflows() {
    (cd tests/release && GOTOOLCHAIN=local go tool actionlint ../../.github/workflows/*)
}

licences() {
    .tools/cargo/bin/cargo-deny --log-level error --locked --workspace check --hide-inclusion-graph licenses bans sources
}

wasm_crates() {
    .tools/cargo/bin/cargo-deny --log-level error --locked --config tools/deny-wasm.toml check bans
}

check "rustfmt" cargo fmt --all --check
check "architecture" python3 tools/check-architecture.py
check "clippy, native" cargo clippy --quiet --locked --workspace --all-targets --all-features -- -D warnings
check "clippy, wasm32-wasip1" cargo clippy --quiet --locked --lib --target wasm32-wasip1 -- -D warnings
check "fuzz targets" cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
check "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps
check "licences, bans, sources" licences
check "crates in the .wasm" wasm_crates
check "imports, exports and size of the .wasm" tools/build.sh
check "shell scripts" scripts
check "workflows" workflows

if [[ ${#failed[@]} -gt 0 ]]; then
    printf 'lint: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "lint: all passed"
