//! Requests that cost more than one hit, or less.

use super::front::{Front, Fronts};
use testkit::{unique_value, wait::eventually};

/// The remaining hits of the limit of ten, without a charge.
fn remaining(front: &Front<'_>, budget: &str) -> String {
    let reply = front.get("/look", &[("x-budget", budget)]);
    reply.header("x-ratelimit-remaining").unwrap()
}

#[test]
fn a_request_may_cost_a_fixed_number_of_hits() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let budget = unique_value();
        assert_eq!(front.statuses(3, "/hits-4", &[("x-budget", &budget)]), [200, 200, 429]);
    }
}

#[test]
fn a_header_may_set_the_number_of_hits() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let budget = unique_value();
        let mut statuses = Vec::new();
        for hits in ["7", "1.9", "2", "1"] {
            let headers = [("x-budget", &*budget), ("x-hits", hits)];
            statuses.push(front.get("/hits-of-header", &headers).status);
        }
        assert_eq!(statuses, [200, 200, 200, 429]);
    }
}

#[test]
fn a_request_without_hits_reads_and_charges_nothing() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let budget = unique_value();
        let headers = [("x-budget", &*budget)];
        assert_eq!(front.statuses(12, "/look", &headers), [200; 12]);
        assert_eq!(remaining(&front, &budget), "10");
        let hits = |hits| [("x-budget", &*budget), ("x-hits", hits)];
        assert_eq!(front.get("/hits-of-header", &hits("10")).status, 200);
        // At the limit and not over it.
        assert_eq!(front.get("/look", &headers).status, 200);
        assert_eq!(front.get("/hits-of-header", &hits("1")).status, 429);
        assert_eq!(front.get("/look", &headers).status, 429);
    }
}

#[test]
fn negative_hits_are_a_refund() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let budget = unique_value();
        let headers = [("x-budget", &*budget)];
        // Nothing has been charged, so there is nothing to refund.
        assert_eq!(front.get("/refund-3", &headers).status, 200);
        assert_eq!(remaining(&front, &budget), "10");
        assert_eq!(front.get("/hits-4", &headers).status, 200);
        assert_eq!(remaining(&front, &budget), "6");
        assert_eq!(front.get("/refund-3", &headers).status, 200);
        assert_eq!(remaining(&front, &budget), "9");
        assert_eq!(front.errors(), 0);
    }
}

#[test]
fn a_reply_may_be_charged_when_it_is_complete() {
    let fronts = Fronts::shared();
    for front in fronts.each_store() {
        let budget = unique_value();
        let headers = [("x-budget", &*budget), ("x-cost", "6")];
        for left in ["4", "0"] {
            assert_eq!(front.get("/charge-reply", &headers).status, 200);
            eventually(&format!("{left} remaining"), || {
                (remaining(&front, &budget) == left).then_some(())
            });
        }
        assert_eq!(front.get("/charge-reply", &headers).status, 429);
    }
}
