//! The client of the collector.

use std::{sync::Arc, time::Duration};

use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::transport::Certificate;

use super::{http_client::CollectorClient, settings::OtlpProtocol};
use crate::tls::client::with_system_roots;

/// The settings of the connection to the collector. The OpenTelemetry library reads the
/// endpoint from the environment.
pub(super) struct CollectorSettings {
    pub(super) protocol: OtlpProtocol,
    /// The timeout of one request.
    pub(super) timeout: Duration,
    /// CA certificates in PEM, trusted in addition to those of the operating system.
    pub(super) ca_pem: Option<Vec<u8>>,
}

/// Creates an exporter that connects when it has spans to send. An error is the text of
/// the library.
pub(super) fn exporter(settings: CollectorSettings) -> Result<SpanExporter, String> {
    match settings.protocol {
        OtlpProtocol::Http => http_exporter(settings.timeout, settings.ca_pem),
        OtlpProtocol::Grpc => grpc_exporter(settings.timeout, settings.ca_pem),
    }
}

/// Trusts these CA certificates and those of the operating system.
pub(super) fn tls_config(ca_pem: Option<Vec<u8>>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let ca_pem = ca_pem.unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&ca_pem).flatten());
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// HTTP/1.1, with TLS for an `https` URL.
fn http_exporter(timeout: Duration, ca_pem: Option<Vec<u8>>) -> Result<SpanExporter, String> {
    let client = CollectorClient::new(tls_config(ca_pem)?, timeout);
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .with_timeout(timeout)
        .build()
        .map_err(|error| error.to_string())
}

fn grpc_exporter(timeout: Duration, ca_pem: Option<Vec<u8>>) -> Result<SpanExporter, String> {
    let mut tls = with_system_roots();
    if let Some(ca_pem) = ca_pem {
        tls = tls.ca_certificate(Certificate::from_pem(ca_pem));
    }
    SpanExporter::builder()
        .with_tonic()
        .with_protocol(Protocol::Grpc)
        .with_tls_config(tls)
        .with_timeout(timeout)
        .build()
        .map_err(|error| error.to_string())
}
