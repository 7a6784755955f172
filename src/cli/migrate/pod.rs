//! What a pod around the service asks of it.

use super::{
    Case,
    finding::{Finding, Grade},
    manifest::{Pod, name, text},
    reference,
    variables::setting,
};
use crate::{
    cli,
    config::documents::{Item, Kind},
    settings::table::GROUPS,
};

/// The checks, one for each part of a pod.
pub(super) const CHECKS: &[fn(&Case<'_>, &Pod<'_>, &mut Vec<Finding>)] =
    &[command, probes, ports, links, grace];

/// Pages of the HTTP port, and of the debug port, where all others answer, too.
const PAGES: [&str; 5] = ["/healthcheck", "/ready", "/metrics", "/rlconfig", "/json"];

fn command(_: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let words = |key: &str| {
        let item = pod.container.get(key);
        item.into_iter().flat_map(Item::list).filter_map(Item::text).collect::<Vec<_>>()
    };
    let (command, args) = (words("command"), words("args"));
    let place = |key: &str| pod.container.get(key).map_or(String::new(), |it| pod.place(it));
    // Arguments may hold passwords, and are not shown.
    if let Some(program) = command.first().filter(|it| !is_ours(it)) {
        findings.push(
            Finding::new(Grade::Note, format!("the container runs {program}"))
                .at(place("command"))
                .here("the image has /bin/ratelimit, tollgate, and what a small Debian has")
                .remedy("see that it ends up in /bin/ratelimit, or remove `command`"),
        );
        return;
    }
    let key = if args.is_empty() { "command" } else { "args" };
    let arguments: Vec<_> = command.iter().skip(1).chain(&args).copied().collect();
    let (grade, here) = match arguments.as_slice() {
        [] | ["serve"] => return,
        arguments if serves(arguments) => {
            (Grade::Differs, "takes them for its settings, which are not compared here")
        }
        _ => (Grade::WillNotStart, "does not serve with them"),
    };
    findings.push(
        Finding::new(grade, "the container has arguments")
            .at(place(key))
            .there("ignores them: it takes no flags")
            .here(here)
            .remedy(format!("remove them from `{key}`")),
    );
}

fn is_ours(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    let directory = program.strip_suffix(name).unwrap_or_default();
    let by_name = ["ratelimit", "tollgate"].contains(&name);
    by_name && ["", "/bin/", "/usr/bin/", "/usr/local/bin/"].contains(&directory)
}

/// Whether tollgate serves if these are its arguments.
fn serves(arguments: &[&str]) -> bool {
    let matches = cli::command().try_get_matches_from([&["tollgate"], arguments].concat());
    matches.is_ok_and(|it| it.subcommand_name().is_none_or(|it| it == "serve"))
}

/// What says which ports there are, and what is on them.
const PORTS: [&str; 7] = [
    "PORT",
    "DEBUG_PORT",
    "GRPC_PORT",
    "GRPC_UDS",
    "USE_PROMETHEUS",
    "PROMETHEUS_ADDR",
    "PROMETHEUS_PATH",
];

/// A port on which something listens.
struct Listener {
    port: i128,
    what: &'static str,
}

/// The ports that will be open; none whose number is not known.
fn listeners(case: &Case<'_>) -> Vec<Listener> {
    let number = |name, default| match case.env.text(name) {
        Some(text) => text.parse().ok(),
        None if case.env.has(name) => None,
        None => Some(default),
    };
    let prometheus = case.env.text("PROMETHEUS_ADDR").unwrap_or(":9090");
    let prometheus = prometheus.rsplit(':').next().and_then(|it| it.parse().ok());
    let serves = case.env.is_true("USE_PROMETHEUS") && setting("USE_PROMETHEUS").is_some();
    let on_socket = case.env.has("GRPC_UDS") && setting("GRPC_UDS").is_some();
    let all = [
        ("gRPC", number("GRPC_PORT", 8081).filter(|_| !on_socket)),
        ("HTTP", number("PORT", 8080)),
        ("debug", number("DEBUG_PORT", 6070)),
        ("Prometheus", prometheus.filter(|_| serves)),
    ];
    all.into_iter().filter_map(|(what, port)| Some(Listener { port: port?, what })).collect()
}

/// The port that `item` names, by number or by the name of a container's port.
fn port_of(pod: &Pod<'_>, item: Item<'_>) -> Option<i128> {
    let name = match item.kind() {
        Kind::Int(port) => return Some(port),
        _ => item.text()?,
    };
    if let Ok(port) = name.parse() {
        return Some(port);
    }
    let mut ports = pod.container.get("ports").into_iter().flat_map(Item::list);
    let port = ports.find(|it| text(*it, "name") == name)?.get("containerPort")?;
    match port.kind() {
        Kind::Int(port) => Some(port),
        _ => port.text()?.parse().ok(),
    }
}

fn probes(case: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    const REMEDY: &str = "probe /healthcheck on the HTTP port, 8080 unless PORT says otherwise";
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(probe) = pod.container.get(name) else { continue };
        let program = probe.get_path(&["exec", "command"]).and_then(|it| it.list().next()?.text());
        let finding = if let Some(program) = program.filter(|it| !is_ours(it)) {
            let title = format!("the {name} runs {program}, which the image may not have");
            Finding::new(Grade::Note, title)
        } else if let Some(problem) = probe_problem(case, pod, probe) {
            Finding::new(Grade::WillNotStart, format!("the {name} fails: {problem}"))
                .unless(case.env, &PORTS)
        } else {
            continue;
        };
        findings.push(finding.at(pod.place(probe)).remedy(REMEDY));
    }
}

fn probe_problem(case: &Case<'_>, pod: &Pod<'_>, probe: Item<'_>) -> Option<String> {
    let listeners = listeners(case);
    let kind = ["httpGet", "grpc", "tcpSocket"].iter().find_map(|it| Some((*it, probe.get(it)?)));
    let (kind, target) = kind?;
    let port = port_of(pod, target.get("port")?)?;
    let Some(listener) = listeners.iter().find(|it| it.port == port) else {
        return Some(format!("nothing listens on port {port}"));
    };
    let path = Some(text(target, "path")).filter(|it| !it.is_empty()).unwrap_or("/");
    let page = path.split('?').next().unwrap_or(path);
    let metrics = case.env.text("PROMETHEUS_PATH").unwrap_or("/metrics");
    match (kind, listener.what) {
        ("httpGet", "HTTP") if page == "/json" => {
            Some("/json answers 400 without a request".into())
        }
        ("httpGet", "HTTP") if !PAGES.contains(&page) => Some(format!("there is no page {page}")),
        ("httpGet", "Prometheus") if page != metrics => Some(format!("there is no page {page}")),
        ("httpGet", "gRPC") => Some(format!("port {port} is for gRPC, not for HTTP")),
        ("grpc", "HTTP" | "debug" | "Prometheus") => Some(format!("port {port} is for HTTP")),
        ("grpc", _) => match text(target, "service") {
            "" | "ratelimit" => None,
            other => Some(format!("there is no health of a service {other}")),
        },
        _ => None,
    }
}

fn ports(case: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let listeners = listeners(case);
    for it in pod.container.get("ports").into_iter().flat_map(Item::list) {
        let Some(port) = it.get("containerPort").and_then(|it| port_of(pod, it)) else { continue };
        if listeners.iter().all(|it| it.port != port) {
            findings.push(
                Finding::new(Grade::Note, format!("nothing listens on containerPort {port}"))
                    .at(pod.place(it))
                    .remedy("see that nobody connects to it; /metrics is on the HTTP port, too")
                    .unless(case.env, &PORTS),
            );
        }
    }
}

/// Services whose variables Kubernetes gives to the pod, where they are taken
/// for settings.
fn links(case: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    if pod.spec.get("enableServiceLinks").is_some_and(|it| it.kind() == Kind::Bool(false)) {
        return;
    }
    let settings = GROUPS.iter().flat_map(|it| it.settings).map(|it| it.name);
    let ports: Vec<_> = settings.filter(|it| it.ends_with("_PORT")).collect();
    for service in pod.objects("Service") {
        // Of a Service without an address no variables are made.
        let spec = |key| service.get_path(&["spec", key]).and_then(Item::text);
        if spec("clusterIP") == Some("None") || spec("type") == Some("ExternalName") {
            continue;
        }
        let name = name(service);
        let variable = format!("{}_PORT", name.to_ascii_uppercase().replace('-', "_"));
        if ports.contains(&variable.as_str()) && case.env.get(&variable).is_none() {
            let there = reference::find(&variable).map_or("", |_| "does not start with it either");
            findings.push(
                Finding::new(Grade::WillNotStart, format!("a Service is called {name}"))
                    .at(pod.place(service))
                    .there(there)
                    .here(format!("Kubernetes sets {variable} to tcp://…, which is no port"))
                    .remedy("put `enableServiceLinks: false` into the spec of the pod")
                    .unless(case.env, &[&variable]),
            );
        }
    }
}

fn grace(case: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let wait = |name: &str, default| match case.env.text(name) {
        Some(text) => crate::duration::parse(text).map_or(default, |it| it.as_secs()),
        None => default,
    };
    let most = wait("DRAIN_DELAY", 3) + wait("DRAIN_TIMEOUT", 20);
    let Some(item) = pod.spec.get("terminationGracePeriodSeconds") else { return };
    let Kind::Int(grace) = item.kind() else { return };
    if grace < i128::from(most) {
        findings.push(
            Finding::new(Grade::Differs, format!("terminationGracePeriodSeconds is {grace}"))
                .at(pod.place(item))
                .there("ends when its calls have ended")
                .here(format!("takes up to {most}s to end, and may be killed before"))
                .remedy(format!(
                    "make it {} at least, or set DRAIN_DELAY and DRAIN_TIMEOUT",
                    most + 2
                ))
                .unless(case.env, &["DRAIN_DELAY", "DRAIN_TIMEOUT"]),
        );
    }
}
