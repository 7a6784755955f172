//! What the texts mean that scripts keep, read by themselves.

use std::time::Duration;

use super::*;
use crate::limit::{Algorithm, bucket, fixed_window, leases, sliding_window};
use crate::store::script::Hold;

/// What `text` means under the name of a counter of `limit`.
pub(super) fn parse(text: &str, limit: &Limit) -> Record {
    let (state, rest) = text.split_at(text.find(['!', '&']).unwrap_or(text.len()));
    let (banned, holds) = ban_and_holds(rest).unwrap_or_default();
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

fn state_of(text: &str, limit: &Limit) -> Option<State> {
    let moment = Timestamp::from_micros;
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
            State::Leases(leases::State(leases_of(text, leases::lease(limit))?))
        }
    })
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
