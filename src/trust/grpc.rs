//! TLS of connections to gRPC servers. tonic's own accepts no other verifier.

use std::{error::Error, sync::Arc};

use axum::http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Endpoint;
use tower::{Service, ServiceExt, service_fn};

use crate::net::HostPort;

type BoxError = Box<dyn Error + Send + Sync>;

/// The endpoint for connections to `server` by [`connector`].
///
/// # Errors
///
/// If the host is not one of a URL.
pub fn endpoint(server: &HostPort) -> Result<Endpoint, BoxError> {
    // tonic would encrypt the connection to an https URL once more.
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
    Ok(endpoint.origin(Uri::try_from(format!("https://{server}"))?))
}

/// Connects by `tcp`, and then by TLS to the server with this name.
///
/// # Errors
///
/// If `name` is neither a host name nor an IP address.
pub fn connector(
    tcp: HttpConnector,
    mut tls: ClientConfig,
    name: String,
) -> Result<
    impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = BoxError, Future: Send>
    + Send
    + 'static,
    BoxError,
> {
    let name = ServerName::try_from(name)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(tls));
    Ok(service_fn(move |uri: Uri| {
        let (tcp, tls, name) = (tcp.clone(), tls.clone(), name.clone());
        async move {
            let stream = tcp.oneshot(uri).await?.into_inner();
            Ok::<_, BoxError>(TokioIo::new(tls.connect(name, stream).await?))
        }
    }))
}
