#!/usr/bin/env bash
# Every peer and every workload: at most 80 minutes after the build.
#
#   scripts/bench-full.sh [directory]     default bench/results/full
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/bench-suite.sh
. scripts/bench-suite.sh

begin full 4500 "${1:-bench/results/full}"

with_kcp_io
round() {
    rows bulk --workload bulk
    rows bulk-current-thread --workload bulk --runtime current --buffers 4194304
    rows ping-pong --workload ping-pong
    rows parallel --workload parallel
    rows loaded --workload loaded
    # The relay and thousands of sessions take most of the time: twice is enough to see whether they are stable.
    if [ "$1" -le 2 ]; then
        rows lossy-bulk --workload lossy-bulk
        rows lossy-messages --workload lossy-messages
        rows sessions --workload sessions
    fi
}
rounds 3 round
engine --reps 3
finish
