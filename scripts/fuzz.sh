#!/usr/bin/env bash
# Runs the fuzz targets one after the other, each for so many minutes.
#
#   scripts/fuzz.sh [MINUTES] [TARGET]...     30 minutes and all targets without arguments
#   scripts/fuzz.sh cmin [TARGET]...          picks the committed corpora anew from them and from what the runs found; seed-* and found-* stay
#
# FUZZ_WORK     where new inputs and findings go (default fuzz/work, which git ignores); kept between runs
# FUZZ_FILES    cmin: most files a committed corpus may have (default 48)
# FUZZ_BYTES    cmin: largest file it may have (default 512)
#
# Needs cargo-fuzz and a nightly toolchain. No sanitizer: there is no unsafe code here for it to watch, and without it a run gets
# further. Overflow checks and debug assertions are on (fuzz/Cargo.toml). One job, at low priority.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=(header framing engine pair endpoint)
work=${FUZZ_WORK:-$PWD/fuzz/work}
max_files=${FUZZ_FILES:-48}
max_bytes=${FUZZ_BYTES:-512}

mode=run
minutes=30
case "${1:-}" in
    cmin)
        mode=cmin
        shift
        ;;
    '') ;;
    *[!0-9]*) ;;
    *)
        minutes=$1
        shift
        ;;
esac
if [ "$#" -gt 0 ]; then targets=("$@"); fi

if ! cargo fuzz --version >/dev/null 2>&1; then
    printf 'fuzz: cargo-fuzz is missing: cargo install --locked cargo-fuzz\n' >&2
    exit 1
fi

# cargo-fuzz builds for the host's triple and wants to be told where everything is.
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/fuzz/target}
built=$target_dir/$triple/release

for target in "${targets[@]}"; do
    printf '\n== %s\n' "$target"
    corpus=$PWD/fuzz/corpus/$target
    found=$work/$target/corpus
    findings=$work/$target/findings
    mkdir -p "$found" "$findings" "$corpus"
    nice -n 15 cargo +nightly fuzz build -s none --target-dir "$target_dir" "$target"
    if [ "$mode" = run ]; then
        # The first folder takes what is new, the second is only read.
        nice -n 15 "$built/$target" "$found" "$corpus" -max_total_time=$((minutes * 60)) -timeout=20 -rss_limit_mb=2048 \
            -max_len=4096 -len_control=50 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$findings/"
        continue
    fi
    # The fewest files that reach every edge, those that reach most of them first.
    merged=$(mktemp -d)
    small=$(mktemp -d)
    find "$found" "$corpus" -type f -size "-$((max_bytes + 1))c" -print0 |
        while IFS= read -r -d '' file; do cp "$file" "$small/$(sha1sum "$file" | cut -c1-16)"; done
    nice -n 15 "$built/$target" -set_cover_merge=1 -use_counters=0 -timeout=20 "$merged" "$small" >"$work/$target/cmin.log" 2>&1
    find "$corpus" -type f ! -name 'seed-*' ! -name 'found-*' -delete
    # A merge writes them in that order.
    find "$merged" -type f -printf '%T@ %p\n' | sort -n | head -n "$max_files" | cut -d' ' -f2 |
        while IFS= read -r file; do cp "$file" "$corpus/$(basename "$file" | cut -c1-16)"; done
    rm -rf "$merged" "$small"
    printf '%s: %s files, %s bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" "$(du -sb "$corpus" | cut -f1)"
done
