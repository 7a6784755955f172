//! The HTTP server: HTTP/1 alone, which has a limit in time for each request.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, http};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    pin,
    sync::watch,
    time,
};
use tower::Service;
use tracing::debug;

use crate::{
    budget::{Budget, Share},
    listen::{Connection, Listener},
};

/// The longest time from the first byte of a request to the first byte of the response,
/// and between two writes of a response.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of a request's headers, and of a body that arrive at once.
const BUFFER: usize = 32 << 10;

/// An empty SETTINGS frame of HTTP/2.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A GOAWAY frame with HTTP_1_1_REQUIRED (RFC 9113, section 7).
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13];

/// The time in which a client of HTTP/2 has to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `stop` is true, then until the requests in progress have ended. Each
/// request has the [`Share`] of its connection as an extension.
pub async fn serve(
    listener: Listener,
    router: Router,
    budget: Arc<Budget>,
    stop: watch::Receiver<bool>,
) -> Result<(), Infallible> {
    let serve = |connection: Connection| {
        let share = budget.connect(connection.peer());
        serve_connection(connection, router.clone(), share, stop.clone())
    };
    listener.serve(stop.clone(), serve).await;
    Ok(())
}

async fn serve_connection(
    mut connection: Connection,
    router: Router,
    share: Arc<Share>,
    mut stop: watch::Receiver<bool>,
) {
    connection.limit_requests(REQUEST_TIMEOUT);
    let extension = Arc::clone(&share);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&extension));
        router.clone().call(request)
    });
    let mut server = http1::Builder::new();
    let stream = TokioIo::new(&mut connection);
    let mut serving = Box::pin(server.max_buf_size(BUFFER).serve_connection(stream, service));
    let mut stopping = false;
    let stopped = stop.wait_for(|stop| *stop);
    pin!(stopped);
    loop {
        tokio::select! {
            served = serving.as_mut() => {
                let Err(error) = served else { return };
                debug!("a connection failed: {error}");
                if error.is_parse_version_h2() {
                    break;
                }
                return;
            }
            _ = &mut stopped, if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = share.closed() => return,
        }
    }
    drop(serving);
    // The connection ends in any case.
    let _ = time::timeout(REFUSAL_TIMEOUT, require_http_1(connection)).await;
}

/// Tells a client that starts with HTTP/2 the reason for the end of the connection.
async fn require_http_1(mut connection: Connection) -> io::Result<()> {
    connection.write_all(&[&SETTINGS[..], &GOAWAY].concat()).await?;
    connection.shutdown().await?;
    // Unread bytes would reset the connection, and the client might not see the reason.
    while 0 < connection.read(&mut [0; 1024]).await? {}
    Ok(())
}
