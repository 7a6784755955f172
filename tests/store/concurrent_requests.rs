//! Many callers of two instances, with requests that depend on counters on several
//! servers.

use std::sync::Arc;

use tokio::task::JoinSet;
use tollgate::{
    descriptor::Request,
    engine::{Engine, decision::Mode},
    time::ManualClock,
};

use super::*;
use crate::deployments::{
    Deployment, Servers, ServiceStore, count_passed, engine, remaining, request_for, service_store,
    wait_until_equal,
};

/// Limits of each kind. `gate` and `door` refuse some requests in every deployment.
const RULES: &str = "
domain: shop
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
async fn instances(servers: &Servers, mode: Mode, bytes: usize) -> [Arc<Engine<ServiceStore>>; 2] {
    instances_at([NOON; 2], servers, mode, bytes).await
}

/// [`instances`] with these clocks.
async fn instances_at(
    clocks: [Timestamp; 2],
    servers: &Servers,
    mode: Mode,
    bytes: usize,
) -> [Arc<Engine<ServiceStore>>; 2] {
    let mut engines = Vec::new();
    // The mode has the same effect.
    let text = if mode.stop_counting {
        RULES.replace(", consume: all_or_nothing", "")
    } else {
        RULES.into()
    };
    for now in clocks {
        let store = service_store(servers.store(PATIENT).await, bytes);
        let clock = Arc::new(ManualClock::new(now));
        engines.push(Arc::new(Engine { mode, ..engine(&text, store, &clock) }));
    }
    engines.try_into().expect("there are two")
}

/// The number of requests that pass, of each kind. 16 callers send them to two instances
/// in turn.
async fn count_passed_of_each(
    engines: &[Arc<Engine<ServiceStore>>; 2],
    requests: &[Request],
    rounds: usize,
) -> Vec<u32> {
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let engine = Arc::clone(&engines[caller % 2]);
        let requests = requests.to_vec();
        callers.spawn(async move {
            let mut passed = vec![0; requests.len()];
            for round in 0..rounds {
                let kind = (caller / 2 + round) % requests.len();
                let decision = engine.decide(&requests[kind], None).await;
                let decision = decision.expect("the servers answer");
                passed[kind] += u32::from(!decision.over_limit);
            }
            passed
        });
    }
    let mut total = vec![0; requests.len()];
    for passed in callers.join_all().await {
        for (total, passed) in total.iter_mut().zip(passed) {
            *total += passed;
        }
    }
    total
}

fn stop_counting() -> Mode {
    Mode { stop_counting: true, ..Mode::default() }
}

async fn check_exact_consumption(deployment: Deployment, mode: Mode) {
    let servers = Servers::start(deployment);
    let engines = instances(&servers, mode, 0).await;
    for kind in KINDS {
        let requests = [
            request_for(&[kind, "free"]),
            request_for(&["free", "gate", kind]),
            request_for(&[kind, "door", "free"]),
        ];
        let [alone, gated, never] = count_passed_of_each(&engines, &requests, 9).await[..] else {
            unreachable!("there are three")
        };
        let context = format!("{deployment:?}, {mode:?}, {kind}: {alone} and {gated}");
        assert_eq!(never, 0, "{context}");
        assert!(alone + gated <= 50 && gated <= 20, "{context}");
        // Exactly the passed requests have been counted.
        let left = 50 - alone - gated;
        wait_until_equal(left, async || remaining(&engines[0], kind).await).await;
        if left > 0 {
            assert_eq!(
                count_passed(&engines[1], &request_for(&[kind]), 60).await,
                left as usize,
                "{context}"
            );
        }
        servers.flush();
    }
}

/// A test for each deployment.
macro_rules! test_each_deployment {
    ($($name:ident: $mode:expr),*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_server() {
                check_exact_consumption(Deployment::One, $mode).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_servers() {
                check_exact_consumption(Deployment::PerSecond, $mode).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_cluster() {
                check_exact_consumption(Deployment::Cluster, $mode).await;
            }
        }
    )*};
}

test_each_deployment!(
    refused_requests_cost_nothing: Mode::default(),
    refused_requests_cost_nothing_with_stop_counting: stop_counting()
);

/// The clocks differ by more than the time for which hits are reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_different_clocks_respect_reservations() {
    for deployment in Deployment::SEVERAL_SERVERS {
        let servers = Servers::start(deployment);
        let clocks = [NOON, NOON.plus(Duration::from_secs(11))];
        let engines = instances_at(clocks, &servers, Mode::default(), 0).await;
        for kind in KINDS {
            let requests = [request_for(&[kind, "free"]), request_for(&["free", kind])];
            let granted: u32 = count_passed_of_each(&engines, &requests, 8).await.iter().sum();
            assert_eq!(granted, 50, "{deployment:?}, {kind}");
        }
    }
}

/// Hits that only refused requests reserved are available at once, through any instance.
async fn check_refused_requests_cost_nothing(deployment: Deployment, mode: Mode, bytes: usize) {
    let servers = Servers::start(deployment);
    let engines = instances(&servers, mode, bytes).await;
    for key in KINDS {
        let refused = [request_for(&[key, "free", "door"]), request_for(&["closed", "free", key])];
        assert_eq!(count_passed_of_each(&engines, &refused, 6).await, [0, 0]);
        wait_until_equal(50, async || remaining(&engines[0], key).await).await;
        assert_eq!(
            count_passed(&engines[0], &request_for(&[key]), 55).await,
            50,
            "{deployment:?}, {mode:?}, {key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_leave_the_whole_limit() {
    for deployment in Deployment::SEVERAL_SERVERS {
        check_refused_requests_cost_nothing(deployment, Mode::default(), 0).await;
        check_refused_requests_cost_nothing(deployment, Mode::default(), 1 << 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_leave_the_whole_limit_with_if_refused() {
    for deployment in Deployment::SEVERAL_SERVERS {
        check_refused_requests_cost_nothing(deployment, stop_counting(), 0).await;
        check_refused_requests_cost_nothing(deployment, stop_counting(), 1 << 20).await;
    }
}

/// Refused requests never grant a hit of `key`, a limit of one hit: no user is banned.
async fn check_no_ban(deployment: Deployment, mode: Mode, key: &str) {
    let servers = Servers::start(deployment);
    let engines = instances(&servers, mode, 0).await;
    for _ in 0..5 {
        let refused = [request_for(&[key, "closed", "free"]), request_for(&["door", "free", key])];
        assert_eq!(count_passed_of_each(&engines, &refused, 3).await, [0, 0]);
        // The clock stands still, so a ban would not end.
        wait_until_equal(1, async || count_passed(&engines[0], &request_for(&[key]), 1).await)
            .await;
        servers.flush();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_a_granted_hit_is_not_banned() {
    for deployment in [Deployment::One, Deployment::Cluster, Deployment::PerSecond] {
        check_no_ban(deployment, Mode::default(), "pen").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_a_granted_hit_is_not_banned_with_if_refused() {
    for deployment in [Deployment::One, Deployment::Cluster, Deployment::PerSecond] {
        for key in ["pen", "pens"] {
            check_no_ban(deployment, stop_counting(), key).await;
        }
    }
}
