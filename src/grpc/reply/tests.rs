use std::{num::NonZeroU32, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message;

use super::*;
use crate::{
    answer::{HeaderNames, MetadataWhen},
    config::{self, CompileOptions, SourceFile},
    counter::KeyFormat,
    descriptor::{Descriptor, Entry},
    engine::{
        Engine,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    grpc::pb::envoy::service::ratelimit::v3::RateLimitResponse,
    limit::{Hits, Limit, Unit, Window},
    rules::spec::OnError,
    store::memory::Memory,
    time::{ManualClock, Timestamp},
};

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: minute, requests_per_unit: 1, name: per_user}}
- {key: free, rate_limit: {unlimited: true}, metadata: {tier: free, list: [1, {deep: null}]}}
- {key: login, rate_limit: {unit: minute, requests_per_unit: 0, penalty: 10m}}
- {key: trial, shadow_mode: true, rate_limit: {unit: month, requests_per_unit: 0}}
- {key: calls, rate_limit: {algorithm: concurrency, requests_per_unit: 1, lease: 60s}}
- {key: slow, rate_limit: {unit: hour, unit_multiplier: 3, requests_per_unit: 4000000000}}
";

fn engine() -> Engine<Memory> {
    let file = SourceFile { name: "rules.yaml".into(), bytes: RULES.into() };
    let rules = config::compile(&[file], CompileOptions::default()).unwrap().rules;
    Engine {
        rules: Arc::new(ArcSwap::from_pointee(rules)),
        store: Memory::new(1_000),
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_767_225_601))),
        keys: KeyFormat::default(),
        mode: Mode::default(),
        fallback: Fallback::new(FallbackSettings::default()),
    }
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let key = select(&["user", "free", "login", "trial", "calls", "slow", "unknown"][..]);
    let value = vec(any::<u8>(), 0..150);
    let hits =
        prop_oneof![any::<u64>().prop_map(Hits::Add), Just(Hits::Add(1)), Just(Hits::Refund(3))];
    let limit = prop_oneof![3 => Just(None), 1 => any::<(u32, NonZeroU32)>().prop_map(Some)];
    (key, value, hits, any::<bool>(), limit).prop_map(|(key, value, hits, has_own_hits, limit)| {
        let limit = limit.and_then(|(requests, multiplier)| {
            Some(Limit::fixed(requests, Window::times(Unit::Second, multiplier)?))
        });
        let entries = vec![Entry { key: key.into(), value: value.into() }];
        Descriptor { entries, hits: hits.capped(), has_own_hits, limit }
    })
}

fn settings() -> impl Strategy<Value = AnswerSettings> {
    let metadata = vec![MetadataWhen::Refused, MetadataWhen::Always, MetadataWhen::Never];
    (select(metadata), any::<bool>()).prop_map(|(metadata, has_headers)| {
        let headers = has_headers.then(|| HeaderNames {
            limit: "limit".into(),
            remaining: "remaining".into(),
            reset: "reset".into(),
        });
        AnswerSettings { headers, metadata }
    })
}

proptest! {
    #[test]
    fn a_reply_is_the_message_that_prost_writes(
        domain in select(&["shop", "other", "\u{fffd}"][..]),
        descriptors in vec(descriptor(), 1..6),
        hits_addend in select(&[0, 1, u32::MAX][..]),
        settings in settings(),
        is_degraded in any::<bool>(),
    ) {
        let request = Request { domain: domain.into(), descriptors, hits_addend };
        let mut decision = engine().decide(&request, None).now_or_never().unwrap().unwrap();
        if is_degraded {
            decision.policies.push(OnError::Allow);
        }
        let reply = write(&request, &decision, &settings);
        let (prefix, message) = reply.split_first_chunk::<PREFIX>().unwrap();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        prop_assert_eq!(&prefix[..], &[&[0], &length[..]].concat());
        let expected = response::build(&request, &decision, &settings);
        prop_assert_eq!(RateLimitResponse::decode(message), Ok(expected));
    }
}
