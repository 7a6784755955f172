//! The places for pages in progress on one port.
//!
//! An address that holds fewer places than another is not kept waiting by it: if all places
//! are taken, and another address holds at least two more, the oldest reader of the address
//! with the most is closed at once. Then it is the slowest, as pages are written at the same
//! speed. So a port is only blocked, and for [`PATIENCE`] at most, by as many addresses as
//! there are places. Of addresses with as many, the one with the oldest reader is to blame.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{budget::Share, net::Peer};

/// The most pages in progress on one port: enough for two Prometheus servers and some
/// people.
pub(super) const MAX_READERS: usize = 8;

/// The most of them from one address.
pub(super) const MAX_READERS_PER_PEER: usize = MAX_READERS / 2;

/// The time that the only reader of an address has in any case: the usual timeout of
/// Prometheus. The oldest reader beyond it is closed if another one needs its place.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The places of one port.
#[derive(Clone, Debug, Default)]
pub(super) struct PagePlaces(Arc<Mutex<Readers>>);

#[derive(Debug, Default)]
struct Readers {
    /// The oldest first.
    list: Vec<Reader>,
    next_id: u64,
}

#[derive(Debug)]
struct Reader {
    id: u64,
    peer: Peer,
    begin: Instant,
    share: Arc<Share>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct PagePlace {
    readers: Arc<Mutex<Readers>>,
    id: u64,
}

/// A place that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: PagePlace,
    /// The reader that was closed for it.
    pub(super) closed: Option<SlowReader>,
}

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("{MAX_READERS} pages are being read on this port, the most at a time")]
    OfAny,
    #[error("{0} reads {MAX_READERS_PER_PEER} pages on this port, the most of one address")]
    OfPeer(Peer),
}

/// A reader that was closed because another one needs its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlowReader {
    peer: Peer,
    age: Duration,
    /// The places that its address had.
    count: usize,
}

impl fmt::Display for SlowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, age, count } = self;
        let seconds = age.as_secs();
        write!(
            f,
            "{peer} has read it for {seconds} s and has {count} of {MAX_READERS} places of this \
             port, and another reader needs one"
        )
    }
}

impl PagePlaces {
    /// Takes a place for the connection of `share`. Closes another reader for it if there is
    /// none left.
    pub(super) fn take(&self, share: &Arc<Share>) -> Result<Found, NoPlace> {
        let now = Instant::now();
        let mut readers = self.0.lock();
        let closed = readers.find_place(share.peer(), now)?.map(|index| readers.close(index, now));
        let id = readers.next_id;
        readers.next_id += 1;
        readers.list.push(Reader { id, peer: share.peer(), begin: now, share: Arc::clone(share) });
        Ok(Found { place: PagePlace { readers: Arc::clone(&self.0), id }, closed })
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.0.lock().list.len()
    }
}

impl Readers {
    /// The index of the reader to close for one of `peer`, or `None` if a place is free.
    fn find_place(&self, peer: Peer, now: Instant) -> Result<Option<usize>, NoPlace> {
        let own = self.count(peer);
        // Peers without an address are not told apart.
        if peer != Peer::Local && MAX_READERS_PER_PEER <= own {
            let oldest = self.list.iter().position(|it| it.peer == peer);
            let slow = oldest.filter(|index| self.is_slow(*index, now));
            return slow.map(Some).ok_or(NoPlace::OfPeer(peer));
        }
        if self.list.len() < MAX_READERS {
            return Ok(None);
        }
        let (mut largest, mut most) = (0, 0);
        for (index, reader) in self.list.iter().enumerate() {
            let count = self.count(reader.peer);
            if most < count {
                (largest, most) = (index, count);
            }
        }
        if own + 2 <= most {
            return Ok(Some(largest));
        }
        if self.is_slow(0, now) { Ok(Some(0)) } else { Err(NoPlace::OfAny) }
    }

    fn count(&self, peer: Peer) -> usize {
        self.list.iter().filter(|it| it.peer == peer).count()
    }

    fn is_slow(&self, index: usize, now: Instant) -> bool {
        self.list.get(index).is_some_and(|it| PATIENCE <= now - it.begin)
    }

    fn close(&mut self, index: usize, now: Instant) -> SlowReader {
        let count = self.list.get(index).map_or(0, |it| self.count(it.peer));
        let Reader { peer, begin, share, .. } = self.list.remove(index);
        share.close();
        SlowReader { peer, age: now - begin, count }
    }
}

impl Drop for PagePlace {
    fn drop(&mut self) {
        self.readers.lock().list.retain(|it| it.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::{budget::Budget, metrics::Metrics};

    fn share(host: u8) -> Arc<Share> {
        let budget = Budget::new(1 << 20, Arc::new(Metrics::new(0.8)));
        budget.connect(Some(([10, 0, 0, host], 1).into()))
    }

    async fn is_closed(share: &Share) -> bool {
        timeout(Duration::from_millis(1), share.closed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_leaves_places_for_others() {
        let places = PagePlaces::default();
        let mut found = Vec::new();
        for _ in 0..MAX_READERS_PER_PEER {
            found.push(places.take(&share(1)).unwrap());
        }
        let refusal = places.take(&share(1)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "10.0.0.1 reads 4 pages on this port, the most of one address"
        );
        let prometheus = places.take(&share(2)).unwrap();
        assert!(prometheus.closed.is_none());
        found.pop();
        assert!(places.take(&share(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_reader_that_had_its_time_makes_room() {
        let places = PagePlaces::default();
        let shares = [0, 1, 2, 3, 4, 5, 6, 7].map(share);
        let mut found = Vec::new();
        for share in &shares {
            found.push(places.take(share).unwrap());
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(places.take(&share(9)).unwrap_err(), NoPlace::OfAny);
        advance(Duration::from_secs(2)).await;
        let closed = places.take(&share(9)).unwrap().closed.unwrap();
        let line = "10.0.0.0 has read it for 10 s and has 1 of 8 places of this port, and another \
                    reader needs one";
        assert_eq!(closed.to_string(), line);
        assert!(is_closed(&shares[0]).await && !is_closed(&shares[1]).await);
        assert_eq!(places.taken(), MAX_READERS - 1);
        drop(found);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_most_readers_makes_room_at_once() {
        let places = PagePlaces::default();
        let shares = [1, 2, 2, 3, 3, 3, 2, 2].map(share);
        let found = shares.each_ref().map(|share| places.take(share).unwrap());
        let prometheus = share(9);
        let scrape = places.take(&prometheus).unwrap();
        let line = "10.0.0.2 has read it for 0 s and has 4 of 8 places of this port, and another \
                    reader needs one";
        assert_eq!(scrape.closed.unwrap().to_string(), line);
        assert!(is_closed(&shares[1]).await && !is_closed(&shares[2]).await);
        let more = [8, 8].map(|host| places.take(&share(host)).unwrap());
        let blamed = more.each_ref().map(|it| it.closed.unwrap().peer.to_string());
        // The one with the oldest of several with three.
        assert_eq!(blamed, ["10.0.0.2", "10.0.0.3"]);
        // Now none has more than two.
        assert_eq!(places.take(&share(8)).unwrap_err(), NoPlace::OfAny);
        assert_eq!(places.taken(), MAX_READERS);
        drop((found, scrape, more));
    }
}
