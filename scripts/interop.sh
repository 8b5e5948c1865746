#!/usr/bin/env bash
# Installs the real peers by package name and runs the interop workspace against them.
#
#   scripts/interop.sh [install|run]     both without arguments
#
# KCP_INTEROP=require is set for the run: a peer that is missing is then a failure, not a skip. Everything that is not a system
# package goes into interop/.peers, which git ignores: venv (Python), node (npm), bin (our driver of kcp-go).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../interop"

what=${1:-all}
peers=$PWD/.peers
apt_packages=(golang-go golang-github-xtaci-kcp-dev golang-github-klauspost-reedsolomon-dev kcptun)

step() { printf '\n== %s\n' "$*"; }
die() {
    printf 'interop: FAIL: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_apt() {
    step "apt-get install ${apt_packages[*]}"
    local missing=()
    for package in "${apt_packages[@]}"; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then missing+=("$package"); fi
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        printf 'already there\n'
        return
    fi
    # A list of packages that is a day old is good enough.
    if [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; then
        as_root apt-get update -q
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
        die "apt could not install: ${missing[*]}"
}

build_go() {
    step 'go build kcppeer (kcp-go from the system package)'
    mkdir -p "$peers/bin"
    # The packaged sources live in a GOPATH of their own and know nothing of modules.
    GO111MODULE=off GOFLAGS='' GOPATH=$PWD/peers/go:/usr/share/gocode go build -o "$peers/bin/kcppeer" kcppeer ||
        die 'kcp-go did not build'
    printf '%s\n' "$peers/bin/kcppeer"
}

install_python() {
    step 'pip install kcp==0.1.6'
    if [ ! -x "$peers/venv/bin/python" ]; then
        python3 -m venv "$peers/venv" || die 'python3 -m venv failed (python3-venv missing?)'
    fi
    if ! "$peers/venv/bin/python" -c 'from importlib.metadata import version; assert version("kcp") == "0.1.6"' 2>/dev/null; then
        "$peers/venv/bin/python" -m pip install --quiet --disable-pip-version-check kcp==0.1.6 || die 'pip could not install kcp'
    fi
    "$peers/venv/bin/python" -c 'from importlib.metadata import version; import kcp; print("kcp", version("kcp"))' ||
        die 'the Python peer does not load'
}

install_node() {
    step 'npm install node-kcp@1.0.13'
    mkdir -p "$peers/node"
    if [ ! -f "$peers/node/node_modules/node-kcp/build/Release/kcp.node" ]; then
        npm install --prefix "$peers/node" --no-audit --no-fund --loglevel=error node-kcp@1.0.13 || die 'npm could not install node-kcp'
    fi
    (cd "$peers/node" && node -e '
        require("node-kcp/build/Release/kcp");
        console.log("node-kcp", require("node-kcp/package.json").version)') || die 'the Node peer does not load'
}

if [ "$what" = all ] || [ "$what" = install ]; then
    install_apt
    build_go
    install_python
    install_node
fi

if [ "$what" = all ] || [ "$what" = run ]; then
    step 'cargo fmt and clippy, in interop/'
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings

    step 'cargo test --workspace, in interop/, KCP_INTEROP=require'
    KCP_INTEROP=require cargo test --workspace -- --nocapture
    printf '\ninterop: ok\n'
fi
