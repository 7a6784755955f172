//! A real Envoy, and the parts of its configuration that tests use.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{http, process::Process};

#[derive(Debug)]
pub struct Envoy {
    admin: SocketAddr,
    process: Process,
}

impl Envoy {
    /// Starts Envoy with these listeners, which use port 0, and clusters.
    pub fn start(listeners: &[Value], clusters: &[Value]) -> Self {
        let config = json!({
            "admin": { "address": address(([127, 0, 0, 1], 0).into()) },
            "static_resources": { "listeners": listeners, "clusters": clusters },
        });
        let files = TempDir::new().unwrap();
        let path = files.path().join("envoy.json");
        fs::write(&path, config.to_string()).unwrap();
        Self::run(files, &path)
    }

    /// Starts Envoy with the configuration file `path`.
    pub fn run(files: TempDir, path: &Path) -> Self {
        let admin = files.path().join("admin");
        let mut command = Command::new(Self::binary());
        command.arg("-c").arg(path).arg("--admin-address-path").arg(&admin);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        command.args(["--file-flush-interval-msec", "20", "--drain-time-s", "1"]);
        // The access log is written to the current directory.
        command.current_dir(files.path());
        let mut process = Process::start("envoy", &mut command, files);
        let admin = process.wait_until("opens the admin port", || {
            fs::read_to_string(&admin).ok()?.trim().parse().ok()
        });
        process.wait_until("is ready", || http::get(admin, "/ready", &[]).status == 200);
        Self { admin, process }
    }

    /// The Envoy that `tests/setup.sh` installs.
    fn binary() -> PathBuf {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/envoy");
        assert!(path.exists(), "{} is missing: run tests/setup.sh", path.display());
        path
    }

    /// The address of the listener `name`.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let listeners = http::get(self.admin, "/listeners?format=text", &[]).text();
        for line in listeners.lines() {
            if let Some((found, address)) = line.split_once("::")
                && found == name
            {
                return address.parse().unwrap();
            }
        }
        panic!("{name} is not in {listeners}")
    }

    /// The value of a counter or gauge; 0 if it does not exist.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = http::get(self.admin, "/stats", &[]).text();
        for line in stats.lines() {
            if let Some((found, value)) = line.split_once(": ")
                && found == name
            {
                return value.parse().unwrap();
            }
        }
        0
    }

    /// The entries of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.process.file("access.log")).unwrap_or_default();
        let (complete, _) = log.rsplit_once('\n').unwrap_or_default();
        let mut entries = Vec::new();
        for line in complete.lines() {
            entries.push(serde_json::from_str(line).unwrap());
        }
        entries
    }
}

/// Adds the type of an Envoy message.
pub fn typed(message: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{message}").into();
    value
}

/// A cluster that serves HTTP/1.1 or plain TCP.
pub fn cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let mut endpoints = Vec::new();
    for socket in addresses {
        endpoints.push(json!({ "endpoint": { "address": address(*socket) } }));
    }
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

/// A cluster that serves gRPC.
pub fn grpc_cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let mut cluster = cluster(name, addresses);
    let options = json!({ "explicit_http_config": { "http2_protocol_options": {} } });
    let options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", options);
    cluster["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    cluster
}

/// A TCP listener.
pub fn listener(name: &str, filters: &[Value]) -> Value {
    json!({
        "name": name,
        "address": address(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{ "filters": filters }],
    })
}

/// A network filter for HTTP, with `filters` before the router.
pub fn http_filter_chain(filters: &[Value], routes: &[Value]) -> Value {
    let mut filters = filters.to_vec();
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": router }));
    let log = typed(
        "extensions.access_loggers.file.v3.FileAccessLog",
        json!({
            "path": "access.log",
            "log_format": { "json_format": {
                "path": "%REQ(:PATH)%",
                "user": "%REQ(X-USER)%",
                "status": "%RESPONSE_CODE%",
                "metadata": "%DYNAMIC_METADATA(envoy.filters.http.ratelimit)%",
            } },
        }),
    );
    let manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "http",
            "http_filters": filters,
            "access_log": [{ "name": "file", "typed_config": log }],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        }),
    );
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
}

/// The rate limit filter, which sends its requests to the cluster `service`. Its timeout
/// is far longer than the default of 20 ms, which a busy machine would exceed.
pub fn rate_limit_filter(service: &str, more: &Value) -> Value {
    let mut config = json!({
        "domain": "shop",
        "timeout": "10s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": service } },
        },
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config = typed("extensions.filters.http.ratelimit.v3.RateLimit", config);
    json!({ "name": "envoy.filters.http.ratelimit", "typed_config": config })
}

/// The external authorization filter. `more` is merged into its configuration.
pub fn ext_authz_filter(more: &Value) -> Value {
    let mut config = json!({ "transport_api_version": "V3" });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config = typed("extensions.filters.http.ext_authz.v3.ExtAuthz", config);
    json!({ "name": "envoy.filters.http.ext_authz", "typed_config": config })
}

/// A route to the upstream, whose checks have these context extensions.
pub fn checked_route(prefix: &str, extensions: &Value) -> Value {
    let settings = json!({ "check_settings": { "context_extensions": extensions } });
    let per_route = typed("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", settings);
    json!({
        "match": { "prefix": prefix },
        "route": { "cluster": "upstream" },
        "typed_per_filter_config": { "envoy.filters.http.ext_authz": per_route },
    })
}

/// A route to the upstream. Its rate limits are in the per-route configuration of the
/// filter, as Envoy sends all of their fields only from there.
pub fn route(path: &str, per_route: Value) -> Value {
    let per_route = typed("extensions.filters.http.ratelimit.v3.RateLimitPerRoute", per_route);
    json!({
        "match": { "path": path },
        "route": { "cluster": "upstream" },
        "typed_per_filter_config": { "envoy.filters.http.ratelimit": per_route },
    })
}

/// An action that adds the entry `key` with the value of the header `x-<key>`.
pub fn header(key: &str) -> Value {
    json!({ "request_headers": { "header_name": format!("x-{key}"), "descriptor_key": key } })
}

fn address(socket: SocketAddr) -> Value {
    let host = socket.ip().to_string();
    json!({ "socket_address": { "address": host, "port_value": socket.port() } })
}
