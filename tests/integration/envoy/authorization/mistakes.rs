//! Checks that are set up wrongly. None of them passes, also if Envoy lets pass the requests
//! whose checks fail.

use super::Front;

#[test]
fn mistakes_of_the_operator_do_not_pass_in_either_mode() {
    let front = Front::start(&[]);
    for listener in ["grpc-closed", "grpc-open"] {
        for path in ["/no-domain", "/unknown-domain", "/no-http"] {
            let reply = front.get(listener, path, &[]);
            assert_eq!(reply.status, 500, "{listener}{path}");
            assert_eq!(reply.header("content-type").unwrap(), "application/problem+json");
            assert_eq!(reply.json()["status"], 500, "{listener}{path}");
            for secret in ["nobody", "shop"] {
                assert!(!reply.text().contains(secret), "{listener}{path}: {}", reply.text());
            }
        }
    }
    let metrics = front.service.metrics();
    for reason in ["no_domain", "unknown_domain", "no_http"] {
        let labels = [("reason", reason)];
        let count = metrics.value("tollgate_check_misconfigured_total", &labels);
        assert_eq!(count, 2.0, "{reason}");
    }
    // One line a minute for each reason.
    for line in ["the check names no domain", "`nobody` has no rules", "`shop` have no `http`"] {
        front.service.wait_for_log(line);
    }
    assert_eq!(front.service.log().matches("ext_authz filter").count(), 3);
}

#[test]
fn checks_without_a_domain_have_that_of_the_setting() {
    let front = Front::start(&[("EXT_AUTHZ_DOMAIN", "edge")]);
    let key = [("x-api-key", "k")];
    let statuses = front.statuses(6, "grpc-open", "/no-domain", &key);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(front.get("grpc-open", "/unknown-domain", &key).status, 500);
}
