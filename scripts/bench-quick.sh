#!/usr/bin/env bash
# Ours beside TCP, raw GSO, tokio_kcp and kcp-tokio: at most 20 minutes after the build.
#
#   scripts/bench-quick.sh [directory]     default bench/results/quick
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/bench-suite.sh
. scripts/bench-suite.sh

begin quick 1040 "${1:-bench/results/quick}"
streams=ours,tcp,tokio_kcp,kcp-tokio
datagrams=ours,tokio_kcp,kcp-tokio

round() {
    rows bulk --workload bulk --peer "ours,tcp,raw-gso,tokio_kcp,kcp-tokio"
    rows ping-pong --workload ping-pong --peer "ours-polling,$streams"
    rows lossy-bulk --workload lossy-bulk --peer "$datagrams"
    rows lossy-messages --workload lossy-messages --peer "$datagrams" --loss 1,10
    rows parallel --workload parallel --peer "$streams"
    rows loaded --workload loaded --peer "ours-polling,$streams"
    # A fifth of the time: twice is enough to see whether it is stable.
    if [ "$1" -le 2 ]; then rows sessions --workload sessions --peer "$streams"; fi
}
rounds 3 round
engine --reps 2
finish
