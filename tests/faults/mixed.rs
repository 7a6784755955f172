//! What callers that ask for much, lists that are full and pages that are large do to a
//! caller that behaves well: no more than as many ordinary requests in their place.

use std::{
    net::SocketAddr,
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    suite::ALONE,
    support::{
        eventually,
        grpc::{ask, connect, descriptor},
        http,
        redis::RedisServer,
        tollgate::Tollgate,
    },
};

/// How long each load lasts.
const TIME: Duration = Duration::from_secs(3);
/// How long a caller waits who behaves well.
const PACE: Duration = Duration::from_millis(4);

/// What others do meanwhile.
#[derive(Clone, Copy, Debug)]
struct Load {
    callers: u64,
    /// How many descriptors each request has.
    descriptors: u64,
    /// What each is about.
    about: fn(u64) -> (&'static str, String),
    /// How long each waits in between: there is CPU left for everybody.
    pause: Duration,
    scrapes: bool,
}

const NONE: Load = Load {
    callers: 0,
    descriptors: 0,
    about: |_| ("user", String::new()),
    pause: Duration::from_millis(5),
    scrapes: false,
};
/// Ordinary requests.
const ORDINARY: Load =
    Load { callers: 8, descriptors: 1, about: |it| ("user", format!("o{}", it % 999)), ..NONE };

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    asked: u64,
    /// Those decided without Redis, as it did not answer in time.
    by_policy: u64,
    failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.by_policy += other.by_policy;
        self.failed += other.failed;
    }
}

struct Bench {
    /// The load is at the first of them.
    services: [Tollgate; 2],
    _redis: RedisServer,
}

impl Bench {
    fn start() -> Self {
        let mut rules = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 4000000000, on_error: allow }
- key: log
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: sliding_log, on_error: allow }
- key: tied
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: sliding_log, on_error: allow,
                consume: all_or_nothing }
"
        .to_owned();
        for it in 0..20_000 {
            rules += &format!(
                "- {{ key: r, value: v{it}, rate_limit: {{ unit: hour, requests_per_unit: 9 }} }}\n"
            );
        }
        let redis = RedisServer::start();
        let settings = [("REDIS_URL", &*redis.url()), ("RESPONSE_DYNAMIC_METADATA", "always")];
        let services = [(); 2].map(|()| Tollgate::start(&rules, &settings));
        for service in &services {
            let ready = || (http::get(service.http, "/ready", &[]).status == 200).then_some(());
            eventually("readiness", ready);
        }
        Self { services, _redis: redis }
    }

    /// What callers notice at each instance while there is `load` at the first.
    async fn beside(&self, load: Load) -> [Count; 2] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut others = JoinSet::new();
        for caller in 0..load.callers {
            others.spawn(burden(self.services[0].grpc, load, caller, Arc::clone(&stop)));
        }
        if load.scrapes {
            let (port, stop) = (self.services[0].http, Arc::clone(&stop));
            others.spawn_blocking(move || {
                while !stop.load(Relaxed) {
                    assert_eq!(http::get(port, "/metrics", &[]).status, 200);
                    std::thread::sleep(60 * load.pause);
                }
            });
        }
        let mut callers = JoinSet::new();
        for number in 0..8 {
            let (place, port) = (number % 2, self.services[number % 2].grpc);
            callers.spawn(async move { (place, well(port, number).await) });
        }
        let mut counts = [Count::default(); 2];
        while let Some(counted) = callers.join_next().await {
            let (place, count) = counted.unwrap();
            counts[place] += count;
        }
        stop.store(true, Relaxed);
        while let Some(other) = others.join_next().await {
            other.unwrap();
        }
        counts
    }
}

/// Asks for much.
async fn burden(port: SocketAddr, load: Load, caller: u64, stop: Arc<AtomicBool>) {
    let (mut client, mut number) = (connect(port).await, caller << 32);
    while !stop.load(Relaxed) {
        let mut request = ask("shop", &[]);
        request.descriptors.clear();
        for _ in 0..load.descriptors {
            number += 1;
            let (key, value) = (load.about)(number);
            request.descriptors.push(descriptor(&[(key, &value)]));
        }
        let answer = client.should_rate_limit(request).await.unwrap().into_inner();
        assert_eq!(answer.statuses.len() as u64, load.descriptors);
        sleep(load.pause).await;
    }
}

/// Asks for one thing at a time.
async fn well(port: SocketAddr, number: usize) -> Count {
    let (mut client, mut count) = (connect(port).await, Count::default());
    let begin = Instant::now();
    while begin.elapsed() < TIME {
        let value = format!("w{}", number + usize::try_from(count.asked % 97).unwrap() * 8);
        count.asked += 1;
        match client.should_rate_limit(ask("shop", &[("user", &value)])).await {
            Ok(answer) => {
                let metadata = answer.into_inner().dynamic_metadata;
                let degraded = metadata.is_some_and(|it| it.fields.contains_key("degraded"));
                count.by_policy += u64::from(degraded);
            }
            Err(_) => count.failed += 1,
        }
        sleep(PACE).await;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_those_who_ask_for_much() {
    let _alone = ALONE.lock().await;
    let bench = Bench::start();
    // The list is full from now on.
    bench.beside(Load { about: |_| ("log", "full".into()), ..ORDINARY }).await;
    let full = |_| ("log", "full".to_owned());
    let hundred =
        Load { callers: 1, descriptors: 100, pause: Duration::from_millis(20), ..ORDINARY };
    let tied = |it| ("tied", format!("t{}", it % 150));
    let loads = [
        ("a full log", Load { about: full, ..ORDINARY }),
        ("logs", Load { about: |it| ("log", format!("l{}", it % 50)), ..ORDINARY }),
        ("a full log a hundred times", Load { about: full, ..hundred }),
        ("a hundred logs that depend on each other", Load { about: tied, ..hundred }),
        ("a hundred windows", hundred),
        ("scrapes", Load { scrapes: true, ..NONE }),
    ];
    for (name, load) in loads {
        let control = bench.beside(ORDINARY).await;
        let found = bench.beside(load).await;
        println!("{name}: {found:?}; ordinary requests: {control:?}");
        for (found, control) in found.iter().zip(control) {
            assert_eq!(found.failed, 0, "{name}");
            let most = 2 * control.by_policy + found.asked / 20;
            assert!(found.by_policy <= most, "{name}: {found:?}, control {control:?}");
            assert!(control.asked <= 2 * found.asked, "{name}: {found:?}, control {control:?}");
        }
    }
}
