#!/usr/bin/env bash
# Formatting, clippy and documentation, all without a warning; and no conflict of a merge that was committed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*"; }

step 'no markers of a merge'
if git grep -nE '^(<{7}|>{7}) '; then exit 1; fi

step 'cargo fmt --all -- --check'
cargo fmt --all -- --check

step 'cargo clippy --workspace --all-targets --all-features'
cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

step 'cargo doc --workspace --no-deps, warnings denied'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features --quiet

printf '\ncheck: ok\n'
