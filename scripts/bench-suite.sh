# shellcheck shell=bash
# What scripts/bench-quick.sh and scripts/bench-full.sh have in common; sourced by them.
#
# begin NAME SECONDS OUT    builds, and writes the head of OUT/tables.md; nothing begins after SECONDS, or BENCH_SECONDS
# rows NAME ARGS...         kcp-bench run ARGS: OUT/NAME.json, and its tables at the end of OUT/tables.md
# engine ARGS...            the same with kcp-bench-engine

begin() {
    local name=$1
    budget=${BENCH_SECONDS:-$2}
    out=$3
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    # From inside bench/: its .cargo/config.toml has the flags of the C core.
    (cd bench && cargo build --release --workspace)
    local target=${CARGO_TARGET_DIR:-$PWD/bench/target}
    bin=$target/release
    # A program of its own: bench/Cargo.toml says why.
    (cd bench && cargo build --release --no-default-features --features kcp-io --target-dir "$target/kcp-io")
    kcp_io=$target/kcp-io/release/kcp-bench
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

rows() {
    local name=$1
    shift
    printf '######## %s: %s, %s s left\n' "$name" "$*" "$(left)"
    printf '\n`kcp-bench run %s`\n' "$*" >>"$out/tables.md"
    "$bin/kcp-bench" run --kcp-io "$kcp_io" --json "$out/$name.json" --limit "$(left)" "$@" | tee -a "$out/tables.md"
}

engine() {
    printf '######## engine: %s, %s s left\n' "$*" "$(left)"
    printf '\n`kcp-bench-engine run %s`\n' "$*" >>"$out/tables.md"
    "$bin/kcp-bench-engine" run --json "$out/engine.json" --limit "$(left)" "$@" | tee -a "$out/tables.md"
}

finish() {
    printf '\nTook %s s.\n' "$((SECONDS - began))" | tee -a "$out/tables.md"
}
