#!/bin/sh
# Runs tests/gateway with a real Envoy Gateway, whose control plane is built once from its
# Go modules into target/test-tools (about 15 minutes, and 3 GB in the caches of Go).
# Its ports, names and the directory /certs are fixed, so the test runs in a network and a
# file system of its own.
set -eu
cd "$(dirname "$0")/../.."

gateway_version=v1.9.1
envoy_version=1.40.0
tools=$PWD/target/test-tools
home=$tools/gateway/home
gateway=$tools/gateway/$gateway_version/envoy-gateway

die() {
    echo "gateway: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1 || [ -x "$1" ]
}

has "$tools/envoy" || tests/setup.sh
has bwrap || die 'please install bubblewrap'
if ! has "$gateway"; then
    has go || die 'please install Go 1.26 or later'
    echo "gateway: building Envoy Gateway $gateway_version" >&2
    CGO_ENABLED=0 GOBIN=${gateway%/*} go install -ldflags '-s -w' \
        "github.com/envoyproxy/gateway/cmd/envoy-gateway@$gateway_version"
fi
if [ ! -d "$home/certs/envoy-rate-limit" ]; then
    "$gateway" certgen --local --config-home "$home"
fi

# The gateway would download this Envoy.
bin=$home/envoy-versions/$envoy_version/bin
mkdir -p "$bin"
ln -sf "$(readlink -f "$tools/envoy")" "$bin/envoy"

{
    echo 'apiVersion: v1'
    echo 'kind: Secret'
    echo 'metadata: {name: envoy, namespace: envoy-gateway-system}'
    echo 'type: kubernetes.io/tls'
    echo 'data:'
    for file in ca.crt tls.crt tls.key; do
        echo "  $file: $(base64 <"$home/certs/envoy/$file" | tr -d '\n')"
    done
} >"$home/secret.yaml"
service=envoy-ratelimit.envoy-gateway-system.svc.cluster.local
echo "127.0.0.1 localhost envoy-gateway $service" >"$home/hosts"

cargo test --locked --no-run --test gateway
set --
for path in /*; do
    case $path in
        /proc | /certs) ;;
        *) set -- "$@" --dev-bind "$path" "$path" ;;
    esac
done
export ENVOY_GATEWAY="$gateway" ENVOY_GATEWAY_HOME="$home"
exec bwrap "$@" --proc /proc --ro-bind "$home/hosts" /etc/hosts \
    --ro-bind "$home/certs/envoy-rate-limit" /certs \
    --unshare-net --unshare-pid --die-with-parent --chdir "$PWD" \
    cargo test --locked --offline --test gateway
