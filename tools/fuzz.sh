#!/usr/bin/env bash
# Fuzzes each target in turn for an equal part of the given minutes: fuzz.sh MINUTES
#
# Begins with the checked-in corpus and keeps what it finds in fuzz/found/, out of the way of git; a crash is in fuzz/artifacts/, and the
# command that repeats it is printed. Without a sanitizer: the code has no unsafe part that these targets reach, and so it runs on stable.
# Needs what `tools/setup.sh fuzz` sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || {
    echo "MINUTES is '$minutes'; allowed: a whole number above 0, as in: make fuzz MINUTES=10" >&2
    exit 2
}
targets=(fuzz/corpus/*/)
seconds=$((minutes * 60 / ${#targets[@]}))
for folder in "${targets[@]}"; do
    target=$(basename "$folder")
    mkdir -p "fuzz/found/$target"
    echo "fuzz: $target for $seconds s"
    log=fuzz/found/$target.log
    if ! .tools/cargo/bin/cargo-fuzz run --sanitizer none "$target" "fuzz/found/$target" "$folder" -- \
        -max_total_time="$seconds" -max_len=4096 >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        exit 1
    fi
    grep '^Done' "$log"
done
echo "fuzz: no crash"
