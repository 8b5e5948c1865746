#!/usr/bin/env bash
# Instructions per segment of the engine alone, beside C: the same however busy the machine is. Needs valgrind.
#
#   scripts/bench-instructions.sh [window...]     default 128 1024 8192; about three minutes
#   scripts/bench-instructions.sh gate            fails if ours takes more than bench/instructions.txt allows; a minute
#
# Each figure is the difference between a long and a short run, so that starting up and warming up do not count, less
# that of the same drive without an engine (bench/engine/src/floor.rs). Copies count as valgrind's machine does them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$#" -eq 0 ]; then set -- 128 1024 8192; fi
(cd bench && cargo build --release --package kcp-bench-engine --quiet)
bin=${CARGO_TARGET_DIR:-$PWD/bench/target}/release/kcp-bench-engine
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT

fail() {
    echo "bench-instructions: $*" >&2
    exit 1
}

# Instructions and segments of one run.
count() {
    local subject=$1 flush=$2 loss=$3 window=$4 segments=$5
    valgrind --tool=callgrind --callgrind-out-file="$files/out" "$bin" row --subject "$subject" --flush "$flush" \
        --loss "$loss" --window "$window" --segments "$segments" --budget 3600 >"$files/row" 2>"$files/log"
    printf '%s %s\n' "$(sed -n 's/.*Collected : //p' "$files/log")" \
        "$(sed -n 's/.*"segments":\([0-9]*\).*/\1/p' "$files/row")"
}

# Gross instructions per segment.
gross() {
    local few many
    few=$(count "$@" 20000)
    many=$(count "$@" 60000)
    awk -v few="$few" -v many="$many" 'BEGIN {
        counts = split(few, a, " ") + split(many, b, " ")
        if (counts != 4 || b[1] <= a[1] || b[2] <= a[2]) exit 1
        printf "%d", (b[1] - a[1]) / (b[2] - a[2])
    }'
}

# What a change may cost unnoticed: other compilers of the same year count a little differently.
gate() {
    local status=0 rows=0 flush loss window most floor ours
    while read -r flush loss window most; do
        case "$flush" in '#'* | '') continue ;; esac
        floor=$(gross floor-ours "$flush" 0 "$window") || fail "no count of the floor"
        ours=$(gross ours "$flush" "$loss" "$window") || fail "no count of ours"
        ours=$((ours - floor))
        [ "$ours" -gt 0 ] || fail "ours takes no more than its floor: $ours"
        rows=$((rows + 1))
        printf 'flush %s, %s %% loss, window %s: %s instructions a segment, at most %s\n' \
            "$flush" "$loss" "$window" "$ours" "$most"
        if [ "$ours" -gt "$most" ]; then status=1; fi
    done <bench/instructions.txt
    [ "$rows" -gt 0 ] || fail "no limit in bench/instructions.txt"
    return "$status"
}

if [ "$1" = gate ]; then
    gate
    exit
fi

printf '| flush | loss %% | window | ours | C | floor of ours | floor of C |\n|---|---|---|---|---|---|---|\n'
for flush in ticks packet; do
    for loss in 0 5; do
        for window in "$@"; do
            floor_ours=$(gross floor-ours "$flush" 0 "$window")
            floor_c=$(gross floor-c "$flush" 0 "$window")
            ours=$(gross ours "$flush" "$loss" "$window")
            ours=$((ours - floor_ours))
            # C walks its window at each flush: hours, not minutes.
            c='-'
            if [ "$flush" = ticks ] || [ "$window" -le 1024 ]; then
                c=$(gross c "$flush" "$loss" "$window")
                c=$((c - floor_c))
            fi
            printf '| %s | %s | %s | %s | %s | %s | %s |\n' \
                "$flush" "$loss" "$window" "$ours" "$c" "$floor_ours" "$floor_c"
        done
    done
done
