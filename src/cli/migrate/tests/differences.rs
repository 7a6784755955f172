//! Variables that both services read, with another effect.

use super::{
    environments::{about, check},
    *,
};

/// The findings about `variable`, each as `grade: title`.
fn titles_about(lines: &str, variable: &str) -> Vec<String> {
    let findings = found(&format!("{SAME}{lines}\n"));
    let of_it = findings.iter().filter(|finding| finding.variable == variable);
    of_it.map(|finding| format!("{}: {}", finding.grade, finding.title)).collect()
}

#[test]
fn health_without_rules_differs() {
    check("LOG_FORMAT=JSON", &[]);
    let health = "differs: the service is unhealthy while the rule files cannot be used";
    check("FORCE_START_WITHOUT_INITIAL_CONFIG=true", &[health]);
    let both =
        "FORCE_START_WITHOUT_INITIAL_CONFIG=true\nHEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true";
    check(both, &[]);
    check("FORCE_START_WITHOUT_INITIAL_CONFIG=false", &[]);
}

#[test]
fn differences_without_effect_on_decisions_have_their_own_finding() {
    for (lines, variable, title) in [
        (
            "LOCAL_CACHE_SIZE_IN_BYTES=1000",
            "LOCAL_CACHE_SIZE_IN_BYTES",
            "the local cache keeps an over-limit result for up to one second",
        ),
        ("DISABLE_STATS=true", "DISABLE_STATS", "the pages with statistics stay available"),
        ("", "USE_STATSD", "statistics are not written to the log"),
        (
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR=0.5",
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR is not a factor",
        ),
    ] {
        assert_eq!(titles_about(lines, variable), [format!("same: {title}")]);
    }
    for (lines, variable) in [
        ("LOCAL_CACHE_SIZE_IN_BYTES=0", "LOCAL_CACHE_SIZE_IN_BYTES"),
        ("DISABLE_STATS=false", "DISABLE_STATS"),
        ("USE_PROMETHEUS=true", "USE_STATSD"),
    ] {
        assert_eq!(titles_about(lines, variable), [format!("same: {variable} means the same")]);
    }
    let by_xds = "CONFIG_TYPE=GRPC_XDS_SOTW\nXDS_CLIENT_BACKOFF_RANDOM_FACTOR=0.5";
    let expected = "differs: XDS_CLIENT_BACKOFF_RANDOM_FACTOR is not a factor";
    assert_eq!(titles_about(by_xds, "XDS_CLIENT_BACKOFF_RANDOM_FACTOR"), [expected]);
}

#[test]
fn values_that_only_the_reference_rejects_differ() {
    for (line, remedy) in [
        ("SHADOW_MODE=yes", "write true"),
        ("QUOTA_MODE=Off", "write false"),
        ("BACKEND_TYPE=Redis", "write redis"),
        ("BACKEND_TYPE=memory", ""),
        ("CONFIG_TYPE=file", "write FILE"),
        ("RESPONSE_DYNAMIC_METADATA=refused", ""),
    ] {
        let (variable, _) = line.split_once('=').unwrap();
        assert_eq!(titles_about(line, variable), [format!("differs: {line}")], "{line}");
        let finding = about(line, variable);
        assert_eq!(
            (finding.reference.as_str(), finding.remedy.as_str()),
            ("does not start with this", remedy)
        );
    }
    check("SHADOW_MODE=T\nREDIS_TYPE=Single\nBACKEND_TYPE=redis\nNEAR_LIMIT_RATIO=.5", &[]);
}

#[test]
fn verbose_shows_general_differences() {
    let show = |verbose| run(SAME.as_bytes(), &Migration { verbose, ..Migration::default() }).0;
    let ports = "same: the debug port or the Prometheus port is in use by another process\n  \
                 = ratelimit: runs without it\n  \
                 = tollgate: exits at the start, as for any port\n";
    assert!(show(true).contains(ports), "{}", show(true));
    assert!(!show(false).contains(ports));
    for title in ["log lines", "statistics of the gRPC certificates"] {
        assert!(show(true).contains(&format!("same: {title}\n")), "{title}");
    }
}
