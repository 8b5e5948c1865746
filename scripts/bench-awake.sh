#!/usr/bin/env bash
# Ping-pong on CPUs that are kept awake: a minute after the build. In a virtual machine a CPU that sleeps takes 20 to 30 us to
# wake, which is most of a round trip; a loop of the lowest class on each, which gives way to everything, takes that away.
#
#   scripts/bench-awake.sh [arguments of `kcp-bench run` after the workload]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for tool in chrt taskset; do
    command -v "$tool" >/dev/null || {
        printf 'bench-awake: skipped, there is no %s (util-linux)\n' "$tool"
        exit 0
    }
done
# From inside bench/: its .cargo/config.toml has the flags of the C core.
(cd bench && cargo build --release -p kcp-bench)
bin=${CARGO_TARGET_DIR:-$PWD/bench/target}/release/kcp-bench

loops=()
trap '[ "${#loops[@]}" -eq 0 ] || kill "${loops[@]}"' EXIT
for cpu in $(seq 0 $(($(nproc) - 1))); do
    taskset -c "$cpu" chrt --idle 0 bash -c 'while :; do :; done' &
    loops+=($!)
done
if [ "$#" -eq 0 ]; then
    set -- --peer ours-polling,ours,tcp,tokio_kcp,kcp-tokio --message 64 --reps 3
fi
"$bin" run --workload ping-pong "$@"
