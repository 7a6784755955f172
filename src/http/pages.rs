//! Long pages. Their chunks are built off the threads that decide, one at a time, and
//! only as fast as the client reads: a page in progress holds one chunk.

use std::{io, iter, mem, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::{
    error_response,
    page_places::{PagePlace, PagePlaces},
};
use crate::{budget::Share, warnings::WarningLimiter};

/// The longest time to read a page, after which the connection is closed. A client that
/// reads nothing at all is disconnected sooner.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// The seconds in `Retry-After` when too many pages are in progress.
const RETRY_AFTER: &str = "10";

/// Builds the chunks of all pages, one at a time.
#[derive(Clone, Debug)]
pub(super) struct PageBuilder(Arc<Semaphore>);

impl Default for PageBuilder {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// The pages in progress on one port.
#[derive(Clone, Debug)]
pub(super) struct PageReaders {
    places: PagePlaces,
    builder: PageBuilder,
    failures: Arc<WarningLimiter>,
}

/// A page in progress.
struct Page {
    rest: Box<dyn Iterator<Item = String> + Send>,
    builder: PageBuilder,
    /// Held by the chunk that is being sent.
    sending: Arc<Semaphore>,
    reader: Arc<Reader>,
}

/// A client that reads a page.
struct Reader {
    _place: PagePlace,
    /// Aborted when the page has been read.
    _timeout: JoinSet<()>,
}

/// A chunk that is being sent.
struct Chunk {
    text: String,
    _sending: OwnedSemaphorePermit,
    _reader: Arc<Reader>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl PageReaders {
    pub(super) fn new(builder: &PageBuilder) -> Self {
        let failures = WarningLimiter::new("a page was not shown", "pages were not shown");
        let places = PagePlaces::default();
        Self { places, builder: builder.clone(), failures: Arc::new(failures) }
    }

    /// A response with these chunks, which are built as the client reads them. `share` is
    /// that of its connection.
    pub(super) fn show(
        &self,
        share: Arc<Share>,
        kind: &'static str,
        chunks: impl Iterator<Item = String> + Send + 'static,
    ) -> Response {
        let found = match self.places.take(&share) {
            Ok(found) => found,
            Err(refusal) => {
                let why = format!("{refusal}; try again in {RETRY_AFTER} s");
                self.failures.warn(&why);
                let refusal = error_response(StatusCode::SERVICE_UNAVAILABLE, &why);
                return ([(header::RETRY_AFTER, RETRY_AFTER)], refusal).into_response();
            }
        };
        if let Some(slow) = found.closed {
            self.failures.warn(&slow);
        }
        let page = Page {
            rest: Box::new(chunks),
            builder: self.builder.clone(),
            sending: Arc::new(Semaphore::new(1)),
            reader: Arc::new(Reader { _place: found.place, _timeout: self.limit_time(share) }),
        };
        let body = Body::from_stream(stream::try_unfold(page, Page::next));
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    }

    /// Closes the connection after the longest time to read a page. The page itself cannot
    /// check it, because it is not asked for more while a chunk is being sent.
    fn limit_time(&self, share: Arc<Share>) -> JoinSet<()> {
        let failures = Arc::clone(&self.failures);
        let mut timeout = JoinSet::new();
        timeout.spawn(async move {
            sleep(READ_TIMEOUT).await;
            let (peer, seconds) = (share.peer(), READ_TIMEOUT.as_secs());
            failures.warn(&format_args!("{peer} did not read it within {seconds} s"));
            share.close();
        });
        timeout
    }
}

impl Page {
    /// The next chunk, once the previous one has been sent.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let sending = permit(&self.sending).await;
        let turn = permit(&self.builder.0).await;
        let made = spawn_blocking(move || {
            let text = self.rest.next();
            drop(turn);
            let chunk = Chunk { text: text?, _sending: sending, _reader: Arc::clone(&self.reader) };
            Some((Bytes::from_owner(chunk), self))
        });
        made.await.map_err(io::Error::other)
    }
}

impl Drop for Page {
    /// A page may be the last holder of replaced rules and all their statistics. To
    /// free these takes as long as to build a chunk.
    fn drop(&mut self) {
        let rest = mem::replace(&mut self.rest, Box::new(iter::empty()));
        let builder = self.builder.clone();
        if let Ok(runtime) = Handle::try_current() {
            // In turn, because each thread keeps megabytes of freed memory.
            runtime.spawn(async move {
                let turn = permit(&builder.0).await;
                spawn_blocking(move || {
                    drop(rest);
                    drop(turn);
                });
            });
        }
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(semaphore).acquire_owned().await {
        Ok(permit) => permit,
        Err(_) => unreachable!("no semaphore here is ever closed"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use axum::{Extension, Router};
    use futures_util::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::watch,
        task,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::{
        budget::Budget,
        http::{
            page_places::MAX_READERS,
            server::{self, Arrived},
        },
        listen::{ConnectionBounds, Listener, Purpose},
        metrics::Metrics,
    };

    fn readers() -> PageReaders {
        PageReaders::new(&PageBuilder::default())
    }

    fn endless_text() -> impl Iterator<Item = String> + Send {
        iter::repeat_with(|| "x".repeat(1 << 16))
    }

    fn share() -> Arc<Share> {
        Budget::new(1 << 20, Arc::new(Metrics::new(0.8))).connect(None)
    }

    fn show(readers: &PageReaders) -> Response {
        readers.show(share(), "text/plain", endless_text())
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_built_as_it_is_read_within_a_bounded_time() {
        let readers = readers();
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let text = endless_text().inspect(move |_| {
            count.fetch_add(1, Relaxed);
        });
        let share = share();
        let page = readers.show(Arc::clone(&share), "text/plain", text);
        let mut page = page.into_body().into_data_stream();
        let first = page.next().await.unwrap().unwrap();
        assert!(timeout(Duration::from_secs(30), page.next()).await.is_err());
        assert_eq!((first.len(), made.load(Relaxed)), (1 << 16, 1));
        drop(first);
        drop(page.next().await.unwrap().unwrap());
        assert_eq!(made.load(Relaxed), 2);
        timeout(READ_TIMEOUT, share.closed()).await.expect("a bounded time");
        drop(page);
        assert_eq!(readers.places.taken(), 0);
    }

    /// A page whose end takes a while. Notes how many end at the same time.
    struct SlowEnd {
        ending: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Drop for SlowEnd {
        fn drop(&mut self) {
            let ending = self.ending.fetch_add(1, Relaxed) + 1;
            self.most.fetch_max(ending, Relaxed);
            thread::sleep(Duration::from_millis(20));
            self.ending.fetch_sub(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn pages_that_end_together_use_one_thread() {
        let readers = readers();
        let (ending, most) = (Arc::default(), Arc::<AtomicUsize>::default());
        for _ in 0..20 {
            let end = SlowEnd { ending: Arc::clone(&ending), most: Arc::clone(&most) };
            let chunks = endless_text().inspect(move |_| {
                let _ = &end;
            });
            drop(readers.show(share(), "text/plain", chunks));
        }
        while 1 < Arc::strong_count(&ending) {
            task::yield_now().await;
        }
        assert_eq!(most.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_page_counts_as_in_progress_until_its_last_chunk_is_sent() {
        let readers = readers();
        let mut pages: Vec<_> = (0..MAX_READERS).map(|_| show(&readers)).collect();
        let refusal = show(&readers);
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.headers()[header::RETRY_AFTER], RETRY_AFTER);
        let mut page = pages.pop().unwrap().into_body().into_data_stream();
        let chunk = page.next().await.unwrap().unwrap();
        drop(page);
        // The last chunk is still being sent.
        assert_eq!(show(&readers).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(chunk);
        assert_eq!(show(&readers).status(), StatusCode::OK);
    }

    /// The time until a client is disconnected. It reads a byte each second, or nothing.
    async fn time_until_disconnected(reads: bool) -> Duration {
        let bounds = ConnectionBounds { most: 1, most_per_peer: None };
        let (listener, dialer) = Listener::in_process(Purpose::Http, bounds);
        let mut client = dialer.connect().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let readers = readers();
        let places = readers.places.clone();
        let page = async move |Extension(Arrived { share, .. })| {
            readers.show(share, "text/plain", endless_text())
        };
        let router = Router::new().fallback(page);
        let budget = Budget::new(1 << 20, Arc::new(Metrics::new(0.8)));
        let (_running, stop) = watch::channel(false);
        let server = server::Server { router, budget, encryption: None };
        let server = tokio::spawn(server.serve(listener, stop));
        let begin = Instant::now();
        while places.taken() == 0 {
            sleep(Duration::from_millis(1)).await;
            assert!(begin.elapsed() < READ_TIMEOUT, "no page is sent");
        }
        let begin = Instant::now();
        while 0 < places.taken() {
            sleep(Duration::from_secs(1)).await;
            if reads {
                // An error means that the connection has ended.
                let _ = client.read_u8().await;
            }
            assert!(begin.elapsed() < 2 * READ_TIMEOUT);
        }
        server.abort();
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_or_nothing_is_disconnected() {
        assert_eq!(time_until_disconnected(true).await.as_secs(), READ_TIMEOUT.as_secs());
        let sooner = time_until_disconnected(false).await;
        assert!(sooner < READ_TIMEOUT, "{sooner:?}");
    }
}
