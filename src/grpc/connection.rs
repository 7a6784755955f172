//! One gRPC connection: HTTP/2 with bounds on its calls, in number, bytes and time.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use h2::{Ping, PingPong, server};
use tokio::{pin, sync::watch, time};
use tonic::transport::server::Connected;
use tracing::debug;

use super::{
    call::{self, Caller, Chunk},
    frames::Frames,
    kept::AllKept,
    routes::Methods,
};
use crate::{
    budget::{Budget, Share},
    listen::Connection,
    service::Service,
    store::Store,
};

/// The bytes of one answer that wait to be written.
const SEND_BUFFER: usize = 64 << 10;

/// The time between two pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// The time to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The time to end the calls of a connection that has to end for the memory that it keeps.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bounds on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The most calls at the same time.
    pub max_streams: u32,
    /// The bytes of one call that may arrive before they are read, at most 2^31 - 1.
    pub stream_window: u32,
    /// The bytes of all calls that may arrive before they are read, from 65,535 to 2^31 - 1.
    pub connection_window: u32,
    /// The most bytes of a call's headers, each counted with 32 more.
    pub max_header_bytes: u32,
    /// The time for a message to arrive, and for its answer to be taken.
    pub transfer_timeout: Duration,
    /// The age at which it accepts no more calls, give or take a tenth.
    pub max_age: Option<Duration>,
    /// The time after `max_age` at which it is closed.
    pub max_age_grace: Option<Duration>,
}

/// Serves connections.
#[derive(Debug)]
pub(super) struct ConnectionServer<S> {
    /// Answers ordinary calls of `ShouldRateLimit`.
    pub(super) service: Arc<Service<S>>,
    pub(super) methods: Methods,
    pub(super) limits: ConnectionLimits,
    pub(super) budget: Arc<Budget>,
    pub(super) kept: AllKept,
}

impl<S: Store> ConnectionServer<S> {
    /// Serves a connection until it closes. When `stop` becomes true, the client is asked
    /// to make no more calls.
    pub(super) async fn serve(
        self: Arc<Self>,
        mut connection: Connection,
        share: Arc<Share>,
        stop: watch::Receiver<bool>,
    ) {
        if let Err(error) = connection.await_preface().await {
            debug!("a connection failed: {error}");
            return;
        }
        // Boxed, because a connection without a preface should not have room for it.
        if let Err(error) = Box::pin(self.try_serve(connection, share, stop)).await {
            debug!("a connection failed: {error}");
        }
    }

    async fn try_serve(
        self: Arc<Self>,
        mut connection: Connection,
        share: Arc<Share>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), h2::Error> {
        let Self { methods, service, limits, kept, .. } = &*self;
        let limits = *limits;
        let mut kept = kept.connect();
        let peer = connection.connect_info();
        let age = limits.max_age.map(|age| spread(age, fastrand::f64()));
        if let (Some(age), Some(grace)) = (age, limits.max_age_grace) {
            connection.limit_age(age.saturating_add(grace));
        }
        connection.limit_stalls(limits.transfer_timeout);
        let activity = connection.activity();
        let frames = Frames::new(connection, Arc::clone(&share), limits.transfer_timeout);
        let mut connection = handshake(frames, limits).await?;
        let pings = connection.ping_pong();
        let caller = Arc::new(Caller {
            methods: methods.clone(),
            service: Arc::clone(service),
            peer,
            patience: limits.transfer_timeout,
            share: Arc::clone(&share),
            activity,
            long_streams: call::long_streams(),
        });

        let (keeps_much, too_much) = watch::channel(false);
        let leave = has_to_leave(stop, age, too_much.clone());
        let lost = is_lost(&share, pings, too_much);
        pin!(leave, lost);
        let mut leaving = false;
        loop {
            // `tokio::select!` would pause after each call once the connection has used up
            // its turn, and calls that are not accepted do not count in the budget.
            let call = poll_fn(|context| {
                loop {
                    if let Poll::Ready(call) = connection.poll_accept(context) {
                        return Poll::Ready(call);
                    }
                    if lost.as_mut().poll(context).is_ready() {
                        return Poll::Ready(None);
                    }
                    if leaving || leave.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    leaving = true;
                    connection.graceful_shutdown();
                }
            });
            let Some(call) = call.await else { return Ok(()) };
            let (request, respond) = call?;
            caller.start(request, respond);
            // Each call in flight has the caller.
            if !kept.note_calls(Arc::strong_count(&caller)) {
                keeps_much.send_replace(true);
            }
        }
    }
}

async fn handshake(
    connection: Frames,
    limits: ConnectionLimits,
) -> Result<server::Connection<Frames, Chunk>, h2::Error> {
    server::Builder::new()
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(connection)
        .await
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Completes when the client should make no more calls.
async fn has_to_leave(
    mut stop: watch::Receiver<bool>,
    age: Option<Duration>,
    too_much: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = sleep(age) => {}
        () = after(too_much, Duration::ZERO) => {}
    }
}

/// Completes when the connection has to be closed.
async fn is_lost(share: &Share, pings: Option<PingPong>, too_much: watch::Receiver<bool>) {
    tokio::select! {
        () = share.closed() => {}
        () = silence(pings) => {}
        () = after(too_much, LEAVE_TIMEOUT) => {}
    }
}

/// Completes so long after `moment` has become true.
async fn after(mut moment: watch::Receiver<bool>, time: Duration) {
    let _ = moment.wait_for(|it| *it).await;
    time::sleep(time).await;
}

/// Completes when the peer does not answer a ping.
async fn silence(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { std::future::pending().await };
    loop {
        time::sleep(PING_INTERVAL).await;
        let answered = time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}

/// `age`, up to a tenth more or less for `random` from 0 to 1, so that connections
/// opened together do not end together.
fn spread(age: Duration, random: f64) -> Duration {
    age.saturating_sub(age / 10).saturating_add((age / 5).mul_f64(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        for seconds in [0, 1, 86_400, u64::MAX] {
            let age = Duration::from_secs(seconds);
            let (least, most) = (spread(age, 0.0), spread(age, 1.0));
            assert!(least <= age && age <= most.saturating_add(Duration::from_nanos(10)));
            assert_eq!(spread(Duration::from_secs(100), 0.25), Duration::from_secs(95));
        }
        let ages: Vec<_> =
            (0..100).map(|_| spread(Duration::from_secs(1000), fastrand::f64())).collect();
        let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(Duration::from_secs(900) <= *first && *last <= Duration::from_secs(1100));
        assert!(Duration::from_secs(50) < *last - *first, "{first:?} {last:?}");
    }
}
