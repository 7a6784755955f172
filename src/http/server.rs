//! The HTTP server: HTTP/1 alone, which has a limit in time for each request.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, http, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    pin,
    sync::watch,
    task, time,
};
use tower::Service;
use tracing::debug;

use super::heads::{self, Heads, Progress};
use crate::{
    budget::{Budget, Share},
    listen::{Activity, Connection, Encryption, Listener},
};

/// The longest time from the first byte of a request to the first byte of the response,
/// and between two writes of a response.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of the head of a request. Proxies accept heads of about 100 KiB, and ask
/// about all of them.
const MOST_HEAD_BYTES: usize = 128 << 10;

/// The most headers of a request. Proxies accept about 100, and add their own.
const MOST_HEADERS: usize = 256;

/// An empty SETTINGS frame of HTTP/2.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A GOAWAY frame with HTTP_1_1_REQUIRED (RFC 9113, section 7).
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13];

/// The time in which a client has to read the reason for the end of its connection.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes that such a client may still send.
const REFUSED_BYTES: usize = 1 << 20;

/// What a handler can know of a request beside its head and its body.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The share of its connection in the budget.
    pub share: Arc<Share>,
    /// The bytes of its target, and of the names and values of its headers.
    pub head_bytes: usize,
}

/// An HTTP server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Answers the requests. Each has an [`Arrived`] as an extension.
    pub router: Router,
    /// The bound on all calls in flight.
    pub budget: Arc<Budget>,
    /// `None` for plaintext.
    pub encryption: Option<Arc<Encryption>>,
}

impl Server {
    /// Serves until `stop` is true, then until the requests in progress have ended.
    pub async fn serve(
        self,
        listener: Listener,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Infallible> {
        let serve = |connection| self.clone().serve_connection(connection, stop.clone());
        listener.serve(stop.clone(), serve).await;
        Ok(())
    }

    async fn serve_connection(self, mut connection: Connection, stop: watch::Receiver<bool>) {
        connection.expect_preface_before(stop.clone());
        let share = self.budget.connect(connection.peer());
        if let Some(encryption) = &self.encryption {
            let Some(encrypted) = encryption.begin(connection, &share).await else { return };
            connection = encrypted;
        }
        serve_requests(connection, self.router, share, stop).await;
    }
}

async fn serve_requests(
    mut connection: Connection,
    router: Router,
    share: Arc<Share>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = connection.await_preface().await {
        debug!("a connection failed: {error}");
        return;
    }
    connection.limit_requests(REQUEST_TIMEOUT);
    let turn = Arc::new(Turn::default());
    let activity = connection.activity();
    let heads = Heads::new(&mut connection, &share);
    let requests = Requests {
        router,
        share: Arc::clone(&share),
        activity,
        turn: Arc::clone(&turn),
        progress: heads.progress(),
    };
    let service = service_fn(move |request| requests.answer(request));
    let mut server = http1::Builder::new();
    server.max_buf_size(MOST_HEAD_BYTES).max_headers(MOST_HEADERS);
    let mut serving = Box::pin(server.serve_connection(TokioIo::new(heads), service));
    let mut stopping = false;
    let mut ends = stop.clone();
    let stopped = stop.wait_for(|stop| *stop);
    pin!(stopped);
    let speaks_http_2 = loop {
        tokio::select! {
            served = poll_fn(|context| {
                turn.begin();
                serving.as_mut().poll(context)
            }) => {
                let Err(error) = served else { return };
                debug!("a connection failed: {error}");
                if error.is_parse() {
                    break error.is_parse_version_h2();
                }
                return;
            }
            _ = &mut stopped, if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = share.closed() => return,
        }
    };
    drop(serving);
    // The connection ends in any case.
    tokio::select! {
        biased;
        _ = time::timeout(REFUSAL_TIMEOUT, refuse(connection, speaks_http_2)) => {}
        _ = ends.wait_for(|stop| *stop) => {}
    }
}

/// Answers the requests of a connection.
struct Requests {
    router: Router,
    share: Arc<Share>,
    activity: Activity,
    turn: Arc<Turn>,
    progress: Arc<Progress>,
}

impl Requests {
    fn answer(
        &self,
        mut request: http::Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        self.progress.begin_answer();
        let head_bytes = heads::head_bytes(request.uri(), request.headers());
        let arrived = Arrived { share: Arc::clone(&self.share), head_bytes };
        request.extensions_mut().insert(arrived);
        let response = self.router.clone().call(request);
        let (turn, progress) = (Arc::clone(&self.turn), Arc::clone(&self.progress));
        let activity = self.activity.clone();
        async move {
            turn.take().await;
            let mut response = response.await?;
            activity.note_call();
            progress.end_answer();
            if heads::LONG_HEAD < head_bytes {
                heads::close_after(&mut response);
            }
            Ok(response)
        }
    }
}

/// The turn that the scheduler gives to a connection: one request, so that a client that
/// sends many at once does not delay others.
#[derive(Debug, Default)]
struct Turn {
    is_used: AtomicBool,
}

impl Turn {
    fn begin(&self) {
        self.is_used.store(false, Relaxed);
    }

    /// Waits for the next turn if a request has used this one.
    async fn take(&self) {
        if self.is_used.swap(true, Relaxed) {
            task::yield_now().await;
            self.is_used.store(true, Relaxed);
        }
    }
}

/// Ends a connection after a request that cannot be read, and lets the client read the
/// answer. It has the answer already, unless it speaks HTTP/2.
async fn refuse(mut connection: Connection, speaks_http_2: bool) -> io::Result<()> {
    if speaks_http_2 {
        connection.write_all(&[&SETTINGS[..], &GOAWAY].concat()).await?;
    }
    connection.shutdown().await?;
    // Unread bytes would reset the connection. A proxy that is still sending takes this for a
    // failure of the service, and may then let the request pass.
    let (mut left, mut rest) = (REFUSED_BYTES, [0; 1024]);
    while left > 0 {
        let length = connection.read(&mut rest).await?;
        if length == 0 {
            break;
        }
        left = left.saturating_sub(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        listen::{ConnectionBounds, Purpose},
        metrics::Metrics,
    };

    #[tokio::test(start_paused = true)]
    async fn requests_that_arrive_at_once_take_turns_with_other_connections() {
        let bounds = ConnectionBounds { most: 9, most_per_peer: None };
        let (listener, dialer) = Listener::in_process(Purpose::Http, bounds);
        let order = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&order);
        let router = Router::new().fallback(async move |uri: http::Uri| {
            *seen.lock() += uri.path();
        });
        let mut many = dialer.connect().await.unwrap();
        let mut single = dialer.connect().await.unwrap();
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        many.write_all(request("/m").repeat(20).as_bytes()).await.unwrap();
        single.write_all(request("/s").as_bytes()).await.unwrap();
        let budget = Budget::new(1 << 20, Arc::new(Metrics::new(0.8)));
        let (_running, stop) = watch::channel(false);
        let server = Server { router, budget, encryption: None };
        let server = tokio::spawn(server.serve(listener, stop));
        while order.lock().len() < 42 {
            task::yield_now().await;
        }
        server.abort();
        let before = order.lock().find("/s").unwrap() / 2;
        assert!(before < 8, "{}", order.lock());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_can_send_a_refused_head_to_its_end() {
        let bounds = ConnectionBounds { most: 9, most_per_peer: None };
        let (listener, dialer) = Listener::in_process(Purpose::Http, bounds);
        let budget = Budget::new(1 << 20, Arc::new(Metrics::new(0.8)));
        let (_running, stop) = watch::channel(false);
        let server = Server { router: Router::new(), budget, encryption: None };
        tokio::spawn(server.serve(listener, stop));
        let mut client = dialer.connect().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let headers = b"a: b\r\n".repeat(MOST_HEADERS + 1);
        client.write_all(&headers).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert!(reply.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&reply));
        for _ in 0..100 {
            client.write_all(&headers).await.unwrap();
        }
        // But not for ever.
        let started = time::Instant::now();
        while client.write_all(b"a").await.is_ok() {
            assert!(started.elapsed() < REQUEST_TIMEOUT);
            time::sleep(Duration::from_secs(1)).await;
        }
    }
}
