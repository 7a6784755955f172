//! The service is down, silent, or answers 503.

use testkit::{check_tap::Answers, tollgate::Tollgate, unique_value, wait::eventually};

use super::{
    client::Request,
    front::{Front, Kind, Timeouts, Undecided, rules},
};

#[test]
fn nginx_follows_its_policy_in_an_outage() {
    run(Kind::Nginx);
}

#[test]
fn haproxy_follows_its_policy_in_an_outage() {
    run(Kind::Haproxy);
}

#[test]
fn caddy_follows_its_policy_in_an_outage() {
    run(Kind::Caddy);
}

#[test]
fn envoy_follows_its_policy_in_an_outage() {
    run(Kind::EnvoyByHttp);
}

#[test]
fn haproxy_follows_its_policy_after_a_lua_error() {
    let service = Tollgate::start_ready(&rules(), &[]);
    let answered = "    local status =";
    let failing = format!("    error(\"planted\")\n{answered}");
    for undecided in [Undecided::Refuse, Undecided::Pass] {
        let edits = [(answered, failing.as_str())];
        let front = Front::start_edited(Kind::Haproxy, &service, undecided, Timeouts::Long, &edits);
        let path = follows_policy(&front, undecided);
        assert_eq!(front.tap.checks_of(&path), 1);
    }
}

fn run(kind: Kind) {
    let service = Tollgate::start_ready(&rules(), &[]);
    for undecided in [Undecided::Refuse, Undecided::Pass] {
        println!("--- undecided: {undecided:?}");
        let mut front = Front::start(kind, &service, undecided, Timeouts::Long);
        shares_connections(&front);
        down(&mut front, undecided);
        unavailable(&front, undecided);
        let front = Front::start(kind, &service, undecided, Timeouts::Short);
        silent(&front, undecided);
    }
}

fn fresh_request() -> (String, Request) {
    let path = format!("/{}/", unique_value());
    let request = Request::get(&path).key(format!("key-{}", unique_value()));
    (path, request)
}

/// Requests one after the other need one connection, except those of this Caddy, which would
/// mix connections up.
fn shares_connections(front: &Front) {
    let path = format!("/{}/", unique_value());
    let request = Request::get(&path).key(format!("partner-{}", unique_value()));
    assert_eq!(front.statuses(&request), [200; 50]);
    assert_eq!(front.tap.checks_of(&path), 50);
    // HAProxy has a connection for each thread that asked.
    let connections = front.tap.connections();
    let most = if front.kind == Kind::Caddy { 50 } else { 3 };
    assert!(connections <= most, "{connections} connections");
}

fn down(front: &mut Front, undecided: Undecided) {
    front.tap.close();
    for _ in 0..3 {
        follows_policy(front, undecided);
    }
    front.tap.open();
    holds_limits(front);
}

fn unavailable(front: &Front, undecided: Undecided) {
    front.tap.set_answers(Answers::Unavailable);
    // Caddy can pass over a service that does not answer, but no answer.
    let undecided = if front.kind == Kind::Caddy { Undecided::Refuse } else { undecided };
    let path = follows_policy(front, undecided);
    assert_eq!(front.tap.checks_of(&path), 1);
    front.tap.set_answers(Answers::Real);
    holds_limits(front);
}

fn silent(front: &Front, undecided: Undecided) {
    holds_limits(front);
    front.tap.set_answers(Answers::Silence);
    for _ in 0..2 {
        let path = follows_policy(front, undecided);
        // On a busy machine, the time may end before the check is seen.
        assert!(front.tap.checks_of(&path) <= 1, "checks are not repeated");
    }
    front.tap.set_answers(Answers::Real);
    holds_limits(front);
}

/// Sends a request that the service does not decide, and returns its path.
fn follows_policy(front: &Front, undecided: Undecided) -> String {
    let (path, request) = fresh_request();
    let status = front.status(&request);
    let passed = front.application.requests_for(&path).len();
    match undecided {
        Undecided::Refuse => {
            assert!(matches!(status, 502..=504), "{status}");
            assert_eq!(passed, 0);
        }
        Undecided::Pass => assert_eq!((status, passed), (200, 1)),
    }
    path
}

/// Waits until the service decides again. A slow machine may exceed short timeouts meanwhile.
fn holds_limits(front: &Front) {
    eventually("limits to hold", || {
        let (_, request) = fresh_request();
        let statuses = front.statuses(&request);
        let expected = [200, 200, 200, 200, 200, 429];
        if statuses == expected { Ok(()) } else { Err(format!("{statuses:?}")) }
    });
}
