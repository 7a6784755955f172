//! A real nginx, HAProxy and Caddy that ask before they serve a request, with the files in
//! `examples/`.
//!
//! Limits are per year here, so that no window ends during a test.

mod cases;
mod client;
mod examples;
mod front;
mod outages;
mod two_protocols;

use testkit::{redis::RedisServer, tollgate::Tollgate, web_proxy::WebProxyKind};

use self::{
    cases::CASES,
    front::{Front, Timeouts, Undecided, rules},
};

/// Runs all cases in turn through one proxy that fails closed and one that fails open, with
/// counters in memory and in Redis.
fn run_cases(kind: WebProxyKind) {
    let redis = RedisServer::start();
    let memory = Tollgate::start_ready(&rules(), &[]);
    let shared = Tollgate::start_ready(&rules(), &[("REDIS_URL", &redis.url())]);
    for (store, service) in [("memory", &memory), ("redis", &shared)] {
        for undecided in [Undecided::Refuse, Undecided::Pass] {
            let front = Front::start(kind, service.http, undecided, Timeouts::Long);
            for (claim, case) in CASES {
                println!("--- counters in {store}, undecided: {undecided:?}: {claim}");
                case(&front);
            }
            // Panics if a check had a body.
            assert!(!front.tap.checks().is_empty());
        }
    }
}

#[test]
fn nginx_enforces_limits() {
    run_cases(WebProxyKind::Nginx);
}

#[test]
fn haproxy_enforces_limits() {
    run_cases(WebProxyKind::Haproxy);
}

#[test]
fn caddy_enforces_limits() {
    run_cases(WebProxyKind::Caddy);
}
