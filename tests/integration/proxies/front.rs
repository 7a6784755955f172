//! A proxy with the configuration in `examples/`, its application, and a record of the checks.

use std::{fs, net::SocketAddr, path::Path};

use testkit::{
    application::Application,
    check_tap::CheckTap,
    envoy::Envoy,
    http::Reply,
    network::unused_host,
    tollgate::Tollgate,
    web_proxy::{WebProxy, WebProxyKind},
};

use super::{client::Request, envoy};

/// A file below `examples/`.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    fs::read_to_string(path).unwrap()
}

/// The shared rules of the examples, with limits per year.
pub fn rules() -> String {
    let mut rules = example("web.yaml");
    for unit in ["unit: minute", "unit: hour"] {
        substitute(&mut rules, unit, "unit: year");
    }
    rules
}

/// The proxy's policy for requests that the service does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    Refuse,
    Pass,
}

/// The proxy's timeouts for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeouts {
    /// Those of the examples, which a busy machine exceeds.
    Short,
    Long,
}

/// A proxy and the way in which it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Caddy,
    EnvoyByHttp,
    /// Not through the tap.
    EnvoyByGrpc,
}

#[derive(Debug)]
pub struct Front {
    pub kind: Kind,
    /// The address of the proxy.
    address: SocketAddr,
    _proxy: Proxy,
    pub tap: CheckTap,
    pub application: Application,
}

/// Runs until it is dropped.
#[derive(Debug)]
enum Proxy {
    Web { _proxy: WebProxy },
    Envoy { _proxy: Envoy },
}

impl Front {
    pub fn start(kind: Kind, service: &Tollgate, undecided: Undecided, timeouts: Timeouts) -> Self {
        Self::start_edited(kind, service, undecided, timeouts, &[])
    }

    /// `edits` are texts in the last file of the example, and those in their place.
    pub fn start_edited(
        kind: Kind,
        service: &Tollgate,
        undecided: Undecided,
        timeouts: Timeouts,
        edits: &[(&str, &str)],
    ) -> Self {
        let (tap, application) = (CheckTap::start(service.http), Application::start());
        let web = |kind| start_web_proxy(kind, (&tap, &application), undecided, timeouts, edits);
        let (address, proxy) = match kind {
            Kind::Nginx => web(WebProxyKind::Nginx),
            Kind::Haproxy => web(WebProxyKind::Haproxy),
            Kind::Caddy => web(WebProxyKind::Caddy),
            Kind::EnvoyByHttp => {
                let (asked, application) = (tap.address, application.address);
                let envoy = envoy::asking_by_http(asked, application, undecided, timeouts);
                (envoy.listener("web"), Proxy::Envoy { _proxy: envoy })
            }
            Kind::EnvoyByGrpc => {
                let (asked, application) = (service.grpc, application.address);
                let envoy = envoy::asking_by_grpc(asked, application, undecided, timeouts);
                (envoy.listener("web"), Proxy::Envoy { _proxy: envoy })
            }
        };
        Self { kind, address, _proxy: proxy, tap, application }
    }

    /// `None` if the proxy ends the connection without a reply.
    pub fn send(&self, request: &Request) -> Option<Reply> {
        request.send(self.address)
    }

    /// Compares the number of checks of targets that contain `text`, if they can be seen.
    #[track_caller]
    pub fn assert_checks(&self, text: &str, expected: usize) {
        if self.kind != Kind::EnvoyByGrpc {
            assert_eq!(self.tap.checks_of(text), expected, "checks of {text}");
        }
    }

    /// The status of the reply; 0 without one.
    pub fn status(&self, request: &Request) -> u16 {
        self.send(request).map_or(0, |reply| reply.status)
    }

    /// The statuses of equal requests.
    pub fn statuses<const N: usize>(&self, request: &Request) -> [u16; N] {
        [(); N].map(|()| self.status(request))
    }
}

/// Starts a proxy with the files in `examples/`.
fn start_web_proxy(
    kind: WebProxyKind,
    (tap, application): (&CheckTap, &Application),
    undecided: Undecided,
    timeouts: Timeouts,
    edits: &[(&str, &str)],
) -> (SocketAddr, Proxy) {
    let names = match kind {
        WebProxyKind::Nginx => &["nginx/nginx.conf"][..],
        WebProxyKind::Haproxy => &["haproxy/haproxy.cfg", "haproxy/tollgate.lua"],
        WebProxyKind::Caddy => &["caddy/Caddyfile"],
    };
    let mut files = Vec::new();
    for name in names {
        let (_, file) = name.split_once('/').unwrap();
        files.push((file, example(name)));
    }
    for (from, to) in edits {
        substitute(&mut files.last_mut().unwrap().1, from, to);
    }
    let main = &mut files[0].1;
    if undecided == Undecided::Pass {
        fail_open(kind, main);
    }
    if timeouts == Timeouts::Long {
        substitute(main, "100ms", "60s");
        substitute(main, "200ms", "60s");
    }
    substitute(main, "127.0.0.1:8080", "SERVICE");
    substitute(main, "127.0.0.1:9000", "APPLICATION");
    let host = unused_host().to_string();
    for (_, text) in &mut files {
        substitute(text, "127.0.0.1", &host);
    }
    let main = &mut files[0].1;
    substitute(main, "SERVICE", &tap.address.to_string());
    substitute(main, "APPLICATION", &application.address.to_string());
    let address = format!("{host}:8000").parse().unwrap();
    (address, Proxy::Web { _proxy: WebProxy::start(kind, address, &files) })
}

/// Changes a configuration as the comments in it describe.
fn fail_open(kind: WebProxyKind, config: &mut String) {
    match kind {
        WebProxyKind::Nginx => {
            substitute(config, "# proxy_intercept_errors on;", "proxy_intercept_errors on;");
            substitute(config, "# error_page 502 503 504", "error_page 502 503 504");
        }
        WebProxyKind::Haproxy => {
            let line =
                "    http-request deny deny_status 503 unless { var(txn.decided) -m bool }\n";
            substitute(config, line, "");
        }
        WebProxyKind::Caddy => {
            let asked = "forward_auth 127.0.0.1:8080";
            substitute(config, asked, &format!("{asked} 127.0.0.1:8003"));
            for line in ["lb_policy first", "lb_retries 1", "fail_duration 1s"] {
                substitute(config, &format!("# {line}"), line);
            }
        }
    }
}

/// Replaces text that has to be there.
#[track_caller]
fn substitute(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "{from:?} is not in the example");
    *text = text.replace(from, to);
}
