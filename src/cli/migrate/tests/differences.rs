//! Variables that both services know, and take otherwise.

use super::{
    environments::{about, check},
    *,
};

/// What is said of `variable`, each as `grade: title`.
fn said(lines: &str, variable: &str) -> Vec<String> {
    let findings = found(&format!("{SAME}{lines}\n"));
    let of_it = findings.iter().filter(|it| it.variable == variable);
    of_it.map(|it| format!("{}: {}", it.grade, it.title)).collect()
}

#[test]
fn health_without_rules_is_told() {
    check("LOG_FORMAT=JSON", &[]);
    let health = "differs: health says no while the rule files cannot be used";
    check("FORCE_START_WITHOUT_INITIAL_CONFIG=true", &[health]);
    let both =
        "FORCE_START_WITHOUT_INITIAL_CONFIG=true\nHEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true";
    check(both, &[]);
    check("FORCE_START_WITHOUT_INITIAL_CONFIG=false", &[]);
}

#[test]
fn what_no_decision_depends_on_is_told_and_not_called_the_same() {
    for (lines, variable, title) in [
        (
            "LOCAL_CACHE_SIZE_IN_BYTES=1000",
            "LOCAL_CACHE_SIZE_IN_BYTES",
            "the local cache believes a refusal for a second at most",
        ),
        ("DISABLE_STATS=true", "DISABLE_STATS", "statistics can be asked for all the same"),
        ("", "USE_STATSD", "statistics are not written to the log"),
        (
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR=0.5",
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
            "XDS_CLIENT_BACKOFF_RANDOM_FACTOR is no factor",
        ),
    ] {
        assert_eq!(said(lines, variable), [format!("same: {title}")]);
    }
    for (lines, variable) in [
        ("LOCAL_CACHE_SIZE_IN_BYTES=0", "LOCAL_CACHE_SIZE_IN_BYTES"),
        ("DISABLE_STATS=false", "DISABLE_STATS"),
        ("USE_PROMETHEUS=true", "USE_STATSD"),
    ] {
        assert_eq!(said(lines, variable), [format!("same: {variable} means the same")]);
    }
    let by_xds = "CONFIG_TYPE=GRPC_XDS_SOTW\nXDS_CLIENT_BACKOFF_RANDOM_FACTOR=0.5";
    let expected = "differs: XDS_CLIENT_BACKOFF_RANDOM_FACTOR is no factor";
    assert_eq!(said(by_xds, "XDS_CLIENT_BACKOFF_RANDOM_FACTOR"), [expected]);
}

#[test]
fn values_with_which_the_reference_does_not_start_are_told() {
    for (line, remedy) in [
        ("SHADOW_MODE=yes", "write true"),
        ("QUOTA_MODE=Off", "write false"),
        ("BACKEND_TYPE=Redis", "write redis"),
        ("BACKEND_TYPE=memory", ""),
        ("CONFIG_TYPE=file", "write FILE"),
        ("RESPONSE_DYNAMIC_METADATA=refused", ""),
    ] {
        let (variable, _) = line.split_once('=').unwrap();
        assert_eq!(said(line, variable), [format!("differs: {line}")], "{line}");
        let it = about(line, variable);
        assert_eq!((it.there.as_str(), it.remedy.as_str()), ("does not start with this", remedy));
    }
    check("SHADOW_MODE=T\nREDIS_TYPE=Single\nBACKEND_TYPE=redis\nNEAR_LIMIT_RATIO=.5", &[]);
}

#[test]
fn what_differs_always_is_shown_to_whoever_asks_for_all() {
    let show = |verbose| run(SAME.as_bytes(), &Migration { verbose, ..Migration::default() }).0;
    let ports = "same: the debug port, or that for Prometheus, is taken\n  \
                 = there: goes on without it\n  \
                 = here: ends at the start, as with any port\n";
    assert!(show(true).contains(ports), "{}", show(true));
    assert!(!show(false).contains(ports));
    for title in ["lines of the log", "statistics of the certificates for gRPC"] {
        assert!(show(true).contains(&format!("same: {title}\n")), "{title}");
    }
}
