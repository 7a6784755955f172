//! Looks a message over before it is decoded: an element that takes two bytes
//! on the wire takes a hundred in memory, and a message has room for two
//! million.

use std::{fmt, iter, marker::PhantomData};

use bytes::Buf;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::{
    engine::failures::Failures,
    wire::{
        pb::envoy::service::{
            discovery::v3::{DiscoveryRequest, DiscoveryResponse},
            ratelimit::v3::{RateLimitRequest, RateLimitResponse},
        },
        request::{InvalidRequest, MOST_DESCRIPTORS, MOST_ENTRIES},
    },
};

/// The field of a request that holds its descriptors.
const DESCRIPTORS: u32 = 2;
/// The field of a descriptor that holds its entries.
const ENTRIES: u32 = 1;

/// Logs requests that are refused before they are decoded. Static, as tonic makes codecs by
/// `Default`.
static TOO_LARGE: Failures = Failures::new("a request was invalid", "requests were invalid");

/// A message that can be refused before it is decoded.
pub trait Checked {
    /// Whether `message`, encoded, may be decoded. What is no message may.
    ///
    /// # Errors
    ///
    /// If it has too many elements.
    fn check(message: &[u8]) -> Result<(), InvalidRequest> {
        let _ = message;
        Ok(())
    }
}

impl Checked for RateLimitResponse {}

// The operator chooses who sends these.
impl Checked for DiscoveryRequest {}
impl Checked for DiscoveryResponse {}

impl Checked for RateLimitRequest {
    fn check(message: &[u8]) -> Result<(), InvalidRequest> {
        let (mut descriptors, mut crowded) = (0, Ok(()));
        for descriptor in fields(message, DESCRIPTORS) {
            let entries = fields(descriptor, ENTRIES).count();
            if MOST_ENTRIES < entries && crowded.is_ok() {
                crowded = Err(InvalidRequest::TooManyEntries { descriptor: descriptors, entries });
            }
            descriptors += 1;
        }
        if MOST_DESCRIPTORS < descriptors {
            let (count, most) = (descriptors, MOST_DESCRIPTORS);
            return Err(InvalidRequest::TooManyDescriptors { count, most });
        }
        crowded
    }
}

/// The fields of this number that have a length, up to where `bytes` cannot be
/// read. The decoder reads no further either.
fn fields(mut bytes: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        while bytes.has_remaining() {
            let (tag, wire_type) = decode_key(&mut bytes).ok()?;
            if (tag, wire_type) == (number, WireType::LengthDelimited) {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                return bytes.split_off(..length);
            }
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).ok()?;
        }
        None
    })
}

/// Protobuf that is [`Checked`]: writes `T`, reads `U`.
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for CheckedCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedCodec")
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Checked + Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Self;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T, U: Checked + Message + Default> Decoder for CheckedCodec<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Shares the memory, and so do the message's own bytes.
        let message = buffer.copy_to_bytes(buffer.remaining());
        U::check(&message).map_err(|it| {
            TOO_LARGE.failed(&it);
            Status::invalid_argument(it.to_string())
        })?;
        U::decode(message).map(Some).map_err(|it| Status::internal(it.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::wire::pb::envoy::extensions::common::ratelimit::v3::{
        RateLimitDescriptor, rate_limit_descriptor::Entry,
    };

    /// A request with so many entries in each descriptor.
    fn request(entries: &[usize]) -> RateLimitRequest {
        let entry = || Entry { key: "k".into(), value: "".into() };
        let descriptor = |&it: &usize| RateLimitDescriptor {
            entries: iter::repeat_with(entry).take(it).collect(),
            hits_addend: Some(7),
            ..Default::default()
        };
        let descriptors = entries.iter().map(descriptor).collect();
        RateLimitRequest { domain: "shop".into(), descriptors, hits_addend: 3 }
    }

    fn check(entries: &[usize]) -> Result<(), InvalidRequest> {
        RateLimitRequest::check(&request(entries).encode_to_vec())
    }

    #[test]
    fn exactly_what_is_too_much_is_refused() {
        assert_eq!(check(&[1; MOST_DESCRIPTORS]), Ok(()));
        let one_more = MOST_DESCRIPTORS + 1;
        let most = MOST_DESCRIPTORS;
        let refused = Err(InvalidRequest::TooManyDescriptors { count: one_more, most });
        assert_eq!(check(&vec![1; one_more]), refused);
        assert_eq!(check(&[0, MOST_ENTRIES]), Ok(()));
        let entries = MOST_ENTRIES + 1;
        let refused = Err(InvalidRequest::TooManyEntries { descriptor: 1, entries });
        assert_eq!(check(&[1, entries, entries + 1]), refused);
    }

    #[test]
    fn unknown_fields_hide_nothing() {
        // Of each wire type: a number, 8 bytes, a text, a group in a group, 4 bytes.
        let unknown: &[u8] = &[
            0x98, 0x06, 0xff, 0x01, 0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0x9a, 0x06, 1,
            b'x', //
            0x9b, 0x06, 0xa3, 0x06, 0x12, 0, 0xa4, 0x06, 0x9c, 0x06, 0x9d, 0x06, 1, 2, 3, 4,
        ];
        let known = request(&vec![1; MOST_DESCRIPTORS + 1]);
        let message = [unknown, &known.encode_to_vec()].concat();
        assert_eq!(RateLimitRequest::decode(&*message), Ok(known));
        assert!(RateLimitRequest::check(&message).is_err());
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_decoded(bytes in vec(
            prop_oneof![Just(0x0a_u8), Just(0x12), Just(0), Just(2), any::<u8>()], 0..40,
        )) {
            if let Ok(message) = RateLimitRequest::decode(&*bytes) {
                let decoded: Vec<_> = message.descriptors.iter().map(|it| it.entries.len()).collect();
                let counted = fields(&bytes, DESCRIPTORS).map(|it| fields(it, ENTRIES).count());
                prop_assert_eq!(counted.collect::<Vec<_>>(), decoded);
            }
        }
    }
}
