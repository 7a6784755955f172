//! Reads OpenTelemetry's standard environment variables.

use std::{fmt, fs, time::Duration};

use axum::http::{Uri, uri::Scheme};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    collector::CollectorSettings,
    queue::QueueSettings,
    settings::{OtlpProtocol, VariableLookup},
};
use crate::net::HostPort;

/// Pairs of a variable for traces and the general one, which it overrides.
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// The port of an `https` URL without one.
const HTTPS_PORT: u16 = 443;

/// Default values of the OpenTelemetry specification.
const DEFAULT_TIMEOUT_MILLIS: u64 = 10_000;
const DEFAULT_QUEUE_SPANS: u64 = 2_048;
const DEFAULT_BATCH_SPANS: u64 = 512;
const DEFAULT_SCHEDULE_MILLIS: u64 = 5_000;
const DEFAULT_EXPORT_MILLIS: u64 = 30_000;

/// An environment variable of OpenTelemetry with a wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// The name of the variable.
    pub name: &'static str,
    /// The name, and the value unless it may contain a password.
    pub place: String,
    /// The expected value.
    pub problem: String,
    /// Whether the value names a file that cannot be read by this process: it may be
    /// right on another machine.
    pub is_unreadable_file: bool,
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// The values of all variables.
pub(super) struct ExportSettings {
    pub(super) queue: QueueSettings,
    pub(super) collector: CollectorSettings,
}

/// Returns the errors in the variables that `env` looks up.
pub fn check_variables(protocol: OtlpProtocol, env: VariableLookup<'_>) -> Vec<VariableError> {
    match read(protocol, env) {
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    }
}

/// Reads all variables, or returns all errors.
pub(super) fn read(
    protocol: OtlpProtocol,
    env: VariableLookup<'_>,
) -> Result<ExportSettings, Vec<VariableError>> {
    let mut reader = VariableReader { env, errors: Vec::new() };
    let queue = reader.queue();
    let collector = reader.collector(protocol);
    if reader.errors.is_empty() {
        Ok(ExportSettings { queue, collector })
    } else {
        Err(reader.errors)
    }
}

/// A variable that is set, and its value.
struct Variable {
    name: &'static str,
    value: String,
}

/// Reads variables and collects the errors.
struct VariableReader<'a> {
    env: VariableLookup<'a>,
    errors: Vec<VariableError>,
}

impl VariableReader<'_> {
    /// An empty variable counts as not set.
    fn get(&self, name: &'static str) -> Option<Variable> {
        let value = (self.env)(name)?;
        if value.is_empty() { None } else { Some(Variable { name, value }) }
    }

    fn first_set(&self, [for_traces, general]: [&'static str; 2]) -> Option<Variable> {
        self.get(for_traces).or_else(|| self.get(general))
    }

    fn reject(&mut self, name: &'static str, place: String, problem: String) {
        self.errors.push(VariableError { name, place, problem, is_unreadable_file: false });
    }

    /// A number from 1 to `u32::MAX`.
    fn number(&mut self, name: &'static str, default: u64) -> u64 {
        let Some(Variable { value, .. }) = self.get(name) else { return default };
        match value.parse::<u32>() {
            Ok(number) if number > 0 => number.into(),
            _ => {
                let problem = format!("expected a whole number from 1 to {}", u32::MAX);
                self.reject(name, format!("{name}={value:?}"), problem);
                default
            }
        }
    }

    fn count(&mut self, name: &'static str, default: u64) -> usize {
        usize::try_from(self.number(name, default)).unwrap_or(usize::MAX)
    }

    fn millis(&mut self, name: &'static str, default: u64) -> Duration {
        Duration::from_millis(self.number(name, default))
    }

    fn queue(&mut self) -> QueueSettings {
        let max_spans = self.count("OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SPANS);
        let max_batch = self.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", DEFAULT_BATCH_SPANS);
        QueueSettings {
            delay: self.millis("OTEL_BSP_SCHEDULE_DELAY", DEFAULT_SCHEDULE_MILLIS),
            max_spans,
            max_batch: max_batch.min(max_spans),
            timeout: self.millis("OTEL_BSP_EXPORT_TIMEOUT", DEFAULT_EXPORT_MILLIS),
        }
    }

    fn collector(&mut self, protocol: OtlpProtocol) -> CollectorSettings {
        let tls_server = self.tls_server(protocol);
        let timeout = match self.first_set(TIMEOUT) {
            Some(variable) => self.millis(variable.name, DEFAULT_TIMEOUT_MILLIS),
            None => Duration::from_millis(DEFAULT_TIMEOUT_MILLIS),
        };
        CollectorSettings { protocol, tls_server, timeout, ca_pem: self.ca_pem() }
    }

    /// The server to reach by TLS. The OpenTelemetry library reads the endpoint itself, but
    /// does not report errors.
    fn tls_server(&mut self, protocol: OtlpProtocol) -> Option<HostPort> {
        let Variable { name, value } = self.first_set(ENDPOINT)?;
        if let Some(url) = http_url(&value) {
            return https_server(&url);
        }
        let port = match protocol {
            OtlpProtocol::Http => 4318,
            OtlpProtocol::Grpc => 4317,
        };
        let problem =
            format!("expected a URL such as http://collector:{port} or https://collector");
        // Without the value: a URL may contain a password.
        self.reject(name, name.to_owned(), problem);
        None
    }

    /// The contents of the file of CA certificates, if one is set.
    fn ca_pem(&mut self) -> Option<Vec<u8>> {
        let Variable { name, value: path } = self.first_set(CERTIFICATE)?;
        let (problem, is_unreadable_file) = match fs::read(&path) {
            Ok(pem) if has_certificate(&pem) => return Some(pem),
            Ok(_) => ("there is no certificate in it".to_owned(), false),
            Err(error) => (error.to_string(), true),
        };
        self.errors.push(VariableError {
            name,
            place: format!("{name}={path:?}"),
            problem: format!("expected a file of certificates ({problem})"),
            is_unreadable_file,
        });
        None
    }
}

fn has_certificate(pem: &[u8]) -> bool {
    matches!(CertificateDer::pem_slice_iter(pem).next(), Some(Ok(_)))
}

fn http_url(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    if is_http && !url.host()?.is_empty() { Some(url) } else { None }
}

fn https_server(url: &Uri) -> Option<HostPort> {
    if url.scheme() != Some(&Scheme::HTTPS) {
        return None;
    }
    let host = url.host()?.trim_matches(['[', ']']).to_owned();
    Some(HostPort { host, port: url.port_u16().unwrap_or(HTTPS_PORT) })
}
