//! Requests that pass, and requests that are refused.

use super::front::on_each_store;
use testkit::{http, unique_value};

#[test]
fn requests_pass_up_to_the_limit_and_not_beyond() {
    on_each_store(|front| {
        for path in ["/user", "/classic"] {
            let user = unique_value();
            let user = [("x-user", user.as_str())];
            assert_eq!(front.statuses(5, path, &user), [200, 200, 200, 429, 429], "{path}");
            let other = unique_value();
            assert_eq!(front.statuses(1, path, &[("x-user", &other)]), [200], "{path}");
        }
    });
}

#[test]
fn the_same_descriptor_of_two_routes_is_one_counter() {
    on_each_store(|front| {
        let user = unique_value();
        let user = [("x-user", user.as_str())];
        assert_eq!(front.statuses(2, "/user", &user), [200, 200]);
        assert_eq!(front.statuses(2, "/classic", &user), [200, 429]);
    });
}

#[test]
fn one_refused_descriptor_of_several_refuses_the_request() {
    on_each_store(|front| {
        let (region, team) = (unique_value(), unique_value());
        let statuses = [200, 200, 429].map(|expected| {
            // The user and the region are within their limits, the team is not.
            let user = unique_value();
            let headers = [("x-region", &*region), ("x-user", &*user), ("x-team", &*team)];
            (front.get("/all", &headers).status, expected)
        });
        assert!(statuses.iter().all(|(status, expected)| status == expected), "{statuses:?}");
    });
}

#[test]
fn a_descriptor_without_entries_is_not_limited() {
    on_each_store(|front| {
        let replies: Vec<_> = (0..5).map(|_| front.get("/user-or-not", &[])).collect();
        assert!(replies.iter().all(|it| it.status == 200));
        assert!(replies.iter().all(|it| it.header("x-ratelimit-limit").is_none()));
        assert_eq!(front.errors(), 0);
    });
}

#[test]
fn a_descriptor_without_entries_leaves_the_others_in_force() {
    on_each_store(|front| {
        let team = unique_value();
        let team = [("x-team", team.as_str())];
        assert_eq!(front.statuses(3, "/user-or-not-and-team", &team), [200, 200, 429]);
    });
}

#[test]
fn an_unknown_domain_passes() {
    on_each_store(|front| {
        let user = unique_value();
        assert_eq!(front.statuses(5, "/nobody", &[("x-user", &user)]), [200; 5]);
        assert_eq!(front.errors(), 0);
    });
}

#[test]
fn bytes_that_are_not_utf8_are_limited_like_any_others() {
    on_each_store(|front| {
        let mut user = unique_value().into_bytes();
        user.extend_from_slice(b"\xff\xfe\x80");
        let get = |user: &[u8]| http::get(front.http, "/user", &[("x-user", user)]).status;
        assert_eq!([(); 5].map(|()| get(&user)), [200, 200, 200, 429, 429]);
        // A different value, not the same one with the invalid bytes replaced.
        user.pop();
        assert_eq!(get(&user), 200);
        assert_eq!(front.errors(), 0, "Envoy did not accept a reply");
    });
}
