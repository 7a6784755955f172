//! Limits in the requests of Envoy.

use super::front::Fronts;
use testkit::unique_value;

#[test]
fn a_limit_in_the_route_overrides_the_rules() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let user = unique_value();
        let first = front.get("/brought-static", &[("x-user", &user)]);
        let second = front.get("/brought-static", &[("x-user", &user)]);
        assert_eq!((first.status, second.status), (200, 429));
        let limit = first.header("x-ratelimit-limit");
        assert_eq!(limit.as_deref(), Some("1, 1;w=31536000"));
    }
}

#[test]
fn a_limit_in_dynamic_metadata_needs_no_rule() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let visitor = unique_value();
        let headers = [("x-visitor", &*visitor)];
        assert_eq!(front.statuses(3, "/brought-two", &headers), [200, 200, 429]);
    }
}

#[test]
fn a_limit_of_none_refuses_everything() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let visitor = unique_value();
        assert_eq!(front.statuses(2, "/brought-none", &[("x-visitor", &visitor)]), [429, 429]);
    }
}
