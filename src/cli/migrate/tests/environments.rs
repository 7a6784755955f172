use super::*;

/// Checks the findings for [`SAME`] followed by `lines`.
#[track_caller]
pub(super) fn check(lines: &str, expected: &[&str]) {
    assert_eq!(titles(&found(&format!("{SAME}{lines}\n"))), expected, "{lines}");
}

/// Checks the findings for [`SAME`] without one variable.
#[track_caller]
fn check_without(name: &str, expected: &[&str]) {
    let rest: Vec<_> = SAME.lines().filter(|line| !line.starts_with(&format!("{name}="))).collect();
    assert_eq!(titles(&found(&rest.join("\n"))), expected, "{name}");
}

/// The first finding about `variable` for [`SAME`] followed by `lines`.
pub(super) fn about(lines: &str, variable: &str) -> Finding {
    let findings = found(&format!("{SAME}{lines}\n"));
    findings.into_iter().find(|finding| finding.variable == variable).unwrap()
}

#[test]
fn missing_variables_with_another_default_differ() {
    for name in ["LOG_LEVEL", "REDIS_TIMEOUT", "COUNTER_KEYS", "RESPONSE_DYNAMIC_METADATA"] {
        check_without(name, &[&format!("differs: {name} is not set")]);
    }
    check_without("REDIS_SOCKET_TYPE", &["differs: REDIS_SOCKET_TYPE is not set"]);
    let memory = "differs: REDIS_URL is not set";
    check_without("REDIS_URL", &[memory]);
    let second = "REDIS_PERSECOND=true\nREDIS_PERSECOND_URL=b:1";
    check(second, &["differs: REDIS_PERSECOND_TIMEOUT is not set"]);
    let rest = "REDIS_TYPE=cluster\nREDIS_URL=a:1,b:1\nREDIS_SOCKET_TYPE=";
    check(rest, &["differs: REDIS_SOCKET_TYPE is set and empty"]);
}

#[test]
fn statsd_by_default_differs() {
    let sent = |lines: &str| {
        let findings = found(&SAME.replace("USE_STATSD=false\n", lines));
        let title = "USE_STATSD is not set";
        findings.iter().any(|finding| finding.title == title && finding.grade == Grade::Differs)
    };
    assert!(sent(""));
    assert!(!sent("USE_STATSD=true\n"));
    assert!(!sent("STATSD_HOST=statsd\n"));
    assert!(!sent("DISABLE_STATS=true\n"));
}

#[test]
fn rejected_values_have_an_explanation() {
    let finding = about("BACKEND_TYPE=memcache", "BACKEND_TYPE");
    assert_eq!(
        (finding.grade, finding.reference.as_str()),
        (Grade::WillNotStart, "counts in Memcached")
    );
    assert!(finding.remedy.starts_with("set REDIS_URL"), "{finding}");
    let finding = about("PORT=0x1F90", "PORT");
    assert_eq!((finding.grade, finding.reference.as_str()), (Grade::WillNotStart, "reads 8080"));
    let finding = about("LOG_LEVEL=loud", "LOG_LEVEL");
    assert_eq!(finding.reference, "does not start with this either");
    let finding = about("REDIS_PERSECOND=true", "REDIS_PERSECOND");
    assert!(finding.remedy.contains("REDIS_PERSECOND_URL"), "{finding}");
    check(
        "XDS_CLIENT_BACKOFF_RANDOM_FACTOR=2",
        &["will not start: XDS_CLIENT_BACKOFF_RANDOM_FACTOR=\"2\""],
    );
    check("REDIS_TLS_CACERT=/nowhere/ca.crt", &[]);
    let refused = "note: some certificates are refused";
    check("REDIS_TLS_CACERT=/nowhere/ca.crt\nREDIS_TLS=true", &[refused]);
}

#[test]
fn addresses_that_only_tollgate_understands_differ() {
    let with_url = |url: &str, lines: &str| {
        let environment = SAME.replace("redis:6379", url);
        titles(&found(&format!("{environment}{lines}")))
    };
    let no_port = "differs: REDIS_URL has no port";
    assert_eq!(with_url("127.0.0.1", ""), [no_port]);
    let no_switch = "differs: REDIS_URL begins with rediss://";
    assert_eq!(with_url("rediss://redis:6379", ""), [no_switch]);
    let tls = "note: some certificates are refused";
    assert_eq!(with_url("rediss://redis:6379", "REDIS_TLS=true"), [tls]);
    for url in ["redis:6379", "redis://redis:6379", "redis://redis"] {
        assert_eq!(with_url(url, ""), [""; 0], "{url}");
    }
    let upper = titles(&found(&SAME.replace("=tcp", "=TCP")));
    assert_eq!(upper, ["differs: REDIS_SOCKET_TYPE=TCP"]);
    assert!(about("REDIS_SOCKET_TYPE=TCP", "REDIS_SOCKET_TYPE").remedy == "write tcp");
}

#[test]
fn secrets_are_not_shown() {
    let lines = "REDIS_URL=http://secret\nREDIS_AUTH=secret\nPATTERN=secret\n\
                 REDIS_SENTINEL_AUTH=secret\nREDIS_COLOUR=secret\n\
                 CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS=secret\n";
    let findings = found(&format!("{SAME}{lines}"));
    assert!(titles(&findings).contains(&"will not start: REDIS_URL (not shown)".into()));
    assert!(findings.iter().all(|finding| !finding.to_string().contains("secret")), "{findings:?}");
}

#[test]
fn octal_numbers_differ() {
    let finding = about("PORT=010000", "PORT");
    assert_eq!((finding.grade, finding.remedy.as_str()), (Grade::Differs, "write 4096 to keep it"));
    let finding = about("PORT=08080", "PORT");
    assert_eq!((finding.grade, finding.remedy.as_str()), (Grade::Differs, "write 8080"));
    check("PORT=8080\nLOCAL_CACHE_SIZE_IN_BYTES=0", &[]);
}

#[test]
fn empty_variables_differ_if_the_reference_uses_them() {
    check("QUOTA_MODE=", &["differs: QUOTA_MODE is set and empty"]);
    check("RUNTIME_APPDIRECTORY=", &["differs: RUNTIME_APPDIRECTORY is set and empty"]);
    check("CACHE_KEY_PREFIX=\nREDIS_AUTH=", &[]);
}

#[test]
fn variables_without_effect_are_found() {
    check("REDIS_POOL_SIZE=20\nREDIS_PIPELINE_WINDOW=150us\nMEMCACHE_HOST_PORT=a:1", &[]);
    check(
        "RUNTIME_ROTO=/a",
        &["note: RUNTIME_ROTO is not a setting; RUNTIME_ROOT is, was that meant?"],
    );
    check("REDIS_COLOUR=red", &["note: REDIS_COLOUR is not a setting"]);
    check("REDIS_PORT=tcp://10.0.0.1:6379\nPATH=/bin\nOTEL_SERVICE_NAME=a", &[]);
    check(
        "REDIS_POOL_ON_EMPTY_BEHAVIOR=create",
        &["note: REDIS_POOL_ON_EMPTY_BEHAVIOR has an obsolete value"],
    );
}

#[test]
fn variables_with_more_effect_in_tollgate_differ() {
    check("REDIS_TIMEOUT=20ms", &["differs: REDIS_TIMEOUT=20ms also limits commands"]);
    let grow = "differs: the delay between attempts to connect to the xDS server grows";
    check("CONFIG_TYPE=GRPC_XDS_SOTW", &[grow]);
    check("CONFIG_TYPE=GRPC_XDS_SOTW\nXDS_CLIENT_BACKOFF_MAX_INTERVAL=10s", &[]);
    check(
        "USE_PROMETHEUS=true\nLOCAL_CACHE_SIZE_IN_BYTES=0x100000",
        &[
            "will not start: LOCAL_CACHE_SIZE_IN_BYTES=\"0x100000\"",
            "differs: over_limit of rules with several keys counts less for Prometheus",
        ],
    );
    let sinks = SAME.replace("USE_STATSD=false", "USE_DOG_STATSD=true\nUSE_PROMETHEUS=1");
    let findings = found(&sinks);
    assert!(findings.iter().any(|finding| finding.title == "statistics go to several sinks"));
    let mapper = "note: PROMETHEUS_MAPPER_YAML is not read";
    check("PROMETHEUS_MAPPER_YAML=/a.yaml", &[mapper]);
}

#[test]
fn changes_of_statistics_traces_and_client_certificates_differ() {
    let tags = "differs: EXTRA_TAGS are labels for Prometheus";
    check("EXTRA_TAGS=a:b", &[]);
    check("EXTRA_TAGS=a:b\nUSE_PROMETHEUS=true", &[tags]);
    let stop = "differs: an exceeded limit in shadow mode or in quota mode no longer stops other limits from counting";
    check("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT=true", &[stop]);
    check("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT=false", &[]);
    let traces = "differs: OTEL_EXPORTER_OTLP_ENDPOINT is not set";
    check("TRACING_ENABLED=true", &[traces]);
    check("TRACING_ENABLED=true\nOTEL_EXPORTER_OTLP_ENDPOINT=http://a:4318", &[]);
    let clients = about(
        "GRPC_SERVER_USE_TLS=true\nGRPC_SERVER_TLS_CERT=/a/crt\nGRPC_SERVER_TLS_KEY=/a/key\n\
         GRPC_CLIENT_TLS_CACERT=/a/ca",
        "GRPC_CLIENT_TLS_CACERT",
    );
    assert_eq!(clients.grade, Grade::Differs);
}

#[test]
fn services_that_cannot_share_counters_must_switch_at_once() {
    let stop = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT=true\n";
    let second = "REDIS_PERSECOND=true\nREDIS_PERSECOND_URL=b:1\nREDIS_PERSECOND_TIMEOUT=1s\n";
    let of_keys = |lines: &str, is_set: bool| {
        let same = if is_set { SAME } else { &SAME.replace("COUNTER_KEYS=reference\n", "") };
        let findings = found(&format!("{same}{lines}")).into_iter();
        findings.filter(|finding| finding.variable == "COUNTER_KEYS").collect::<Vec<_>>()
    };
    for place in ["REDIS_TYPE=cluster\n", second] {
        let lines = format!("{stop}{place}");
        for is_set in [true, false] {
            let found = of_keys(&lines, is_set);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].grade, Grade::Differs);
            assert!(found[0].remedy.starts_with("switch all instances at once"), "{}", found[0]);
            assert!(!found[0].remedy.contains("while both"), "{}", found[0]);
        }
        assert_eq!(of_keys(&lines, true)[0].place, "a.env:5");
    }
    for lines in [stop, "REDIS_TYPE=cluster\n", second] {
        assert!(of_keys(lines, true).iter().all(|finding| finding.grade == Grade::Same), "{lines}");
        let found = of_keys(lines, false);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].remedy.contains("while both"), "{}", found[0]);
    }
}

/// The findings for [`SAME`] with another `REDIS_URL`, followed by `lines`.
fn with_url(url: &str, lines: &str) -> Vec<Finding> {
    found(&format!(
        "{}{lines}\n",
        SAME.replace("REDIS_URL=redis:6379", &format!("REDIS_URL={url}"))
    ))
}

#[test]
fn the_address_of_a_proxy_is_noted_once() {
    let proxy = "note: REDIS_URL seems to be the address of a proxy";
    for url in [
        "nutcracker:22121",
        "twemproxy:22121",
        "redis://10.0.0.1:22121/0",
        "redis-cluster-proxy:6379",
        "envoy:6379",
    ] {
        assert_eq!(titles(&with_url(url, "")), [proxy], "{url}");
    }
    for url in ["redis:6379", "redis://proxy:22121@redis:6379", "redis:6379?password=proxy"] {
        assert_eq!(titles(&with_url(url, "")), Vec::<String>::new(), "{url}");
    }
}

#[test]
fn each_redis_has_its_own_note_about_a_proxy() {
    let lines = "REDIS_PERSECOND_TIMEOUT=1s\n\
                 REDIS_PERSECOND_URL=/var/run/nutcracker/ratelimitpersecond.sock\n";
    let main = "/var/run/nutcracker/ratelimit.sock";
    let notes = |lines: &str| {
        let found = found(&format!(
            "{}{lines}",
            SAME.replace("redis:6379", main).replace("REDIS_SOCKET_TYPE=tcp\n", "")
        ));
        let notes = found.into_iter().filter(|note| note.grade == Grade::Note);
        notes.map(|note| (note.title, note.place, note.remedy)).collect::<Vec<_>>()
    };
    let both = notes(&format!("{lines}REDIS_PERSECOND=true\n"));
    let places: Vec<_> = both.iter().map(|note| (note.0.as_str(), note.1.as_str())).collect();
    let expected = [
        ("REDIS_URL seems to be the address of a proxy", "a.env:2"),
        ("REDIS_PERSECOND_URL seems to be the address of a proxy", "a.env:13"),
    ];
    assert_eq!(places, expected);
    assert!(both[1].2.ends_with("with REDIS_PERSECOND_TYPE=cluster"), "{}", both[1].2);
    assert_eq!(notes(lines).len(), 1);
}

#[test]
fn the_address_of_a_cluster_is_noted_if_the_type_is_single() {
    let cluster = "note: REDIS_URL seems to be the address of a cluster";
    for url in [
        "clustercfg.name.abc123.use1.cache.amazonaws.com:6379",
        "rediss://clustercfg.name.abc123.use1.cache.amazonaws.com:6379",
        "redis-cluster:6379",
        "redis://my-redis-cluster.envoy-system.svc:6379/0",
    ] {
        let found = with_url(url, "");
        assert_eq!(titles(&found)[0], cluster, "{url}");
        let note = found.iter().find(|finding| finding.grade == Grade::Note).unwrap();
        assert_eq!(
            (note.remedy.as_str(), note.place.as_str()),
            ("set REDIS_TYPE=cluster", "a.env:3")
        );
        assert_eq!(titles(&with_url(url, "REDIS_TYPE=cluster")), Vec::<String>::new(), "{url}");
    }
    let second = "REDIS_PERSECOND=true\nREDIS_PERSECOND_TIMEOUT=1s\n\
                  REDIS_PERSECOND_URL=redis-cluster:6379";
    let note = about(second, "REDIS_PERSECOND_URL");
    assert_eq!(
        (note.grade, note.remedy.as_str()),
        (Grade::Note, "set REDIS_PERSECOND_TYPE=cluster")
    );
}

#[test]
fn another_location_of_rules_differs() {
    let edits = "differs: every change to a rule file takes effect";
    let config = "differs: TOLLGATE_CONFIG overrides RUNTIME_ROOT";
    check("RUNTIME_WATCH_ROOT=true", &[edits]);
    check(
        "RUNTIME_WATCH_ROOT=true\nRUNTIME_APPDIRECTORY=a/b",
        &[edits, "differs: RUNTIME_APPDIRECTORY has more than one level"],
    );
    check("TOLLGATE_CONFIG=/rules", &[config]);
    let slash = about("RUNTIME_ROOT=/data/\nRUNTIME_WATCH_ROOT=true", "RUNTIME_WATCH_ROOT");
    assert!(slash.reference.contains("ends with a slash"), "{slash}");

    let without = |names: &[&str]| {
        let keeps = |line: &&str| !names.iter().any(|name| line.starts_with(name));
        let lines: Vec<_> = SAME.lines().filter(keeps).collect();
        titles(&found(&lines.join("\n")))
    };
    let nowhere = "differs: neither RUNTIME_ROOT nor RUNTIME_SUBDIRECTORY is set";
    assert_eq!(without(&["RUNTIME_"]), [nowhere]);
    assert_eq!(without(&["RUNTIME_ROOT", "RUNTIME_SUB"]), [nowhere]);
    let empty = "differs: RUNTIME_SUBDIRECTORY is not set";
    assert_eq!(without(&["RUNTIME_SUB", "RUNTIME_WATCH"]), [empty]);
    assert_eq!(without(&["RUNTIME_SUB"]), Vec::<String>::new());
}

#[test]
fn the_test_environment_of_the_reference_is_compared() {
    let environment = "\
PORT=8082
GRPC_PORT=8083
DEBUG_PORT=8084
USE_STATSD=false
RUNTIME_ROOT=/src/test/integration/runtime/current
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_APPDIRECTORY=config
REDIS_SOCKET_TYPE=tcp
REDIS_PERSECOND_SOCKET_TYPE=tcp
REDIS_URL=localhost:6383
REDIS_PERSECOND=true
REDIS_PERSECOND_URL=localhost:6380
LOCAL_CACHE_SIZE_IN_BYTES=1000
";
    let missing = |name: &str| format!("differs: {name} is not set");
    let mut expected = vec![
        missing("REDIS_TIMEOUT"),
        missing("REDIS_PERSECOND_TIMEOUT"),
        missing("COUNTER_KEYS"),
        missing("EXPIRATION_JITTER_MAX_SECONDS"),
        missing("RESPONSE_DYNAMIC_METADATA"),
        missing("LOG_LEVEL"),
    ];
    expected.push("differs: every change to a rule file takes effect".into());
    assert_eq!(titles(&found(environment)), expected);
}

#[test]
fn env_files_of_env_docker_and_shells_are_parsed() {
    let environment = env_file::parse(
        "a",
        "# comment\n\nset -a\nA=1\nexport B=\"two words\" # why\ndeclare -x C='it $s'\n\
         D=a=b#c\r\n  E=x # y\nF=\"a\\\"b\\$\"\nA=2\nG=\nH='a \"b\"'\n",
    )
    .unwrap();
    let known: Vec<_> = ["A", "B", "C", "D", "E", "F", "G", "H"]
        .iter()
        .map(|name| match &environment.get(name).unwrap().value {
            environment::EnvValue::Known(text) => text.as_str(),
            environment::EnvValue::Unknown(_) => "?",
        })
        .collect();
    assert_eq!(known, ["2", "two words", "it $s", "a=b#c", "x", "a\"b$", "", "a \"b\""]);
    assert_eq!(environment.place("A"), "a:10");
    assert_eq!(environment.place("Z"), "a");
}

#[test]
fn values_set_outside_the_file_are_unknown() {
    let lines = "LOG_LEVEL\nREDIS_URL=redis://:${PASSWORD}@redis\nREDIS_AUTH=\"$(cat a)\"";
    check(
        lines,
        &[
            "note: the value of LOG_LEVEL is not known: it comes from the process that starts the service",
            "note: the value of REDIS_URL is not known: it comes from a shell, which replaces text \
         that begins with `$`",
            "note: the value of REDIS_AUTH is not known: it comes from a shell, which replaces text \
         that begins with `$`",
        ],
    );
    check(
        "REDIS_TYPE=sentinel\nexport REDIS_URL",
        &[
            "note: the value of REDIS_URL is not known: it comes from the process that starts the service",
        ],
    );
}

#[test]
fn settings_that_depend_on_an_unknown_value_are_not_mistakes() {
    let note = |name: &str| {
        format!(
            "note: the value of {name} is not known: it comes from the process that starts the service"
        )
    };
    let url = note("REDIS_URL");
    check("BACKEND_TYPE=redis\nexport REDIS_URL", &[&url]);
    check("REDIS_SOCKET_TYPE=unix\nexport REDIS_URL", &[&url]);
    check("REDIS_TYPE=cluster\nexport REDIS_URL", &[&url]);
    let second = "REDIS_PERSECOND=true\nREDIS_PERSECOND_TIMEOUT=1s\nexport REDIS_PERSECOND_URL";
    check(second, &[&note("REDIS_PERSECOND_URL")]);
    let key = note("REDIS_TLS_CLIENT_KEY");
    check("REDIS_TLS_CLIENT_CERT=/nowhere\nexport REDIS_TLS_CLIENT_KEY", &[&key]);
}

#[test]
fn invalid_lines_are_listed_with_their_numbers() {
    let text = "A=1\nB C=2\n1A=3\nD=\"open\nE='a' b\n=x\n";
    let error = env_file::parse("a.env", text).unwrap_err();
    assert_eq!(
        error,
        "this is not a file of variables, expected NAME=value on each line:\n  \
         a.env:2: expected the name of a variable and a value, NAME=value\n  \
         a.env:3: expected the name of a variable and a value, NAME=value\n  \
         a.env:4: expected another \" at the end\n  \
         a.env:5: expected nothing behind the second '\n  \
         a.env:6: expected the name of a variable and a value, NAME=value"
    );
}

#[test]
fn two_listeners_on_one_port_are_mistakes() {
    check("DEBUG_PORT=8080", &["will not start: DEBUG_PORT=\"8080\""]);
    check("GRPC_PORT=6070", &["will not start: GRPC_PORT=\"6070\""]);
    check("PORT=1\nHOST=127.0.0.1\nDEBUG_PORT=1\nDEBUG_HOST=127.0.0.2", &[]);
    check("PORT=0\nDEBUG_PORT=0\nGRPC_PORT=0", &[]);
    check("USE_PROMETHEUS=true\nPORT=9090", &["will not start: PORT=\"9090\""]);
    let finding = about("PORT=9000\nDEBUG_PORT=9000", "DEBUG_PORT");
    assert_eq!(finding.reference, "opens the port twice; a connection may reach either listener");
    assert_eq!(finding.tollgate, "expected another port than that of PORT");
    check(
        "export PORT\nDEBUG_PORT=8080",
        &[
            "note: the value of PORT is not known: it comes from the process that starts the service",
        ],
    );
}

#[test]
fn mistakes_in_collector_variables_are_found() {
    let traces = |lines: &str| {
        let environment =
            format!("{SAME}TRACING_ENABLED=true\nOTEL_RESOURCE_ATTRIBUTES=x\n{lines}");
        titles(&found(&environment))
    };
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318\n";
    assert_eq!(traces(endpoint), Vec::<String>::new());
    let finding = about(
        "TRACING_ENABLED=true\nTRACING_EXPORTER_PROTOCOL=grpc\nOTEL_EXPORTER_OTLP_ENDPOINT=a:4317",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    );
    assert_eq!(
        (finding.grade, finding.title.as_str()),
        (Grade::WillNotStart, "OTEL_EXPORTER_OTLP_ENDPOINT")
    );
    assert_eq!(
        finding.tollgate,
        "expected a URL such as http://collector:4317 or https://collector"
    );
    assert_eq!(finding.place, "a.env:15");
    for (name, value) in [("OTEL_BSP_SCHEDULE_DELAY", "5s"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")] {
        let line = format!("{name}={value}\n");
        let expected = format!("will not start: {name}=\"{value}\"");
        assert_eq!(traces(&format!("{endpoint}{line}")), [expected]);
        check(&line, &[]);
    }
    // What is in files and in Secrets is not known.
    assert_eq!(traces(&format!("{endpoint}OTEL_EXPORTER_OTLP_CERTIFICATE=/no/ca\n")).len(), 0);
    assert_eq!(traces("export OTEL_EXPORTER_OTLP_ENDPOINT\n").len(), 0);
    let hidden = "OTEL_EXPORTER_OTLP_ENDPOINT=a:1\nexport OTEL_EXPORTER_OTLP_TRACES_ENDPOINT\n";
    assert_eq!(traces(hidden).len(), 0);
}
