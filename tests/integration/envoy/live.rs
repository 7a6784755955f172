//! Rules that change while clients send requests through Envoy.

use super::front::{Front, Fronts};
use testkit::{unique_value, wait::eventually};

#[test]
fn an_edited_rule_applies_to_the_next_requests() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        let headers = [("x-user", user.as_str())];
        let first = front.get("/market", &headers);
        assert_eq!(first.header("x-ratelimit-limit"), None, "there is no rule yet");

        set_limit(&front, 1000);
        wait_for_limit(&front, &headers, "1000, 1000;w=31536000");
        assert_eq!(front.get("/market", &headers).status, 200);
        // The counter is kept.
        set_limit(&front, 1);
        wait_for_limit(&front, &headers, "1, 1;w=31536000");
        assert_eq!(front.get("/market", &headers).status, 429);

        let invalid = "domain: market\ndescriptors: [{ kye: user }]\n";
        front.service.replace_rules("market.yaml", invalid);
        front.service.wait_for_log("market.yaml:2:");
        assert_eq!(front.get("/market", &headers).status, 429, "an error changes nothing");
    }
}

fn set_limit(front: &Front<'_>, limit: u32) {
    let limit = format!("{{ unit: year, requests_per_unit: {limit} }}");
    let rules = format!("domain: market\ndescriptors: [{{ key: user, rate_limit: {limit} }}]\n");
    front.service.replace_rules("market.yaml", &rules);
}

fn wait_for_limit(front: &Front<'_>, headers: &[(&str, &str)], expected: &str) {
    eventually("the new limit", || {
        front.get("/market", headers).header("x-ratelimit-limit").as_deref() == Some(expected)
    });
}
