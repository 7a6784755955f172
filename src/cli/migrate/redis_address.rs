//! Addresses that seem to belong to a proxy or a cluster instead of one Redis, and those
//! that the reference does not understand.

use super::{
    environment::Environment,
    finding::{Finding, Grade},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressKind {
    Proxy,
    Cluster,
}

impl AddressKind {
    fn guess(url: &str) -> Option<Self> {
        let url = url.to_ascii_lowercase();
        // A user or a password may stand before the address, and behind it.
        let address = url.rsplit('@').next().unwrap_or_default();
        let address = address.split('?').next().unwrap_or_default();
        let host = match address.split_once("://") {
            Some((_, rest)) => rest,
            None => address,
        };
        let host = host.split('/').next().unwrap_or_default();
        // The documentation of twemproxy uses this port.
        if address.contains("nutcracker") || address.contains("proxy") || host.ends_with(":22121") {
            Some(Self::Proxy)
        } else if host.contains("clustercfg.") || host.contains("redis-cluster") {
            Some(Self::Cluster)
        } else if address.contains("envoy") {
            Some(Self::Proxy)
        } else {
            None
        }
    }
}

/// Checks the address of the main Redis.
pub(super) fn redis_url(env: &Environment) -> Option<Finding> {
    check(env, "REDIS_URL", "REDIS_TYPE")
}

/// Checks the address of the Redis for limits per second.
pub(super) fn per_second_url(env: &Environment) -> Option<Finding> {
    const SWITCH: &str = "REDIS_PERSECOND";
    if !env.is_true(SWITCH) && env.unknown_origin(&[SWITCH]).is_none() {
        return None;
    }
    check(env, "REDIS_PERSECOND_URL", "REDIS_PERSECOND_TYPE")
}

/// Checks for an address of the main Redis that only tollgate understands.
pub(super) fn only_here(env: &Environment) -> Option<Finding> {
    check_form(env, "REDIS_URL", "REDIS_TYPE", "REDIS_TLS")
}

/// Checks for an address of the Redis for limits per second that only tollgate understands.
pub(super) fn per_second_only_here(env: &Environment) -> Option<Finding> {
    if !env.is_true("REDIS_PERSECOND") {
        return None;
    }
    check_form(env, "REDIS_PERSECOND_URL", "REDIS_PERSECOND_TYPE", "REDIS_PERSECOND_TLS")
}

fn check_form(
    env: &Environment,
    url_name: &str,
    type_name: &str,
    tls_name: &str,
) -> Option<Finding> {
    let is_single = env.text(type_name).is_none() || env.is_word(type_name, "single");
    let url = env.text(url_name)?;
    if !is_single || !env.uses_redis() {
        return None;
    }
    let (title, tollgate, remedy) = if url.starts_with("rediss://") && !env.is_true(tls_name) {
        ("begins with rediss://", "connects with TLS", format!("set {tls_name}=true"))
    } else if !url.contains([':', '/']) {
        ("has no port", "connects to port 6379", format!("write {url}:6379"))
    } else {
        return None;
    };
    let finding = Finding::new(Grade::Differs, format!("{url_name} {title}"))
        .about(env, url_name)
        .reference("does not understand this, and never becomes ready")
        .tollgate(tollgate)
        .remedy(format!("{remedy}, so that the reference works, too"))
        .unless_set(env, &[tls_name]);
    Some(finding)
}

fn check(env: &Environment, url_name: &str, type_name: &str) -> Option<Finding> {
    let is_single = env.text(type_name).is_none() || env.is_word(type_name, "single");
    if !is_single || !env.uses_redis() {
        return None;
    }
    let finding = match AddressKind::guess(env.text(url_name)?)? {
        AddressKind::Proxy => Finding::new(
            Grade::Note,
            format!("{url_name} seems to be the address of a proxy"),
        )
        .reference("sends each counter in its own command, so counters may be on several servers")
        .tollgate(
            "sends several counters in one command, and exits at the start if the proxy has \
                     more than one server",
        )
        .remedy(format!(
            "make sure that the proxy has one server, or set {url_name} to the Redis \
                     itself, or to a Redis Cluster with {type_name}=cluster"
        )),
        AddressKind::Cluster => {
            Finding::new(Grade::Note, format!("{url_name} seems to be the address of a cluster"))
                .reference(
                    "sends each counter in its own command, which works if one node has all slots",
                )
                .tollgate(
                    "exits at the start if the type is single and the server is part of a cluster",
                )
                .remedy(format!("set {type_name}=cluster"))
        }
    };
    Some(finding.about(env, url_name).unless_set(env, &[type_name]))
}
