//! The connection to the collector, as the standard variables of OpenTelemetry
//! describe it.

use std::{fmt, fs, sync::Arc, time::Duration};

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol as Otlp, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::transport::Certificate;

use super::{Environment, OtlpProtocol, queue::QueueSettings};
use crate::tls::client::with_system_roots;

const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
/// OpenTelemetry's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One variable of OpenTelemetry that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// Its name.
    pub name: &'static str,
    /// Its name, and its value unless that may hold a password.
    pub place: String,
    /// What was expected.
    pub problem: String,
    /// Whether the value may be right, and only names a file that cannot be read
    /// here and now.
    pub is_unreadable_file: bool,
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// How to reach the collector.
pub(super) struct Collector {
    protocol: OtlpProtocol,
    timeout: Duration,
    /// Certificates in PEM, of authorities to trust besides those of the system.
    authority: Option<Vec<u8>>,
}

/// Reads variables, and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) env: Environment<'a>,
    pub(super) mistakes: Vec<VariableError>,
}

impl Reader<'_> {
    /// The first of `names` that is set, and its value.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|it| Some((it, (self.env)(it).filter(|it| !it.is_empty())?)))
    }

    fn mistake(&mut self, name: &'static str, place: String, problem: String) {
        self.mistakes.push(VariableError { name, place, problem, is_unreadable_file: false });
    }

    fn number(&mut self, name: &'static str, default: u64) -> u64 {
        let Some(text) = (self.env)(name).filter(|it| !it.is_empty()) else { return default };
        let number = text.parse().ok().filter(|it| (1..=u64::from(u32::MAX)).contains(it));
        number.unwrap_or_else(|| {
            let most = u32::MAX;
            let problem = format!("expected a whole number from 1 to {most}");
            self.mistake(name, format!("{name}={text:?}"), problem);
            default
        })
    }

    pub(super) fn queue(&mut self) -> QueueSettings {
        let mut count =
            |name, default| usize::try_from(self.number(name, default)).unwrap_or(usize::MAX);
        let most = count("OTEL_BSP_MAX_QUEUE_SIZE", 2_048);
        let batch = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).min(most);
        let mut time = |name, default| Duration::from_millis(self.number(name, default));
        let delay = time("OTEL_BSP_SCHEDULE_DELAY", 5_000);
        QueueSettings { delay, most, batch, timeout: time("OTEL_BSP_EXPORT_TIMEOUT", 30_000) }
    }

    pub(super) fn collector(&mut self, protocol: OtlpProtocol) -> Collector {
        if let Some((name, url)) = self.first(ENDPOINT)
            && !is_url(&url)
        {
            let port = if protocol == OtlpProtocol::Http { 4318 } else { 4317 };
            let problem =
                format!("expected a URL such as http://collector:{port} or https://collector");
            self.mistake(name, name.to_owned(), problem);
        }
        let timeout =
            self.first(TIMEOUT).map(|(name, _)| Duration::from_millis(self.number(name, 1)));
        Collector {
            protocol,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            authority: self.authority(),
        }
    }

    fn authority(&mut self) -> Option<Vec<u8>> {
        let (name, path) = self.first(CERTIFICATE)?;
        let (problem, is_unreadable_file) = match fs::read(&path) {
            Ok(pem) if matches!(CertificateDer::pem_slice_iter(&pem).next(), Some(Ok(_))) => {
                return Some(pem);
            }
            Ok(_) => ("there is no certificate in it".to_owned(), false),
            Err(error) => (error.to_string(), true),
        };
        let problem = format!("expected a file of certificates ({problem})");
        let place = format!("{name}={path:?}");
        self.mistakes.push(VariableError { name, place, problem, is_unreadable_file });
        None
    }
}

impl Collector {
    /// A client that connects when there is something to send.
    pub(super) fn client(self) -> Result<SpanExporter, String> {
        match self.protocol {
            OtlpProtocol::Http => http(self.timeout, self.authority),
            OtlpProtocol::Grpc => grpc(self.timeout, self.authority),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.parse::<axum::http::Uri>().is_ok_and(|it| {
        matches!(it.scheme_str(), Some("http" | "https"))
            && it.host().is_some_and(|it| !it.is_empty())
    })
}

/// HTTP/1.1, with TLS if the URL says so.
fn http(timeout: Duration, authority: Option<Vec<u8>>) -> Result<SpanExporter, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let authority = authority.unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&authority).flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|it| it.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config);
    let connector = connector.https_or_http().enable_http1().build();
    let builder = SpanExporter::builder().with_http().with_protocol(Otlp::HttpBinary);
    let builder = builder.with_http_client(HyperClient::new(connector, timeout, None));
    builder.with_timeout(timeout).build().map_err(|it| it.to_string())
}

fn grpc(timeout: Duration, authority: Option<Vec<u8>>) -> Result<SpanExporter, String> {
    let mut tls = with_system_roots();
    if let Some(authority) = authority {
        tls = tls.ca_certificate(Certificate::from_pem(authority));
    }
    let builder = SpanExporter::builder().with_tonic().with_protocol(Otlp::Grpc);
    let builder = builder.with_tls_config(tls).with_timeout(timeout);
    builder.build().map_err(|it| it.to_string())
}
