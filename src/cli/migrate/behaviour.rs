//! What the same settings do otherwise.

use std::time::Duration;

use super::{
    Case,
    finding::{Finding, Grade},
    variables::{holds_hits, setting, uses_redis},
};
use crate::duration;

/// The checks, one for each kind of difference.
pub(super) const CHECKS: &[fn(&Case<'_>) -> Option<Finding>] = &[
    timeout,
    back_off,
    chance,
    deny_cache,
    forced_start,
    stopped_counting,
    shared_counters,
    |case| another_redis(case, "REDIS_URL", "REDIS_TYPE"),
    |case| another_redis(case, "REDIS_PERSECOND_URL", "REDIS_PERSECOND_TYPE"),
    collector,
    client_authorities,
    pool,
];

/// What differs whatever the environment is. No decision does, but about requests that
/// hardly anybody sends.
const ALWAYS: &[(&str, &str, &str)] = &[
    (
        "errors of gRPC have other codes",
        "UNKNOWN for all",
        "INVALID_ARGUMENT for a request that makes no sense, UNAVAILABLE for a store that does \
         not answer",
    ),
    (
        "/json has other codes for errors",
        "400 for all",
        "400 for a request that makes no sense, 503 for a store that does not answer",
    ),
    ("an override with an unknown unit", "ends the process", "is an error of that request"),
    ("SIGHUP", "ends the process", "reads the rule files again"),
    (
        "the start",
        "opens no port before Redis and the rules are there",
        "opens its ports at once, and health says no until they are there",
    ),
    (
        "rules with mistakes at the start",
        "every request fails",
        "end the process, unless FORCE_START_WITHOUT_INITIAL_CONFIG is true",
    ),
    (
        "health by gRPC of the whole server, with an empty name",
        "always SERVING",
        "SERVING when /healthcheck says OK",
    ),
    (
        "lines of the log",
        "time=… level=… msg=…, where LOG_FORMAT is text",
        "the time, the level in capitals, the message, and name=value for details",
    ),
    (
        "statistics of the certificates for gRPC",
        "certs.load_attempts, certs.load_failures, certs.num_values",
        "tollgate_certificate_load_success, tollgate_certificate_load_error and others",
    ),
    (
        "the debug port, or that for Prometheus, is taken",
        "goes on without it",
        "ends at the start, as with any port",
    ),
    (
        "REDIS_TYPE=single with a Redis Cluster of one node, or with a proxy that has several \
         servers",
        "works, as it asks for one counter at a time",
        "ends at the start, and says that the type is to be cluster, or that the proxy is to have \
         one server",
    ),
    ("the end", "waits for calls without a bound", "waits DRAIN_DELAY and DRAIN_TIMEOUT at most"),
    ("/debug/pprof", "profiles of the process", "there is no such page"),
    (
        "names of counters",
        "two rules, or two units, may share a counter where values hold underscores",
        "no two do, unless COUNTER_KEYS is reference",
    ),
];

pub(super) fn always(case: &Case<'_>, findings: &mut Vec<Finding>) {
    const NAME: &str = "MAX_DESCRIPTORS";
    let most = case.env.text(NAME).unwrap_or("100");
    findings.push(
        Finding::new(Grade::Same, format!("requests about more than {most} descriptors"))
            .of(case.env, NAME)
            .there("are decided")
            .here(format!(
                "are errors, unless {NAME} allows them, 1000 at most; Envoy lets such a request \
                 pass unless failure_mode_deny is true"
            )),
    );
    findings.extend(
        ALWAYS
            .iter()
            .map(|(what, there, here)| Finding::new(Grade::Same, *what).there(*there).here(*here)),
    );
}

fn timeout(case: &Case<'_>) -> Option<Finding> {
    const USUAL: Duration = Duration::from_millis(500);
    let text = case.env.text("REDIS_TIMEOUT").filter(|_| uses_redis(case))?;
    let short = duration::parse(text).filter(|it| !it.is_zero() && *it < USUAL)?;
    let title = format!("REDIS_TIMEOUT={text} bounds commands, too");
    let finding = Finding::new(Grade::Differs, title)
        .of(case.env, "REDIS_TIMEOUT")
        .there("bounds connecting alone")
        .here(format!("a command that takes longer than {short:?} fails as well"))
        .remedy("see that commands take less, or give them more time");
    Some(finding)
}

fn back_off(case: &Case<'_>) -> Option<Finding> {
    const INITIAL: &str = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL";
    const MAX: &str = "XDS_CLIENT_BACKOFF_MAX_INTERVAL";
    let wait =
        |name, default| duration::parse(case.env.text(name).unwrap_or(default)).unwrap_or_default();
    let (initial, max) = (wait(INITIAL, "10s"), wait(MAX, "60s"));
    (case.by_xds && initial < max).then(|| {
        Finding::new(Grade::Differs, "waits between attempts to reach the xDS server grow")
            .of(case.env, MAX)
            .there(format!("waits {initial:?} each time"))
            .here(format!(
                "waits {initial:?}, and twice as long each time up to {max:?}; the rules stay in \
                 force meanwhile"
            ))
            .remedy(format!("set {MAX} to {initial:?} to keep it"))
            .unless(case.env, &[INITIAL, MAX])
    })
}

/// What keeps waits apart from one another, whatever their length.
fn chance(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "XDS_CLIENT_BACKOFF_RANDOM_FACTOR";
    let grade = if case.by_xds { Grade::Differs } else { Grade::Same };
    case.env.has(NAME).then(|| {
        Finding::new(grade, format!("{NAME} is no factor"))
            .of(case.env, NAME)
            .there("multiplies each wait by it to find the next")
            .here("leaves at most this part of each wait to chance; waits double")
    })
}

fn deny_cache(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "LOCAL_CACHE_SIZE_IN_BYTES";
    (case.env.has(NAME) && case.env.text(NAME) != Some("0") && uses_redis(case)).then(|| {
        Finding::new(Grade::Same, "the local cache believes a refusal for a second at most")
            .of(case.env, NAME)
            .there("does not ask Redis again before the window ends")
            .here(
                "asks Redis again after a second, which refuses as well unless its counter is gone",
            )
    })
}

fn forced_start(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "FORCE_START_WITHOUT_INITIAL_CONFIG";
    const NEEDS: &str = "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED";
    (case.env.is_true(NAME) && !case.by_xds && !case.env.is_true(NEEDS)).then(|| {
        Finding::new(Grade::Differs, "health says no while the rule files cannot be used")
            .of(case.env, NAME)
            .there("says yes, and every request fails")
            .here("says no until there are rules, so that the pod does not become ready")
            .remedy("see that the rules are right: `tollgate check` says so")
            .unless(case.env, &["CONFIG_TYPE", NEEDS])
    })
}

fn stopped_counting(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT";
    (case.env.is_true(NAME) && uses_redis(case)).then(|| {
        let title = "a limit in shadow mode, or a quota, no longer stops others from counting";
        Finding::new(Grade::Differs, title)
            .of(case.env, NAME)
            .there("any exceeded limit of a request stops its others from counting")
            .here("only one that refuses the request does")
    })
}

fn collector(case: &Case<'_>) -> Option<Finding> {
    let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let found = names.iter().any(|it| case.env.has(it));
    (case.env.is_true("TRACING_ENABLED") && !found).then(|| {
        Finding::new(Grade::Differs, format!("{} is not set", names[0]))
            .of(case.env, names[0])
            .there("sends traces to localhost by HTTPS")
            .here("sends them to localhost by HTTP")
            .remedy(format!("set {}", names[0]))
            .unless(case.env, &names)
    })
}

fn client_authorities(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "GRPC_CLIENT_TLS_CACERT";
    (case.env.has(NAME) && setting(NAME).is_some()).then(|| {
        Finding::new(Grade::Differs, "certificates of clients have to be from one authority")
            .of(case.env, NAME)
            .there("takes those that any authority of the system has signed, too")
            .here("takes those alone that an authority of the file has signed")
            .remedy("see that the file has the authority of every client")
    })
}

/// What the other service cannot increment while this one holds hits.
fn shared_counters(case: &Case<'_>) -> Option<Finding> {
    const NAME: &str = "COUNTER_KEYS";
    let shares = case.env.text(NAME).is_some_and(|it| it.eq_ignore_ascii_case("reference"));
    (shares && uses_redis(case) && holds_hits(case)).then(|| {
        Finding::new(Grade::Differs, "the two services cannot count in the same Redis")
            .of(case.env, NAME)
            .there("increments counters, which have to be integers")
            .here(
                "holds hits of a request for the milliseconds that it takes to decide it; a \
                 counter is no integer meanwhile",
            )
            .remedy(
                "change over at once: the last instance there ends before the first one here \
                 starts",
            )
    })
}

/// What the address of a Redis looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Proxy,
    Cluster,
}

impl Looks {
    fn of(url: &str) -> Option<Self> {
        let url = url.to_ascii_lowercase();
        // A user or a password may stand before the place, and behind it.
        let place = url.rsplit('@').next().unwrap_or_default();
        let place = place.split('?').next().unwrap_or_default();
        let host = place.split_once("://").map_or(place, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let has = |text: &str, words: &[&str]| words.iter().any(|it| text.contains(it));
        // The port of twemproxy in its documents.
        if has(place, &["nutcracker", "proxy"]) || host.ends_with(":22121") {
            Some(Self::Proxy)
        } else if has(host, &["clustercfg.", "redis-cluster"]) {
            Some(Self::Cluster)
        } else {
            place.contains("envoy").then_some(Self::Proxy)
        }
    }
}

/// Addresses that look like those of something else than one server.
fn another_redis(case: &Case<'_>, url: &str, kind: &str) -> Option<Finding> {
    const SWITCH: &str = "REDIS_PERSECOND";
    let is_used =
        url == "REDIS_URL" || case.env.is_true(SWITCH) || case.env.doubt(&[SWITCH]).is_some();
    let is_single = case.env.text(kind).is_none_or(|it| it.eq_ignore_ascii_case("single"));
    if !is_used || !is_single || !uses_redis(case) {
        return None;
    }
    let finding = match Looks::of(case.env.text(url)?)? {
        Looks::Proxy => Finding::new(Grade::Note, format!("{url} seems to be that of a proxy"))
            .there("asks for one counter at a time, so that each may be on a server of its own")
            .here(
                "asks for several at once: ends at the start if the proxy has more than one server",
            )
            .remedy(format!(
                "see that it has one server, or set {url} to the Redis itself, or to a Redis \
                 Cluster with {kind}=cluster"
            )),
        Looks::Cluster => Finding::new(Grade::Note, format!("{url} seems to be that of a cluster"))
            .there("asks for one counter at a time, which works where one node has all slots")
            .here("ends at the start with a node of a cluster while the type is single")
            .remedy(format!("set {kind}=cluster")),
    };
    Some(finding.of(case.env, url).unless(case.env, &[kind]))
}

fn pool(case: &Case<'_>) -> Option<Finding> {
    let names = ["REDIS_POOL_ON_EMPTY_BEHAVIOR", "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR"];
    let fatal = |name: &&&str| {
        let text = case.env.text(name);
        text.is_some_and(|it| ["CREATE", "ERROR"].iter().any(|bad| bad.eq_ignore_ascii_case(it)))
    };
    let name = names.iter().find(fatal)?;
    let finding = Finding::new(Grade::Note, format!("{name} names what no longer exists"))
        .of(case.env, name)
        .there("does not start with this")
        .here("has no pool, and ignores it");
    Some(finding)
}
