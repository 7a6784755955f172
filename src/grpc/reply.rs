//! Writes the replies to ordinary calls. The messages of prost would allocate each part of a
//! reply by itself, and measure each part of its metadata several times.

use std::fmt::{self, Display, Write as _};

use bytes::Bytes;
use prost::encoding::encode_varint;
use serde_json::{Map, Value as Json};

use super::{pb::envoy::service::ratelimit::v3::rate_limit_response::Code, response};
use crate::{
    answer::{
        AnswerSettings, CurrentLimit, DescriptorStatus,
        metadata::{self, Audience, ObjectWriter},
    },
    descriptor::Request,
    engine::decision::Decision,
};

/// The flag and the length before a message.
const PREFIX: usize = 5;

/// The room for most replies without metadata.
const ROOM: usize = 120;

/// The body of the answer to a call: the response to `request`.
pub fn write(request: &Request, decision: &Decision, settings: &AnswerSettings) -> Bytes {
    let has_metadata = settings.has_metadata(decision);
    let mut reply = Encoder(Vec::with_capacity(if has_metadata { 4 * ROOM } else { ROOM }));
    reply.0.extend([0; PREFIX]);
    reply.number(1, code(decision.over_limit));
    for verdict in &decision.verdicts {
        reply.message(2, |to| write_status(&DescriptorStatus::new(verdict), to));
    }
    for (key, value) in settings.limit_headers(decision).into_iter().flatten() {
        reply.message(3, |to| {
            to.bytes(1, key.as_bytes());
            to.bytes(2, itoa::Buffer::new().format(value).as_bytes());
        });
    }
    if has_metadata {
        reply.message(6, |to| metadata::write(request, decision, Audience::Proxy, to));
    }
    let Encoder(mut bytes) = reply;
    let length = u32::try_from(bytes.len() - PREFIX).unwrap_or(u32::MAX);
    bytes[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

fn code(over_limit: bool) -> u32 {
    (if over_limit { Code::OverLimit } else { Code::Ok }) as u32
}

fn write_status(status: &DescriptorStatus<'_>, to: &mut Encoder) {
    to.number(1, code(status.over_limit));
    if let Some(limit) = &status.limit {
        to.message(2, |to| write_limit(limit, to));
    }
    to.number(3, status.remaining);
    if let Some(seconds) = status.reset_seconds {
        to.message(4, |to| to.number(1, seconds));
    }
}

fn write_limit(limit: &CurrentLimit<'_>, to: &mut Encoder) {
    to.number(1, limit.requests);
    to.number(2, response::unit(limit.unit) as u32);
    to.bytes(3, limit.name.as_bytes());
    if let Some(multiplier) = limit.multiplier {
        to.message(4, |to| to.number(1, multiplier));
    }
}

/// The wire types of protobuf.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH: u8 = 2;

/// The fields of `google.protobuf.Value`.
const NULL_VALUE: u8 = 1;
const NUMBER_VALUE: u8 = 2;
const TEXT_VALUE: u8 = 3;
const FLAG_VALUE: u8 = 4;
const OBJECT_VALUE: u8 = 5;
const LIST_VALUE: u8 = 6;

/// Appends the fields of a message. Their numbers are below 16.
struct Encoder(Vec<u8>);

impl Encoder {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    /// A number, unless it is the default.
    fn number(&mut self, field: u8, number: impl Into<u64>) {
        let number = number.into();
        if number != 0 {
            self.key(field, VARINT);
            encode_varint(number, &mut self.0);
        }
    }

    /// A text or bytes, unless they are empty.
    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.message(field, |to| to.0.extend_from_slice(bytes));
        }
    }

    /// A message, or anything else whose length is known once it has been written.
    fn message(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.key(field, LENGTH);
        let begin = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - begin - 1;
        match u8::try_from(length) {
            Ok(length @ ..0x80) => self.0[begin] = length,
            _ => self.insert_length(begin, length),
        }
    }

    #[cold]
    fn insert_length(&mut self, at: usize, length: usize) {
        let mut bytes = Vec::new();
        encode_varint(u64::try_from(length).unwrap_or(u64::MAX), &mut bytes);
        self.0.splice(at..=at, bytes);
    }

    /// An entry of the map of `google.protobuf.Struct`.
    fn entry(&mut self, key: &str, write_value: impl FnOnce(&mut Self)) {
        self.message(1, |to| {
            to.bytes(1, key.as_bytes());
            to.message(2, write_value);
        });
    }

    fn text_value(&mut self, text: impl Display) {
        self.message(TEXT_VALUE, |to| {
            // Writing to memory does not fail.
            let _ = write!(to, "{text}");
        });
    }

    fn number_value(&mut self, number: f64) {
        self.key(NUMBER_VALUE, FIXED_64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn flag_value(&mut self, flag: bool) {
        self.key(FLAG_VALUE, VARINT);
        self.0.push(flag.into());
    }

    fn json_value(&mut self, value: &Json) {
        match value {
            Json::Null => {
                self.key(NULL_VALUE, VARINT);
                self.0.push(0);
            }
            Json::Bool(flag) => self.flag_value(*flag),
            Json::Number(number) => self.number_value(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => self.text_value(text),
            Json::Array(elements) => self.message(LIST_VALUE, |to| {
                for element in elements {
                    to.message(1, |to| to.json_value(element));
                }
            }),
            Json::Object(object) => self.message(OBJECT_VALUE, |to| {
                for (key, value) in object {
                    to.entry(key, |to| to.json_value(value));
                }
            }),
        }
    }
}

impl fmt::Write for Encoder {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appends the fields of a `google.protobuf.Struct`.
impl ObjectWriter for Encoder {
    fn text(&mut self, key: &str, text: impl Display) {
        self.entry(key, |to| to.text_value(text));
    }

    fn texts(&mut self, key: &str, texts: impl Iterator<Item: Display>) {
        self.entry(key, |to| {
            to.message(LIST_VALUE, |to| {
                for text in texts {
                    to.message(1, |to| to.text_value(text));
                }
            });
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "the protocol has only f64; exact below 2⁵³")]
    fn number(&mut self, key: &str, number: u64) {
        self.entry(key, |to| to.number_value(number as f64));
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.entry(key, |to| to.flag_value(flag));
    }

    fn object(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        self.entry(key, |to| to.message(OBJECT_VALUE, write));
    }

    fn objects<T>(
        &mut self,
        key: &str,
        elements: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.entry(key, |to| {
            to.message(LIST_VALUE, |to| {
                for element in elements {
                    to.message(1, |to| to.message(OBJECT_VALUE, |to| write(to, element)));
                }
            });
        });
    }

    fn json(&mut self, key: &str, object: Map<String, Json>) {
        self.entry(key, |to| to.json_value(&Json::Object(object)));
    }
}

#[cfg(test)]
mod tests;
