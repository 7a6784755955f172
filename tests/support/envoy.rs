//! A real Envoy, and its configuration in a few words.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{http, process::Process};

#[derive(Debug)]
pub struct Envoy {
    admin: SocketAddr,
    _process: Process,
    files: TempDir,
}

impl Envoy {
    /// Starts one with these listeners (on port 0) and clusters.
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

    /// Starts one with the configuration in `path`.
    pub fn run(files: TempDir, path: &Path) -> Self {
        let admin = files.path().join("admin");
        let mut command = Command::new(Self::binary());
        command.arg("-c").arg(path).arg("--admin-address-path").arg(&admin);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        command.args(["--file-flush-interval-msec", "20", "--drain-time-s", "1"]);
        // Its access log goes to the current directory.
        command.current_dir(files.path());
        let mut process = Process::start("envoy", &mut command, files.path().join("log"));
        let admin = process
            .until("listens for admin", |_| fs::read_to_string(&admin).ok()?.trim().parse().ok());
        process
            .until("is ready", |_| (http::get(admin, "/ready", &[]).status == 200).then_some(()));
        Self { admin, _process: process, files }
    }

    /// The one that `tests/setup.sh` installs.
    pub fn binary() -> PathBuf {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/envoy");
        assert!(path.exists(), "there is no {}: run tests/setup.sh", path.display());
        path
    }

    /// Where a listener listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let listeners = http::get(self.admin, "/listeners?format=text", &[]).text();
        let line = listeners.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix("::"));
        line.unwrap_or_else(|| panic!("no {name} in {listeners}")).parse().unwrap()
    }

    /// The value of a counter or gauge; 0 if Envoy has none of that name.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = http::get(self.admin, "/stats", &[]).text();
        let value = stats.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(0, |it| it.parse().unwrap())
    }

    /// What has been logged of the requests so far, one object each.
    pub fn access_log(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.files.path().join("access.log")).unwrap_or_default();
        let (complete, _) = log.rsplit_once('\n').unwrap_or_default();
        complete.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }
}

/// An Envoy message that says of what type it is.
pub fn typed(message: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{message}").into();
    value
}

/// A cluster that answers a plain protocol.
pub fn cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoint = |it: &SocketAddr| json!({ "endpoint": { "address": address(*it) } });
    let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

/// A cluster that speaks gRPC.
pub fn grpc_cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let mut cluster = cluster(name, addresses);
    let options = json!({ "explicit_http_config": { "http2_protocol_options": {} } });
    let options = typed("extensions.upstreams.http.v3.HttpProtocolOptions", options);
    cluster["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    cluster
}

/// A listener for TCP.
pub fn listener(name: &str, filters: &[Value]) -> Value {
    json!({
        "name": name,
        "address": address(([127, 0, 0, 1], 0).into()),
        "filter_chains": [{ "filters": filters }],
    })
}

/// A network filter that answers HTTP: with filters before the router.
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

/// The rate limit filter, asking the cluster `service`. A deadline of 20 ms,
/// the default, would make a test of a busy machine.
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

/// A route to the upstream with rate limits in the filter's own configuration
/// of the route, which is the only place where Envoy sends all of their fields.
pub fn route(path: &str, per_route: Value) -> Value {
    let per_route = typed("extensions.filters.http.ratelimit.v3.RateLimitPerRoute", per_route);
    json!({
        "match": { "path": path },
        "route": { "cluster": "upstream" },
        "typed_per_filter_config": { "envoy.filters.http.ratelimit": per_route },
    })
}

/// The entry `key` with the value of the header `x-<key>`.
pub fn header(key: &str) -> Value {
    json!({ "request_headers": { "header_name": format!("x-{key}"), "descriptor_key": key } })
}

fn address(of: SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}
