//! Calls whose counters are on several servers, when others hold their last hits, or a
//! server fails at the worst moment.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::simulated::{Dice, Server, Simulated, Weather};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Hits, Limit, Unit, Window, step::State},
    store::{Charge, Consume, Enforced, OnTimeout, Store, deny_cache::DenyCache, script::Hold},
    time::Timestamp,
};

const TIMEOUT: Duration = Duration::from_millis(200);
/// By which number another call holds hits.
const OTHER: u64 = 999;

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
    let counter = KeyFormat::default().key(b"d", [part].into_iter(), &limit, now());
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

/// Three servers, and one instance that uses them.
fn three() -> (Vec<Arc<Server>>, Arc<Simulated>) {
    let servers = Simulated::servers(3, &Arc::new(Dice::of(1)));
    let store = Simulated::on(&servers, TIMEOUT);
    (servers, Arc::new(store))
}

/// Another call holds hits, for longer than any test takes.
fn hold(server: &Server, charge: &Charge, hits: u64) {
    let mut records = server.records();
    let record = records.entry(charge.counter.key.as_bytes().to_vec()).or_default();
    let expires_at = now().plus(Duration::from_secs(1_000));
    record.holds.push(Hold { id: OTHER, hits, expires_at });
    server.replace(records);
}

/// The other call lets go.
fn release(server: &Server, charge: &Charge) {
    let mut records = server.records();
    if let Some(it) = records.get_mut(charge.counter.key.as_bytes()) {
        it.holds.retain(|it| it.id != OTHER);
    }
    server.replace(records);
}

fn used(server: &Server, charge: &Charge) -> u64 {
    let records = server.records();
    match records.get(charge.counter.key.as_bytes()).and_then(|it| it.state.as_ref()) {
        Some(State::Count(it)) => it.count,
        Some(State::Leases(it)) => it.0.iter().map(|(_, hits)| hits).sum(),
        _ => 0,
    }
}

/// How many calls hold hits.
fn held(server: &Server, charge: &Charge) -> usize {
    server.records().get(charge.counter.key.as_bytes()).map_or(0, |it| it.holds.len())
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_is_not_counted_again_while_a_call_waits_beside_a_dead_server() {
    let (servers, store) = three();
    let (last, free, dead) =
        (depends("a0", 1), charge("a1", 100, Consume::Independent), depends("b0", 100));
    hold(&servers[0], &last, 1);
    servers[1].set(Weather::Down);
    store.charge(&[last, free.clone(), dead], now(), after(50)).await;
    assert_eq!(used(&servers[0], &free), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_is_not_counted_again_while_a_call_waits_for_others() {
    let (servers, store) = three();
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
    assert!(results.iter().all(|it| it.as_ref().is_ok_and(|it| !it.over)), "{results:?}");
    let counted = [(0, &last), (0, &free), (1, &other)].map(|(at, it)| used(&servers[at], it));
    assert_eq!(counted, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_costs_calls_to_the_others_nothing() {
    let (servers, store) = three();
    let (a, b, c) = (depends("a0", 100_000), depends("b0", 100_000), depends("c0", 100_000));
    servers[1].set(Weather::Down);
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
    assert_eq!((used(&servers[0], &a), store.not_settled()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_deny_cache_keeps_no_refusal_that_hits_held_by_others_caused() {
    let (servers, store) = three();
    let store = DenyCache::new(store, 1_000_000);
    let algorithm = Algorithm::FixedWindow { count_denied: false };
    let limit = Limit { algorithm, ..Limit::fixed(10, Window::new(Unit::Year)) };
    let of =
        |hits| Charge { hits: Hits::Add(hits), ..with("a0", limit.clone(), Consume::Independent) };
    store.charge(&[of(6)], now(), None).await;
    hold(&servers[0], &of(1), 3);
    let refused = store.charge(&[of(5)], now(), None).await;
    assert!(refused[0].as_ref().is_ok_and(|it| it.over && it.used == 6), "{refused:?}");
    release(&servers[0], &of(1));
    let two = store.charge(&[of(2)], now(), None).await;
    assert!(two[0].as_ref().is_ok_and(|it| !it.over), "6 of 10 are used: {two:?}");
}

#[tokio::test(start_paused = true)]
async fn a_known_refusal_is_told_whatever_becomes_of_the_rest() {
    let (servers, store) = three();
    let (none, last) =
        (charge("a0", 0, Consume::Independent), charge("a1", 1, Consume::Independent));
    hold(&servers[0], &last, 1);
    let server = Arc::clone(&servers[0]);
    tokio::spawn(async move {
        sleep(Duration::from_micros(600)).await;
        server.set(Weather::Down);
    });
    let results = store.charge(&[none, last], now(), None).await;
    assert!(results[0].as_ref().is_ok_and(|it| it.over), "{results:?}");
    assert!(results[1].is_err(), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_between_two_answers_gets_no_lease() {
    let algorithm = Algorithm::Concurrency { lease: Duration::from_secs(3_600) };
    let limit = Limit { algorithm, ..Limit::fixed(10, Window::new(Unit::Year)) };
    let lease = with("a0", limit, Consume::Independent);
    let independent = vec![lease.clone(), charge("b0", 100, Consume::Independent)];
    let dependent = vec![lease.clone(), depends("b1", 100), depends("c0", 100)];
    for charges in [independent, dependent] {
        let (servers, store) = three();
        servers[1].set(Weather::Slow(Duration::from_millis(40)));
        let left = timeout(Duration::from_millis(20), store.charge(&charges, now(), None)).await;
        assert!(left.is_err());
        sleep(Duration::from_secs(5)).await;
        assert_eq!(used(&servers[0], &lease), 0);
    }
}

/// Where charges are made together or not at all, and the call is let through without an
/// answer, all are counted or none.
#[tokio::test(start_paused = true)]
async fn a_late_call_counts_all_of_its_charges_or_none() {
    use OnTimeout::{Allow, Deny, Fail};
    for (first, second) in [(Allow, Allow), (Allow, Fail), (Deny, Allow)] {
        let (servers, store) = three();
        let a = Charge { on_timeout: first, ..depends("a0", 10) };
        let b = Charge { on_timeout: second, ..depends("a1", 10) };
        servers[0].set(Weather::Slow(Duration::from_millis(40)));
        let results = store.charge(&[a.clone(), b.clone()], now(), after(12)).await;
        assert!(results.iter().all(Result::is_err), "{results:?}");
        sleep(Duration::from_secs(5)).await;
        let counted = u64::from((first, second) == (Allow, Allow));
        assert_eq!((used(&servers[0], &a), used(&servers[0], &b)), (counted, counted));
    }
}

fn slots(key: &'static str, requests: u32) -> Charge {
    let algorithm = Algorithm::Concurrency { lease: Duration::from_secs(3_600) };
    let limit = Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Year)) };
    with(key, limit, Consume::Independent)
}

/// Who is served is decided by all charges of a call, also by those elsewhere.
/// Each part of a divided call has a place of its own in the order; those for which there is
/// no time are not sent.
#[tokio::test(start_paused = true)]
async fn after_its_deadline_a_divided_call_sends_nothing() {
    let servers = Simulated::servers(1, &Arc::new(Dice::of(1)));
    let store = Simulated::divided(&servers, TIMEOUT, 1);
    servers[0].set(Weather::Slow(Duration::from_millis(40)));
    let keys = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    let charges = keys.map(|it| depends(it, 10));
    let results = store.charge(&charges, now(), after(20)).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    sleep(Duration::from_secs(5)).await;
    let left = charges.each_ref().map(|it| (used(&servers[0], it), held(&servers[0], it)));
    assert_eq!((left, store.not_settled()), ([(0, 0); 8], 0));
    // The hold that was on its way, and its end.
    assert!(servers[0].commands() <= 3, "{}", servers[0].commands());
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_is_given_back_if_another_limit_refuses_or_fails_its_call() {
    use OnTimeout::{Allow, Deny, Fail};
    for key in ["a1", "b1"] {
        for (other, kept) in [(Allow, 1), (Deny, 0), (Fail, 0)] {
            let (servers, store) = three();
            let lease = Charge { on_timeout: Allow, ..slots("a0", 10) };
            let other = Charge { on_timeout: other, ..charge(key, 10, Consume::Independent) };
            servers.iter().for_each(|it| it.set(Weather::Slow(Duration::from_millis(40))));
            store.charge(&[lease.clone(), other.clone()], now(), after(12)).await;
            sleep(Duration::from_secs(5)).await;
            assert_eq!(used(&servers[0], &lease), kept, "{key}, {other:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_nothing_along_that_its_policy_would_have_let_pass() {
    let (servers, store) = three();
    let lease = Charge { on_timeout: OnTimeout::Allow, ..slots("a0", 10) };
    servers[0].set(Weather::Slow(Duration::from_millis(20)));
    let call = [lease.clone()];
    let left = timeout(Duration::from_millis(5), store.charge(&call, now(), after(100))).await;
    assert!(left.is_err());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(used(&servers[0], &lease), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_its_hits_are_counted_takes_none_along() {
    for limit in [slots("a0", 10).limit, Limit::fixed(10, Window::new(Unit::Year))] {
        let (servers, store) = three();
        let first = with("a0", limit, Consume::AllOrNothing);
        let second = depends("b0", 10);
        let calls = [first.clone(), second.clone()];
        let server = Arc::clone(&servers[1]);
        tokio::spawn(async move {
            sleep(Duration::from_millis(3)).await;
            server.set(Weather::Slow(Duration::from_millis(60)));
        });
        servers[1].set(Weather::Slow(Duration::from_millis(2)));
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
async fn a_quota_that_is_denied_without_an_answer_refuses_no_call_of_which_another_has_room() {
    let (servers, store) = three();
    let tied = depends("a0", 5);
    let room = quota(0, charge("a1", 100, Consume::Independent));
    let down = quota(1, charge("b0", 100, Consume::Independent));
    let down = Charge { on_timeout: OnTimeout::Deny, ..down };
    servers[1].set(Weather::Down);
    for _ in 0..3 {
        store.charge(&[tied.clone(), room.clone(), down.clone()], now(), after(50)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(used(&servers[0], &tied), 3, "the callers were served");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_again_does_not_forget_which_quotas_have_room() {
    let (servers, store) = three();
    let tied = depends("a0", 5);
    let room = quota(0, charge("a1", 100, Consume::Independent));
    let used_up = quota(1, depends("a2", 0));
    hold(&servers[0], &tied, 5);
    let call = [tied.clone(), room, used_up];
    let results = store.charge(&call, now(), after(20)).await;
    assert!(results[0].is_err(), "others hold all: {results:?}");
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
async fn a_place_that_has_all_quotas_refuses_at_once_whatever_others_hold() {
    let (servers, store) = three();
    let tied = depends("a0", 1);
    let used_up = quota(0, depends("a1", 0));
    hold(&servers[0], &tied, 1);
    let begun = Instant::now();
    let results = store.charge(&[tied, used_up, depends("b0", 9)], now(), None).await;
    assert!(results[1].as_ref().is_ok_and(|it| it.over), "{results:?}");
    assert!(results.iter().all(Result::is_ok) && begun.elapsed() < TIMEOUT / 4, "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_let_through_at_its_deadline_counts() {
    let (servers, store) = three();
    let late = |it: Charge| Charge { on_timeout: OnTimeout::Allow, ..it };
    let (last, slow) = (late(depends("a0", 1)), late(depends("b0", 100)));
    hold(&servers[0], &last, 1);
    servers[1].set(Weather::Slow(Duration::from_millis(32)));
    let results = store.charge(&[last, slow.clone()], now(), after(45)).await;
    assert!(results[0].is_err(), "{results:?}");
    sleep(Duration::from_secs(5)).await;
    let found = (used(&servers[1], &slow), held(&servers[1], &slow), store.not_settled());
    assert_eq!(found, (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_beside_a_dead_server_do_not_wait_for_each_other() {
    let (servers, store) = three();
    servers[2].set(Weather::Down);
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
    assert!(took.iter().all(|it| *it < TIMEOUT / 2), "{took:?}");
    for (server, key) in [(0, "a0"), (1, "b0")] {
        let charge = depends(key, 1);
        let found = (used(&servers[server], &charge), held(&servers[server], &charge));
        assert_eq!(found, (0, 0), "{key}");
    }
}

/// What has been granted counts, if the server that has the counter is out of reach until
/// long after hits are held.
#[tokio::test(start_paused = true)]
async fn what_is_granted_counts_when_the_server_is_back() {
    let (servers, store) = three();
    let (a, b) = (depends("a0", 10), depends("b0", 100));
    servers[1].set(Weather::Slow(Duration::from_millis(40)));
    let server = Arc::clone(&servers[0]);
    tokio::spawn(async move {
        sleep(Duration::from_millis(20)).await;
        server.set(Weather::Down);
        sleep(Duration::from_secs(15)).await;
        server.set(Weather::Well);
    });
    let results = store.charge(&[a.clone(), b], now(), None).await;
    assert!(results.iter().all(|it| it.as_ref().is_ok_and(|it| !it.over)), "{results:?}");
    assert_eq!(used(&servers[0], &a), 0);
    sleep(Duration::from_secs(17)).await;
    assert_eq!((used(&servers[0], &a), store.not_settled()), (1, 0));
}
