//! Differences in the spec of a pod, and in the Services beside it.

use super::{
    environment::Environment,
    finding::{Finding, Grade},
    pod::Pod,
    reference,
};
use crate::{
    cli::manifest::{name, text},
    config::documents::{Item, Kind},
    duration,
    settings::table,
};

/// The longest time, in seconds, that tollgate takes to exit after `DRAIN_DELAY` and
/// `DRAIN_TIMEOUT`.
const EXIT_TIME: u64 = 4;

/// Finds Services for which Kubernetes sets a variable of the pod that tollgate
/// reads as a setting, such as `GRPC_PORT` for a Service `grpc`.
pub(super) fn service_links(env: &Environment, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    if let Some(links) = pod.spec.get("enableServiceLinks")
        && links.kind() == Kind::Bool(false)
    {
        return;
    }
    for service in pod.objects_of_kind("Service") {
        let name = name(service);
        let variable = format!("{}_PORT", name.to_ascii_uppercase().replace('-', "_"));
        if !has_address(service) || table::find(&variable).is_none() || env.get(&variable).is_some()
        {
            continue;
        }
        let reference = match reference::find(&variable) {
            Some(_) => "does not start with it either",
            None => "",
        };
        findings.push(
            Finding::new(Grade::WillNotStart, format!("a Service is called {name}"))
                .at(pod.place(service))
                .reference(reference)
                .tollgate(format!(
                    "Kubernetes sets {variable} to tcp://…, which is not a port number"
                ))
                .remedy("set `enableServiceLinks: false` in the spec of the pod")
                .unless_set(env, &[&variable]),
        );
    }
}

/// Kubernetes sets variables only for a Service with a cluster address.
fn has_address(service: Item<'_>) -> bool {
    let Some(spec) = service.get("spec") else { return true };
    text(spec, "clusterIP") != "None" && text(spec, "type") != "ExternalName"
}

/// Compares the time that Kubernetes allows for a shutdown with the time that
/// tollgate may take.
pub(super) fn grace_period(env: &Environment, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
    let Some(item) = pod.spec.get("terminationGracePeriodSeconds") else { return };
    let Kind::Int(grace) = item.kind() else { return };
    let needed = whole_seconds(env, "DRAIN_DELAY", 3)
        .saturating_add(whole_seconds(env, "DRAIN_TIMEOUT", 20))
        .saturating_add(EXIT_TIME);
    if grace >= i128::from(needed) {
        return;
    }
    findings.push(
        Finding::new(Grade::Differs, format!("terminationGracePeriodSeconds is {grace}"))
            .at(pod.place(item))
            .reference("exits when its open requests have ended")
            .tollgate(format!("takes up to {needed}s to exit, and may be killed before"))
            .remedy(format!("set it to {needed} or more, or set DRAIN_DELAY and DRAIN_TIMEOUT"))
            .unless_set(env, &["DRAIN_DELAY", "DRAIN_TIMEOUT"]),
    );
}

fn whole_seconds(env: &Environment, name: &str, default: u64) -> u64 {
    let Some(text) = env.text(name) else { return default };
    match duration::parse(text) {
        Some(duration) => duration.as_secs(),
        None => default,
    }
}
