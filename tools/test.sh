#!/usr/bin/env bash
# Runs `cargo test` with the given arguments, shows its output as it comes, and ends with the total of all its test programs:
# "N passed, M failed". Exit code: cargo's own, or 1 where no test ran (a filter that matches nothing proves nothing).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One failing program must not hide the others' results.
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

read -r passed failed < <(awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
if [[ $status -ne 0 && $failed -eq 0 ]]; then
    # Cargo failed for another reason: a program that does not compile, or one that died before its result.
    failed=1
fi
if [[ $status -eq 0 && $passed -eq 0 ]]; then
    echo "no test ran" >&2
    status=1
fi
printf '%s passed, %s failed\n' "$passed" "$failed"
exit "$status"
