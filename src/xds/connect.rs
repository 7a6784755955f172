//! Connections to the server of the rules.

use std::{error::Error, time::Duration};

use tokio::{task, time};
use tonic::transport::{Channel, Endpoint};

use crate::{net::HostPort, tls::client::ClientTls};

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

/// Connects to `server`.
pub(super) async fn connect(
    server: &HostPort,
    tls: Option<&ClientTls>,
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
        endpoint = endpoint.tls_config(task::spawn_blocking(|| tls.config(host)).await??)?;
    }
    Ok(time::timeout(CONNECT_TIME, endpoint.connect())
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIME:?}"))??)
}
