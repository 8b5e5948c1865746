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

rows bulk --workload bulk --peer "ours,tcp,raw-gso,tokio_kcp,kcp-tokio" --reps 3
engine --reps 2
rows ping-pong --workload ping-pong --peer "ours-polling,$streams" --reps 3
rows lossy-bulk --workload lossy-bulk --peer "$datagrams" --seconds 4 --reps 2
rows lossy-messages --workload lossy-messages --peer "$datagrams" --loss 1,10 --seconds 8 --reps 2
rows parallel --workload parallel --peer "$streams" --reps 2
rows loaded --workload loaded --peer "ours-polling,$streams" --reps 2
rows sessions --workload sessions --peer "$streams" --reps 2
finish
