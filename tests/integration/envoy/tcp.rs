//! Limits on connections.

use super::front::Fronts;
use testkit::{http, wait::eventually};

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let connect = || http::try_send(front.tcp, "GET", "/", &[], b"").map(|it| it.status).ok();
        // Other tests share this Envoy, but do not use this listener.
        assert_eq!([(); 4].map(|()| connect()), [Some(200), Some(200), None, None]);
        let store = front.store;
        eventually("Envoy to count the refused connections", || {
            (front.envoy.stat(&format!("ratelimit.{store}.cx_closed")) == 2).then_some(())
        });
        assert_eq!(front.envoy.stat(&format!("ratelimit.{store}.error")), 0);
    }
}
