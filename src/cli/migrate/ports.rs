//! Differences in the ports of a pod, and in its probes.

use super::{
    command::is_tollgate,
    environment::Environment,
    finding::{Finding, Grade},
    pod::Pod,
};
use crate::{
    cli::manifest::{list, text},
    config::documents::{Item, Kind},
    settings::table,
};

/// The pages of the HTTP port. The debug port serves any path.
const PAGES: [&str; 5] = ["/healthcheck", "/ready", "/metrics", "/rlconfig", "/json"];

/// The variables that decide which ports are open, and for which protocol.
const PORT_VARIABLES: [&str; 7] = [
    "PORT",
    "DEBUG_PORT",
    "GRPC_PORT",
    "GRPC_UDS",
    "USE_PROMETHEUS",
    "PROMETHEUS_ADDR",
    "PROMETHEUS_PATH",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortUse {
    Grpc,
    Http,
    Debug,
    Prometheus,
}

#[derive(Clone, Copy, Debug)]
struct OpenPort {
    number: i128,
    port_use: PortUse,
}

/// The open ports that have a known number.
fn open_ports(env: &Environment) -> Vec<OpenPort> {
    let mut ports = Vec::new();
    let mut open = |number: Option<i128>, port_use| {
        if let Some(number) = number {
            ports.push(OpenPort { number, port_use });
        }
    };
    if !env.is_set("GRPC_UDS") || table::find("GRPC_UDS").is_none() {
        open(port_number(env, "GRPC_PORT", 8081), PortUse::Grpc);
    }
    open(port_number(env, "PORT", 8080), PortUse::Http);
    open(port_number(env, "DEBUG_PORT", 6070), PortUse::Debug);
    if env.is_true("USE_PROMETHEUS") && table::find("USE_PROMETHEUS").is_some() {
        let address = env.text("PROMETHEUS_ADDR").unwrap_or(":9090");
        let number = address.rsplit(':').next().unwrap_or_default();
        open(number.parse().ok(), PortUse::Prometheus);
    }
    ports
}

fn port_number(env: &Environment, name: &str, default: i128) -> Option<i128> {
    match env.text(name) {
        Some(text) => text.parse().ok(),
        None if env.is_set(name) => None,
        None => Some(default),
    }
}

fn find_port(ports: &[OpenPort], number: i128) -> Option<OpenPort> {
    ports.iter().copied().find(|port| port.number == number)
}

/// The number of a port that `item` refers to, by number or by the name of a
/// port of the container.
fn referenced_port(pod: &Pod<'_>, item: Item<'_>) -> Option<i128> {
    if let Some(number) = integer(item) {
        return Some(number);
    }
    let name = item.text()?;
    for port in list(pod.container, "ports") {
        if text(port, "name") == name {
            return integer(port.get("containerPort")?);
        }
    }
    None
}

fn integer(item: Item<'_>) -> Option<i128> {
    match item.kind() {
        Kind::Int(number) => Some(number),
        _ => item.text()?.parse().ok(),
    }
}

/// Finds probes that would fail.
pub(super) fn probes(env: &Environment, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    const REMEDY: &str = "probe /healthcheck on the HTTP port, which is PORT or 8080";
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(probe) = pod.container.get(name) else { continue };
        let finding = if let Some(program) = other_program(probe) {
            let title = format!("the {name} runs {program}, which may be missing in the image");
            Finding::new(Grade::Note, title)
        } else if let Some(problem) = probe_problem(env, pod, probe) {
            Finding::new(Grade::WillNotStart, format!("the {name} fails: {problem}"))
                .unless_set(env, &PORT_VARIABLES)
        } else {
            continue;
        };
        findings.push(finding.at(pod.place(probe)).remedy(REMEDY));
    }
}

/// The program that a probe executes, unless it is tollgate.
fn other_program(probe: Item<'_>) -> Option<&str> {
    let program = probe.get_path(&["exec", "command"])?.list().next()?.text()?;
    if is_tollgate(program) { None } else { Some(program) }
}

fn probe_problem(env: &Environment, pod: &Pod<'_>, probe: Item<'_>) -> Option<String> {
    for kind in ["httpGet", "grpc", "tcpSocket"] {
        let Some(target) = probe.get(kind) else { continue };
        let number = referenced_port(pod, target.get("port")?)?;
        let Some(port) = find_port(&open_ports(env), number) else {
            return Some(format!("nothing listens on port {number}"));
        };
        return match kind {
            "httpGet" => http_probe_problem(env, port, target),
            "grpc" => grpc_probe_problem(port, target),
            _ => None,
        };
    }
    None
}

fn http_probe_problem(env: &Environment, port: OpenPort, target: Item<'_>) -> Option<String> {
    let path = match text(target, "path") {
        "" => "/",
        path => path,
    };
    let page = path.split('?').next().unwrap_or(path);
    let exists = match port.port_use {
        PortUse::Grpc => {
            return Some(format!("port {} is for gRPC, not for HTTP", port.number));
        }
        PortUse::Http if page == "/json" => {
            return Some("/json returns 400 without a request".to_owned());
        }
        PortUse::Http => PAGES.contains(&page),
        PortUse::Debug => true,
        PortUse::Prometheus => page == env.text("PROMETHEUS_PATH").unwrap_or("/metrics"),
    };
    if exists { None } else { Some(format!("there is no page {page}")) }
}

fn grpc_probe_problem(port: OpenPort, target: Item<'_>) -> Option<String> {
    if port.port_use != PortUse::Grpc {
        return Some(format!("port {} is for HTTP", port.number));
    }
    match text(target, "service") {
        "" | "ratelimit" => None,
        other => Some(format!("there is no health status for a service {other}")),
    }
}

/// Finds ports of the container that tollgate does not open.
pub(super) fn ports(env: &Environment, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let open_ports = open_ports(env);
    for port in list(pod.container, "ports") {
        let Some(item) = port.get("containerPort") else { continue };
        let Some(number) = referenced_port(pod, item) else { continue };
        if find_port(&open_ports, number).is_some() {
            continue;
        }
        findings.push(
            Finding::new(Grade::Note, format!("nothing listens on containerPort {number}"))
                .at(pod.place(port))
                .remedy("make sure that no client uses it; /metrics is also on the HTTP port")
                .unless_set(env, &PORT_VARIABLES),
        );
    }
}
