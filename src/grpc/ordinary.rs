//! Reads the messages that proxies send, in one pass and without the messages of prost.
//!
//! What is rare is left to prost: overrides, unknown fields, many elements, and all that is
//! malformed. So this module makes no errors, and the tests compare it with prost.

use axum::http::HeaderMap;
use bytes::{Buf, Bytes};
use prost::encoding::decode_varint;

use crate::{
    descriptor::{Descriptor, Entry, Request, envoy::StatedHits},
    limit::Hits,
};

/// The most memory of the elements of a request: less than that of the buffers that other calls
/// need, so that it counts as a part of [`CALL_BYTES`](crate::budget::CALL_BYTES).
const MOST_BYTES: usize = 4 << 10;

/// The flag and the length before a message.
const PREFIX: usize = 5;

/// The first bytes of the fields: their numbers and wire types.
const LENGTH_1: u8 = 0x0a;
const LENGTH_2: u8 = 0x12;
const LENGTH_3: u8 = 0x1a;
const VARINT_1: u8 = 0x08;
const VARINT_3: u8 = 0x18;
const VARINT_4: u8 = 0x20;

/// The request in the body of a call, with which it shares memory. `None` if prost has to read it.
pub fn read(headers: &HeaderMap, body: &Bytes) -> Option<Request> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>()?;
    let [flag, length @ ..] = prefix;
    let is_whole = usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len());
    // Even an uncompressed message is refused if it has an encoding that is unknown.
    if *flag != 0 || !is_whole || headers.contains_key("grpc-encoding") {
        return None;
    }
    Reader { body, elements: 0 }.request(message)
}

struct Reader<'a> {
    body: &'a Bytes,
    /// The memory of the elements so far.
    elements: usize,
}

impl Reader<'_> {
    fn request(mut self, mut rest: &[u8]) -> Option<Request> {
        let mut request = Request { domain: Bytes::new(), descriptors: Vec::new(), hits_addend: 0 };
        while rest.has_remaining() {
            match rest.get_u8() {
                LENGTH_1 => request.domain = self.bytes(&mut rest)?,
                LENGTH_2 => {
                    let descriptor = self.descriptor(field(&mut rest)?)?;
                    request.descriptors.push(descriptor);
                }
                VARINT_3 => request.hits_addend = number(&mut rest)?.try_into().ok()?,
                _ => return None,
            }
        }
        if request.hits_addend != 0 {
            share_hits(&mut request);
        }
        Some(request)
    }

    fn descriptor(&mut self, mut rest: &[u8]) -> Option<Descriptor> {
        self.count::<Descriptor>()?;
        let mut entries = Vec::with_capacity(2);
        let mut hits = StatedHits::default();
        while rest.has_remaining() {
            match rest.get_u8() {
                LENGTH_1 => entries.push(self.entry(field(&mut rest)?)?),
                // Repeated messages would have to be merged.
                LENGTH_3 if hits.own.is_none() => hits.own = Some(wrapped(field(&mut rest)?)?),
                VARINT_4 => hits.refund = number(&mut rest)? != 0,
                _ => return None,
            }
        }
        let has_own_hits = hits.own.is_some();
        Some(Descriptor { entries, hits: hits.hits(), has_own_hits, limit: None })
    }

    fn entry(&mut self, mut rest: &[u8]) -> Option<Entry> {
        self.count::<Entry>()?;
        let mut entry = Entry { key: Bytes::new(), value: Bytes::new() };
        while rest.has_remaining() {
            match rest.get_u8() {
                LENGTH_1 => entry.key = self.bytes(&mut rest)?,
                LENGTH_2 => entry.value = self.bytes(&mut rest)?,
                _ => return None,
            }
        }
        Some(entry)
    }

    fn bytes(&self, rest: &mut &[u8]) -> Option<Bytes> {
        Some(self.body.slice_ref(field(rest)?))
    }

    fn count<T>(&mut self) -> Option<()> {
        self.elements += size_of::<T>();
        (self.elements <= MOST_BYTES).then_some(())
    }
}

/// Gives the hits of the request to the descriptors without their own.
fn share_hits(request: &mut Request) {
    for descriptor in &mut request.descriptors {
        if !descriptor.has_own_hits {
            let refund = matches!(descriptor.hits, Hits::Refund(_));
            let hits = StatedHits { own: None, request: request.hits_addend, refund };
            descriptor.hits = hits.hits();
        }
    }
}

/// The content of a `UInt64Value`.
fn wrapped(mut message: &[u8]) -> Option<u64> {
    if message.is_empty() {
        return Some(0);
    }
    if message.get_u8() != VARINT_1 {
        return None;
    }
    let value = number(&mut message)?;
    message.is_empty().then_some(value)
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    rest.split_off(..length)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    decode_varint(rest).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::Message;

    use super::*;
    use crate::grpc::{
        pb::envoy::{
            extensions::common::ratelimit::v3::{
                RateLimitDescriptor,
                rate_limit_descriptor::{self, RateLimitOverride},
            },
            service::ratelimit::v3::RateLimitRequest,
        },
        request,
    };

    fn body(message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat().into()
    }

    fn read_message(message: &[u8]) -> Option<Request> {
        read(&HeaderMap::new(), &body(message))
    }

    fn by_prost(message: &[u8]) -> Option<Request> {
        request::read(RateLimitRequest::decode(message).ok()?).ok()
    }

    fn entry() -> impl Strategy<Value = rate_limit_descriptor::Entry> {
        let text = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        (text(), text()).prop_map(|(key, value)| rate_limit_descriptor::Entry { key, value })
    }

    fn descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
        let hits = prop_oneof![Just(None), Just(Some(0)), any::<u64>().prop_map(Some)];
        (vec(entry(), 0..4), hits, any::<bool>()).prop_map(|(entries, hits, is_negative)| {
            let (hits_addend, limit) = (hits, None);
            RateLimitDescriptor { entries, limit, hits_addend, is_negative_hits: is_negative }
        })
    }

    proptest! {
        #[test]
        fn requests_of_proxies_are_read_as_prost_reads_them(
            domain in vec(any::<u8>(), 0..20),
            descriptors in vec(descriptor(), 0..4),
            hits_addend in prop_oneof![Just(0), any::<u32>()],
        ) {
            let message = RateLimitRequest { domain: domain.into(), descriptors, hits_addend };
            let message = message.encode_to_vec();
            let read = read_message(&message);
            prop_assert!(read.is_some());
            prop_assert_eq!(read, by_prost(&message));
        }

        #[test]
        fn no_bytes_are_read_in_another_way_than_by_prost(message in vec(
            prop_oneof![
                Just(LENGTH_1), Just(LENGTH_2), Just(LENGTH_3), Just(VARINT_3), Just(VARINT_4),
                0_u8..9, any::<u8>(),
            ],
            0..40,
        )) {
            if let Some(read) = read_message(&message) {
                prop_assert_eq!(Some(read), by_prost(&message));
            }
        }
    }

    #[test]
    fn what_is_rare_is_left_to_prost() {
        let entry = || rate_limit_descriptor::Entry { key: "k".into(), value: "v".into() };
        let request = |descriptors| {
            RateLimitRequest { domain: "shop".into(), descriptors, hits_addend: 0 }.encode_to_vec()
        };
        let descriptor = RateLimitDescriptor { entries: vec![entry()], ..Default::default() };
        let ordinary = request(vec![descriptor.clone()]);
        assert!(read_message(&ordinary).is_some());
        let many = vec![descriptor.clone(); MOST_BYTES / size_of::<Descriptor>()];
        let limit = Some(RateLimitOverride { unit: 1, ..Default::default() });
        for message in [
            request(many),
            request(vec![RateLimitDescriptor { limit, ..descriptor }]),
            [&ordinary[..], &[0x98, 0x06, 1]].concat(),
            ordinary[..ordinary.len() - 1].to_vec(),
        ] {
            assert_eq!(read_message(&message), None);
        }
        let mut headers = HeaderMap::new();
        headers.insert("grpc-encoding", "gzip".parse().unwrap());
        assert_eq!(read(&headers, &body(&ordinary)), None);
        let whole = body(&ordinary);
        for wrong in [
            whole.slice(1..),
            whole.slice(..whole.len() - 1),
            [&whole[..], &[0]].concat().into(),
            [&[1], &whole[1..]].concat().into(),
        ] {
            assert_eq!(read(&HeaderMap::new(), &wrong), None);
        }
    }
}
