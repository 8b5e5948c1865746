#!/usr/bin/env bash
# kcp-engine must build where there is no operating system: only core and alloc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=thumbv7em-none-eabihf
printf '== rustup target add %s\n' "$target"
rustup target add "$target"

printf '== cargo build -p kcp-engine --target %s\n' "$target"
cargo build -p kcp-engine --target "$target"

printf 'no-std: ok\n'
