//! Settings with the same value and another effect.

use std::time::Duration;

use super::{
    environment::Environment,
    finding::{Finding, Grade},
    redis_address,
};
use crate::{duration, settings::table};

/// One check for each kind of difference.
pub(super) const CHECKS: &[fn(&Environment) -> Option<Finding>] = &[
    timeout,
    xds_backoff,
    xds_jitter,
    deny_cache,
    forced_start,
    stopped_counting,
    shared_counters,
    redis_address::redis_url,
    redis_address::per_second_url,
    redis_address::only_here,
    redis_address::per_second_only_here,
    collector,
    client_ca,
    certificates,
    pool,
];

/// A difference that no setting changes.
struct GeneralDifference {
    title: &'static str,
    reference: &'static str,
    tollgate: &'static str,
}

const fn general(
    title: &'static str,
    reference: &'static str,
    tollgate: &'static str,
) -> GeneralDifference {
    GeneralDifference { title, reference, tollgate }
}

/// Differences in every environment. Except for unusual requests, they do not
/// change a decision.
const GENERAL: &[GeneralDifference] = &[
    general(
        "gRPC errors have other status codes",
        "UNKNOWN for every error",
        "INVALID_ARGUMENT for an invalid request, UNAVAILABLE if the store does not reply",
    ),
    general(
        "/json has other status codes for errors",
        "400 for every error",
        "400 for an invalid request, 503 if the store does not reply",
    ),
    general(
        "a limit override with an unknown unit",
        "crashes the process",
        "is an error of that request",
    ),
    general("SIGHUP", "ends the process", "reads the rule files again"),
    general(
        "the start",
        "opens no port before it has Redis and the rules",
        "opens its ports once it has the rules, and is unhealthy until Redis answers",
    ),
    general(
        "rules with mistakes at the start",
        "every request fails",
        "the process exits, unless FORCE_START_WITHOUT_INITIAL_CONFIG is true",
    ),
    general(
        "gRPC health of the whole server, with an empty service name",
        "always SERVING",
        "SERVING while /healthcheck returns OK",
    ),
    general(
        "log lines",
        "time=… level=… msg=…, if LOG_FORMAT is text",
        "the time, the level in capitals, the message, and name=value for details",
    ),
    general(
        "statistics of the gRPC certificates",
        "certs.load_attempts, certs.load_failures, certs.num_values",
        "tollgate_certificate_load_success_total, tollgate_certificate_load_error_total and others",
    ),
    general(
        "the debug port or the Prometheus port is in use by another process",
        "runs without it",
        "exits at the start, as for any port",
    ),
    general(
        "REDIS_TYPE=single with a Redis Cluster of one node, or with a proxy that has several \
         servers",
        "works, because it sends each counter in a command of its own",
        "exits at the start, with the advice to set the type to cluster or to give the proxy one \
         server",
    ),
    general(
        "shutdown",
        "waits for open requests without a limit",
        "waits for DRAIN_DELAY and then up to DRAIN_TIMEOUT",
    ),
    general("/debug/pprof", "has profiles of the process", "does not exist"),
    general(
        "/stats on the debug port",
        "shows the arguments and the memory of the process, and no statistics of limits",
        "shows all statistics, with names that lack EXTRA_TAGS",
    ),
    general(
        "statistics of limits in requests",
        "have the entries of the descriptor in their names",
        "are one statistic of the domain, as clients choose the entries",
    ),
    general(
        "statistics of domains without rules",
        "have the domain in their names: DOMAIN.domain_not_found",
        "are one statistic, domain_not_found, as clients choose the domain",
    ),
    general(
        "names of counters",
        "two rules, or two units, may share a counter if values contain underscores",
        "each has its own counter, unless COUNTER_KEYS is reference",
    ),
];

/// Adds the differences that do not depend on the environment.
pub(super) fn general_differences(env: &Environment, findings: &mut Vec<Finding>) {
    const NAME: &str = "MAX_DESCRIPTORS";
    let max = env.text(NAME).unwrap_or("100");
    findings.push(
        Finding::new(Grade::Same, format!("requests with more than {max} descriptors"))
            .about(env, NAME)
            .reference("are decided")
            .tollgate(format!(
                "are errors; {NAME} raises the limit, to 1000 at most. Envoy allows such a \
                 request unless failure_mode_deny is true"
            )),
    );
    for difference in GENERAL {
        findings.push(
            Finding::new(Grade::Same, difference.title)
                .reference(difference.reference)
                .tollgate(difference.tollgate),
        );
    }
}

fn timeout(env: &Environment) -> Option<Finding> {
    /// A Redis command rarely takes longer.
    const USUAL_TIMEOUT: Duration = Duration::from_millis(500);
    let text = env.text("REDIS_TIMEOUT")?;
    let timeout = duration::parse(text)?;
    if !env.uses_redis() || timeout.is_zero() || timeout >= USUAL_TIMEOUT {
        return None;
    }
    let title = format!("REDIS_TIMEOUT={text} also limits commands");
    let finding = Finding::new(Grade::Differs, title)
        .about(env, "REDIS_TIMEOUT")
        .reference("limits only the time to connect")
        .tollgate(format!("a command that takes longer than {timeout:?} fails, too"))
        .remedy("make sure that commands take less, or raise the timeout");
    Some(finding)
}

fn xds_backoff(env: &Environment) -> Option<Finding> {
    const INITIAL: &str = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL";
    const MAX: &str = "XDS_CLIENT_BACKOFF_MAX_INTERVAL";
    let initial = duration::parse(env.text(INITIAL).unwrap_or("10s")).unwrap_or_default();
    let max = duration::parse(env.text(MAX).unwrap_or("60s")).unwrap_or_default();
    if !env.has_xds_rules() || initial >= max {
        return None;
    }
    let title = "the delay between attempts to connect to the xDS server grows";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, MAX)
        .reference(format!("waits {initial:?} each time"))
        .tollgate(format!(
            "waits {initial:?}, and twice as long each time up to {max:?}; the rules stay active \
             meanwhile"
        ))
        .remedy(format!("set {MAX} to {initial:?} for a constant delay"))
        .unless_set(env, &[INITIAL, MAX]);
    Some(finding)
}

fn xds_jitter(env: &Environment) -> Option<Finding> {
    const NAME: &str = "XDS_CLIENT_BACKOFF_RANDOM_FACTOR";
    if !env.is_set(NAME) {
        return None;
    }
    let grade = if env.has_xds_rules() { Grade::Differs } else { Grade::Same };
    let finding = Finding::new(grade, format!("{NAME} is not a factor"))
        .about(env, NAME)
        .reference("multiplies each delay by it to get the next")
        .tollgate("takes it as the largest random part of a delay; delays double");
    Some(finding)
}

fn deny_cache(env: &Environment) -> Option<Finding> {
    const NAME: &str = "LOCAL_CACHE_SIZE_IN_BYTES";
    if !env.is_set(NAME) || env.text(NAME) == Some("0") || !env.uses_redis() {
        return None;
    }
    let title = "the local cache keeps an over-limit result for up to one second";
    let finding = Finding::new(Grade::Same, title)
        .about(env, NAME)
        .reference("does not query Redis again before the window ends")
        .tollgate(
            "queries Redis again after one second, with the same result unless the counter was \
             deleted",
        );
    Some(finding)
}

fn forced_start(env: &Environment) -> Option<Finding> {
    const NAME: &str = "FORCE_START_WITHOUT_INITIAL_CONFIG";
    const NEEDS: &str = "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED";
    if !env.is_true(NAME) || env.has_xds_rules() || env.is_true(NEEDS) {
        return None;
    }
    let title = "the service is unhealthy while the rule files cannot be used";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, NAME)
        .reference("is healthy, and every request fails")
        .tollgate("is unhealthy until it has rules, so the pod does not become ready")
        .remedy("check the rules with `tollgate check`")
        .unless_set(env, &["CONFIG_TYPE", NEEDS]);
    Some(finding)
}

fn stopped_counting(env: &Environment) -> Option<Finding> {
    const NAME: &str = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT";
    if !env.is_true(NAME) || !env.uses_redis() {
        return None;
    }
    let title = "an exceeded limit in shadow mode or in quota mode no longer stops other limits from \
         counting";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, NAME)
        .reference("any exceeded limit of a request stops the other limits from counting")
        .tollgate("only a limit that refuses the request does");
    Some(finding)
}

fn collector(env: &Environment) -> Option<Finding> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES_NAME: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    if !env.is_true("TRACING_ENABLED") || env.is_set(NAME) || env.is_set(TRACES_NAME) {
        return None;
    }
    let finding = Finding::new(Grade::Differs, format!("{NAME} is not set"))
        .about(env, NAME)
        .reference("sends traces to localhost over HTTPS")
        .tollgate("sends traces to localhost over HTTP")
        .remedy(format!("set {NAME}"))
        .unless_set(env, &[NAME, TRACES_NAME]);
    Some(finding)
}

fn client_ca(env: &Environment) -> Option<Finding> {
    const NAME: &str = "GRPC_CLIENT_TLS_CACERT";
    if !env.is_set(NAME) || table::find(NAME).is_none() {
        return None;
    }
    let title = "client certificates are verified only with the CA certificates of this file";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, NAME)
        .reference("also accepts certificates of the system's CAs")
        .tollgate("accepts only certificates of a CA in the file")
        .remedy("make sure that the file has the CA of every client");
    Some(finding)
}

fn certificates(env: &Environment) -> Option<Finding> {
    const SWITCHES: [&str; 4] = [
        "REDIS_TLS",
        "REDIS_PERSECOND_TLS",
        "GRPC_CLIENT_TLS_CACERT",
        "CONFIG_GRPC_XDS_SERVER_USE_TLS",
    ];
    let is_on = |name: &&&str| env.is_true(name) || name.ends_with("CACERT") && env.is_set(name);
    let name = SWITCHES.iter().find(is_on)?;
    let finding = Finding::new(Grade::Note, "some certificates are refused")
        .about(env, name)
        .reference(
            "accepts issued certificates that say CA:TRUE, version 1 of X.509, and keys of P-521 \
             or of RSA with fewer than 2048 bits",
        )
        .tollgate(
            "refuses them, and logs that; one that says CA:TRUE is accepted if it is itself in the \
             file of CA certificates",
        )
        .remedy("look at the certificates with `openssl x509 -noout -text`");
    Some(finding)
}

/// The reference cannot increment a counter while tollgate has hits reserved
/// in it.
fn shared_counters(env: &Environment) -> Option<Finding> {
    const NAME: &str = "COUNTER_KEYS";
    if !env.is_word(NAME, "reference") || !env.uses_redis() || !env.reserves_hits() {
        return None;
    }
    let title = "the two services cannot count in the same Redis";
    let finding = Finding::new(Grade::Differs, title)
        .about(env, NAME)
        .reference("increments counters, which works only on integers")
        .tollgate(
            "reserves hits for the milliseconds that a decision takes; meanwhile the counter is \
             not an integer",
        )
        .remedy(
            "switch all instances at once: stop the last instance of the reference before the \
             first instance of tollgate starts",
        );
    Some(finding)
}

fn pool(env: &Environment) -> Option<Finding> {
    for name in ["REDIS_POOL_ON_EMPTY_BEHAVIOR", "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR"] {
        if env.is_word(name, "CREATE") || env.is_word(name, "ERROR") {
            let finding = Finding::new(Grade::Note, format!("{name} has an obsolete value"))
                .about(env, name)
                .reference("does not start with this")
                .tollgate("has no pool, and ignores it");
            return Some(finding);
        }
    }
    None
}
