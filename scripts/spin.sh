#!/usr/bin/env bash
# Random operations on the tokio API over loopback, on runtimes of one and of two threads, both at once.
#
#   scripts/spin.sh [ARGUMENT]...     arguments are passed on to the test binary
#
# KCP_SPIN_MINUTES  how long each runs (default 15); the quick form, in cargo test, is two seconds
# KCP_SPIN_SEED     run this one round and stop
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export KCP_SPIN_MINUTES=${KCP_SPIN_MINUTES:-15}
nice -n 15 cargo test -p kcp-async --test spin -- --nocapture "$@"
