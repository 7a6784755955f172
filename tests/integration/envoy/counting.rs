//! Requests that pass, and requests that are refused.

use super::front::Fronts;
use testkit::{http, unique_value};

#[test]
fn requests_pass_up_to_the_limit_and_not_beyond() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        for path in ["/user", "/classic"] {
            let user = unique_value();
            let user = [("x-user", user.as_str())];
            assert_eq!(front.statuses(5, path, &user), [200, 200, 200, 429, 429], "{path}");
            let other = unique_value();
            assert_eq!(front.statuses(1, path, &[("x-user", &other)]), [200], "{path}");
        }
    }
}

#[test]
fn the_same_descriptor_of_two_routes_is_one_counter() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        let user = [("x-user", user.as_str())];
        assert_eq!(front.statuses(2, "/user", &user), [200, 200]);
        assert_eq!(front.statuses(2, "/classic", &user), [200, 429]);
    }
}

#[test]
fn one_refused_descriptor_of_several_refuses_the_request() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let (region, team) = (unique_value(), unique_value());
        for expected in [200, 200, 429] {
            // The user and the region are within their limits, the team is not.
            let user = unique_value();
            let headers = [("x-region", &*region), ("x-user", &*user), ("x-team", &*team)];
            assert_eq!(front.get("/all", &headers).status, expected);
        }
    }
}

#[test]
fn a_descriptor_without_entries_is_not_limited() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        for _ in 0..5 {
            let reply = front.get("/user-or-not", &[]);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("x-ratelimit-limit"), None);
        }
        assert_eq!(front.errors(), 0);
    }
}

#[test]
fn a_descriptor_without_entries_leaves_the_others_in_force() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let team = unique_value();
        let team = [("x-team", team.as_str())];
        assert_eq!(front.statuses(3, "/user-or-not-and-team", &team), [200, 200, 429]);
    }
}

#[test]
fn an_unknown_domain_passes() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        assert_eq!(front.statuses(5, "/nobody", &[("x-user", &user)]), [200; 5]);
        assert_eq!(front.errors(), 0);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_limited_like_any_others() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let mut user = unique_value().into_bytes();
        user.extend_from_slice(b"\xff\xfe\x80");
        let get = |user: &[u8]| http::get(front.http, "/user", &[("x-user", user)]).status;
        for expected in [200, 200, 200, 429, 429] {
            assert_eq!(get(&user), expected);
        }
        // A different value, not the same one with the invalid bytes replaced.
        user.pop();
        assert_eq!(get(&user), 200);
        assert_eq!(front.errors(), 0, "Envoy did not accept a reply");
    }
}
