//! Response headers for the client, and the metadata in the access log.

use serde_json::Value;

use super::front::{Front, Fronts};
use testkit::{unique_value, wait::eventually};

const YEAR: u64 = 31_536_000;
const MONTH: u64 = 2_592_000;

#[test]
fn the_headers_state_the_limit_nearest_to_its_end_and_all_policies() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let (region, user, team) = (unique_value(), unique_value(), unique_value());
        let headers = [("x-region", &*region), ("x-user", &*user), ("x-team", &*team)];
        let policies =
            "1000;w=604800, 3;w=31536000;name=\"per_user\", 2;w=2592000;name=\"per_team\"";
        // At the end user and team are exhausted: Envoy names the first of them, and the
        // service the one that refuses.
        for (status, remaining, nearest) in [(200, "1", 2), (200, "0", 2), (429, "0", 3)] {
            let reply = front.get("/all", &headers);
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("x-ratelimit-limit"), Some(format!("{nearest}, {policies}")));
            assert_eq!(reply.header("x-ratelimit-remaining").as_deref(), Some(remaining));
            let reset = |name| reply.header(name).unwrap().parse::<u64>().unwrap();
            assert!((1..=YEAR).contains(&reset("x-ratelimit-reset")));
            // The headers of the service, for clients that use the names without `x-`.
            assert_eq!(reply.header("ratelimit-limit").as_deref(), Some("2"));
            assert_eq!(reply.header("ratelimit-remaining").as_deref(), Some(remaining));
            assert!((1..=MONTH).contains(&reset("ratelimit-reset")));
        }
    }
}

#[test]
fn only_a_refusal_has_the_headers_of_a_refusal() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        for _ in 0..3 {
            let reply = front.get("/user", &[("x-user", &user)]);
            assert_eq!(reply.header("x-envoy-ratelimited"), None);
            assert_eq!(reply.header("retry-after"), None);
        }
        let refused = front.get("/user", &[("x-user", &user)]);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("x-envoy-ratelimited").as_deref(), Some("true"));
        let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=YEAR).contains(&after), "{after}");
    }
}

#[test]
fn the_access_log_names_the_descriptors_and_the_rule() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        front.get("/user", &[("x-user", &user)]);
        let metadata = logged(&front, &user);
        assert_eq!(metadata["domain"], "shop");
        assert_eq!(metadata["descriptors"][0]["entries"][0], format!("user={user}"));
        assert_eq!(metadata["metadata"]["tier"], "basic");
        assert_eq!(metadata["rule"]["key"], "shop.user");
        assert_eq!(metadata["rule"]["name"], "per_user");
    }
}

fn logged(front: &Front<'_>, user: &str) -> Value {
    let line = eventually("a line in the access log", || {
        let found = |line: &Value| line["user"] == user;
        front.envoy.access_log().into_iter().find(found)
    });
    line["metadata"].clone()
}
