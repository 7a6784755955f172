//! The process does not run for a while, or Redis does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::{
    grpc::{self, request_for},
    redis::RedisServer,
    tollgate::Tollgate,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
";

fn start(server: &RedisServer) -> Tollgate {
    let settings = [("REDIS_URL", &server.url()[..]), ("REDIS_TIMEOUT", "500ms")];
    let service = Tollgate::start(RULES, &settings);
    service.wait_until_ready();
    service
}

/// What becomes of the calls of 32 callers until `stop`: how many were made, and why some
/// failed.
async fn calls(service: &Tollgate, stop: &Arc<AtomicBool>) -> (usize, Vec<String>) {
    let mut callers = Vec::new();
    for number in 0..32 {
        let (mut client, stop) = (grpc::connect(service.grpc).await, Arc::clone(stop));
        callers.push(tokio::spawn(async move {
            let (mut made, mut failed) = (0, Vec::new());
            while !stop.load(Relaxed) {
                let request = request_for("shop", &[("user", &format!("u{}", number % 4))]);
                let answer = client.should_rate_limit(request).await;
                failed.extend(answer.err().map(|it| it.message().to_owned()));
                made += 1;
            }
            (made, failed)
        }));
    }
    let mut all = (0, Vec::new());
    for caller in callers {
        let (made, failed) = caller.await.unwrap();
        all.0 += made;
        all.1.extend(failed);
    }
    all
}

/// As in a container that has used up its share of the CPU, or that was suspended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_run_does_not_take_redis_for_silent() {
    let server = RedisServer::start();
    let service = Arc::new(start(&server));
    let stop = Arc::new(AtomicBool::new(false));
    let stalls = {
        let (service, stop) = (Arc::clone(&service), Arc::clone(&stop));
        tokio::task::spawn_blocking(move || {
            for time in [300, 700, 1_500, 300, 700, 3_000] {
                std::thread::sleep(Duration::from_millis(300));
                service.suspend_for(Duration::from_millis(time));
            }
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Relaxed);
        })
    };
    let (made, failed) = calls(&service, &stop).await;
    stalls.await.unwrap();
    assert!(failed.is_empty() && 1_000 < made, "{} of {made}: {failed:?}", failed.len());
    let log = service.log();
    assert!(!log.contains("does not answer") && !log.contains("is lost"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stalls_is_told_in_the_log_once() {
    let server = RedisServer::start();
    let service = start(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let stalls = {
        let stop = Arc::clone(&stop);
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(300));
            server.suspend();
            // Shorter than it takes until the connection is given up.
            std::thread::sleep(Duration::from_millis(700));
            server.resume();
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Relaxed);
            server
        })
    };
    let (made, failed) = calls(&service, &stop).await;
    drop(stalls.await.unwrap());
    assert!(!failed.is_empty() && failed.len() < made, "{failed:?}");
    let log = service.log();
    let lines = log.lines().filter(|it| it.contains("not decided by the counter store"));
    assert_eq!(lines.count(), 1, "{log}");
}
