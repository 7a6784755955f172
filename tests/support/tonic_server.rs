//! Serves tonic services, with and without TLS.

use std::{io, sync::Arc};

use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::server::Router;

/// Serves `router` on `listener`, with TLS if `tls` is set. Dropping the tasks closes all
/// connections.
pub(crate) fn serve(
    router: Router,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let Some(tls) = tls else {
        let incoming = TcpListenerStream::new(listener);
        tasks.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
        return tasks;
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let (accepted, incoming) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(connection) = acceptor.accept(socket).await {
                accepted.send(Ok::<_, io::Error>(connection)).unwrap();
            }
        }
    });
    let incoming = UnboundedReceiverStream::new(incoming);
    tasks.spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
    tasks
}
