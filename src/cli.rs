//! The command line: parses arguments to a [`Command`].

use std::{ffi::OsString, path::PathBuf};

use bytes::Bytes;
use clap::{
    ArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    descriptor::Entry,
    settings::{DecisionSettings, LogFormat, LogSettings, RuleSettings, Settings, SettingsError},
    trust::{ClientIdentity, ClientTls, ExpectedName},
};

mod exit;
mod input;
mod manifest;
mod output;
mod rule_input;
mod http_question;
pub mod admin_client;
pub mod check;
pub mod counters;
pub mod hit;
pub mod explain;
pub mod test;
mod arguments;
pub mod migrate;

use self::{
    admin_client::{AdminClient, AdminUrl},
    counters::{CounterCommand, CounterOperation},
    explain::Explain,
    hit::Hit,
    migrate::Migration,
    test::TestRun,
};
pub use self::{
    exit::CommandStatus,
    http_question::{HeaderLine, HttpQuestion, RequestLine},
    input::InputError,
    output::PipeOutput,
    rule_input::{RuleInput, RulePlaces},
};

/// The port of the admin API of a service with default settings.
const ADMIN_PORT: u16 = 8082;

/// A command with its arguments.
#[derive(Clone, Debug)]
pub enum Command {
    /// Runs the service until it receives a signal to shut down.
    Serve(Box<Settings>),
    /// Logs that the service cannot use its settings. A collector of logs expects every
    /// line in its format.
    Reject(SettingsError, LogSettings),
    /// Checks rules without serving them.
    Check(RuleInput),
    /// Runs tests of rules.
    Test(TestRun),
    /// Shows which rule applies to a request.
    Explain(Box<Explain>),
    /// Sends one request to a running service.
    Hit(Hit),
    /// Looks at counters of a running service, or changes them.
    Counters(CounterCommand),
    /// Compares an installation of Envoy's reference service with tollgate.
    Migrate(Migration),
}

/// Parses the command line. `args` begins with the name of the program; `env`
/// looks up an environment variable.
///
/// # Errors
///
/// If the arguments or the settings are invalid, unless that belongs in the log. Also for `--help` and
/// `--version`: the error holds their text. `clap::Error::exit` prints the error
/// and exits with the right code.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, clap::Error> {
    let mut command = arguments::command();
    let matches = command.try_get_matches_from_mut(args).map_err(with_tip)?;
    let parsed = match matches.subcommand() {
        Some(("check" | "explain" | "test", matches)) if reads_stdin_twice(matches) => {
            let problem =
                "`-` is given twice, but standard input can be read only once: remove one";
            return Err(command.error(ErrorKind::ArgumentConflict, problem));
        }
        Some(("check", matches)) => check(matches, env),
        Some(("test", matches)) => Ok(Command::Test(test(matches))),
        Some(("explain", matches)) => explain(matches, env),
        Some(("hit", matches)) => Ok(Command::Hit(hit(matches, env))),
        Some(("get", matches)) => Ok(counters(matches, env, CounterOperation::Get)),
        Some(("reset", matches)) => Ok(counters(matches, env, CounterOperation::Reset)),
        Some(("set", matches)) => {
            let used = matches.get_one("used").copied().unwrap_or_default();
            Ok(counters(matches, env, CounterOperation::Set(used)))
        }
        Some(("migrate", matches)) => Ok(Command::Migrate(migrate(matches))),
        Some((_, matches)) => serve(matches, matches.get_one("path"), env),
        None => serve(&matches, None, env),
    };
    parsed.map_err(|error| command.error(ErrorKind::ValueValidation, error))
}

/// Adds the command that was probably meant.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let given = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) => given.clone(),
        _ => return error,
    };
    let is_path = given.contains('/') || given.ends_with(".yaml") || given.ends_with(".yml");
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand if is_path => {
            format!("to serve these rules: tollgate serve {given}")
        }
        ErrorKind::ArgumentConflict => {
            format!("write flags behind the command, as in `tollgate {given} [FLAGS]`")
        }
        _ => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// `path` replaces the flag `--config`.
fn serve(
    matches: &ArgMatches,
    path: Option<&String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let flags = |name: &str| match path {
        Some(path) if name == "TOLLGATE_CONFIG" => Some(path.clone()),
        _ => matches.get_one(name).cloned(),
    };
    match Settings::read(flags, &env) {
        Ok(settings) => Ok(Command::Serve(Box::new(settings))),
        Err(error) => match LogSettings::read(flags, env) {
            log if log.format == LogFormat::Json => Ok(Command::Reject(error, log)),
            _ => Err(error),
        },
    }
}

fn check(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let settings = RuleSettings::read(|name| merge_flag(matches, name), env)?;
    Ok(Command::Check(rule_input(matches, settings)))
}

/// The value that `--merge-domains` gives to the setting `name`.
fn merge_flag(matches: &ArgMatches, name: &str) -> Option<String> {
    let is_set = name == "MERGE_DOMAIN_CONFIG" && matches.get_flag("merge-domains");
    is_set.then(|| "true".to_owned())
}

fn rule_input(matches: &ArgMatches, settings: RuleSettings) -> RuleInput {
    let RuleSettings { source, links, merge_domains, .. } = settings;
    let rules = match matches.get_many::<PathBuf>("paths") {
        Some(paths) => RulePlaces::Paths(paths.cloned().collect()),
        None => RulePlaces::Configured(source),
    };
    RuleInput { rules, links, merge_domains }
}

fn explain(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let settings = DecisionSettings::read(|name| merge_flag(matches, name), &env)?;
    Ok(Command::Explain(Box::new(Explain {
        input: rule_input(matches, settings.rules.clone()),
        settings,
        hit: hit(matches, &env),
        http: http_question(matches),
        ask_server: matches.contains_id("address"),
        json: matches.get_flag("json"),
    })))
}

fn http_question(matches: &ArgMatches) -> Option<HttpQuestion> {
    let line: &RequestLine = matches.get_one("http")?;
    let headers: Vec<HeaderLine> =
        matches.get_many("header").unwrap_or_default().cloned().collect();
    Some(HttpQuestion { line: line.clone(), headers, from: matches.get_one("from").copied() })
}

fn test(matches: &ArgMatches) -> TestRun {
    TestRun {
        files: matches.get_many("paths").unwrap_or_default().cloned().collect(),
        junit: matches.get_one("junit").cloned(),
    }
}

fn reads_stdin_twice(matches: &ArgMatches) -> bool {
    let paths = matches.get_many::<PathBuf>("paths").unwrap_or_default();
    paths.filter(|path| input::is_stdin(path)).count() > 1
}

fn counters(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
    operation: CounterOperation,
) -> Command {
    // Those of the service if this runs in its container.
    let port = env("ADMIN_PORT").and_then(|port| port.parse().ok()).unwrap_or(ADMIN_PORT);
    let token_file = env("ADMIN_TOKEN_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let url = matches.get_one("admin").cloned();
    Command::Counters(CounterCommand {
        client: AdminClient {
            url: url.unwrap_or_else(|| AdminUrl::of_port(port)),
            token_file: matches.get_one("token-file").cloned().or(token_file),
        },
        domain: domain(matches),
        descriptors: descriptors(matches),
        operation,
        limit: matches.try_get_one("limit").ok().flatten().cloned(),
    })
}

fn domain(matches: &ArgMatches) -> Bytes {
    let domain: OsString = matches.get_one("domain").cloned().unwrap_or_default();
    domain.into_encoded_bytes().into()
}

fn descriptors(matches: &ArgMatches) -> Vec<Vec<Entry>> {
    let mut descriptors = Vec::new();
    for descriptor in matches.get_many("descriptors").unwrap_or_default() {
        descriptors.push(Vec::clone(descriptor));
    }
    descriptors
}

fn hit(matches: &ArgMatches, env: impl Fn(&str) -> Option<String>) -> Hit {
    Hit {
        address: matches.get_one("address").cloned().unwrap_or_else(hit::default_address),
        tls: if matches.get_flag("grpc-use-tls") { Some(client_tls(matches)) } else { None },
        domain: domain(matches),
        descriptors: descriptors(matches),
        hits: matches.get_one("hits").copied(),
        refund: matches.try_get_one::<bool>("refund").is_ok_and(|refund| refund == Some(&true)),
        // That of the service if this runs in its container.
        http_port: env("PORT").and_then(|port| port.parse().ok()).unwrap_or(hit::HTTP_PORT),
    }
}

fn client_tls(matches: &ArgMatches) -> ClientTls {
    let certificate: Option<&PathBuf> = matches.get_one("grpc-cert-file");
    let key: Option<&PathBuf> = matches.get_one("grpc-key-file");
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    ClientTls {
        identity,
        ca_file: matches.get_one("grpc-server-ca-file").cloned(),
        name: ExpectedName::Host,
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

#[cfg(test)]
mod tests;
