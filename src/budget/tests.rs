use futures_util::FutureExt;

use super::*;

const MOST: usize = 1 << 20;

fn budget() -> Arc<Budget> {
    Budget::new(MOST, Arc::new(Metrics::new(0.8)))
}

fn totals(budget: &Budget) -> [usize; 3] {
    [&budget.used, &budget.waiting, &budget.closing].map(|total| total.load(Relaxed))
}

fn is_closed(share: &Share) -> bool {
    share.closed().now_or_never().is_some()
}

#[test]
fn everything_is_given_back() {
    let budget = budget();
    let share = budget.connect(None);
    let mut held = share.hold(500, true).unwrap();
    held.grow(200).unwrap();
    let other = share.hold(300, false).unwrap();
    assert_eq!(totals(&budget), [1_000, 700, 0]);
    held.set_waits(false);
    assert_eq!(totals(&budget), [1_000, 0, 0]);
    assert!(share.hold(MOST, true).is_err());
    assert_eq!(totals(&budget), [1_000, 0, 0]);
    drop((held, other));
    assert_eq!(totals(&budget), [0, 0, 0]);
    drop(share);
    assert!(budget.connections.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_waits_for_most_is_closed_for_another() {
    let budget = budget();
    let (small, large) = (budget.connect(None), budget.connect(None));
    let _some = small.hold(MOST / 4, true).unwrap();
    let most = large.hold(3 * MOST / 4, true).unwrap();
    // It cannot make room for itself, and its search does not delay that of another.
    assert!(large.hold(1, true).is_err());
    assert!(!is_closed(&large));
    let modest = budget.connect(None);
    let room = modest.hold(MOST / 2, false).unwrap();
    assert!(is_closed(&large) && !is_closed(&small));
    assert!(large.hold(1, false).is_err());
    assert_eq!(totals(&budget), [3 * MOST / 4, MOST / 4, 3 * MOST / 4]);
    // No more are closed until the first has ended.
    assert!(modest.hold(MOST / 2, false).is_err());
    assert!(!is_closed(&small));
    drop((room, most));
    assert_eq!(totals(&budget), [MOST / 4, MOST / 4, 0]);
}

#[test]
fn connections_are_not_closed_because_decisions_take_long() {
    let budget = budget();
    let (busy, other) = (budget.connect(None), budget.connect(None));
    let _decided = busy.hold(MOST, false).unwrap();
    let _arriving = other.hold(MOST / 8, true).unwrap();
    assert!(busy.hold(1, false).is_err());
    assert!(!is_closed(&busy) && !is_closed(&other));
}

#[test]
fn a_connection_within_its_share_is_never_refused() {
    let budget = budget();
    let (busy, other) = (budget.connect(None), budget.connect(None));
    let _decided = busy.hold(MOST, false).unwrap();
    let _share = other.hold(MOST / 2, false).unwrap();
    assert!(other.hold(1, false).is_err());
    let more: Vec<_> = (0..1_000).map(|_| budget.connect(None)).collect();
    assert!(more[0].hold(LEAST_SHARE, false).is_ok());
    assert!(more[0].hold(LEAST_SHARE + 1, false).is_err());
}

#[test]
fn a_text_counts_until_it_is_taken() {
    let budget = budget();
    let share = budget.connect(None);
    let text = share.hold(100, false).unwrap().attach("x".repeat(900)).unwrap();
    assert_eq!(totals(&budget), [1_000, 1_000, 0]);
    drop(text);
    assert!(share.hold(100, false).unwrap().attach("x".repeat(MOST)).is_err());
    assert_eq!(totals(&budget), [0, 0, 0]);
}

fn peer(host: u8) -> Option<SocketAddr> {
    Some(SocketAddr::from(([10, 0, 0, host], 1)))
}

#[test]
fn an_address_within_its_share_is_never_refused() {
    let budget = budget();
    // Each connection is within its own share, but their addresses are not.
    let mut hoard = Vec::new();
    for number in 0..4 * MOST / CALL_BYTES {
        let host = if number % 2 == 0 { 1 } else { 2 };
        hoard.push(budget.connect(peer(host)).hold(CALL_BYTES, true).unwrap());
    }
    let other = budget.connect(peer(3));
    let _calls = other.hold(MOST / 3, false).unwrap();
    assert!(other.hold(1, false).is_err());
    assert!(!hoard.iter().any(|held| is_closed(&held.share)));
    assert!(budget.connect(peer(1)).hold(LEAST_SHARE + 1, false).is_err());
}
