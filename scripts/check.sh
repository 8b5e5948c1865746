#!/usr/bin/env bash
# Formatting, clippy and documentation, all without a warning.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*"; }

step 'cargo fmt --all -- --check'
cargo fmt --all -- --check

step 'cargo clippy --workspace --all-targets --all-features'
cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

step 'cargo doc --workspace --no-deps, warnings denied'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features --quiet

printf '\ncheck: ok\n'
