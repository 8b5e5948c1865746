# shellcheck shell=bash
# What scripts/bench-quick.sh and scripts/bench-full.sh have in common; sourced by them.
#
# begin NAME SECONDS OUT    builds, and writes the head of OUT/tables.md; nothing begins after SECONDS, or BENCH_SECONDS
# with_kcp_io               builds the program that has kcp-io among its peers
# rounds N FUNCTION         calls it N times. What it measures by `rows` is repeated that often, over the whole run: a machine
#                           changes more from one quarter of an hour to the next than from one second to the next
# rows NAME ARGS...         kcp-bench run ARGS, once, added to OUT/NAME.json
# engine ARGS...            kcp-bench-engine run ARGS, and its tables
# finish                    writes the tables of all rows to OUT/tables.md

declare -A asked
names=()
kcp_io=()

begin() {
    local name=$1
    budget=${BENCH_SECONDS:-$2}
    out=$3
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    # From inside bench/: its .cargo/config.toml has the flags of the C core.
    (cd bench && cargo build --release --workspace)
    target=${CARGO_TARGET_DIR:-$PWD/bench/target}
    bin=$target/release
    rm -f "$out"/*.json
    began=$SECONDS
    {
        printf '# Bench: %s\n\n' "$name"
        printf -- '- machine: %s, %s cores, %s GiB, Linux %s\n' \
            "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
            "$(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)" "$(uname -r)"
        printf -- '- socket buffers: default %s bytes, at most %s\n' \
            "$(cat /proc/sys/net/core/rmem_default)" "$(cat /proc/sys/net/core/rmem_max)"
        printf -- '- compiler: %s\n' "$(rustc --version)"
        printf -- '- commit: %s\n' "$(git describe --always --dirty 2>/dev/null || printf unknown)"
        printf -- '- began: %s, load before: %s\n' "$(date -u '+%F %H:%M UTC')" "$(cut -d' ' -f1-3 /proc/loadavg)"
        printf -- '- checking the content, in every bulk row: %s\n' "$("$bin/kcp-bench" check-cost)"
    } | tee "$out/tables.md"
}

left() {
    local seconds=$((budget - (SECONDS - began)))
    echo $((seconds > 0 ? seconds : 0))
}

with_kcp_io() {
    # bench/Cargo.toml says why it is a program of its own.
    (cd bench && cargo build --release --no-default-features --features kcp-io --target-dir "$target/kcp-io")
    kcp_io=(--kcp-io "$target/kcp-io/release/kcp-bench")
    began=$SECONDS
}

rounds() {
    local count=$1 function=$2 n
    for n in $(seq "$count"); do
        printf '######## round %s of %s\n' "$n" "$count"
        "$function" "$n"
    done
}

rows() {
    local name=$1
    shift
    if [ -z "${asked[$name]:-}" ]; then
        asked[$name]=$*
        names+=("$name")
    fi
    printf '######## %s: %s, %s s left\n' "$name" "$*" "$(left)"
    "$bin/kcp-bench" run "${kcp_io[@]}" --json "$out/$name.json" --add --reps 1 --limit "$(left)" "$@" >/dev/null
}

engine() {
    printf '######## engine: %s, %s s left\n' "$*" "$(left)"
    printf '\n`kcp-bench-engine run %s`\n' "$*" >>"$out/tables.md"
    "$bin/kcp-bench-engine" run --json "$out/engine.json" --limit "$(left)" "$@" | tee -a "$out/tables.md"
}

finish() {
    local name
    for name in "${names[@]}"; do
        printf '\n`kcp-bench run %s`\n' "${asked[$name]}"
        "$bin/kcp-bench" report "$out/$name.json"
    done | tee -a "$out/tables.md"
    printf '\nTook %s s.\n' "$((SECONDS - began))" | tee -a "$out/tables.md"
}
