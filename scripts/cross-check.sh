#!/usr/bin/env bash
# The libraries and the command must type-check for systems this machine is not: no C toolchain of theirs is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=(x86_64-pc-windows-gnu aarch64-apple-darwin)
printf '== rustup target add %s\n' "${targets[*]}"
rustup target add "${targets[@]}"

for target in "${targets[@]}"; do
    printf '== cargo check -p kcp-engine -p kcp-sys -p kcp-async -p kcp-cli --target %s\n' "$target"
    cargo check -p kcp-engine -p kcp-sys -p kcp-async -p kcp-cli --target "$target"
done

printf 'cross-check: ok\n'
