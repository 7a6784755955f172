//! The command line: parses arguments to a [`Command`].

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgMatches, error::ErrorKind};

use crate::{
    settings::{RuleSettings, Settings, SettingsError},
    tls::client::{ClientIdentity, ClientTls},
};

mod exit;
mod input;
mod manifest;
mod output;
pub mod check;
pub mod hit;
mod arguments;
pub mod migrate;

use self::{
    check::{Check, CheckedRules},
    hit::Hit,
    migrate::Migration,
};
pub use self::{exit::CommandStatus, input::InputError, output::PipeOutput};

/// A command with its arguments.
#[derive(Clone, Debug)]
pub enum Command {
    /// Runs the service until it receives a signal to shut down.
    Serve(Box<Settings>),
    /// Checks rules without serving them.
    Check(Check),
    /// Sends one request to a running service.
    Hit(Hit),
    /// Compares an installation of Envoy's reference service with tollgate.
    Migrate(Migration),
}

/// Parses the command line. `args` begins with the name of the program; `env`
/// looks up an environment variable.
///
/// # Errors
///
/// If the arguments or the settings are invalid. Also for `--help` and
/// `--version`: the error holds their text. `clap::Error::exit` prints the error
/// and exits with the right code.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, clap::Error> {
    let mut command = arguments::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let parsed = match matches.subcommand() {
        Some(("check", matches)) if reads_stdin_twice(matches) => {
            let problem =
                "`-` is given twice, but standard input can be read only once: remove one";
            return Err(command.error(ErrorKind::ArgumentConflict, problem));
        }
        Some(("check", matches)) => check(matches, env),
        Some(("hit", matches)) => Ok(Command::Hit(hit(matches))),
        Some(("migrate", matches)) => Ok(Command::Migrate(migrate(matches))),
        Some((_, matches)) => serve(matches, matches.get_one("path"), env),
        None => serve(&matches, None, env),
    };
    parsed.map_err(|error| command.error(ErrorKind::ValueValidation, error))
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
    let settings = Settings::read(flags, env)?;
    Ok(Command::Serve(Box::new(settings)))
}

fn check(
    matches: &ArgMatches,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, SettingsError> {
    let merges = matches.get_flag("merge-domains");
    let flags = |name: &str| match name {
        "MERGE_DOMAIN_CONFIG" if merges => Some("true".to_owned()),
        _ => None,
    };
    let RuleSettings { source, links, merge_domains, .. } = RuleSettings::read(flags, env)?;
    let rules = match matches.get_many::<PathBuf>("paths") {
        Some(paths) => CheckedRules::Paths(paths.cloned().collect()),
        None => CheckedRules::Configured(source),
    };
    Ok(Command::Check(Check { rules, links, merge_domains }))
}

fn reads_stdin_twice(matches: &ArgMatches) -> bool {
    let paths = matches.get_many::<PathBuf>("paths").unwrap_or_default();
    paths.filter(|path| input::is_stdin(path)).count() > 1
}

fn hit(matches: &ArgMatches) -> Hit {
    let domain: OsString = matches.get_one("domain").cloned().unwrap_or_default();
    let mut descriptors = Vec::new();
    for descriptor in matches.get_many("descriptors").unwrap_or_default() {
        descriptors.push(Vec::clone(descriptor));
    }
    Hit {
        address: matches.get_one("address").cloned().unwrap_or_else(hit::default_address),
        tls: if matches.get_flag("grpc-use-tls") { Some(client_tls(matches)) } else { None },
        domain: domain.into_encoded_bytes().into(),
        descriptors,
        hits: matches.get_one("hits").copied(),
        refund: matches.get_flag("refund"),
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
        server_name: None,
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
