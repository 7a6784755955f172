//! What the values mean that scripts keep, read by themselves.

use std::time::Duration;

use super::*;
use crate::{
    limit::{Algorithm, bucket, fixed_window, leases, sliding_window},
    store::script::Hold,
};

/// What `value` means under the name of a counter of `limit`.
pub(super) fn parse(value: &[u8], limit: &Limit) -> Record {
    let own = match value {
        [b'#', a, b, c, d, ..] => 1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        [b'#', ..] => usize::MAX,
        _ => 0,
    };
    if value.len() < own {
        return Record::default();
    }
    let length = value[own..].iter().position(|it| matches!(it, b'!' | b'&'));
    let (state, rest) = value.split_at(length.map_or(value.len(), |it| own + it));
    let rest = std::str::from_utf8(rest).ok().and_then(ban_and_holds);
    let (banned, holds) = rest.unwrap_or_default();
    Record { state: state_of(state, limit), banned, holds }
}

fn number(digits: &str) -> Option<u64> {
    let sound = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
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
        let [id, hits, until] = numbers(part)?;
        if id == 0 {
            return None;
        }
        holds.push(Hold { id, hits, until: Timestamp::from_micros(until) });
    }
    Some((Timestamp::from_micros(banned), holds))
}

fn state_of(state: &[u8], limit: &Limit) -> Option<State> {
    let moment = Timestamp::from_micros;
    if let (Some((b'#', list)), true) = (state.split_first(), limit.algorithm.facts().listed) {
        let leases = list_of(list, leases::lease(limit))?;
        return Some(State::Leases(leases::State(leases.into())));
    }
    let text = std::str::from_utf8(state).ok()?;
    Some(match limit.algorithm {
        Algorithm::FixedWindow { .. } if limit.names_window() => {
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
            let mut leases = leases_of(text, leases::lease(limit))?;
            leases.sort_unstable();
            leases.dedup_by(|next, first| {
                let same = next.0 == first.0;
                first.1 += if same { next.1 } else { 0 };
                same
            });
            State::Leases(leases::State(leases.into()))
        }
    })
}

const HEADER: usize = 19;

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// How many bytes the moment is and how many all of a lease is, and what hits wrap at.
fn kind(wide: bool) -> (usize, usize, u64) {
    if wide { (7, 14, Hits::MAX + 1) } else { (6, 8, 1 << 16) }
}

/// The list that these bytes are; they may hold any moments and hits, as long as these are
/// in order.
fn list_of(bytes: &[u8], lease: Duration) -> Option<Vec<(Timestamp, u64)>> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let wide = header[4] == 14;
    let (moment, size, wrap) = kind(wide);
    let length = usize::try_from(big_endian(&header[..4])).ok()?;
    let (base, mut sum) = (big_endian(&header[5..12]), big_endian(&header[12..]));
    let sound = usize::from(header[4]) == size && length == bytes.len() && sum < wrap;
    if !sound || body.is_empty() || !body.len().is_multiple_of(size) || Hits::MAX < base {
        return None;
    }
    let mut leases = Vec::new();
    for one in body.chunks_exact(size) {
        let (granted, sums) = (base + big_endian(&one[..moment]), big_endian(&one[moment..]));
        leases.push((Timestamp::from_micros(granted), (sums + wrap - sum) % wrap));
        sum = sums;
    }
    let (last, _) = leases.last()?;
    (last.plus(lease).as_micros() <= Hits::MAX).then_some(leases)
}

/// The bytes of a list that are kept: `start` is how many hits there were before it, and its
/// moments count from so much `earlier` than the first.
pub(super) fn list(leases: &[(u64, u64)], wide: bool, start: u64, earlier: u64) -> Vec<u8> {
    let Some((first, _)) = leases.first() else { return Vec::new() };
    let (moment, size, wrap) = kind(wide);
    let (base, mut sum) = (first.saturating_sub(earlier), start % wrap);
    let length = u32::try_from(HEADER + size * leases.len()).unwrap();
    let mut bytes = vec![b'#'];
    bytes.extend(length.to_be_bytes());
    bytes.push(u8::try_from(size).unwrap());
    bytes.extend(&base.to_be_bytes()[1..]);
    bytes.extend(&sum.to_be_bytes()[1..]);
    for (granted, hits) in leases {
        sum = (sum + hits) % wrap;
        bytes.extend(&(granted - base).to_be_bytes()[8 - moment..]);
        bytes.extend(&sum.to_be_bytes()[8 + moment - size..]);
    }
    bytes
}

/// None if there is nothing that makes sense.
fn leases_of(text: &str, lease: Duration) -> Option<Vec<(Timestamp, u64)>> {
    let mut leases = Vec::new();
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
            // Before, it was kept when they end.
            _ => epoch.plus(moment.since(epoch.plus(lease))),
        };
        held += hits;
        if Hits::MAX < held || Hits::MAX < granted.plus(lease).as_micros() {
            return None;
        }
        leases.push((granted, hits));
    }
    Some(leases)
}
