#!/usr/bin/env bash
# Copies a file with `kcp send` to `kcp recv` between two network namespaces over a bad link (25 ms and 5 % loss each way),
# compares the hashes and prints the rates; then once more with a link that is black for 3 s.
#
#   scripts/linkem-copy.sh [plain|blackout]...     both without arguments
#
# LINKEM      source directory or binary of linkem (default: ../shared/tools/linkem beside the repository)
# COPY_MB     size in MB of 10^6 bytes (default 500)
# COPY_ARGS   further arguments for both `kcp send` and `kcp recv`, such as a preset
# COPY_LIMIT  time after which a copy has failed (default 1500s)
#
# Needs root and linkem; without either it says so and succeeds, so that it can stand in a list of checks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

linkem=${LINKEM:-$root/../shared/tools/linkem}
megabytes=${COPY_MB:-500}
limit=${COPY_LIMIT:-1500s}
read -r -a extra <<<"${COPY_ARGS:-}"
variants=("$@")
if [ "${#variants[@]}" -eq 0 ]; then variants=(plain blackout); fi

skip() {
    printf 'linkem-copy: skipped: %s\n' "$*"
    exit 0
}

if [ "$(id -u)" -ne 0 ]; then skip 'network namespaces need root'; fi
if [ ! -e "$linkem" ]; then skip "no linkem at $linkem (set LINKEM)"; fi
if [ ! -c /dev/net/tun ]; then skip 'no /dev/net/tun'; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -d "$linkem" ]; then
    # A copy: the directory may be read-only, and a build writes beside the sources.
    printf '== build linkem\n'
    mkdir "$work/linkem"
    cp -r "$linkem/." "$work/linkem"
    chmod -R u+w "$work/linkem"
    (cd "$work/linkem" && CARGO_TARGET_DIR=$work/linkem-target cargo build --release --quiet)
    linkem=$work/linkem-target/release/linkem
fi

printf '== cargo build --release -p kcp-cli\n'
cargo build --release -p kcp-cli
kcp=${CARGO_TARGET_DIR:-$root/target}/release/kcp

bytes=$((megabytes * 1000 * 1000))
printf '== %s MB of random bytes\n' "$megabytes"
head -c "$bytes" /dev/urandom >"$work/payload.bin"
want=$(sha256sum "$work/payload.bin" | cut -d' ' -f1)

failed=0
for variant in "${variants[@]}"; do
    link=(--delay 25ms --loss 5% --seed 1)
    case "$variant" in
        plain) ;;
        blackout) link+=(--at 5s:blackout=3s) ;;
        *)
            printf 'unknown variant %s\n' "$variant" >&2
            exit 2
            ;;
    esac
    into=$work/into-$variant
    mkdir "$into"
    printf '\n== %s: linkem run %s\n' "$variant" "${link[*]}"

    # Paths go in through the environment: linkem hands A and B to a shell.
    export KCP=$kcp INTO=$into PAYLOAD=$work/payload.bin EXTRA="${extra[*]}"
    began=$(date +%s.%N)
    status=0
    # shellcheck disable=SC2016  # the inner shells expand these
    "$linkem" run "${link[@]}" --timeout "$limit" --linger 10s --stats "$work/stats-$variant.json" \
        --wait-port udp:29900 \
        --a '"$KCP" recv --once --listen "$LINKEM_A:29900" --into "$INTO" $EXTRA' \
        --b '"$KCP" send "$PAYLOAD" "$LINKEM_A:29900" $EXTRA' || status=$?
    ended=$(date +%s.%N)

    if [ "$status" -ne 0 ]; then
        printf 'FAIL %s: linkem ended with %s\n' "$variant" "$status"
        failed=1
        continue
    fi
    got=none
    if [ -f "$into/payload.bin" ]; then got=$(sha256sum "$into/payload.bin" | cut -d' ' -f1); fi
    printf 'sent %s\ngot  %s\n' "$want" "$got"
    if [ "$got" != "$want" ]; then
        printf 'FAIL %s: the hashes differ\n' "$variant"
        failed=1
        continue
    fi
    awk -v b="$bytes" -v s="$began" -v e="$ended" -v v="$variant" \
        'BEGIN { printf "%s: %d MB in %.1f s (start and end of both programs included): %.2f MB/s\n", v, b / 1e6, e - s, b / 1e6 / (e - s) }'
    grep -o '"warnings":\[[^]]*\]' "$work/stats-$variant.json" || true
    rm -rf "$into"
done

if [ "$failed" -ne 0 ]; then exit 1; fi
printf '\nlinkem-copy: ok\n'
