//! The client of the collector.

use std::{sync::Arc, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{http_client::CollectorClient, settings::OtlpProtocol};
use crate::{
    net::HostPort,
    trust::{Authorities, grpc},
};

/// The settings of the connection to the collector. The OpenTelemetry library reads the
/// endpoint from the environment.
pub(super) struct CollectorSettings {
    pub(super) protocol: OtlpProtocol,
    /// The server, if its URL begins with `https`.
    pub(super) tls_server: Option<HostPort>,
    /// The timeout of one request.
    pub(super) timeout: Duration,
    /// CA certificates in PEM, trusted in addition to those of the operating system.
    pub(super) ca_pem: Option<Vec<u8>>,
}

/// Creates an exporter that connects when it has spans to send. An error is the text of
/// the library.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub(super) fn exporter(settings: &CollectorSettings) -> Result<SpanExporter, String> {
    match settings.protocol {
        OtlpProtocol::Http => http_exporter(settings),
        OtlpProtocol::Grpc => grpc_exporter(settings),
    }
}

/// Trusts these CA certificates and those of the operating system.
fn tls_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, String> {
    let own = match ca_pem {
        Some(pem) => Authorities::from_pem(pem).map_err(|problem| problem.to_string())?,
        None => Authorities::none(),
    };
    let config = own.with_system().client_config(false).map_err(|problem| problem.to_string())?;
    Ok(config.with_no_client_auth())
}

/// The configuration of a client that needs no TLS, and trusts nobody.
pub(super) fn plaintext_config() -> Result<ClientConfig, String> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// HTTP/1.1, with TLS for an `https` URL.
fn http_exporter(settings: &CollectorSettings) -> Result<SpanExporter, String> {
    let tls = match settings.tls_server {
        Some(_) => tls_config(settings.ca_pem.as_deref())?,
        None => plaintext_config()?,
    };
    let client = CollectorClient::new(tls, settings.timeout);
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .with_timeout(settings.timeout)
        .build()
        .map_err(|error| error.to_string())
}

fn grpc_exporter(settings: &CollectorSettings) -> Result<SpanExporter, String> {
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_protocol(Protocol::Grpc)
        .with_timeout(settings.timeout);
    if let Some(server) = &settings.tls_server {
        let tls = tls_config(settings.ca_pem.as_deref())?;
        let connector = grpc::connector(HttpConnector::new(), tls, server.host.clone())
            .map_err(|error| error.to_string())?;
        let endpoint = grpc::endpoint(server).map_err(|error| error.to_string())?;
        let endpoint = endpoint.timeout(settings.timeout);
        builder = builder.with_channel(endpoint.connect_with_connector_lazy(connector));
    }
    builder.build().map_err(|error| error.to_string())
}
