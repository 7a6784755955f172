//! The command line: text to a [`Command`].

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    Arg, ArgAction, ArgMatches,
    builder::{OsStringValueParser, TypedValueParser},
    error::ErrorKind,
    value_parser,
};

use crate::{
    limit::Hits,
    rule_files::RuleSource,
    settings::{
        RuleSettings, Settings, SettingsError,
        table::{self, COMMON, GROUPS, Setting, ValueKind},
    },
    tls::client::ClientTls,
};

pub mod check;
pub mod hit;
pub mod migrate;

use self::{hit::Hit, migrate::Migration};

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Serve until told to stop.
    Serve(Box<Settings>),
    /// Say what is wrong with rules.
    Check {
        /// Files and directories. Never empty.
        paths: Vec<PathBuf>,
        /// Whether several files may add to the same domain.
        merge_domains: bool,
    },
    /// Ask a running service.
    Hit(Hit),
    /// Say what changes for who comes from Envoy's reference service.
    Migrate(Migration),
}

/// How a command that answers a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The answer is yes.
    Yes,
    /// The answer is no.
    No,
    /// There is no answer. Wrong usage ends like this, too.
    Failed,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Yes => 0,
            Status::No => 1,
            Status::Failed => 2,
        })
    }
}

/// Parses the command line. `args` begins with the name of the program; `env`
/// looks up a variable of the environment.
///
/// # Errors
///
/// What is wrong and what was expected; for `--help` and `--version`, what they
/// show. The error knows how to print itself and with which code to exit.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args)?;
    let parsed = match matches.subcommand() {
        Some(("check", matches)) => check(matches, env),
        Some(("hit", matches)) => Ok(Command::Hit(hit(matches))),
        Some(("migrate", matches)) => Ok(Command::Migrate(migrate(matches))),
        Some((_, matches)) => serve(matches, env),
        None => serve(&matches, env),
    };
    parsed.map_err(|it| command.error(ErrorKind::ValueValidation, it))
}

fn serve(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let settings = Settings::read(|name| matches.get_one(name).cloned(), env)?;
    Ok(Command::Serve(Box::new(settings)))
}

fn check(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let merge = matches.get_flag("merge-domains");
    let flags = |name: &str| (name == "MERGE_DOMAIN_CONFIG" && merge).then(|| "true".to_owned());
    let RuleSettings { source, merge_domains, .. } = RuleSettings::read(flags, env)?;
    let paths = matches.get_many("paths").map(|it| it.cloned().collect());
    let paths = paths.unwrap_or_else(|| match source {
        RuleSource::Path(path) => vec![path],
        RuleSource::Runtime(layout) => vec![layout.rules_directory()],
    });
    Ok(Command::Check { paths, merge_domains })
}

fn hit(matches: &ArgMatches) -> Hit {
    let text = |id| matches.get_one::<OsString>(id).cloned().unwrap_or_default();
    Hit {
        address: matches.get_one("address").cloned().unwrap_or_else(hit::default_address),
        tls: matches.get_flag("grpc-use-tls").then(|| tls(matches)),
        domain: text("domain").into_encoded_bytes().into(),
        descriptors: matches.get_many("descriptors").into_iter().flatten().cloned().collect(),
        hits: matches.get_one("hits").copied(),
        refund: matches.get_flag("refund"),
    }
}

fn migrate(matches: &ArgMatches) -> Migration {
    Migration {
        environment: matches.get_one("environment").cloned(),
        container: matches.get_one("container").cloned(),
        rules: matches.get_one("rules").cloned(),
        verbose: matches.get_flag("verbose"),
    }
}

fn tls(matches: &ArgMatches) -> ClientTls {
    let file = |id| matches.get_one::<PathBuf>(id).cloned();
    ClientTls {
        identity: file("grpc-cert-file").zip(file("grpc-key-file")),
        authorities: file("grpc-server-ca-file"),
        server_name: None,
    }
}

fn command() -> clap::Command {
    clap::Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(
            "Without a command, tollgate serves. A flag counts before its variable. A variable \
             that is set but empty counts as not set. Durations are written like 500ms, 10s or \
             1h30m.",
        )
        .args_conflicts_with_subcommands(true)
        .next_line_help(true)
        .args(settings())
        .subcommand(
            clap::Command::new("serve")
                .about("Serves until told to stop; what happens without a command, too")
                .next_line_help(true)
                .args(settings()),
        )
        .subcommand(check_command())
        .subcommand(hit_command())
        .subcommand(migrate_command())
}

fn check_command() -> clap::Command {
    clap::Command::new("check")
        .about("Says what is wrong with rules, without serving them")
        .arg(
            Arg::new("paths")
                .value_name("PATH")
                .num_args(0..)
                .value_parser(value_parser!(PathBuf))
                .help(
                    "Files of rules, and directories with such files [env: TOLLGATE_CONFIG] \
                     [default: config/]",
                ),
        )
        .arg(
            Arg::new("merge-domains")
                .long("merge-domains")
                .action(ArgAction::SetTrue)
                .help("Let several files add to the same domain [env: MERGE_DOMAIN_CONFIG]"),
        )
}

fn hit_command() -> clap::Command {
    let descriptor =
        OsStringValueParser::new().try_map(|it| hit::parse_descriptor(&it.into_encoded_bytes()));
    clap::Command::new("hit")
        .about("Asks a running service, and shows its answer")
        .after_help(
            "Exits with 0 if the request may pass, with 1 if it is over a limit, and with 2 if \
             there is no answer.\n\n\
             Example: tollgate hit --domain shop user=ann,path=/cart plan=free",
        )
        .arg(
            Arg::new("domain")
                .long("domain")
                .value_name("DOMAIN")
                .required(true)
                .value_parser(value_parser!(OsString))
                .help("Whose rules apply"),
        )
        .arg(
            Arg::new("hits")
                .long("hits")
                .value_name("N")
                .value_parser(value_parser!(u64).range(0..=Hits::MAX))
                .help("How many hits to charge [default: 1]; 0 looks and charges nothing"),
        )
        .arg(
            Arg::new("refund").long("refund").action(ArgAction::SetTrue).help("Give the hits back"),
        )
        .arg(
            Arg::new("address")
                .long("address")
                .value_name("HOST:PORT")
                .value_parser(hit::parse_address)
                .help(
                    "Where the service listens for gRPC, or unix:path for a unix socket [default: \
                     localhost:8081]",
                ),
        )
        .args(tls_arguments())
        .arg(
            Arg::new("descriptors")
                .value_name("DESCRIPTOR")
                .num_args(1..)
                .required(true)
                .value_parser(descriptor)
                .help(
                    "What to ask about: key=value, or key=value,key=value and so on; \\, stands \
                     for a comma",
                ),
        )
}

fn migrate_command() -> clap::Command {
    clap::Command::new("migrate")
        .about("Says what changes when tollgate takes the place of envoyproxy/ratelimit")
        .after_help(
            "Exits with 0 if nothing is known to differ, with 1 if something does, and with 2 if \
             there is no answer.\n\n\
             Example: kubectl get deployment ratelimit -o yaml | tollgate migrate - --rules config/",
        )
        .arg(
            Arg::new("environment")
                .value_name("ENVIRONMENT")
                .required_unless_present("rules")
                .value_parser(value_parser!(PathBuf))
                .help(
                    "What ratelimit is started with: a file with lines like NAME=value, or a \
                     manifest of Kubernetes; - reads the standard input",
                ),
        )
        .arg(
            Arg::new("container")
                .long("container")
                .value_name("NAME")
                .requires("environment")
                .help(
                    "The container of the manifest, if need be with its workload, as in \
                     deployment/ratelimit/main [default: the one that runs ratelimit]",
                ),
        )
        .arg(
            Arg::new("rules")
                .long("rules")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("Its rules: a file, or the directory that RUNTIME_APPDIRECTORY names"),
        )
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("Show what is the same, too"),
        )
}

/// Under the names that the client of Envoy's reference service has for them.
fn tls_arguments() -> [Arg; 4] {
    let file = |name, help| {
        let arg = Arg::new(name).long(name).value_name("FILE").help(help);
        arg.value_parser(value_parser!(PathBuf)).requires("grpc-use-tls")
    };
    [
        Arg::new("grpc-use-tls")
            .long("grpc-use-tls")
            .action(ArgAction::SetTrue)
            .help("Encrypt the connection; not that to a unix socket"),
        file(
            "grpc-server-ca-file",
            "Authorities that may vouch for the service besides those of the system, in PEM",
        ),
        file("grpc-cert-file", "The certificate to show to the service, in PEM")
            .requires("grpc-key-file"),
        file("grpc-key-file", "The key of that certificate, in PEM").requires("grpc-cert-file"),
    ]
}

/// A flag for every setting; those that most installations change come first.
fn settings() -> Vec<Arg> {
    let is_common = |name: &str| COMMON.iter().any(|common| common.name == name);
    let mut args = Vec::new();
    for common in COMMON {
        args.extend(table::find(common.name).map(|it| setting(it).help_heading("Most used")));
    }
    for group in GROUPS {
        for it in group.settings {
            if !is_common(it.name) {
                args.push(setting(it).help_heading(group.heading));
            }
        }
    }
    args
}

fn setting(setting: &Setting) -> Arg {
    let mut help = format!("{}\n[env: {}]", setting.help, setting.name);
    if !setting.default.is_empty() {
        help.push_str(&format!(" [default: {}]", setting.default));
    }
    let arg = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.value.placeholder())
        .help(help);
    match setting.value {
        // Without the equals sign, whatever came next could be taken for the value.
        ValueKind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        ValueKind::Text(_) | ValueKind::Secret(_) => arg,
    }
}

#[cfg(test)]
mod tests;
