//! Connects to the management server.

use std::{error::Error, time::Duration};

use tokio::{task, time};
use tonic::transport::{Channel, Endpoint};

use crate::{net::HostPort, tls::client::ClientTls};

/// The timeout of a connection attempt, up to the first byte of HTTP/2.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// TCP keepalive: the idle time before the first probe, the interval of probes, and the
/// number of unanswered probes that closes the connection.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_PROBES: u32 = 3;
/// HTTP/2 keepalive: the interval of pings and the timeout of the answer. By default,
/// servers of gRPC's Go library disconnect clients that ping more than once in five
/// minutes.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(330);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn connect(
    server: &HostPort,
    tls: Option<&ClientTls>,
) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))?
        .tcp_keepalive(Some(TCP_KEEPALIVE_IDLE))
        .tcp_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL))
        .tcp_keepalive_retries(Some(TCP_KEEPALIVE_PROBES))
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    if let Some(tls) = tls {
        let (tls, host) = (tls.clone(), server.host.clone());
        endpoint = endpoint.tls_config(task::spawn_blocking(|| tls.config(host)).await??)?;
    }
    Ok(time::timeout(CONNECT_TIMEOUT, endpoint.connect())
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))??)
}
