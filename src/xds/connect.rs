//! Connects to the management server.

use std::{error::Error, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{task, time};
use tonic::transport::{Channel, Endpoint};

use crate::{
    net::HostPort,
    trust::{ClientTls, grpc},
};

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
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_PROBES));
    time::timeout(CONNECT_TIMEOUT, connect_by(tcp, server, tls))
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
}

async fn connect_by(
    tcp: HttpConnector,
    server: &HostPort,
    tls: Option<&ClientTls>,
) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let with_pings = |endpoint: Endpoint| {
        endpoint
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
    };
    let Some(tls) = tls else {
        let endpoint = with_pings(Endpoint::from_shared(format!("http://{server}"))?);
        return Ok(endpoint.connect_with_connector(tcp).await?);
    };
    let (files, name) = (tls.clone(), tls.name_for(&server.host));
    let config = task::spawn_blocking(move || files.config()).await??;
    let endpoint = with_pings(grpc::endpoint(server)?);
    Ok(endpoint.connect_with_connector(grpc::connector(tcp, config, name)?).await?)
}
