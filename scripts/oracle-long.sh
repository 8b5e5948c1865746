#!/usr/bin/env bash
# The long form of the C oracle: 10^9 steps, or 40 minutes, from seeds that the quick form does not use.
#
#   scripts/oracle-long.sh [OPTION]...     options as of `oracle --help`; later ones win
#
# The quick form is `cargo test -p oracle` in interop/. It must run from there: interop/.cargo/config.toml tells the C compiler
# what signed overflow means.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../interop"

cargo run --release -p oracle -- --steps 1_000_000_000 --minutes 40 --seed 10_000_000 "$@"
