#!/usr/bin/env bash
# Every peer and every workload: at most 80 minutes after the build.
#
#   scripts/bench-full.sh [directory]     default bench/results/full
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/bench-suite.sh
. scripts/bench-suite.sh

begin full 4500 "${1:-bench/results/full}"

rows bulk --workload bulk --reps 5
rows bulk-current-thread --workload bulk --runtime current --buffers 4194304 --reps 3
engine --reps 5
rows ping-pong --workload ping-pong --reps 5
rows parallel --workload parallel --reps 5
rows loaded --workload loaded --reps 5
rows lossy-bulk --workload lossy-bulk --reps 3
rows lossy-messages --workload lossy-messages --reps 3
rows sessions --workload sessions --reps 3
finish
