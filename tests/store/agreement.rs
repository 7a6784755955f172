//! Memory and Redis give the same answers.

use proptest::{collection::vec, prelude::*};
use tokio::runtime::Runtime;
use tollgate::store::{GRACE, memory::Memory};

use super::*;
use crate::redis_server::RedisServer;

/// One call: how the clock moves, and which counters are charged what.
type Call = (Step, Vec<(u8, u32, Hits)>);

#[derive(Clone, Debug)]
enum Step {
    Forward(Duration),
    /// Back from the latest moment so far, by up to the grace.
    Back(Duration),
    /// To the first moment of the window, however long that is.
    BackToStart,
}

fn step() -> impl Strategy<Value = Step> {
    let micros = |it| Duration::from_micros(it);
    prop_oneof![
        6 => (0..100_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        3 => (0..100_000_000_u64).prop_map(move |it| Step::Forward(micros(it))),
        1 => (0..10_000_000_u64).prop_map(move |it| Step::Forward(Duration::from_secs(it))),
        2 => (0..=1_000_000_u64).prop_map(move |it| Step::Back(micros(it))),
        1 => Just(Step::BackToStart),
    ]
}

fn before(latest: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_micros()).expect("it is short");
    Timestamp::from_micros(latest.as_micros().saturating_sub(by))
}

fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        6 => (0..5_u64).prop_map(Hits::Add),
        3 => (0..8_u64).prop_map(Hits::Refund),
        1 => (Hits::MAX - 5..=u64::MAX).prop_map(Hits::Add),
        1 => (Hits::MAX - 5..=u64::MAX).prop_map(Hits::Refund),
        1 => (0..Hits::MAX).prop_map(Hits::Add),
        1 => (0..Hits::MAX).prop_map(Hits::Refund),
    ]
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let limit = prop_oneof![0..10_u32, Just(u32::MAX)];
    vec((step(), vec((0..4_u8, limit, hits()), 1..5)), 1..40)
}

fn window() -> impl Strategy<Value = Window> {
    (prop::sample::select(&Unit::ALL[..]), 1..4_u32).prop_map(|(unit, multiplier)| {
        let multiplier = multiplier.try_into().expect("it is not 0");
        Window::times(unit, multiplier).expect("it is short")
    })
}

/// How long each key lives, in milliseconds; below 0 for ever.
fn lifetimes(client: &mut redis::Connection) -> Vec<i64> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(client).expect("the server runs");
    let lifetime = |key| redis::cmd("PTTL").arg::<Vec<u8>>(key).query(client);
    keys.into_iter().map(lifetime).collect::<Result<_, _>>().expect("the server runs")
}

#[test]
fn memory_and_redis_agree_on_every_charge() {
    let server = RedisServer::start();
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let redis = store(&server.url(), PATIENT);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() };
    proptest!(config, |(window in window(), calls in calls(), start in 0..4_000_000_000_u64)| {
        let mut client = server.client();
        redis::cmd("FLUSHALL").exec(&mut client).unwrap();
        let memory = Memory::new(1 << 20);
        let mut latest = Timestamp::from_secs(start);
        for (step, charged) in calls {
            let now = match step {
                Step::Forward(by) => latest.plus(by),
                Step::Back(by) => before(latest, by),
                Step::BackToStart => window.start(latest),
            };
            latest = latest.max(now);
            let charge = |(name, requests, hits): (u8, u32, Hits)| {
                charge(&name.to_string(), Limit { requests, window }, hits, now)
            };
            let charges: Vec<_> = charged.into_iter().map(charge).collect();
            let ours = runtime.block_on(memory.charge(&charges, now)).unwrap();
            let theirs = runtime.block_on(redis.charge(&charges, now)).unwrap();
            prop_assert_eq!(ours, theirs);
        }
        let longest = i64::try_from((window.seconds() + GRACE.as_secs()) * 1_000).unwrap();
        for lifetime in lifetimes(&mut client) {
            prop_assert!((0..=longest).contains(&lifetime), "a key lives for {lifetime} ms");
        }
    });
}
