//! A real nginx, HAProxy and Caddy that ask before they serve a request, with the files in
//! `examples/`, and a real Envoy with its filter `ext_authz`.
//!
//! Limits are per year here, so that no window ends during a test.

mod cases;
mod client;
mod envoy;
mod examples;
mod front;
mod outages;
mod two_protocols;

use testkit::{redis::RedisServer, tollgate::Tollgate};

use self::{
    cases::CASES,
    front::{Front, Kind, Timeouts, Undecided, rules},
};

/// Runs all cases in turn through one proxy that fails closed and one that fails open, with
/// counters in memory and in Redis.
fn run_cases(kind: Kind) {
    let redis = RedisServer::start();
    let memory = Tollgate::start_ready(&rules(), &[]);
    let shared = Tollgate::start_ready(&rules(), &[("REDIS_URL", &redis.url())]);
    for (store, service) in [("memory", &memory), ("redis", &shared)] {
        for undecided in [Undecided::Refuse, Undecided::Pass] {
            let front = Front::start(kind, service, undecided, Timeouts::Long);
            for (claim, case) in CASES {
                println!("--- counters in {store}, undecided: {undecided:?}: {claim}");
                case(&front);
            }
            if kind != Kind::EnvoyByGrpc {
                // Panics if a check had a body.
                assert!(!front.tap.checks().is_empty());
            }
        }
    }
}

#[test]
fn nginx_enforces_limits() {
    run_cases(Kind::Nginx);
}

#[test]
fn haproxy_enforces_limits() {
    run_cases(Kind::Haproxy);
}

#[test]
fn caddy_enforces_limits() {
    run_cases(Kind::Caddy);
}

#[test]
fn envoy_enforces_limits_that_it_asks_about_by_http() {
    run_cases(Kind::EnvoyByHttp);
}

#[test]
fn envoy_enforces_limits_that_it_asks_about_by_grpc() {
    run_cases(Kind::EnvoyByGrpc);
}
