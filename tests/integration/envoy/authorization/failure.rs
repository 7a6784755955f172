//! Envoy without the service, and after the service returns.

use testkit::{tollgate::Tollgate, unique_value, wait::eventually};

use super::{Front, LISTENERS, OTHER_RULES, RULES};

#[test]
fn envoy_follows_its_failure_mode_without_the_service_and_asks_again_when_it_returns() {
    let mut front = Front::start(&[("DRAIN_DELAY", "0s")]);
    let key = unique_value();
    let key = [("x-api-key", key.as_str())];
    for listener in LISTENERS {
        assert_eq!(front.get(listener, "/a", &key).status, 200, "{listener}");
    }
    front.service.stop();
    for (listener, expected) in LISTENERS.into_iter().zip([503, 200, 503, 200]) {
        assert_eq!(front.statuses(3, listener, "/a", &key), [expected; 3], "{listener}");
    }

    front.service = Tollgate::start_at(front.service.host(), RULES, &[]);
    front.service.replace_rules("other.yaml", OTHER_RULES);
    for listener in LISTENERS {
        eventually("Envoy to reach the service", || {
            let reply = front.get(listener, "/a", &[("x-burst-key", "k")]);
            reply.header("ratelimit").is_some()
        });
        let key = unique_value();
        let statuses = front.statuses(6, listener, "/a", &[("x-api-key", &key)]);
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429], "{listener}");
    }
}
