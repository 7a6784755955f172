//! The flags and arguments of all commands, with their help texts.

use std::{ffi::OsString, fmt::Write, net::IpAddr, path::PathBuf};

use clap::{
    Arg, ArgAction, Command,
    builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser},
    value_parser,
};

use super::{
    admin_client::AdminUrl,
    hit,
    http_question::{HeaderLine, RequestLine},
};
use crate::{
    limit::Hits,
    settings::table::{self, COMMON, GROUPS, Setting, ValueKind},
    time_zones::TimeZones,
};

const SETTINGS_HELP: &str = "\
Without a command, tollgate serves. A flag overrides its environment variable. An empty variable \
counts as not set. Durations are written like 500ms, 10s or 1h30m.";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A setting in the short help, with a shorter text than `--help` has.
struct ShortHelp {
    name: &'static str,
    text: &'static str,
}

const SHORT_HELP: [ShortHelp; 6] = [
    ShortHelp { name: "TOLLGATE_CONFIG", text: "Rule file or directory" },
    ShortHelp { name: "REDIS_URL", text: "Redis for the counters" },
    ShortHelp { name: "ON_ERROR", text: "Decision while Redis does not reply" },
    ShortHelp { name: "GRPC_PORT", text: "Port for gRPC" },
    ShortHelp { name: "PORT", text: "Port for HTTP" },
    ShortHelp { name: "LOG_LEVEL", text: "error, warn, info, debug or trace" },
];

pub(super) fn command() -> Command {
    Command::new(env!("CARGO_PKG_NAME"))
        .version(VERSION)
        .long_version(format!("{VERSION}\ntime zones: {}", TimeZones::newest()))
        .about("A rate-limit decision service for Envoy and for clients of gRPC or HTTP")
        .after_help(short_settings_help())
        .after_long_help(SETTINGS_HELP)
        .args_conflicts_with_subcommands(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags_of_clap())
        .args(settings())
        .subcommand(serve_command())
        .subcommand(check_command())
        .subcommand(test_command())
        .subcommand(explain_command())
        .subcommand(hit_command())
        .subcommand(counter_command("get", "Show the counters of a request, and charge nothing"))
        .subcommand(reset_command())
        .subcommand(set_command())
        .subcommand(migrate_command())
}

/// The flags that clap adds by itself, but not in the short help, which fits a screen.
fn flags_of_clap() -> [Arg; 2] {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    [
        help.help("Print help (a summary with '-h')").hide_short_help(true).global(true),
        version.help("Print version").hide_short_help(true),
    ]
}

/// The end of the short help, with the settings that most users need.
fn short_settings_help() -> String {
    let mut help =
        "Most used settings, as a flag or an environment variable; `--help` lists all:".to_owned();
    for ShortHelp { name, text } in SHORT_HELP {
        let Some(setting) = table::find(name) else { continue };
        let flag = format!("--{} <{}>", setting.flag(), setting.value.placeholder());
        let _ = write!(help, "\n  {flag:<22} {text} [env: {name}]");
    }
    help
}

fn serve_command() -> Command {
    Command::new("serve")
        .about("Serve requests; this is the default command")
        .after_help(short_settings_help())
        .after_long_help(SETTINGS_HELP)
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .conflicts_with("TOLLGATE_CONFIG")
                .value_parser(NonEmptyStringValueParser::new())
                .help("A rule file, or a directory of them: the same as --config PATH"),
        )
        .args(settings())
}

fn check_command() -> Command {
    Command::new("check")
        .about("Check rules for mistakes, without serving them")
        .after_help(
            "Exits with 0 if the rules are valid, with 1 if they have mistakes, and with 2 if \
             rules cannot be read.\n\n\
             Example: tollgate check config/\n\
             Example: kubectl get configmap rules -o yaml | tollgate check -",
        )
        .arg(
            Arg::new("paths")
                .value_name("PATH")
                .num_args(0..)
                .value_parser(value_parser!(PathBuf))
                .help(
                    "Rule files, directories of them, and files with Kubernetes manifests, whose \
                     ConfigMaps hold rules; - reads standard input [default: the rules that \
                     `serve` would read]",
                ),
        )
        .arg(merge_domains())
}

fn merge_domains() -> Arg {
    Arg::new("merge-domains")
        .long("merge-domains")
        .action(ArgAction::SetTrue)
        .help("Allow several files for the same domain [env: MERGE_DOMAIN_CONFIG]")
}

fn test_command() -> Command {
    Command::new("test")
        .about("Run tests of rules: files with requests and the expected answers")
        .after_help(
            "Exits with 0 if all tests pass, with 1 if one fails, and with 2 if a file cannot be \
             used.\n\n\
             Example: tollgate test rules_test.yaml --junit report.xml",
        )
        .arg(
            Arg::new("paths")
                .value_name("FILE")
                .num_args(1..)
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Files with tests, in YAML; - reads standard input"),
        )
        .arg(
            Arg::new("junit")
                .long("junit")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write a report in the format of JUnit, for a CI server"),
        )
}

fn explain_command() -> Command {
    Command::new("explain")
        .about("Show the rule for a request, or why none applies; no service needed")
        .after_help(
            "Exits with 0 if a rule applies to each descriptor, with 3 if not, and with 2 if there \
             is no answer.\n\n\
             Example: tollgate explain --config rules/ --domain shop user=ann,path=/cart\n\
             Example: tollgate explain --domain edge --http 'GET /login' --from 192.0.2.1",
        )
        .arg(
            Arg::new("paths")
                .long("config")
                .value_name("PATH")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Rules to read, as by `check`; may be repeated [default: as `serve`]"),
        )
        .arg(merge_domains().hide_short_help(true))
        .arg(domain())
        .arg(hits().help("Hits of the request [default: 1]"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Write JSON, for programs"),
        )
        .arg(address().help("Also ask the running service, which charges nothing"))
        .args(tls_arguments())
        .args(http_arguments())
        .arg(descriptors().required(false).required_unless_present("http").conflicts_with("http"))
}

/// The HTTP request whose descriptors the rules make.
fn http_arguments() -> [Arg; 3] {
    [
        Arg::new("http")
            .long("http")
            .value_name("REQUEST")
            .value_parser(OsStringValueParser::new().try_map(RequestLine::parse))
            .help("Instead, an HTTP request such as 'GET /login'"),
        Arg::new("header")
            .long("header")
            .short('H')
            .value_name("HEADER")
            .action(ArgAction::Append)
            .requires("http")
            // `requires` alone is not enforced beside what conflicts with `http`.
            .conflicts_with("descriptors")
            .value_parser(OsStringValueParser::new().try_map(HeaderLine::parse))
            .hide_short_help(true)
            .help("A header of the HTTP request, such as 'X-Api-Key: k'; may be repeated"),
        Arg::new("from")
            .long("from")
            .value_name("ADDRESS")
            .requires("http")
            .conflicts_with("descriptors")
            .hide_short_help(true)
            .value_parser(value_parser!(IpAddr))
            .help("The address of the client, unless there is a header X-Forwarded-For"),
    ]
}

fn hit_command() -> Command {
    Command::new("hit")
        .about("Send one request to a running service, and show the answer")
        .after_help(
            "Exits with 0 if the request is allowed, with 1 if it is over a limit, with 2 if there \
             is no answer, and with 3 if it is allowed because no rule applies to a descriptor.\n\n\
             Example: tollgate hit --domain shop user=ann,path=/cart plan=free",
        )
        .arg(domain())
        .arg(hits().help("Number of hits to charge; 0 charges nothing [default: 1]"))
        .arg(
            Arg::new("refund")
                .long("refund")
                .action(ArgAction::SetTrue)
                .help("Refund the hits instead of charging them"),
        )
        .arg(address().help(
            "gRPC address of the service, or unix:path for a unix socket [default: localhost:8081]",
        ))
        .args(tls_arguments())
        .arg(descriptors())
}

/// A command about counters, which the admin API of a service carries out.
fn counter_command(example: &'static str, about: &'static str) -> Command {
    Command::new(example)
        .about(about)
        .after_help(format!(
            "Exits with 0 if it is done, with 2 if not, and with 3 if no rule applies to a \
             descriptor.\n\n\
             Example: tollgate {example} --domain shop user=ann --admin http://localhost:8082 \
             --token-file token"
        ))
        .arg(domain())
        .arg(
            Arg::new("admin")
                .long("admin")
                .value_name("URL")
                .value_parser(AdminUrl::parse)
                .help("URL of the admin API [default: http://127.0.0.1:8082]"),
        )
        .arg(
            Arg::new("token-file")
                .long("token-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("File with the token in its first line [env: ADMIN_TOKEN_FILE]"),
        )
        .arg(descriptors())
}

fn reset_command() -> Command {
    counter_command("reset", "Reset the counters of a request, which also ends penalties")
        .arg(limit())
}

fn set_command() -> Command {
    counter_command("set --used 3", "Set the counter of a request, which also ends a penalty")
        .name("set")
        .arg(limit())
        .arg(
            Arg::new("used")
                .long("used")
                .value_name("N")
                .required(true)
                .value_parser(value_parser!(u64).range(0..=Hits::MAX))
                .help("The hits that count as used from now on"),
        )
}

fn limit() -> Arg {
    Arg::new("limit")
        .long("limit")
        .value_name("NAME")
        .value_parser(NonEmptyStringValueParser::new())
        .help("Only the limit with this name, or with a counter of this name")
}

fn domain() -> Arg {
    Arg::new("domain")
        .long("domain")
        .value_name("DOMAIN")
        .required(true)
        .value_parser(value_parser!(OsString))
        .help("The domain of the rules to apply")
}

fn hits() -> Arg {
    Arg::new("hits")
        .long("hits")
        .value_name("N")
        .value_parser(value_parser!(u64).range(0..=Hits::MAX))
}

fn address() -> Arg {
    Arg::new("address").long("address").value_name("HOST:PORT").value_parser(hit::parse_address)
}

fn descriptors() -> Arg {
    Arg::new("descriptors")
        .value_name("DESCRIPTOR")
        .num_args(1..)
        .required(true)
        .value_parser(OsStringValueParser::new().try_map(parse_descriptor))
        .help(
            "The descriptors of the request, each key=value or key=value,key=value and so on; \
             write \\, for a comma in a value",
        )
}

fn parse_descriptor(text: OsString) -> Result<Vec<crate::descriptor::Entry>, &'static str> {
    hit::parse_descriptor(&text.into_encoded_bytes())
}

fn migrate_command() -> Command {
    Command::new("migrate")
        .about("List what changes when tollgate replaces envoyproxy/ratelimit")
        .after_help(
            "Exits with 0 if no difference is known, with 1 if there is one, and with 2 if the \
             input cannot be compared.\n\n\
             Example: kubectl get deployment ratelimit -o yaml | tollgate migrate - --rules config/",
        )
        .arg(
            Arg::new("environment")
                .value_name("ENVIRONMENT")
                .required_unless_present("rules")
                .value_parser(value_parser!(PathBuf))
                .help(
                    "The environment of ratelimit: a file with a line NAME=value for each \
                     variable, or a Kubernetes manifest; - reads standard input",
                ),
        )
        .arg(
            Arg::new("container")
                .long("container")
                .value_name("NAME")
                .requires("environment")
                .help(
                    "The container in the manifest, such as main or deployment/ratelimit/main \
                     [default: the one that runs ratelimit]",
                ),
        )
        .arg(
            Arg::new("rules")
                .long("rules")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("The rules of ratelimit: a file, or the directory RUNTIME_APPDIRECTORY"),
        )
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("Also list items that stay the same"),
        )
}

/// These flags have the names that the client of Envoy's reference service uses.
fn tls_arguments() -> [Arg; 4] {
    [
        Arg::new("grpc-use-tls")
            .long("grpc-use-tls")
            .action(ArgAction::SetTrue)
            .help("Connect with TLS; not possible with a unix socket"),
        tls_file("grpc-server-ca-file")
            .help("More CA certificates to verify the service with, in PEM"),
        tls_file("grpc-cert-file").requires("grpc-key-file").help("Client certificate, in PEM"),
        tls_file("grpc-key-file")
            .requires("grpc-cert-file")
            .help("Private key of the client certificate, in PEM"),
    ]
}

fn tls_file(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .requires("grpc-use-tls")
        .hide_short_help(true)
}

/// A flag for every setting; [`COMMON`] settings come first. The short help has
/// its own list.
fn settings() -> Vec<Arg> {
    let mut arguments = Vec::new();
    for common in COMMON {
        if let Some(setting) = table::find(common.name) {
            arguments.push(argument(setting).help_heading("Most used"));
        }
    }
    for group in GROUPS {
        for setting in group.settings {
            if !is_common(setting.name) {
                arguments.push(argument(setting).help_heading(group.heading));
            }
        }
    }
    arguments
}

fn is_common(name: &str) -> bool {
    COMMON.iter().any(|common| common.name == name)
}

fn argument(setting: &Setting) -> Arg {
    let mut help = format!("{}\n[env: {}]", setting.help, setting.name);
    if !setting.default.is_empty() {
        let _ = write!(help, " [default: {}]", setting.default);
    }
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.value.placeholder())
        .help(help)
        .hide_short_help(true);
    match setting.value {
        // Without the equals sign, the next argument could be taken for the value.
        ValueKind::Switch => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        ValueKind::Text(_) | ValueKind::Secret(_) => argument,
    }
}
