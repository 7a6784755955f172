use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*};

use super::*;

const MOST: usize = 1 << 20;

fn budget() -> Arc<Budget> {
    Budget::new(MOST, Arc::new(Metrics::new(0.8)))
}

fn totals(budget: &Budget) -> [usize; 3] {
    let totals = &budget.totals;
    [totals.deciding(), totals.waiting(), totals.closing()]
}

fn is_closed(share: &Share) -> bool {
    share.closed().now_or_never().is_some()
}

fn peer(host: u8) -> Option<SocketAddr> {
    Some(SocketAddr::from(([10, 0, 0, host], 1)))
}

#[test]
fn everything_is_given_back() {
    let budget = budget();
    let share = budget.connect(None);
    let mut held = share.hold(500, true).unwrap();
    held.grow(200).unwrap();
    let other = share.hold(300, false).unwrap();
    assert_eq!(totals(&budget), [300, 700, 0]);
    held.stop_waiting();
    assert_eq!(totals(&budget), [1_000, 0, 0]);
    assert!(share.hold(MOST, false).is_err());
    held.wait().unwrap();
    assert_eq!(totals(&budget), [300, 700, 0]);
    drop((held, other));
    assert_eq!(totals(&budget), [0, 0, 0]);
    drop(share);
    assert!(budget.connections.lock().is_empty());
}

#[test]
fn the_connection_that_waits_for_most_is_closed_for_another() {
    let budget = budget();
    let (small, large) = (budget.connect(peer(1)), budget.connect(peer(1)));
    let _some = small.hold(MOST / 4, true).unwrap();
    let most = large.hold(3 * MOST / 4, true).unwrap();
    let modest = budget.connect(peer(2));
    let room = modest.hold(MOST / 2, false).unwrap();
    assert!(is_closed(&large) && !is_closed(&small));
    assert!(large.hold(1, false).is_err());
    assert_eq!(totals(&budget), [MOST / 2, MOST / 4, 3 * MOST / 4]);
    // No more are closed until the first has ended.
    let more = modest.hold(MOST / 4, false).unwrap();
    assert!(small.hold(MOST / 4, true).is_err());
    let answer = small.hold_answer(MOST / 4).unwrap();
    assert!(!is_closed(&small));
    drop((room, more, answer, most));
    assert_eq!(totals(&budget), [0, MOST / 4, 0]);
}

#[test]
fn a_connection_that_waits_for_all_is_closed_for_itself() {
    let budget = budget();
    let large = budget.connect(None);
    let most = large.hold(MOST, true).unwrap();
    assert!(large.hold(1, true).is_err());
    assert!(is_closed(&large));
    assert_eq!(totals(&budget), [0, 0, MOST]);
    drop(most);
    assert_eq!(totals(&budget), [0, 0, 0]);
}

#[test]
fn connections_are_not_closed_because_decisions_take_long() {
    let budget = budget();
    let (busy, other) = (budget.connect(peer(1)), budget.connect(peer(2)));
    let _decided = busy.hold(3 * MOST / 4, false).unwrap();
    let _arriving = other.hold(MOST / 4 - 1, true).unwrap();
    assert!(busy.hold(1, false).is_err());
    assert!(!is_closed(&busy) && !is_closed(&other));
}

#[test]
fn a_connection_within_its_share_is_not_refused_because_of_others_of_its_address() {
    let budget = budget();
    let beside = budget.connect(peer(1));
    let hoard: Vec<_> = (0..15).map(|_| budget.connect(peer(1))).collect();
    let mut held = Vec::new();
    for _ in 0..2 * MOST / CALL_BYTES {
        for share in &hoard {
            held.extend(share.hold(CALL_BYTES, true));
        }
    }
    assert!(hoard.iter().any(|share| share.hold(CALL_BYTES, true).is_err()));
    // 16 connections have a quarter of the budget.
    let share = MOST / 4 / 16;
    let call = beside.hold(share, true).unwrap();
    assert!(beside.hold(1, true).is_err());
    drop(call);
    assert!(beside.hold(share, false).is_ok());
    let [_, waiting, closing] = totals(&budget);
    assert!(waiting + closing <= MOST + MOST / 2, "{waiting} {closing}");
}

#[test]
fn an_address_within_its_share_is_never_refused() {
    let budget = budget();
    let (busy, other) = (budget.connect(peer(1)), budget.connect(peer(2)));
    let _decided = busy.hold(3 * MOST / 4, false).unwrap();
    let _share = other.hold(3 * MOST / 8, false).unwrap();
    assert!(other.hold(1, false).is_err());
    let more: Vec<_> = (3..103).map(|host| budget.connect(peer(host))).collect();
    assert!(more[0].hold(LEAST_SHARE, false).is_ok());
    assert!(more[0].hold(LEAST_SHARE + 1, false).is_err());
}

#[test]
fn unfinished_calls_on_many_connections_take_no_room_from_whole_ones() {
    let budget = budget();
    // Another address has more on a single connection than each of these.
    let beside = budget.connect(peer(2));
    let _answers = beside.hold(MOST / 8, true).unwrap();
    let mut hoard = Vec::new();
    for _ in 0..4 * MOST / CALL_BYTES {
        let share = budget.connect(peer(1));
        // Those of closed connections end.
        hoard.retain(|held: &Held| !held.share.usage.is_closed());
        if let Ok(held) = share.hold(CALL_BYTES, true) {
            hoard.push(held);
        }
    }
    assert!(totals(&budget)[1] <= MOST);
    for address in [peer(1), peer(2)] {
        let whole = budget.connect(address);
        let _calls = whole.hold(MOST / 4, false).unwrap();
        assert!(!is_closed(&whole) && !is_closed(&beside));
    }
}

#[test]
fn small_answers_are_not_refused_because_of_others_of_the_address() {
    let budget = budget();
    // More than are closed at a time.
    let hoard: Vec<_> = (0..100).map(|_| budget.connect(peer(1))).collect();
    let _unfinished: Vec<_> = hoard.iter().map(Share::hold_connection).collect();
    let beside = budget.connect(peer(1));
    let _calls = beside.hold(MOST / 8, false).unwrap();
    assert!(beside.hold_answer(LEAST_SHARE).is_ok());
    assert!(beside.hold_answer(LEAST_SHARE + 1).is_err());
    assert!(!is_closed(&beside));
}

#[test]
fn a_text_counts_until_it_is_taken() {
    let budget = budget();
    let share = budget.connect(None);
    let text = share.hold(100, false).unwrap().attach("x".repeat(900)).unwrap();
    assert_eq!(totals(&budget), [0, 1_000, 0]);
    drop(text);
    assert!(share.hold(100, false).unwrap().attach("x".repeat(MOST)).is_err());
    assert_eq!(totals(&budget), [0, 0, 0]);
}

#[test]
fn connections_with_the_first_bytes_of_a_frame_are_not_closed_for_a_large_one() {
    let budget = budget();
    let starting: Vec<_> = (0..40).map(|_| budget.connect(peer(1))).collect();
    let prefaces: Vec<_> = starting.iter().map(|share| share.hold(20, true).unwrap()).collect();
    let large = budget.connect(peer(1));
    let _most = large.hold(MOST - 40 * 20, true).unwrap();
    let _more = budget.connect(peer(2)).hold(MOST / 4, false).unwrap();
    assert!(is_closed(&large) && !starting.iter().any(|share| is_closed(share)));
    drop(prefaces);
}

proptest! {
    #[test]
    fn a_connection_is_only_closed_if_it_waits_for_no_less_than_the_average(
        sizes in vec(prop_oneof![Just(0), 1..30_usize, 1..MOST / 64], 1..64)
    ) {
        let budget = budget();
        let hold = |bytes: &usize| budget.connect(peer(1)).hold(*bytes, true);
        let held: Vec<_> = sizes.iter().map(hold).collect();
        let total: usize = sizes.iter().sum();
        for _ in 0..8 {
            let hoarder = budget.connections.lock().find_hoarder();
            let waiting = hoarder.map_or(0, |it| it.waiting());
            prop_assert!(total <= waiting * held.len());
        }
    }
}

#[test]
fn the_memory_of_a_connection_counts_once_while_it_waits() {
    let budget = budget();
    let share = budget.connect(None);
    let mut head = Arriving::new(&share);
    assert_eq!(totals(&budget), [0, 0, 0]);
    head.set(500).unwrap();
    let answer = share.hold_connection();
    assert_eq!(totals(&budget), [0, CONNECTION_BYTES + 500, 0]);
    head.set(100).unwrap();
    assert_eq!(totals(&budget), [0, CONNECTION_BYTES + 100, 0]);
    head.set(0).unwrap();
    assert_eq!(totals(&budget), [0, CONNECTION_BYTES, 0]);
    drop(answer);
    assert_eq!(totals(&budget), [0, 0, 0]);
    assert!(head.set(MOST).is_err());
}
