#!/usr/bin/env bash
# Plants one small fault after the other in the core and says which of them no test notices: mutants.sh [argument of cargo-mutants…]
#
# In two rounds, because most faults are noticed by tests that take seconds: first the unit tests and those of the configuration, then, for what these let
# pass, the patrol, the schema and the simulation too. It takes hours. tools/mutants.py judges the result.
# Needs what `tools/setup.sh mutants` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.tools/cargo/bin:$PATH
readonly OUT=target/mutants

export PROPTEST_CASES=${PROPTEST_CASES:-64} SIM_SEEDS=${SIM_SEEDS:-100}
rm -rf "$OUT"
mkdir -p "$OUT/first"

# cargo-mutants ends with 2 or 3 where mutants survive or time out, and with something else where it could not do its work.
round() {
    local status=0
    cargo mutants --output "$OUT" --no-shuffle --colors never "$@" || status=$?
    [[ $status -eq 0 || $status -eq 2 || $status -eq 3 ]] || exit "$status"
}

round "$@" -- --lib --test config --test corpus --test mesh
cp "$OUT"/mutants.out/*.txt "$OUT/first/"
round --iterate --features schema "$@" -- --lib --test config --test corpus --test mesh --test patrol --test schema --test simulation
python3 tools/mutants.py "$OUT/first" "$OUT/mutants.out"
