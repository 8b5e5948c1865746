#!/usr/bin/env bash
# docs/protocol.md and the code must know each other: every section that code cites exists, every section is cited by a test or the
# code that obeys it, and every test that section 14 names is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

spec=docs/protocol.md
failed=0
fail() {
    printf 'FAIL %s\n' "$*"
    failed=1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sections: "## 3 Sending", "### 3.1 Message mode".
sed -nE 's/^#{2,3} ([0-9]+(\.[0-9]+)?) .*/\1/p' "$spec" | sort -Vu >"$work/sections"

# Citations: "protocol.md 7.4", "protocol.md` 11.1, 11.2 and 12.4". A number ends a citation list only with its own text, so
# take the run of numbers behind the name.
git ls-files '*.rs' | while IFS= read -r file; do
    if [ -f "$file" ]; then grep -hoE 'protocol\.md`? [0-9]+(\.[0-9]+)?((,| and) [0-9]+\.[0-9]+)*' "$file" || true; fi
done | grep -oE '[0-9]+(\.[0-9]+)?' | sort -Vu >"$work/cited"

while IFS= read -r section; do
    fail "cited, but there is no section $section"
done < <(comm -13 <(sort "$work/sections") <(sort "$work/cited"))

# Chapters of their own right, and what only tables and peers are about, need no citation.
uncited=$(comm -23 <(sort "$work/sections") <(sort "$work/cited") | grep -E '\.' | sort -V || true)
printf '%s: %s sections, cited %s\n' "$spec" "$(wc -l <"$work/sections")" "$(wc -l <"$work/cited")"
if [ -n "$uncited" ]; then printf 'not cited by any code: %s\n' "$(tr '\n' ' ' <<<"$uncited")"; fi

# shellcheck disable=SC2016  # the backquotes are Markdown's
while IFS= read -r name; do
    if ! git grep -qE "fn $name\b" -- '*.rs'; then fail "section 14 names a test that is not there: $name"; fi
done < <(sed -n '/^## 14 /,/^## 15 /p' "$spec" | grep '^| [0-9]' | awk -F'|' '{ print $(NF - 1) }' | grep -oE '`[a-z0-9_]+`' | tr -d '`')

if [ "$failed" -ne 0 ]; then exit 1; fi
printf 'spec-citations: ok\n'
