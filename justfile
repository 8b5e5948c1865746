# Recipes only call scripts; nothing needs `just`.

default:
    @just --list

# formatting, clippy, documentation
check:
    scripts/check.sh

# the workspace's tests
test:
    scripts/test.sh

# kcp-engine for a microcontroller
no-std:
    scripts/no-std.sh

# type-check for Windows and macOS
cross-check:
    scripts/cross-check.sh

# file sizes, unsafe, registry names
size-limits:
    scripts/size-limits.sh

# sections of the specification and who cites them
spec-citations:
    scripts/spec-citations.sh

# real peers
interop:
    scripts/interop.sh

# 500 MB over a bad link (root)
linkem-copy:
    scripts/linkem-copy.sh

# everything, as on a clean machine
ci:
    .ci/run
