#!/usr/bin/env bash
# Sessions that come and go over a lossy relay for half an hour, every byte checked, memory watched, nothing left.
#
#   scripts/soak.sh [minutes [sessions [loss-percent [seed]]]]     default 30 500 3 1
#
# Each minute counts on a machine that has a core to spare: where the relay starves, so do the sessions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo run --release -p kcp-async --example soak -- "$@"
