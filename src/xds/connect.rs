//! Connections to the server of the rules.

use std::{error::Error, fs, io, path::PathBuf, time::Duration};

use tokio::{task, time};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::listen::Address;

/// How long everything up to the first byte of HTTP/2 may take.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// After how much silence the system asks whether the peer is there, how often
/// it asks, and how many answers may be missing.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How often the server itself is asked, and how long it may take to answer.
/// Servers of gRPC's Go library cut clients that ask more than once in five
/// minutes, unless they are set up otherwise.
const PING_EVERY: Duration = Duration::from_secs(330);
const PONG_TIME: Duration = Duration::from_secs(20);

/// How the connection is encrypted. The files are read for each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate to show, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// More authorities than those of the system.
    pub authorities: Option<PathBuf>,
    /// The name that the server's certificate must have; none for the host that
    /// it is reached by.
    pub server_name: Option<String>,
}

/// A file that is needed cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .0.display())]
struct FileError(PathBuf, #[source] io::Error);

/// Connects to `server`.
pub(super) async fn connect(
    server: &Address,
    tls: Option<&TlsSettings>,
) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))?
        .tcp_keepalive(Some(PROBE_AFTER))
        .tcp_keepalive_interval(Some(PROBE_EVERY))
        .tcp_keepalive_retries(Some(PROBES))
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_TIME);
    if let Some(tls) = tls {
        let (tls, host) = (tls.clone(), server.host.clone());
        endpoint = endpoint.tls_config(task::spawn_blocking(|| config(tls, host)).await??)?;
    }
    Ok(time::timeout(CONNECT_TIME, endpoint.connect())
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIME:?}"))??)
}

/// Blocks.
fn config(tls: TlsSettings, host: String) -> Result<ClientTlsConfig, FileError> {
    let read = |path: PathBuf| fs::read(&path).map_err(|error| FileError(path, error));
    let mut config = ClientTlsConfig::new().domain_name(tls.server_name.unwrap_or(host));
    // Without any of them, tonic would refuse to try.
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        config = config.with_native_roots();
    }
    if let Some(path) = tls.authorities {
        config = config.ca_certificate(Certificate::from_pem(read(path)?));
    }
    if let Some((certificate, key)) = tls.identity {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}
