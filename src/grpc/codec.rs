//! Checks the size of a message before it is decoded: an element of two bytes
//! on the wire takes a hundred bytes in memory, and a message has room for two
//! million elements.

use std::{
    convert::Infallible,
    fmt::{self, Display},
    marker::PhantomData,
};

use bytes::Buf;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use super::pb::{
    envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse},
    grpc::health::v1 as health,
};
use crate::descriptor::{
    Descriptor, Entry,
    invalid::{InvalidRequest, MOST_DESCRIPTORS, MOST_ENTRIES},
};

/// A message rarely needs more than this buffer, and each call in flight has two. They
/// grow with the message. The second number counts in streams of messages only.
fn buffers() -> BufferSettings {
    BufferSettings::new(512, 32 << 10)
}

/// The field of a request that holds its descriptors.
const DESCRIPTORS: u32 = 2;
/// The field of a descriptor that holds its entries.
const ENTRIES: u32 = 1;

/// A message whose encoded form can be checked.
pub trait Checked {
    /// Why a message is not decoded.
    type Invalid: Display;

    /// Checks an encoded message. Bytes that are no valid message pass: the
    /// decoder rejects them.
    ///
    /// # Errors
    ///
    /// If the message has too many elements.
    fn check(message: &[u8]) -> Result<(), Self::Invalid> {
        let _ = message;
        Ok(())
    }
}

impl Checked for RateLimitResponse {
    type Invalid = Infallible;
}

impl Checked for health::HealthCheckRequest {
    type Invalid = Infallible;
}

impl Checked for health::HealthCheckResponse {
    type Invalid = Infallible;
}

impl Checked for health::HealthListRequest {
    type Invalid = Infallible;
}

impl Checked for health::HealthListResponse {
    type Invalid = Infallible;
}

impl Checked for RateLimitRequest {
    type Invalid = InvalidRequest;

    fn check(message: &[u8]) -> Result<(), InvalidRequest> {
        let mut descriptors = 0;
        let mut too_long = None;
        for descriptor in (Fields { bytes: message, number: DESCRIPTORS }) {
            let entries = Fields { bytes: descriptor, number: ENTRIES }.count();
            if MOST_ENTRIES < entries && too_long.is_none() {
                too_long =
                    Some(InvalidRequest::TooManyEntries { descriptor: descriptors, entries });
            }
            descriptors += 1;
        }
        if MOST_DESCRIPTORS < descriptors {
            let (count, most) = (descriptors, MOST_DESCRIPTORS);
            return Err(InvalidRequest::TooManyDescriptors { count, most });
        }
        match too_long {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The memory that a request takes once it has been decoded, about, besides the encoded
/// message, which is kept for its texts. 0 if it has too many elements to be decoded.
pub(super) fn decoded_bytes(request: &[u8]) -> usize {
    let mut descriptors = 0;
    let mut entries = 0;
    for descriptor in (Fields { bytes: request, number: DESCRIPTORS }) {
        let more = Fields { bytes: descriptor, number: ENTRIES }.count();
        if descriptors == MOST_DESCRIPTORS || MOST_ENTRIES < more {
            return 0;
        }
        descriptors += 1;
        entries += more;
    }
    descriptors * size_of::<Descriptor>() + entries * size_of::<Entry>()
}

/// The length-delimited fields with one number, up to the first malformed field,
/// where the decoder stops as well.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// An encoded message.
    pub bytes: &'a [u8],
    /// The number of the fields.
    pub number: u32,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.bytes.has_remaining() {
            let (tag, wire_type) = decode_key(&mut self.bytes).ok()?;
            if tag == self.number && wire_type == WireType::LengthDelimited {
                let length = usize::try_from(decode_varint(&mut self.bytes).ok()?).ok()?;
                return self.bytes.split_off(..length);
            }
            skip_field(wire_type, tag, &mut self.bytes, DecodeContext::default()).ok()?;
        }
        None
    }
}

/// The protobuf codec for [`Checked`] messages: encodes `T`, decodes `U`.
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
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T, U: Checked + Message + Default> Decoder for CheckedCodec<T, U> {
    type Item = U;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Shares memory with the buffer, as do the message's own bytes.
        let message = buffer.copy_to_bytes(buffer.remaining());
        if let Err(invalid) = U::check(&message) {
            return Err(Status::invalid_argument(invalid.to_string()));
        }
        match U::decode(message) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::grpc::pb::envoy::extensions::common::ratelimit::v3::{
        RateLimitDescriptor, rate_limit_descriptor::Entry,
    };

    /// A request whose descriptors have these numbers of entries.
    fn request(entries: &[usize]) -> RateLimitRequest {
        let entry = || Entry { key: "k".into(), value: "".into() };
        let descriptor = |&it: &usize| RateLimitDescriptor {
            entries: vec![entry(); it],
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
    fn only_oversized_requests_are_rejected() {
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
    fn a_decoded_request_counts_all_its_elements() {
        let bytes = |entries: &[usize]| decoded_bytes(&request(entries).encode_to_vec());
        let (descriptor, entry) = (size_of::<Descriptor>(), size_of::<Entry>());
        assert_eq!(bytes(&[]), 0);
        assert_eq!(bytes(&[0, 2, 1]), 3 * descriptor + 3 * entry);
        let most = bytes(&[MOST_ENTRIES; MOST_DESCRIPTORS]);
        assert_eq!(most, MOST_DESCRIPTORS * (descriptor + MOST_ENTRIES * entry));
        assert_eq!(bytes(&[MOST_ENTRIES + 1]), 0);
        assert_eq!(bytes(&[1; MOST_DESCRIPTORS + 1]), 0);
    }

    #[test]
    fn elements_are_counted_behind_unknown_fields() {
        // One of each wire type: a varint, 8 bytes, a text, nested groups, 4 bytes.
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
        fn counts_equal_those_of_the_decoder(bytes in vec(
            prop_oneof![Just(0x0a_u8), Just(0x12), Just(0), Just(2), any::<u8>()], 0..40,
        )) {
            if let Ok(message) = RateLimitRequest::decode(&*bytes) {
                let decoded: Vec<_> = message.descriptors.iter().map(|it| it.entries.len()).collect();
                let mut counted = Vec::new();
                for descriptor in (Fields { bytes: &bytes, number: DESCRIPTORS }) {
                    counted.push(Fields { bytes: descriptor, number: ENTRIES }.count());
                }
                prop_assert_eq!(counted, decoded);
            }
        }
    }
}
