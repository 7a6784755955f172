//! Pages that may be long. Their pieces are made beside the threads that decide, one at a
//! time, and only as fast as they are read: a reader holds a place in the page and one
//! piece of it.

use std::{io, iter, mem, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::Instant,
};

use super::error_response;
use crate::engine::warnings::WarningLimiter;

/// How many pages of one port may be made or read at the same time: enough for two of
/// Prometheus and some people.
const MOST_READERS: usize = 8;

/// How long a page may be read. Before that, the connection ends if nothing at all is
/// taken.
const READING_TIME: Duration = Duration::from_secs(120);

/// After how many seconds a reader for whom there is no room may ask again.
const COME_BACK: &str = "10";

/// Makes the pieces of all pages, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Press(Arc<Semaphore>);

impl Default for Press {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Those who read pages at one port.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    room: Arc<Semaphore>,
    press: Press,
    failures: Arc<WarningLimiter>,
}

/// A page of which somebody has read the beginning.
struct Page {
    rest: Box<dyn Iterator<Item = String> + Send>,
    press: Press,
    /// Held by the piece that is being sent.
    way: Arc<Semaphore>,
    until: Instant,
    place: Arc<OwnedSemaphorePermit>,
    failures: Arc<WarningLimiter>,
}

/// Text that is being sent.
struct Piece {
    text: String,
    _way: OwnedSemaphorePermit,
    _place: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Readers {
    /// Nobody yet.
    pub(super) fn new(press: &Press) -> Self {
        let failures = WarningLimiter::new("a page was not shown", "pages were not shown");
        let room = Arc::new(Semaphore::new(MOST_READERS));
        Self { room, press: press.clone(), failures: Arc::new(failures) }
    }

    /// Answers with the page that `pieces` are; none of them is made here.
    pub(super) fn show(
        &self,
        version: Version,
        kind: &'static str,
        pieces: impl Iterator<Item = String> + Send + 'static,
    ) -> Response {
        // There, who takes nothing could stay for ever.
        if version == Version::HTTP_2 {
            let why = "ask for this page by HTTP/1.1";
            return error_response(StatusCode::HTTP_VERSION_NOT_SUPPORTED, why);
        }
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            let why = format!(
                "{MOST_READERS} pages are being read at this port already, the most at a time; try \
                 again in {COME_BACK} s"
            );
            self.failures.warn(&why);
            let refusal = error_response(StatusCode::SERVICE_UNAVAILABLE, &why);
            return ([(header::RETRY_AFTER, COME_BACK)], refusal).into_response();
        };
        let page = Page {
            rest: Box::new(pieces),
            press: self.press.clone(),
            way: Arc::new(Semaphore::new(1)),
            until: Instant::now() + READING_TIME,
            place: Arc::new(place),
            failures: Arc::clone(&self.failures),
        };
        let body = Body::from_stream(stream::try_unfold(page, Page::next));
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

impl Page {
    /// The next piece, once the one before has been sent.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let way = permit(&self.way).await;
        if self.until <= Instant::now() {
            let why = format!("it was not read within {} s", READING_TIME.as_secs());
            self.failures.warn(&why);
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        let turn = permit(&self.press.0).await;
        let made = spawn_blocking(move || {
            let text = self.rest.next();
            drop(turn);
            let place = Arc::clone(&self.place);
            text.map(|text| (Bytes::from_owner(Piece { text, _way: way, _place: place }), self))
        });
        made.await.map_err(io::Error::other)
    }
}

impl Drop for Page {
    /// It may be the last to hold rules that are no longer in force, and all their
    /// statistics: that takes as long as a piece.
    fn drop(&mut self) {
        let rest = mem::replace(&mut self.rest, Box::new(iter::empty()));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(|| drop(rest));
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
        future::IntoFuture,
        io::Write,
        net::TcpStream,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use axum::Router;
    use futures_util::StreamExt;
    use tokio::time::{advance, sleep, timeout};

    use super::*;
    use crate::{
        listen::{Listener, Protocol},
        net::{Address, HostPort},
    };

    fn readers() -> Readers {
        Readers::new(&Press::default())
    }

    /// Without an end.
    fn text() -> impl Iterator<Item = String> + Send {
        iter::repeat_with(|| "x".repeat(1 << 16))
    }

    fn show(readers: &Readers) -> Response {
        readers.show(Version::HTTP_11, "text/plain", text())
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_made_as_it_is_read_and_not_for_ever() {
        let readers = readers();
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let text = text().inspect(move |_| {
            count.fetch_add(1, Relaxed);
        });
        let page = readers.show(Version::HTTP_11, "text/plain", text);
        let mut page = page.into_body().into_data_stream();
        let first = page.next().await.unwrap().unwrap();
        assert!(timeout(Duration::from_secs(30), page.next()).await.is_err());
        assert_eq!((first.len(), made.load(Relaxed)), (1 << 16, 1));
        drop(first);
        drop(page.next().await.unwrap().unwrap());
        advance(READING_TIME).await;
        assert!(page.next().await.unwrap().is_err());
        assert_eq!(made.load(Relaxed), 2);
        assert_eq!(readers.room.available_permits(), MOST_READERS);
    }

    #[tokio::test]
    async fn there_is_room_for_some_readers_until_they_have_all() {
        let readers = readers();
        let mut pages: Vec<_> = (0..MOST_READERS).map(|_| show(&readers)).collect();
        let refusal = show(&readers);
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.headers()[header::RETRY_AFTER], COME_BACK);
        let mut page = pages.pop().unwrap().into_body().into_data_stream();
        let piece = page.next().await.unwrap().unwrap();
        drop(page);
        // It is still to be sent.
        assert_eq!(show(&readers).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(piece);
        assert_eq!(show(&readers).status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_ended() {
        let place = Address::Tcp(HostPort { host: "127.0.0.1".into(), port: 0 });
        let listener = Listener::bind("pages", &place, Protocol::Http1, 1).await.unwrap();
        let Some(Address::Tcp(HostPort { host, port })) = listener.address() else {
            unreachable!()
        };
        let mut reader = TcpStream::connect((host.as_str(), *port)).unwrap();
        reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let readers = readers();
        let room = Arc::clone(&readers.room);
        let router = Router::new().fallback(async move || show(&readers));
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        while room.available_permits() == MOST_READERS {
            sleep(Duration::from_millis(1)).await;
        }
        let begin = Instant::now();
        while room.available_permits() < MOST_READERS {
            sleep(Duration::from_secs(1)).await;
            assert!(begin.elapsed() < 2 * READING_TIME);
        }
        server.abort();
    }

    #[tokio::test]
    async fn by_http_2_where_nobody_can_be_ended_there_is_no_page() {
        let page = readers().show(Version::HTTP_2, "text/plain", text());
        assert_eq!(page.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    }
}
