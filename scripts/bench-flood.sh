#!/usr/bin/env bash
# Bulk, echo and new clients beside forged first datagrams at the same socket, and at another one. Linux only.
#
#   scripts/bench-flood.sh [rounds [seconds [datagrams-per-second]]]     default 5 5 50000
#
# Compare the two lines of a round and not those of different ones: they ran one after the other on the same machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec cargo run --release -q -p kcp-async --example flood -- "${1:-5}" "${2:-5}" "${3:-50000}"
