use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::{
    descriptor::Entry,
    rule_files::RuleSource,
    settings::{StoreSettings, table::GROUPS},
};

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Command, clap::Error> {
    let args = ["tollgate"].iter().chain(args).map(OsString::from);
    parse(args, |name| {
        env.iter().find(|variable| variable.0 == name).map(|variable| variable.1.to_owned())
    })
}

fn served(args: &[&str], env: &[(&str, &str)]) -> Settings {
    match run(args, env) {
        Ok(Command::Serve(settings)) => *settings,
        other => unreachable!("{args:?}: {other:?}"),
    }
}

#[track_caller]
fn check_rejected(args: &[&str], env: &[(&str, &str)], expected: &str) {
    let error = run(args, env).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{args:?}");
    assert!(error.to_string().contains(expected), "{args:?}: {error}");
}

#[test]
fn the_arguments_are_consistent() {
    arguments::command().debug_assert();
}

#[test]
fn serve_is_the_default_command() {
    let args = ["--grpc-port", "1", "--shadow-mode", "--quota-mode=no", "--redis-url="];
    let env = [("GRPC_PORT", "2"), ("QUOTA_MODE", "1"), ("PORT", "3"), ("REDIS_URL", "cache")];
    let explicit: Vec<_> = ["serve"].iter().chain(&args).copied().collect();
    for args in [&args[..], &explicit] {
        let settings = served(args, &env);
        assert_eq!(settings.listeners.grpc.to_string(), "0.0.0.0:1");
        assert_eq!(settings.listeners.http.port, 3);
        assert!(settings.mode.shadow && !settings.mode.quota);
        assert!(matches!(settings.store, StoreSettings::Memory { .. }));
    }
}

#[test]
fn a_path_without_a_command_and_flags_before_it_get_a_tip() {
    check_rejected(&["r.yaml"], &[], "tip: to serve these rules: tollgate serve r.yaml\n");
    check_rejected(&["rules/"], &[], "tip: to serve these rules: tollgate serve rules/\n");
    let tip = "tip: write flags behind the command, as in `tollgate serve [FLAGS]`\n";
    check_rejected(&["--port", "1", "serve", "r.yaml"], &[], tip);
    check_rejected(&["serve", ""], &[], "a value is required for '[PATH]'");
}

#[test]
fn invalid_settings_are_an_event_of_a_log_in_json() {
    let env = [("LOG_FORMAT", "json"), ("GRPC_PORT", "x")];
    for (args, env) in [(&["--log-format=json", "--grpc-port=x"][..], &[][..]), (&[], &env)] {
        let Ok(Command::Reject(error, log)) = run(args, env) else { unreachable!("{args:?}") };
        assert_eq!((error.invalid_settings().len(), log.format), (1, LogFormat::Json));
    }
    check_rejected(&["--log-format=text"], &env, "GRPC_PORT=\"x\"");
}

/// The text of `--help` and the like.
fn help(args: &[&str]) -> String {
    let help = run(args, &[]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    help.to_string()
}

#[test]
fn long_help_shows_every_setting_with_its_variable_and_default() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = help(args);
        let headings = ["\nMost used:\n", "\nRules:\n", "\nShutdown:\n"];
        let places = headings.map(|heading| help.find(heading).unwrap());
        assert!(places.is_sorted(), "{help}");
        for group in GROUPS {
            for setting in group.settings {
                let (name, default) = (setting.name, setting.default);
                let flag = format!("--{}", setting.flag());
                assert!(help.contains(&format!("\n      {flag}")), "{flag}");
                let default = if default.is_empty() {
                    String::new()
                } else {
                    format!(" [default: {default}]")
                };
                assert!(help.contains(&format!("[env: {name}]{default}\n")), "{name}");
            }
        }
    }
}

#[test]
fn short_help_fits_a_screen() {
    for args in ["-h", "serve -h", "check -h", "test -h", "explain -h", "hit -h", "migrate -h"] {
        let args = ["tollgate"].into_iter().chain(args.split(' '));
        let command = arguments::command().term_width(80);
        let help = command.try_get_matches_from(args).unwrap_err().to_string();
        assert!(help.lines().count() <= 25, "{help}");
    }
    for name in ["TOLLGATE_CONFIG", "REDIS_URL", "ON_ERROR", "GRPC_PORT", "PORT", "LOG_LEVEL"] {
        assert!(help(&["-h"]).contains(&format!(" [env: {name}]\n")), "{name}");
    }
}

#[test]
fn help_of_commands_has_exit_codes_and_an_example() {
    for command in ["check", "test", "explain", "hit", "migrate"] {
        for flag in ["-h", "--help"] {
            let help = help(&[command, flag]);
            assert!(help.contains("\nExits with 0 if "), "{help}");
            let example = help.split_once("\nExample: ").unwrap().1;
            assert!(example.contains(&format!("tollgate {command} ")), "{help}");
        }
    }
}

#[test]
fn a_path_after_serve_replaces_the_flag_config() {
    let source = |args: &[&str]| served(args, &[("TOLLGATE_CONFIG", "a")]).rules.source;
    for args in [&["serve", "b"][..], &["serve", "--config", "b"], &["--config", "b"]] {
        assert_eq!(source(args), RuleSource::Path("b".into()), "{args:?}");
    }
    assert_eq!(source(&["serve"]), RuleSource::Path("a".into()));
    let both = "'[PATH]' cannot be used with '--config <PATH>'";
    check_rejected(&["serve", "b", "--config", "c"], &[], both);
    check_rejected(&["serve", "b", "c"], &[], "unexpected argument 'c'");
}

#[test]
fn invalid_settings_are_rejected() {
    let env = [("PORT", "x"), ("LOG_LEVEL", "y")];
    check_rejected(&[], &env, "PORT=\"x\": expected");
    check_rejected(&["serve"], &env, "LOG_LEVEL=\"y\": expected");
    check_rejected(&["--grpc-port", "z"], &[], "--grpc-port=\"z\": expected");
    check_rejected(&["--gprc-port", "1"], &[], "'--grpc-port'");
    check_rejected(&["--port", "1", "--port", "2"], &[], "cannot be used multiple times");
}

#[test]
fn a_path_is_rejected_if_rules_come_from_a_management_server() {
    let xds = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("CONFIG_GRPC_XDS_SERVER_URL", "a:1")];
    let problem = "this path is not read, because CONFIG_TYPE is GRPC_XDS_SOTW";
    for args in [&["serve", "b"][..], &["serve", "--config", "b"], &["--config", "b"]] {
        check_rejected(args, &xds, &format!("--config=\"b\": {problem}"));
    }
    let variable = [xds[0], xds[1], ("TOLLGATE_CONFIG", "c")];
    check_rejected(&["serve"], &variable, &format!("TOLLGATE_CONFIG=\"c\": {problem}"));
    served(&["serve"], &xds);
}

#[test]
fn standard_input_is_read_only_once() {
    let problem = "`-` is given twice, but standard input can be read only once";
    check_rejected(&["check", "-", "a", "-"], &[], problem);
}

#[test]
fn check_without_paths_uses_the_configured_rules() {
    let check = |args: &[&str], env: &[(&str, &str)]| match run(args, env) {
        Ok(Command::Check(RuleInput { rules, merge_domains, .. })) => (rules, merge_domains),
        other => unreachable!("{args:?}: {other:?}"),
    };
    let configured = |path: &str| RulePlaces::Configured(RuleSource::Path(path.into()));
    let env = [("TOLLGATE_CONFIG", "rules"), ("MERGE_DOMAIN_CONFIG", "1"), ("PORT", "unrelated")];
    assert_eq!(check(&["check"], &[]), (configured("config/"), false));
    assert_eq!(check(&["check"], &env), (configured("rules"), true));
    let paths = |paths: &[&str]| RulePlaces::Paths(paths.iter().map(PathBuf::from).collect());
    assert_eq!(check(&["check", "a", "-"], &[]), (paths(&["a", "-"]), false));
    assert_eq!(check(&["check", "--merge-domains", "a"], &[]), (paths(&["a"]), true));
    check_rejected(&["check"], &[("MERGE_DOMAIN_CONFIG", "x")], "MERGE_DOMAIN_CONFIG=\"x\"");
    check_rejected(&["--config", "a", "check"], &[], "cannot be used with '--config");
}

#[test]
fn hit_accepts_any_bytes() {
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let args = ["tollgate", "hit", "--hits", "3", "--refund", "--address", "[::1]:1", "--domain"];
    let args =
        args.iter().map(OsString::from).chain([odd(b"\xff"), odd(b"k\xfe=,b=c"), odd(b"d=")]);
    let Ok(Command::Hit(hit)) = parse(args, |_| None) else { unreachable!() };
    let entry =
        |key: &'static [u8], value: &'static [u8]| Entry { key: key.into(), value: value.into() };
    assert_eq!(
        hit,
        Hit {
            address: hit::parse_address("[::1]:1").unwrap(),
            tls: None,
            domain: (&b"\xff"[..]).into(),
            descriptors: vec![
                vec![entry(b"k\xfe", b""), entry(b"b", b"c")],
                vec![entry(b"d", b"")],
            ],
            hits: Some(3),
            refund: true,
            http_port: 8080,
        }
    );
}

#[test]
fn hit_reads_the_tls_flags() {
    let args = "hit --domain a --grpc-use-tls --grpc-server-ca-file b --grpc-cert-file c \
                --grpc-key-file d --address unix:/e f=g";
    let Ok(Command::Hit(hit)) = run(&args.split(' ').collect::<Vec<_>>(), &[]) else {
        unreachable!()
    };
    assert_eq!(hit.address.to_string(), "unix:/e");
    let tls = hit.tls.unwrap();
    let identity = ClientIdentity { certificate: "c".into(), key: "d".into() };
    assert_eq!((tls.identity, tls.ca_file), (Some(identity), Some("b".into())));
}

#[test]
fn invalid_arguments_of_hit_are_rejected() {
    let hit = |rest: &[&'static str]| [&["hit", "--domain", "shop"][..], rest].concat();
    check_rejected(&["hit", "a=b"], &[], "--domain <DOMAIN>");
    check_rejected(&hit(&[]), &[], "<DESCRIPTOR>");
    check_rejected(&hit(&["user"]), &[], "expected key=value");
    check_rejected(&hit(&["--address", "localhost", "a=b"]), &[], "expected host:port");
    check_rejected(&hit(&["--address", "http://localhost:1", "a=b"]), &[], "expected host:port");
    check_rejected(&hit(&["--hits", "many", "a=b"]), &[], "--hits <N>");
    check_rejected(&hit(&["--grpc-server-ca-file", "a", "a=b"]), &[], "--grpc-use-tls");
    let half = ["--grpc-use-tls", "--grpc-cert-file", "a", "a=b"];
    check_rejected(&hit(&half), &[], "--grpc-key-file <FILE>");
}

#[test]
fn migrate_needs_an_environment_or_rules() {
    let migration = |args: &[&str]| match run(args, &[]) {
        Ok(Command::Migrate(migration)) => migration,
        other => unreachable!("{args:?}: {other:?}"),
    };
    let all = ["migrate", "a.yaml", "--container", "b", "--rules", "c", "--verbose"];
    let expected = Migration {
        environment: Some("a.yaml".into()),
        container: Some("b".into()),
        rules: Some("c".into()),
        verbose: true,
    };
    assert_eq!(migration(&all), expected);
    let rules = Migration { rules: Some("c".into()), ..Migration::default() };
    assert_eq!(migration(&["migrate", "--rules", "c"]), rules);
    assert_eq!(migration(&["migrate", "-"]).environment, Some("-".into()));
    check_rejected(&["migrate"], &[], "<ENVIRONMENT>");
    check_rejected(&["migrate", "--rules", "c", "--container", "b"], &[], "<ENVIRONMENT>");
}

#[test]
fn explain_takes_descriptors_or_an_http_request() {
    let explained = |args: &[&str]| match run(&[&["explain", "--domain", "d"], args].concat(), &[])
    {
        Ok(Command::Explain(explain)) => explain,
        other => unreachable!("{args:?}: {other:?}"),
    };
    assert!(explained(&["a=b"]).http.is_none());
    let headers = ["-H", "X-Api-Key: k", "--header", "Host: a"];
    let explain = explained(&[&["--http", "GET /a", "--from", "::1"], &headers[..]].concat());
    assert!(explain.hit.descriptors.is_empty());
    let http = explain.http.unwrap();
    assert_eq!(http.line, RequestLine::parse("GET /a".into()).unwrap());
    assert_eq!(
        http.headers,
        [headers[1], headers[3]].map(|it| HeaderLine::parse(it.into()).unwrap())
    );
    assert_eq!(http.from, "::1".parse().ok());

    let explain = |args: &[&'static str]| [&["explain", "--domain", "d"], args].concat();
    check_rejected(&explain(&[]), &[], "<DESCRIPTOR>");
    check_rejected(&explain(&["--http", "GET /a", "a=b"]), &[], "cannot be used with");
    check_rejected(&explain(&["--http", "GET"]), &[], "expected a method and a path or URI");
    check_rejected(&explain(&["a=b", "-H", "a: b"]), &[], "cannot be used with");
    check_rejected(&explain(&["a=b", "--from", "::1"]), &[], "cannot be used with");
    check_rejected(&explain(&["--from", "::1"]), &[], "--http <REQUEST>");
    check_rejected(&explain(&["--http", "GET /", "-H", "a"]), &[], "expected a name, a colon");
    check_rejected(&explain(&["--http", "GET /", "--from", "a"]), &[], "invalid IP address");
}
