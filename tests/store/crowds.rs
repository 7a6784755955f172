//! Many callers of two instances, with requests that depend on counters on several
//! servers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::task::JoinSet;
use tollgate::{
    descriptor::Request,
    engine::{Engine, decision::Mode},
    time::ManualClock,
};

use super::*;
use crate::places::{Counters, Place, Servers, ask, counters, engine, passed, remaining, settles};

/// Limits of each kind. `gate` and `door` refuse some requests in every deployment.
const RULES: &str = "
domain: game
descriptors:
- key: fixed
  rate_limit: {unit: hour, requests_per_unit: 50, consume: all_or_nothing}
- key: gentle
  rate_limit: {unit: hour, requests_per_unit: 50, count_denied: false, consume: all_or_nothing}
- key: sliding
  rate_limit: {unit: hour, requests_per_unit: 50, algorithm: sliding_window, consume: all_or_nothing}
- key: log
  rate_limit: {unit: hour, requests_per_unit: 50, algorithm: sliding_log, consume: all_or_nothing}
- key: bucket
  rate_limit: {unit: hour, requests_per_unit: 50, algorithm: token_bucket, consume: all_or_nothing}
- key: slots
  rate_limit: {requests_per_unit: 50, algorithm: concurrency, lease: 1h, consume: all_or_nothing}
- key: gate
  rate_limit: {unit: day, requests_per_unit: 20, consume: all_or_nothing}
- key: door
  rate_limit: {period: 1s, requests_per_unit: 0, consume: all_or_nothing}
- key: closed
  rate_limit: {unit: hour, requests_per_unit: 0}
- key: free
  rate_limit: {unit: second, requests_per_unit: 100000, consume: all_or_nothing}
- key: pen
  rate_limit: {unit: hour, requests_per_unit: 1, penalty: 10m, consume: all_or_nothing}
- key: pens
  rate_limit: {unit: hour, requests_per_unit: 1, algorithm: token_bucket, penalty: 10m}
";
const KINDS: [&str; 6] = ["fixed", "gentle", "sliding", "log", "bucket", "slots"];

/// Two instances, with a deny cache of `bytes` bytes.
async fn instances(servers: &Servers, mode: Mode, bytes: usize) -> [Arc<Engine<Counters>>; 2] {
    instances_at([NOON; 2], servers, mode, bytes).await
}

/// [`instances`] with these clocks.
async fn instances_at(
    clocks: [Timestamp; 2],
    servers: &Servers,
    mode: Mode,
    bytes: usize,
) -> [Arc<Engine<Counters>>; 2] {
    let mut both = Vec::new();
    // The mode has the same effect.
    let text = if mode.stop_counting {
        RULES.replace(", consume: all_or_nothing", "")
    } else {
        RULES.into()
    };
    for now in clocks {
        let store = counters(servers.store(PATIENT).await, bytes);
        let clock = Arc::new(ManualClock::new(now));
        both.push(Arc::new(Engine { mode, ..engine(&text, store, &clock) }));
    }
    both.try_into().expect("there are two")
}

/// The number of requests that pass, of each kind. 16 callers send them to two instances
/// in turn.
async fn crowd(
    engines: &[Arc<Engine<Counters>>; 2],
    requests: &[Request],
    rounds: usize,
) -> Vec<u32> {
    let passed: Arc<Vec<AtomicU32>> =
        Arc::new(requests.iter().map(|_| AtomicU32::new(0)).collect());
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let engine = Arc::clone(&engines[caller % 2]);
        let (requests, passed) = (requests.to_vec(), Arc::clone(&passed));
        callers.spawn(async move {
            for round in 0..rounds {
                let kind = (caller / 2 + round) % requests.len();
                let decision = engine.decide(&requests[kind], None).await;
                let decision = decision.expect("the servers answer");
                passed[kind].fetch_add(u32::from(!decision.over_limit), Relaxed);
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller fails");
    }
    passed.iter().map(|it| it.load(Relaxed)).collect()
}

fn stop() -> Mode {
    Mode { stop_counting: true, ..Mode::default() }
}

async fn nothing_is_lost(place: Place, mode: Mode) {
    let servers = Servers::start(place);
    let engines = instances(&servers, mode, 0).await;
    for kind in KINDS {
        let requests =
            [ask(&[kind, "free"]), ask(&["free", "gate", kind]), ask(&[kind, "door", "free"])];
        let [alone, gated, never] = crowd(&engines, &requests, 9).await[..] else {
            unreachable!("there are three")
        };
        let what = format!("{place:?}, {mode:?}, {kind}: {alone} and {gated}");
        assert_eq!(never, 0, "{what}");
        assert!(alone + gated <= 50 && gated <= 20, "{what}");
        // Exactly the passed requests have been counted.
        let left = 50 - alone - gated;
        settles(left, async || remaining(&engines[0], kind).await).await;
        if left > 0 {
            assert_eq!(passed(&engines[1], &ask(&[kind]), 60).await, left as usize, "{what}");
        }
        for mut client in servers.clients() {
            ::redis::cmd("FLUSHALL").exec(&mut client).expect("it runs");
        }
    }
}

/// A test for each deployment.
macro_rules! everywhere {
    ($($name:ident: $mode:expr),*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_server() {
                nothing_is_lost(Place::One, $mode).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_servers() {
                nothing_is_lost(Place::PerSecond, $mode).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_cluster() {
                nothing_is_lost(Place::Cluster, $mode).await;
            }
        }
    )*};
}

everywhere!(
    requests_that_are_refused_cost_nothing: Mode::default(),
    requests_that_are_refused_cost_nothing_told_to_stop: stop()
);

/// The clocks differ by more than the time for which hits are reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_different_clocks_respect_reservations() {
    for place in Place::SEVERAL_SERVERS {
        let servers = Servers::start(place);
        let clocks = [NOON, NOON.plus(Duration::from_secs(11))];
        let engines = instances_at(clocks, &servers, Mode::default(), 0).await;
        for kind in KINDS {
            let requests = [ask(&[kind, "free"]), ask(&["free", kind])];
            let granted: u32 = crowd(&engines, &requests, 8).await.iter().sum();
            assert_eq!(granted, 50, "{place:?}, {kind}");
        }
    }
}

/// Hits that only refused requests reserved are available at once, through any instance.
async fn nobody_is_refused_for_others(place: Place, mode: Mode, bytes: usize) {
    let servers = Servers::start(place);
    let engines = instances(&servers, mode, bytes).await;
    for key in KINDS {
        let refused = [ask(&[key, "free", "door"]), ask(&["closed", "free", key])];
        assert_eq!(crowd(&engines, &refused, 6).await, [0, 0]);
        settles(50, async || remaining(&engines[0], key).await).await;
        assert_eq!(passed(&engines[0], &ask(&[key]), 55).await, 50, "{place:?}, {mode:?}, {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_leave_the_whole_limit() {
    for place in Place::SEVERAL_SERVERS {
        nobody_is_refused_for_others(place, Mode::default(), 0).await;
        nobody_is_refused_for_others(place, Mode::default(), 1 << 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_leave_the_whole_limit_with_if_refused() {
    for place in Place::SEVERAL_SERVERS {
        nobody_is_refused_for_others(place, stop(), 0).await;
        nobody_is_refused_for_others(place, stop(), 1 << 20).await;
    }
}

/// Refused requests never grant a hit of `key`, a limit of one hit: no user is banned.
async fn check_no_ban(place: Place, mode: Mode, key: &str) {
    let servers = Servers::start(place);
    let engines = instances(&servers, mode, 0).await;
    for _ in 0..5 {
        let refused = [ask(&[key, "closed", "free"]), ask(&["door", "free", key])];
        assert_eq!(crowd(&engines, &refused, 3).await, [0, 0]);
        // The clock stands still, so a ban would not end.
        settles(1, async || passed(&engines[0], &ask(&[key]), 1).await).await;
        for mut client in servers.clients() {
            ::redis::cmd("FLUSHALL").exec(&mut client).expect("the server runs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_a_granted_hit_is_not_banned() {
    for place in [Place::One, Place::Cluster, Place::PerSecond] {
        check_no_ban(place, Mode::default(), "pen").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_a_granted_hit_is_not_banned_with_if_refused() {
    for place in [Place::One, Place::Cluster, Place::PerSecond] {
        for key in ["pen", "pens"] {
            check_no_ban(place, stop(), key).await;
        }
    }
}
