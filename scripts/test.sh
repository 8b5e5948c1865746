#!/usr/bin/env bash
# The workspace's tests, as in the README; arguments are passed on to cargo test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

printf '== cargo test --workspace %s\n' "$*"
cargo test --workspace "$@"
