//! A parser of the values that scripts store, independent of the product.

use std::time::Duration;

use super::*;
use crate::{
    limit::{
        Algorithm, bucket, fixed_window,
        permits::{self, Grant},
        sliding_window,
    },
    store::script::Hold,
};

/// Parses the value of a counter with this limit.
pub(super) fn parse(value: &[u8], limit: &Limit) -> Record {
    let own = match value {
        [b'#', a, b, c, d, ..] => 1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        [b'#', ..] => usize::MAX,
        _ => 0,
    };
    if value.len() < own {
        return Record::default();
    }
    let length = value[own..].iter().position(|byte| matches!(byte, b'!' | b'&'));
    let (state, rest) = value.split_at(length.map_or(value.len(), |length| own + length));
    let rest = std::str::from_utf8(rest).ok().and_then(ban_and_holds);
    let (banned, holds) = rest.unwrap_or_default();
    Record { state: state_of(state, limit), banned_since: banned, holds }
}

fn number(digits: &str) -> Option<u64> {
    let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok()?;
    (sound && number <= Hits::MAX).then_some(number)
}

fn numbers<const COUNT: usize>(text: &str) -> Option<[u64; COUNT]> {
    let numbers: Option<Vec<u64>> = text.split(':').map(number).collect();
    numbers?.try_into().ok()
}

fn ban_and_holds(text: &str) -> Option<(Timestamp, Vec<Hold>)> {
    let mut parts = text.split('&');
    let banned = match parts.next()? {
        "" => 0,
        ban => number(ban.strip_prefix('!')?)?,
    };
    let mut holds = Vec::new();
    for part in parts {
        let [id, hits, expires_at] = numbers(part)?;
        if id == 0 {
            return None;
        }
        holds.push(Hold { id, hits, expires_at: Timestamp::from_micros(expires_at) });
    }
    Some((Timestamp::from_micros(banned), holds))
}

fn state_of(state: &[u8], limit: &Limit) -> Option<State> {
    let moment = Timestamp::from_micros;
    if let (Some((b'#', list)), true) = (state.split_first(), limit.algorithm.info().keeps_each_hit)
    {
        let permits = list_of(list, permits::lifetime(limit))?;
        return Some(State::Permits(permits::State(permits.into())));
    }
    let text = std::str::from_utf8(state).ok()?;
    Some(match limit.algorithm {
        Algorithm::FixedWindow { .. } if limit.has_window_in_key() => {
            let count = text.parse::<i128>().ok().filter(|_| !text.starts_with('+'))?;
            let count = u64::try_from(count.max(0)).unwrap_or(u64::MAX).min(Hits::MAX);
            State::Count(fixed_window::State { start: Timestamp::default(), count })
        }
        Algorithm::FixedWindow { .. } => {
            let [start, count] = numbers(text)?;
            State::Count(fixed_window::State { start: moment(start), count })
        }
        Algorithm::SlidingWindow => {
            let [start, before, current] = numbers(text)?;
            State::Window(sliding_window::State { start: moment(start), before, current })
        }
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let [at, level, cost] = numbers(text)?;
            State::Bucket(bucket::State { at: moment(at), level, cost })
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            let mut permits = permits_of(text, permits::lifetime(limit))?;
            permits.sort_unstable();
            permits.dedup_by(|next, first| {
                let same = next.granted_at == first.granted_at;
                first.hits += if same { next.hits } else { 0 };
                same
            });
            State::Permits(permits::State(permits.into()))
        }
    })
}

const HEADER: usize = 48;

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The size of a time and of a permit in bytes, and the modulus of the running total.
fn kind(wide: bool) -> (usize, usize, u64) {
    if wide { (7, 14, Hits::MAX + 1) } else { (6, 8, 1 << 16) }
}

/// Parses a binary list, whose permits have to be in order.
fn list_of(bytes: &[u8], lifetime: Duration) -> Option<Vec<Grant>> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let mut header = header;
    let mut next = |size: usize| {
        let (number, rest) = header.split_at(size);
        header = rest;
        big_endian(number)
    };
    let [length, number, skip, count] = [4, 1, 4, 4].map(&mut next);
    let [base, mut sum, held, first, last] = [7; 5].map(&mut next);
    let (moment, size, wrap) = kind(number == 2);
    let room = body.len() / size;
    let (skip, count) = (usize::try_from(skip).ok()?, usize::try_from(count).ok()?);
    let sound = length == bytes.len() as u64
        && (1..=2).contains(&number)
        && body.len().is_multiple_of(size)
        && (1..=room).contains(&count)
        && skip < room
        && (count as u64..wrap).contains(&held)
        && sum < wrap
        && base <= first
        && first <= last
        && last <= Hits::MAX;
    if !sound {
        return None;
    }
    let mut permits = Vec::new();
    for place in (skip..skip + count).map(|index| index % room) {
        let one = &body[place * size..][..size];
        let (granted, sums) = (base + big_endian(&one[..moment]), big_endian(&one[moment..]));
        let granted = Timestamp::from_micros(granted);
        permits.push(Grant { granted_at: granted, hits: (sums + wrap - sum) % wrap });
        sum = sums;
    }
    let end = last.checked_add(u64::try_from(lifetime.as_micros()).ok()?)?;
    (end <= Hits::MAX).then_some(permits)
}

/// The layout of a stored list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) wide: bool,
    /// The number of hits before the first permit.
    pub(super) start: u64,
    /// The time from the base of its times to the first permit.
    pub(super) earlier: u64,
    /// The position of the first permit in the ring.
    pub(super) skip: usize,
}

/// Encodes permits, which are pairs of a time and hits.
pub(super) fn list(permits: &[(u64, u64)], kept: Kept) -> Vec<u8> {
    let (Some((first, _)), Some((last, _))) = (permits.first(), permits.last()) else {
        return Vec::new();
    };
    let (moment, size, wrap) = kind(kept.wide);
    let (base, mut sum) = (first.saturating_sub(kept.earlier), kept.start % wrap);
    let room = permits.len() + 1 + permits.len() / 64;
    let skip = kept.skip % room;
    let held = permits.iter().map(|permit| permit.1).sum::<u64>() % wrap;
    let mut bytes = vec![b'#'];
    let mut put = |number: u64, size: usize| bytes.extend(&number.to_be_bytes()[8 - size..]);
    put((HEADER + size * room) as u64, 4);
    put(1 + u64::from(kept.wide), 1);
    put(skip as u64, 4);
    put(permits.len() as u64, 4);
    for number in [base, sum, held, *first, *last] {
        put(number, 7);
    }
    let mut places = vec![0; size * room];
    for (at, (granted, hits)) in permits.iter().enumerate() {
        sum = (sum + hits) % wrap;
        let place = &mut places[(skip + at) % room * size..][..size];
        place[..moment].copy_from_slice(&granted.wrapping_sub(base).to_be_bytes()[8 - moment..]);
        place[moment..].copy_from_slice(&sum.to_be_bytes()[8 + moment - size..]);
    }
    [bytes, places].concat()
}

/// Parses a list in the text format of earlier versions.
fn permits_of(text: &str, lifetime: Duration) -> Option<Vec<Grant>> {
    let mut permits = Vec::new();
    let mut held = 0_u64;
    for part in text.strip_suffix(',')?.split(',') {
        let at = part.find(['@', ':'])?;
        let (moment, hits) = (number(&part[..at])?, &part[at + 1..]);
        if hits.starts_with('0') {
            return None;
        }
        let hits = number(hits)?;
        let moment = Timestamp::from_micros(moment);
        let epoch = Timestamp::default();
        let granted = match part.as_bytes()[at] {
            b'@' => moment,
            // The oldest format has the end of the permit.
            _ => epoch.plus(moment.since(epoch.plus(lifetime))),
        };
        held += hits;
        if Hits::MAX < held || Hits::MAX < granted.plus(lifetime).as_micros() {
            return None;
        }
        permits.push(Grant { granted_at: granted, hits });
    }
    Some(permits)
}
