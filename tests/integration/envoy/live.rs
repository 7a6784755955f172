//! Rules that change while clients send requests through Envoy.

use super::front::on_each_store;
use testkit::{unique_value, wait::eventually};

#[test]
fn an_edited_rule_applies_to_the_next_requests() {
    on_each_store(|front| {
        let user = unique_value();
        let get = || front.get("/market", &[("x-user", &user)]);
        let limit = || get().header("x-ratelimit-limit");
        assert_eq!(limit(), None, "there is no rule yet");
        let edit = |limit: u32| {
            let limit = format!("{{ unit: year, requests_per_unit: {limit} }}");
            let rules =
                format!("domain: market\ndescriptors: [{{ key: user, rate_limit: {limit} }}]\n");
            front.service.replace_rules("market.yaml", &rules);
        };

        edit(1000);
        eventually("the new rule", || limit().filter(|it| it == "1000, 1000;w=31536000"));
        assert_eq!(get().status, 200);
        // The counter is kept.
        edit(1);
        eventually("the lower limit", || limit().filter(|it| it == "1, 1;w=31536000"));
        assert_eq!(get().status, 429);

        front
            .service
            .replace_rules("market.yaml", "domain: market\ndescriptors: [{ kye: user }]\n");
        eventually("the mistake in the log", || {
            front.service.log().contains("market.yaml:2:").then_some(())
        });
        assert_eq!(get().status, 429, "a mistake changes nothing");
    });
}
