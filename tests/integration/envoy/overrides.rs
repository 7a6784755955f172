//! Limits in the requests of Envoy.

use super::front::on_each_store;
use testkit::unique_value;

#[test]
fn a_limit_in_the_route_overrides_the_rules() {
    on_each_store(|front| {
        let user = unique_value();
        let replies = [(); 2].map(|()| front.get("/brought-static", &[("x-user", &user)]));
        assert_eq!(replies.each_ref().map(|it| it.status), [200, 429]);
        let limit = replies[0].header("x-ratelimit-limit");
        assert_eq!(limit.as_deref(), Some("1, 1;w=31536000"));
    });
}

#[test]
fn a_limit_in_dynamic_metadata_needs_no_rule() {
    on_each_store(|front| {
        let visitor = unique_value();
        let headers = [("x-visitor", &*visitor)];
        assert_eq!(front.statuses(3, "/brought-two", &headers), [200, 200, 429]);
    });
}

#[test]
fn a_limit_of_none_refuses_everything() {
    on_each_store(|front| {
        let visitor = unique_value();
        assert_eq!(front.statuses(2, "/brought-none", &[("x-visitor", &visitor)]), [429, 429]);
    });
}
