//! The fuzz target for replies of Redis servers, Redis Cluster nodes and Sentinels.

use std::{slice, time::Duration};

use redis::{Parser, Value};
use smallvec::smallvec;

use super::{
    batch::{Batch, ScriptScope},
    call::{Call, CallKind, CallResult},
    cluster::slots_reply,
    coalesced::{Coalesced, IncrementReply},
    count::FixedWindowHits,
    node_error::NodeError,
    replies::PartReply,
    sentinels,
    server_error::{cannot_increment, error_text, requires_reconnect},
    settings::RedisAddress,
    slot_vote::{SlotRange, majority},
    slots::SLOT_COUNT,
};
use crate::{
    counter::KeyFormat,
    limit::{Algorithm, Hits, Limit, Unit, Window},
    store::{
        Charge, Consume, Enforced, OnTimeout,
        script::{Holder, Settlement},
    },
    time::Timestamp,
};

/// More replies than this only slow the fuzzer down.
const MAX_REPLIES: usize = 8;
/// The time of every call.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Parses replies in the Redis protocol, and interprets each as every kind of reply.
///
/// # Panics
///
/// If a result is outside its range.
pub fn check_replies(input: &[u8]) {
    let values = parse(input);
    check_batch(&values);
    for (index, value) in values.iter().enumerate() {
        check_single_calls(value);
        check_error(value);
        let next = values.get(index + 1).unwrap_or(&Value::Nil);
        check_increment(value, next);
        check_report(value, next);
    }
    check_slot_maps(&values);
}

fn parse(mut input: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    let mut parser = Parser::new();
    while !input.is_empty() && values.len() < MAX_REPLIES {
        let Ok(value) = parser.parse_value(&mut input) else { break };
        values.push(value);
    }
    values
}

fn charges() -> Vec<Charge> {
    let algorithms = [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 3 },
        Algorithm::LeakyBucket { burst: 9 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(9) },
    ];
    let mut charges = Vec::new();
    for algorithm in algorithms {
        let fixed = Limit::fixed(5, Window::new(Unit::Minute));
        charges.push(charge(Limit { algorithm, ..fixed.clone() }));
        charges.push(charge(Limit { algorithm, penalty: Duration::from_secs(90), ..fixed }));
    }
    charges
}

fn charge(limit: Limit) -> Charge {
    Charge {
        counter: KeyFormat::default().counter(b"domain", [].into_iter(), &limit, NOW),
        limit,
        hits: Hits::Add(1),
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn holder() -> Holder {
    Holder { id: 1, expires_at: NOW.plus(Duration::from_secs(1)) }
}

/// Interprets `reply` as the reply to one charge of each algorithm.
fn check_single_calls(reply: &Value) {
    for charge in charges() {
        let counted = Call::new(slice::from_ref(&charge), NOW);
        check_call(&counted, reply);
        for holder in [None, Some(holder())] {
            let kind = CallKind::Decide(holder);
            check_call(&Call::with_kind(smallvec![charge.clone()], NOW, kind), reply);
        }
        let kind = CallKind::Settle(smallvec![Settlement::Set(1)]);
        check_call(&Call::with_kind(smallvec![charge], NOW, kind), reply);
    }
}

fn check_call(call: &Call, reply: &Value) {
    let batch = Batch::new(&[call]);
    let parts = batch.parts(ScriptScope::AllKeys);
    let results = vec![Ok(PartReply::Value(reply.clone()))];
    for result in batch.call_results(&[call], &parts, results) {
        check_result(call, &result);
    }
}

/// Interprets `values` as the replies to a batch of several calls.
fn check_batch(values: &[Value]) {
    let charges = charges();
    let refund = Charge { hits: Hits::Refund(2), ..charges[0].clone() };
    let settlement = CallKind::Settle(smallvec![Settlement::Set(1)]);
    let calls = [
        Call::new(&charges[..1], NOW),
        Call::new(&charges[..1], NOW),
        Call::new(&[refund], NOW),
        Call::with_kind(charges[2..4].into(), NOW, CallKind::Decide(None)),
        Call::with_kind(charges[4..7].into(), NOW, CallKind::Decide(Some(holder()))),
        Call::with_kind(smallvec![charges[8].clone()], NOW, settlement),
    ];
    let calls: Vec<&Call> = calls.iter().collect();
    let batch = Batch::new(&calls);
    for scope in [ScriptScope::AllKeys, ScriptScope::OneSlot] {
        let parts = batch.parts(scope);
        let mut replies = Vec::new();
        for value in values.iter().take(parts.len()) {
            replies.push(Ok(PartReply::Value(value.clone())));
        }
        replies.resize(parts.len(), Err(NodeError::TryAgain));
        let results = batch.call_results(&calls, &parts, replies);
        assert_eq!(results.len(), calls.len());
        for (call, result) in calls.iter().zip(&results) {
            check_result(call, result);
        }
    }
}

fn check_result(call: &Call, result: &CallResult) {
    let Ok(replies) = result else { return };
    if matches!(call.kind, CallKind::Settle(_)) {
        assert!(replies.is_empty());
        return;
    }
    assert_eq!(replies.len(), call.charges.len());
    for (charge, reply) in call.charges.iter().zip(replies) {
        let Some(reply) = reply else { continue };
        for result in [reply.if_granted, reply.if_refused] {
            let outcome = result.outcome(charge, call.now);
            assert!(outcome.remaining <= charge.limit.capacity(), "{charge:?}: {outcome:?}");
            assert!(outcome.used <= 2 * Hits::MAX, "{charge:?}: {outcome:?}");
            assert!(outcome.banned <= charge.limit.penalty, "{charge:?}: {outcome:?}");
        }
    }
}

/// Interprets two values as the replies to INCRBY and PTTL.
fn check_increment(count: &Value, ttl: &Value) {
    let hits = FixedWindowHits::new(&charges()[0], NOW);
    let coalesced = Coalesced::new(&[&hits, &hits]);
    assert_eq!(coalesced.increments.len(), 1, "the key is the same");
    let increment = &coalesced.increments[0];
    let reply = match increment.parse_replies(count, ttl) {
        IncrementReply::Added(before) | IncrementReply::ExpiresEarly(before) => {
            PartReply::Value(before)
        }
        IncrementReply::WasNegative(missing) => increment.two_step_reply(missing, ttl),
        IncrementReply::NotAdded | IncrementReply::Failed => return,
    };
    for slice in &coalesced.slices {
        let _ = slice.counter_before(&reply);
    }
}

fn check_error(value: &Value) {
    let Value::ServerError(error) = value else { return };
    let error = error.clone().into();
    let text = error_text(&error);
    assert!(!text.contains(['\n', '\r']) && text.len() < 2_000, "{text:?}");
    let _ = (requires_reconnect(&error), cannot_increment(&error));
    let _ = NodeError::from(&error);
}

/// Interprets two values as the replies of a Sentinel.
fn check_report(fields: &Value, address: &Value) {
    if let Ok(report) = sentinels::parse_report(fields.clone(), address.clone()) {
        assert!(matches!(report.address, RedisAddress::Tcp { .. }));
    }
}

/// Interprets the values as the replies of nodes to CLUSTER SLOTS.
fn check_slot_maps(values: &[Value]) {
    let from = RedisAddress::Tcp { host: "node".into(), port: 6379 };
    let mut maps = Vec::new();
    for value in values {
        if let Some(map) = slots_reply::parse(value, &from) {
            for range in &map {
                assert!(range.first <= range.last && range.last < SLOT_COUNT, "{range:?}");
            }
            maps.push(map);
        }
    }
    if maps.len() > 1 {
        let known = maps[0].clone();
        let owner = |slot| owner_in(&known, slot);
        check_sorted(&majority(&maps, owner));
    }
}

fn owner_in(map: &[SlotRange], slot: u16) -> Option<&RedisAddress> {
    let range = map.iter().find(|range| (range.first..=range.last).contains(&slot))?;
    Some(&range.owner)
}

fn check_sorted(map: &[SlotRange]) {
    for pair in map.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::check_replies;

    #[test]
    fn mutated_replies_give_results_within_their_ranges() {
        testkit::fuzz::run("redis", check_replies);
    }
}
