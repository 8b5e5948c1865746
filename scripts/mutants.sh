#!/usr/bin/env bash
# Plants each defect of tests/mutants in a copy of the committed tree, one at a time, and runs the quick tests until one fails.
#
#   scripts/mutants.sh [NN]...     numbers of patches; all without arguments
#
# MUTANTS_TARGET     build directory to keep between runs, for nothing else meanwhile (default: a temporary one)
# MUTANTS_LIMIT      seconds that one test binary may run before it counts as hung (default 300)
# MUTANTS_UNPATCHED  skip: do not first run the tests on the tree as it is
#
# A line for each: caught and by what, SURVIVED, DOES NOT APPLY, DOES NOT COMPILE. The last three make the script fail: a survivor
# asks for a test, and patches are kept up to date. Documentation tests and kcp-netem, which knows nothing of KCP, are left out;
# a defect of the tokio layer does not run the engine's tests, one of the command only those of the command. Those on the real
# kernel need root, and pass without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir "$tree"
commit=$(git rev-parse HEAD)
# Files as new as can be: cargo would take what an earlier run built of a mutant for theirs.
git archive "$commit" | tar -x -m -C "$tree"
export CARGO_TARGET_DIR=${MUTANTS_TARGET:-$work/target}
# git apply would leave a file alone that belongs to a repository around this one.
export GIT_CEILING_DIRECTORIES=$work
limit=${MUTANTS_LIMIT:-300}
log=$work/log

patches=()
if [ "$#" -eq 0 ]; then
    patches=("$tree"/tests/mutants/*.patch)
else
    for number in "$@"; do
        found=("$tree/tests/mutants/$number"-*.patch)
        if [ ! -e "${found[0]}" ]; then
            printf 'mutants: no committed patch %s\n' "$number" >&2
            exit 2
        fi
        patches+=("${found[@]}")
    done
fi

# What is likely to notice comes first; the oracle has a workspace of its own.
engine_steps=(
    'kcp-engine --lib'
    'oracle'
    'kcp-engine --test allocations --test corpora --test behaviour'
)
async_steps=(
    'kcp-async --lib'
    'kcp-async --test it'
    'kcp-async --test sim'
    'kcp-async --test attack'
    'kcp-async --test spin'
    'kcp-async --test corpora --test models'
    'kcp-sys'
    'kcp-async --test kernel'
)
cli_steps=('kcp-cli')

# Replaces the shell that calls it, so that a signal reaches `timeout`, and everything that runs below it.
run_tests() {
    case "$1" in
        oracle*) cd "$tree/interop" ;;
        *) cd "$tree" ;;
    esac
    # shellcheck disable=SC2086  # a step is several arguments
    exec timeout -k 10 "$limit" cargo test -p $1
}

builds() {
    # shellcheck disable=SC2086
    case "$1" in
        oracle*) (cd "$tree/interop" && cargo test -p $1 --no-run) ;;
        *) (cd "$tree" && cargo test -p $1 --no-run) ;;
    esac >"$log" 2>&1
}

# The first failed test of the log.
failed_test() { sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -n 1; }

# A property test that fails keeps its seed: it must not find the next defect too.
forget_seeds() {
    find "$tree/crates" -name proptest-regressions -prune -exec rm -rf {} +
    git archive "$commit" -- ':(glob)**/proptest-regressions/**' | tar -x -m -C "$tree"
}

# What cargo test says of a test that hangs.
slow_test() { sed -n 's/^test \(.*\) has been running for over 60 seconds$/\1/p' "$log" | head -n 1; }

# Runs the steps until one fails. Sets `outcome`; fails if none of them did.
caught_by_steps() {
    local step pid status name
    for step in "$@"; do
        if ! builds "$step"; then
            outcome='DOES NOT COMPILE'
            return 0
        fi
        run_tests "$step" >"$log" 2>&1 &
        pid=$!
        # The first failure is enough: a defect may let the tests behind it hang.
        while kill -0 "$pid" 2>/dev/null; do
            if [ -n "$(failed_test)" ]; then
                kill "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.5
        done
        status=0
        wait "$pid" 2>/dev/null || status=$?
        name=$(failed_test)
        if [ -n "$name" ]; then
            outcome="caught by $step: $name"
        elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
            name=$(slow_test)
            outcome="caught by $step${name:+: $name} (hung)"
        elif [ "$status" -ne 0 ]; then
            outcome="caught by $step (ended with $status)"
        else
            continue
        fi
        return 0
    done
    return 1
}

if [ "${MUTANTS_UNPATCHED:-}" != skip ]; then
    if caught_by_steps "${engine_steps[@]}" "${async_steps[@]}" "${cli_steps[@]}"; then
        printf 'mutants: FAIL: the unpatched tree: %s\n' "$outcome" >&2
        tail -n 40 "$log" >&2
        exit 1
    fi
    printf 'unpatched: all tests pass, %d s\n' "$SECONDS"
fi

caught=0
failed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    began=$SECONDS
    steps=("${cli_steps[@]}")
    if grep -q '^+++ b/crates/kcp-\(engine\|async\|sys\)/' "$patch"; then steps=("${async_steps[@]}" "${steps[@]}"); fi
    if grep -q '^+++ b/crates/kcp-engine/' "$patch"; then steps=("${engine_steps[@]}" "${steps[@]}"); fi
    if ! (cd "$tree" && git apply "$patch") >"$log" 2>&1; then
        outcome='DOES NOT APPLY'
    else
        caught_by_steps "${steps[@]}" || outcome=SURVIVED
        (cd "$tree" && git apply -R "$patch")
        forget_seeds
    fi
    case "$outcome" in
        caught*) caught=$((caught + 1)) ;;
        *) failed=$((failed + 1)) ;;
    esac
    printf '%-34s %s, %d s\n' "$name" "$outcome" "$((SECONDS - began))"
done

printf '\nmutants: %d planted, %d caught\n' "${#patches[@]}" "$caught"
if [ "$failed" -ne 0 ]; then exit 1; fi
