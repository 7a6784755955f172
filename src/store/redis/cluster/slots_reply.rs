//! Parses replies to CLUSTER SLOTS.

use redis::Value;

use crate::store::redis::{settings::RedisAddress, slot_vote::SlotRange, slots::SLOT_COUNT};

/// Parses the `reply` of the node at `from`. Returns `None` if it is malformed.
pub(in crate::store::redis) fn parse(reply: &Value, from: &RedisAddress) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = reply else { return None };
    ranges.iter().map(|range| parse_range(range, from)).collect()
}

fn parse_range(range: &Value, from: &RedisAddress) -> Option<SlotRange> {
    let Value::Array(fields) = range else { return None };
    let [first, last, Value::Array(owner), ..] = &fields[..] else { return None };
    let [host, Value::Int(port), ..] = &owner[..] else { return None };
    let port = u16::try_from(*port).ok()?;
    let mut host = match host {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        _ => String::new(),
    };
    // A node that does not know its own host is asked for at the host that replied.
    if let RedisAddress::Tcp { host: from, .. } = from
        && (host.is_empty() || host == "?")
    {
        host.clone_from(from);
    }
    let (first, last) = (parse_slot(first)?, parse_slot(last)?);
    if last < first {
        return None;
    }
    Some(SlotRange { first, last, owner: RedisAddress::Tcp { host, port } })
}

fn parse_slot(value: &Value) -> Option<u16> {
    let Value::Int(slot) = value else { return None };
    let slot = u16::try_from(*slot).ok()?;
    if slot < SLOT_COUNT { Some(slot) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Range<'a> = (i64, i64, &'a str, i64);

    fn reply(ranges: &[Range<'_>]) -> Value {
        let text = |text: &str| Value::BulkString(text.into());
        let range = |&(first, last, host, port): &Range<'_>| {
            let owner =
                Value::Array(vec![text(host), Value::Int(port), text("id"), Value::Array(vec![])]);
            Value::Array(vec![Value::Int(first), Value::Int(last), owner.clone(), owner])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    #[test]
    fn a_reply_is_a_list_of_ranges_or_malformed() {
        let from = RedisAddress::Tcp { host: "asked".into(), port: 1 };
        let show = |range: &SlotRange| format!("{}-{} {}", range.first, range.last, range.owner);
        let parsed = |ranges: &[Range<'_>]| -> Option<Vec<String>> {
            Some(parse(&reply(ranges), &from)?.iter().map(show).collect())
        };
        assert_eq!(parsed(&[]), Some(vec![]));
        let two = parsed(&[(0, 8_191, "a", 1), (8_192, 16_383, "", 2)]);
        assert_eq!(two, Some(vec!["0-8191 a:1".into(), "8192-16383 asked:2".into()]));
        assert_eq!(parsed(&[(0, 16_384, "a", 1)]), None);
        assert_eq!(parsed(&[(-1, 1, "a", 1)]), None);
        assert_eq!(parsed(&[(2, 1, "a", 1)]), None);
        assert_eq!(parsed(&[(0, 1, "a", 65_536)]), None);
        assert_eq!(parse(&Value::Okay, &from), None);
        assert_eq!(parse(&Value::Array(vec![Value::Nil]), &from), None);
    }
}
