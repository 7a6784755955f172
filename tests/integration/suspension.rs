//! The process is suspended for a while, or Redis is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use testkit::{
    grpc::{self, request_for},
    redis::RedisServer,
    tollgate::Tollgate,
    wait::eventually_async,
};
use tokio::task::JoinSet;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
";

const CALLERS: usize = 32;

fn start(server: &RedisServer) -> Tollgate {
    let settings = [("REDIS_URL", &server.url()[..]), ("REDIS_TIMEOUT", "500ms")];
    Tollgate::start_ready(RULES, &settings)
}

/// Callers that send requests without pause.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    async fn start(service: &Tollgate) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let mut client = grpc::connect(service.grpc).await;
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            callers.spawn(async move {
                let mut errors = Vec::new();
                while !stop.load(Relaxed) {
                    let request = request_for("shop", &[("user", &format!("u{}", number % 4))]);
                    if let Err(error) = client.should_rate_limit(request).await {
                        errors.push(error.message().to_owned());
                    }
                    calls.fetch_add(1, Relaxed);
                }
                errors
            });
        }
        Self { stop, calls, callers }
    }

    /// Waits until the callers have made some more calls.
    async fn more_calls(&self) {
        let enough = self.calls.load(Relaxed) + 10 * CALLERS;
        eventually_async("more calls", async || self.calls.load(Relaxed) >= enough).await;
    }

    /// Stops the callers and returns all errors.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.callers.join_all().await.concat()
    }
}

/// As a container that has used up its CPU quota, or that was suspended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_process_does_not_take_redis_for_silent() {
    let server = RedisServer::start();
    let service = start(&server);
    let load = Load::start(&service).await;
    // Shorter and longer than the timeout of Redis and the silence after which a
    // connection is closed.
    for millis in [300, 700, 1_500] {
        load.more_calls().await;
        service.suspend_for(Duration::from_millis(millis));
    }
    load.more_calls().await;
    let errors = load.stop().await;
    assert!(errors.is_empty(), "{errors:?}");
    let log = service.log();
    assert!(!log.contains("does not answer") && !log.contains("is lost"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_fail_while_redis_is_suspended_are_logged_once() {
    let server = RedisServer::start();
    let service = start(&server);
    let load = Load::start(&service).await;
    load.more_calls().await;
    server.suspend();
    // Resumed before the connection is closed.
    service.wait_for_log("not decided by the counter store");
    server.resume();
    load.more_calls().await;
    let errors = load.stop().await;
    assert!(!errors.is_empty());
    let log = service.log();
    assert_eq!(log.matches("not decided by the counter store").count(), 1, "{log}");
}
