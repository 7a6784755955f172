//! The places for pages in progress on one port.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{budget::Share, net::Peer};

/// The most pages in progress on one port: enough for two Prometheus servers and some
/// people.
pub(super) const MAX_READERS: usize = 8;

/// The most of them from one address.
pub(super) const MAX_READERS_PER_PEER: usize = MAX_READERS / 2;

/// The time that each reader has in any case: the usual timeout of Prometheus. The oldest
/// reader beyond it is closed if another one needs its place.
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
}

impl fmt::Display for SlowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, age } = self;
        let seconds = age.as_secs();
        write!(f, "{peer} did not read it within {seconds} s, and another reader needs its place")
    }
}

impl PagePlaces {
    /// Takes a place for the connection of `share`. Closes the oldest reader for it if that
    /// has had its time.
    pub(super) fn take(&self, share: &Arc<Share>) -> Result<Found, NoPlace> {
        let now = Instant::now();
        let peer = share.peer();
        let mut readers = self.0.lock();
        let own = readers.list.iter().filter(|it| it.peer == peer).count();
        // Peers without an address are not told apart.
        let of_peer = peer != Peer::Local && MAX_READERS_PER_PEER <= own;
        let mut closed = None;
        if of_peer || MAX_READERS <= readers.list.len() {
            let oldest = readers.list.iter().position(|it| !of_peer || it.peer == peer);
            let slow = oldest.filter(|index| PATIENCE <= now - readers.list[*index].begin);
            let Some(slow) = slow else {
                return Err(if of_peer { NoPlace::OfPeer(peer) } else { NoPlace::OfAny });
            };
            let reader = readers.list.remove(slow);
            reader.share.close();
            closed = Some(SlowReader { peer: reader.peer, age: now - reader.begin });
        }
        let id = readers.next_id;
        readers.next_id += 1;
        readers.list.push(Reader { id, peer, begin: now, share: Arc::clone(share) });
        Ok(Found { place: PagePlace { readers: Arc::clone(&self.0), id }, closed })
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.0.lock().list.len()
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
        let shares = [0, 0, 1, 1, 2, 2, 3, 3].map(share);
        let mut found = Vec::new();
        for share in &shares {
            found.push(places.take(share).unwrap());
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(places.take(&share(9)).unwrap_err(), NoPlace::OfAny);
        advance(Duration::from_secs(2)).await;
        let closed = places.take(&share(9)).unwrap().closed.unwrap();
        let line = "10.0.0.0 did not read it within 10 s, and another reader needs its place";
        assert_eq!(closed.to_string(), line);
        assert!(is_closed(&shares[0]).await && !is_closed(&shares[1]).await);
        assert_eq!(places.taken(), MAX_READERS - 1);
        drop(found);
        assert_eq!(places.taken(), 0);
    }
}
