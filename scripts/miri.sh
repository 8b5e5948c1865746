#!/usr/bin/env bash
# kcp-engine's tests under miri: undefined behaviour in what it uses, and overflow, on a 64-bit and on a big-endian 32-bit machine.
#
#   scripts/miri.sh [ARGUMENT]...     arguments are passed on to the test binary, such as the name of a test
#
# MIRI_TARGETS     machines (default: the host and mips-unknown-linux-gnu)
# PROPTEST_CASES   cases of each property test (default 4: miri is some hundred times slower)
#
# Left out: `allocations` (it replaces the allocator), `behaviour` (hours of virtual time), and the unit tests in `slow` below, which
# move megabytes or have a number of cases of their own; of `corpora` only the header's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PROPTEST_CASES=${PROPTEST_CASES:-4}
# Property tests look for a file of earlier failures, and the corpora are files.
export MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-disable-isolation"
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
read -r -a machines <<<"${MIRI_TARGETS:-$host mips-unknown-linux-gnu}"

slow=(a_held_back_window counts_equal_the_naive_ones the_flight_grows bursts_are_bounded)
skip=()
for name in "${slow[@]}"; do skip+=(--skip "$name"); done

for machine in "${machines[@]}"; do
    printf '\n== %s: unit tests\n' "$machine"
    cargo +nightly miri test -p kcp-engine --target "$machine" --lib -- "${skip[@]}" "$@"
    printf '\n== %s: header corpus\n' "$machine"
    cargo +nightly miri test -p kcp-engine --target "$machine" --test corpora -- header
done
