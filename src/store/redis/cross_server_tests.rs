//! Tests of requests with counters on several servers, while other requests hold their last
//! hits or a server fails.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::simulated::{Condition, Server, SharedRng, Simulated};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Hits, Limit, Unit, Window, step::State},
    store::{Charge, Consume, Enforced, OnTimeout, Store, deny_cache::DenyCache, script::Hold},
    time::Timestamp,
};

const TIMEOUT: Duration = Duration::from_millis(200);
/// The holder id of another request.
const OTHER_ID: u64 = 999;

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn after(millis: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(millis))
}

/// `a…` is on the first server, `b…` on the second, `c…` on the third.
fn charge(key: &'static str, requests: u32, consume: Consume) -> Charge {
    with(key, Limit::fixed(requests, Window::new(Unit::Year)), consume)
}

fn with(key: &'static str, limit: Limit, consume: Consume) -> Charge {
    let part = KeyPart { key: key.as_bytes(), value: b"x", shared: false };
    let counter = KeyFormat::default().counter(b"d", [part].into_iter(), &limit, now());
    Charge {
        counter,
        limit,
        hits: Hits::Add(1),
        consume,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn depends(key: &'static str, requests: u32) -> Charge {
    charge(key, requests, Consume::AllOrNothing)
}

/// Three servers, and the store of one instance.
fn three_servers() -> (Vec<Arc<Server>>, Arc<Simulated>) {
    let servers = Simulated::servers(3, &Arc::new(SharedRng::new(1)));
    let store = Simulated::on(&servers, TIMEOUT);
    (servers, Arc::new(store))
}

/// Another request holds hits, for longer than any test takes.
fn hold(server: &Server, charge: &Charge, hits: u64) {
    let mut records = server.records();
    let record = records.entry(charge.counter.key.as_bytes().to_vec()).or_default();
    let expires_at = now().plus(Duration::from_secs(1_000));
    record.holds.push(Hold { id: OTHER_ID, hits, expires_at });
    server.replace(records);
}

/// The other request releases its holds.
fn release(server: &Server, charge: &Charge) {
    let mut records = server.records();
    if let Some(it) = records.get_mut(charge.counter.key.as_bytes()) {
        it.holds.retain(|hold| hold.id != OTHER_ID);
    }
    server.replace(records);
}

fn used(server: &Server, charge: &Charge) -> u64 {
    let records = server.records();
    match records.get(charge.counter.key.as_bytes()).and_then(|record| record.state.as_ref()) {
        Some(State::Count(it)) => it.count,
        Some(State::Permits(it)) => it.0.iter().map(|permit| permit.hits).sum(),
        _ => 0,
    }
}

/// The number of requests that hold hits.
fn held(server: &Server, charge: &Charge) -> usize {
    server.records().get(charge.counter.key.as_bytes()).map_or(0, |record| record.holds.len())
}

#[tokio::test(start_paused = true)]
async fn independent_hits_count_once_while_a_request_waits_beside_a_dead_server() {
    let (servers, store) = three_servers();
    let (last, free, dead) =
        (depends("a0", 1), charge("a1", 100, Consume::Independent), depends("b0", 100));
    hold(&servers[0], &last, 1);
    servers[1].set_condition(Condition::Down);
    store.charge(&[last, free.clone(), dead], now(), after(50)).await;
    assert_eq!(used(&servers[0], &free), 1);
}

#[tokio::test(start_paused = true)]
async fn independent_hits_count_once_while_a_request_waits_for_holds() {
    let (servers, store) = three_servers();
    let (last, free, other) =
        (depends("a0", 1), charge("a1", 1, Consume::Independent), depends("b0", 100));
    hold(&servers[0], &last, 1);
    hold(&servers[0], &free, 1);
    let (server, first, second) = (Arc::clone(&servers[0]), free.clone(), last.clone());
    tokio::spawn(async move {
        sleep(Duration::from_millis(10)).await;
        release(&server, &first);
        sleep(Duration::from_millis(20)).await;
        release(&server, &second);
    });
    let charges = [last.clone(), free.clone(), other.clone()];
    let results = store.charge(&charges, now(), after(100)).await;
    assert!(
        results.iter().all(|result| result.as_ref().is_ok_and(|outcome| !outcome.over)),
        "{results:?}"
    );
    let counted = [(0, &last), (0, &free), (1, &other)].map(|(at, it)| used(&servers[at], it));
    assert_eq!(counted, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_does_not_delay_requests_to_the_others() {
    let (servers, store) = three_servers();
    let (a, b, c) = (depends("a0", 100_000), depends("b0", 100_000), depends("c0", 100_000));
    servers[1].set_condition(Condition::Down);
    let begun = Instant::now();
    let results = store.charge(&[a.clone(), b.clone()], now(), None).await;
    assert!(results[1].is_err() && begun.elapsed() < TIMEOUT / 4, "{:?}", begun.elapsed());
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let (store, both) = (Arc::clone(&store), [a.clone(), b.clone()]);
        calls.spawn(async move { store.charge(&both, now(), None).await });
    }
    calls.join_all().await;
    let begun = Instant::now();
    let results = store.charge(&[a.clone(), c.clone()], now(), None).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(begun.elapsed() < TIMEOUT / 4, "{:?}", begun.elapsed());
    sleep(Duration::from_secs(1)).await;
    assert_eq!((held(&servers[0], &a), held(&servers[2], &c)), (0, 0));
    assert_eq!((used(&servers[0], &a), store.failed_settlements()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_deny_cache_keeps_no_refusal_that_depends_on_holds() {
    let (servers, store) = three_servers();
    let store = DenyCache::new(store, 1_000_000);
    let algorithm = Algorithm::FixedWindow { count_denied: false };
    let limit = Limit { algorithm, ..Limit::fixed(10, Window::new(Unit::Year)) };
    let of =
        |hits| Charge { hits: Hits::Add(hits), ..with("a0", limit.clone(), Consume::Independent) };
    store.charge(&[of(6)], now(), None).await;
    hold(&servers[0], &of(1), 3);
    let refused = store.charge(&[of(5)], now(), None).await;
    assert!(
        refused[0].as_ref().is_ok_and(|outcome| outcome.over && outcome.used == 6),
        "{refused:?}"
    );
    release(&servers[0], &of(1));
    let two = store.charge(&[of(2)], now(), None).await;
    assert!(two[0].as_ref().is_ok_and(|outcome| !outcome.over), "6 of 10 are used: {two:?}");
}

#[tokio::test(start_paused = true)]
async fn a_known_refusal_is_returned_if_other_charges_fail() {
    let (servers, store) = three_servers();
    let (none, last) =
        (charge("a0", 0, Consume::Independent), charge("a1", 1, Consume::Independent));
    hold(&servers[0], &last, 1);
    let server = Arc::clone(&servers[0]);
    tokio::spawn(async move {
        sleep(Duration::from_micros(600)).await;
        server.set_condition(Condition::Down);
    });
    let results = store.charge(&[none, last], now(), None).await;
    assert!(results[0].as_ref().is_ok_and(|outcome| outcome.over), "{results:?}");
    assert!(results[1].is_err(), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_cancelled_between_two_replies_keeps_no_permit() {
    let algorithm = Algorithm::Concurrency { lifetime: Duration::from_secs(3_600) };
    let limit = Limit { algorithm, ..Limit::fixed(10, Window::new(Unit::Year)) };
    let permit = with("a0", limit, Consume::Independent);
    let independent = vec![permit.clone(), charge("b0", 100, Consume::Independent)];
    let dependent = vec![permit.clone(), depends("b1", 100), depends("c0", 100)];
    for charges in [independent, dependent] {
        let (servers, store) = three_servers();
        servers[1].set_condition(Condition::Slow(Duration::from_millis(40)));
        let left = timeout(Duration::from_millis(20), store.charge(&charges, now(), None)).await;
        assert!(left.is_err());
        sleep(Duration::from_secs(5)).await;
        assert_eq!(used(&servers[0], &permit), 0);
    }
}

/// A caller that is let through by policy has all of its dependent charges counted, and any
/// other caller none.
#[tokio::test(start_paused = true)]
async fn a_request_without_a_reply_in_time_counts_all_charges_or_none() {
    use OnTimeout::{Allow, Deny, Fail};
    for (first, second) in [(Allow, Allow), (Allow, Fail), (Deny, Allow)] {
        let (servers, store) = three_servers();
        let a = Charge { on_timeout: first, ..depends("a0", 10) };
        let b = Charge { on_timeout: second, ..depends("a1", 10) };
        servers[0].set_condition(Condition::Slow(Duration::from_millis(40)));
        let results = store.charge(&[a.clone(), b.clone()], now(), after(12)).await;
        assert!(results.iter().all(Result::is_err), "{results:?}");
        sleep(Duration::from_secs(5)).await;
        let counted = u64::from((first, second) == (Allow, Allow));
        assert_eq!((used(&servers[0], &a), used(&servers[0], &b)), (counted, counted));
    }
}

fn slots(key: &'static str, requests: u32) -> Charge {
    let algorithm = Algorithm::Concurrency { lifetime: Duration::from_secs(3_600) };
    let limit = Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Year)) };
    with(key, limit, Consume::Independent)
}

/// The parts of a divided request are sent one after the other.
#[tokio::test(start_paused = true)]
async fn a_divided_request_sends_nothing_after_its_deadline() {
    let servers = Simulated::servers(1, &Arc::new(SharedRng::new(1)));
    let store = Simulated::divided(&servers, TIMEOUT, 1);
    servers[0].set_condition(Condition::Slow(Duration::from_millis(40)));
    let keys = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    let charges = keys.map(|key| depends(key, 10));
    let results = store.charge(&charges, now(), after(20)).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    sleep(Duration::from_secs(5)).await;
    let left =
        charges.each_ref().map(|charge| (used(&servers[0], charge), held(&servers[0], charge)));
    assert_eq!((left, store.failed_settlements()), ([(0, 0); 8], 0));
    // The hold that was in flight at the deadline, and its release.
    assert!(servers[0].batches() <= 3, "{}", servers[0].batches());
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_is_refunded_if_another_limit_refuses_or_fails_the_request() {
    use OnTimeout::{Allow, Deny, Fail};
    for key in ["a1", "b1"] {
        for (other, kept) in [(Allow, 1), (Deny, 0), (Fail, 0)] {
            let (servers, store) = three_servers();
            let permit = Charge { on_timeout: Allow, ..slots("a0", 10) };
            let other = Charge { on_timeout: other, ..charge(key, 10, Consume::Independent) };
            servers.iter().for_each(|server| {
                server.set_condition(Condition::Slow(Duration::from_millis(40)))
            });
            store.charge(&[permit.clone(), other.clone()], now(), after(12)).await;
            sleep(Duration::from_secs(5)).await;
            assert_eq!(used(&servers[0], &permit), kept, "{key}, {other:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_keeps_no_permit_that_its_policy_would_allow() {
    let (servers, store) = three_servers();
    let permit = Charge { on_timeout: OnTimeout::Allow, ..slots("a0", 10) };
    servers[0].set_condition(Condition::Slow(Duration::from_millis(20)));
    let call = [permit.clone()];
    let left = timeout(Duration::from_millis(5), store.charge(&call, now(), after(100))).await;
    assert!(left.is_err());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(used(&servers[0], &permit), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_cancelled_during_settlement_keeps_no_hits() {
    for limit in [slots("a0", 10).limit, Limit::fixed(10, Window::new(Unit::Year))] {
        let (servers, store) = three_servers();
        let first = with("a0", limit, Consume::AllOrNothing);
        let second = depends("b0", 10);
        let calls = [first.clone(), second.clone()];
        let server = Arc::clone(&servers[1]);
        tokio::spawn(async move {
            sleep(Duration::from_millis(3)).await;
            server.set_condition(Condition::Slow(Duration::from_millis(60)));
        });
        servers[1].set_condition(Condition::Slow(Duration::from_millis(2)));
        let left = timeout(Duration::from_millis(30), store.charge(&calls, now(), None)).await;
        assert!(left.is_err());
        sleep(Duration::from_secs(5)).await;
        assert_eq!((used(&servers[0], &first), used(&servers[1], &second)), (0, 0));
    }
}

fn quota(number: usize, it: Charge) -> Charge {
    Charge { enforced: Enforced::Quota(number), ..it }
}

#[tokio::test(start_paused = true)]
async fn a_quota_denied_by_policy_refuses_no_request_while_another_has_room() {
    let (servers, store) = three_servers();
    let tied = depends("a0", 5);
    let room = quota(0, charge("a1", 100, Consume::Independent));
    let down = quota(1, charge("b0", 100, Consume::Independent));
    let down = Charge { on_timeout: OnTimeout::Deny, ..down };
    servers[1].set_condition(Condition::Down);
    for _ in 0..3 {
        store.charge(&[tied.clone(), room.clone(), down.clone()], now(), after(50)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(used(&servers[0], &tied), 3, "the callers were served");
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_the_known_outcomes_of_quotas() {
    let (servers, store) = three_servers();
    let tied = depends("a0", 5);
    let room = quota(0, charge("a1", 100, Consume::Independent));
    let used_up = quota(1, depends("a2", 0));
    hold(&servers[0], &tied, 5);
    let call = [tied.clone(), room, used_up];
    let results = store.charge(&call, now(), after(20)).await;
    assert!(results[0].is_err(), "all hits are held: {results:?}");
    let (server, last) = (Arc::clone(&servers[0]), tied.clone());
    tokio::spawn(async move {
        sleep(Duration::from_millis(10)).await;
        release(&server, &last);
    });
    let results = store.charge(&call, now(), after(50)).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(used(&servers[0], &tied), 1);
}

#[tokio::test(start_paused = true)]
async fn a_location_with_all_quotas_refuses_at_once_despite_holds() {
    let (servers, store) = three_servers();
    let tied = depends("a0", 1);
    let used_up = quota(0, depends("a1", 0));
    hold(&servers[0], &tied, 1);
    let begun = Instant::now();
    let results = store.charge(&[tied, used_up, depends("b0", 9)], now(), None).await;
    assert!(results[1].as_ref().is_ok_and(|outcome| outcome.over), "{results:?}");
    assert!(results.iter().all(Result::is_ok) && begun.elapsed() < TIMEOUT / 4, "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_let_through_at_its_deadline_is_counted() {
    let (servers, store) = three_servers();
    let late = |it: Charge| Charge { on_timeout: OnTimeout::Allow, ..it };
    let (last, slow) = (late(depends("a0", 1)), late(depends("b0", 100)));
    hold(&servers[0], &last, 1);
    servers[1].set_condition(Condition::Slow(Duration::from_millis(32)));
    let results = store.charge(&[last, slow.clone()], now(), after(45)).await;
    assert!(results[0].is_err(), "{results:?}");
    sleep(Duration::from_secs(5)).await;
    let found = (used(&servers[1], &slow), held(&servers[1], &slow), store.failed_settlements());
    assert_eq!(found, (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_beside_a_dead_server_do_not_wait_for_each_other() {
    let (servers, store) = three_servers();
    servers[2].set_condition(Condition::Down);
    let mut calls = JoinSet::new();
    for call in 0..12 {
        let mut all = [depends("a0", 1), depends("b0", 1), depends("c0", 9)];
        if call % 2 == 0 {
            all.swap(0, 1);
        }
        let store = Arc::clone(&store);
        calls.spawn(async move {
            let begun = Instant::now();
            store.charge(&all, now(), None).await;
            begun.elapsed()
        });
    }
    let took = calls.join_all().await;
    assert!(took.iter().all(|time| *time < TIMEOUT / 2), "{took:?}");
    for (server, key) in [(0, "a0"), (1, "b0")] {
        let charge = depends(key, 1);
        let found = (used(&servers[server], &charge), held(&servers[server], &charge));
        assert_eq!(found, (0, 0), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_waits_for_a_request_whose_caller_has_left() {
    let (servers, store) = three_servers();
    let (a, b) = (depends("a0", 10), depends("b0", 10));
    servers[1].set_condition(Condition::Slow(Duration::from_millis(80)));
    let both = [a.clone(), b.clone()];
    let call = timeout(Duration::from_millis(20), store.charge(&both, now(), None));
    assert!(call.await.is_err());
    assert_eq!((held(&servers[0], &a), store.failed_settlements()), (1, 0));
    store.settle_pending(Duration::from_secs(2)).await;
    for (server, charge) in [(0, &a), (1, &b)] {
        assert_eq!((held(&servers[server], charge), used(&servers[server], charge)), (0, 0));
    }
    // A call in flight that needs no reservation.
    let plain = Charge { consume: Consume::Independent, ..b.clone() };
    let call = store.charge(std::slice::from_ref(&plain), now(), None);
    assert!(timeout(Duration::from_millis(20), call).await.is_err());
    store.settle_pending(Duration::from_secs(2)).await;
    assert_eq!((used(&servers[1], &plain), store.failed_settlements()), (0, 0));
    // The wait has a bound.
    servers[1].set_condition(Condition::Mute);
    let call = timeout(Duration::from_millis(20), store.charge(&both, now(), None));
    assert!(call.await.is_err());
    let begun = Instant::now();
    let late = async {
        sleep(Duration::from_millis(10)).await;
        store.charge(&both, now(), None).await
    };
    let (results, ()) = tokio::join!(late, store.settle_pending(Duration::from_millis(50)));
    assert!(begun.elapsed() < Duration::from_millis(60), "{:?}", begun.elapsed());
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("the process is shutting down"), "{error}");
    }
}

/// The server of a hold is unreachable until after the hold has expired.
#[tokio::test(start_paused = true)]
async fn granted_hits_are_counted_once_the_server_is_back() {
    let (servers, store) = three_servers();
    let (a, b) = (depends("a0", 10), depends("b0", 100));
    servers[1].set_condition(Condition::Slow(Duration::from_millis(40)));
    let server = Arc::clone(&servers[0]);
    tokio::spawn(async move {
        sleep(Duration::from_millis(20)).await;
        server.set_condition(Condition::Down);
        sleep(Duration::from_secs(15)).await;
        server.set_condition(Condition::Healthy);
    });
    let results = store.charge(&[a.clone(), b], now(), None).await;
    assert!(
        results.iter().all(|result| result.as_ref().is_ok_and(|outcome| !outcome.over)),
        "{results:?}"
    );
    assert_eq!(used(&servers[0], &a), 0);
    sleep(Duration::from_secs(17)).await;
    assert_eq!((used(&servers[0], &a), store.failed_settlements()), (1, 0));
}
