#!/usr/bin/env bash
# The long form of the simulated world: 200,000 seeds, from those on that `cargo test` does not use, or until a time limit.
#
#   scripts/sim.sh [minutes]        default: 40
#
# KCP_SIM_SEEDS and KCP_SIM_FIRST choose other seeds. A failing seed prints the command that replays it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export KCP_SIM_SEEDS=${KCP_SIM_SEEDS:-200000}
export KCP_SIM_FIRST=${KCP_SIM_FIRST:-1000000}
export KCP_SIM_MINUTES=${1:-40}
cargo test -p kcp-async --test sim -- --nocapture
