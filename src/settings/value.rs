//! Values as people write them. Every error says what was expected.

use std::{fs::File, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use crate::duration;

type Parsed<T> = Result<T, String>;

/// A few words, in any case, and what they mean.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|&(_, meaning)| meaning)
}

/// One of the words; the error lists them.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    choice(text, words).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|&(word, _)| word).collect();
        format!("expected {}", words.join(" or "))
    })
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    choice(text, &[("1", true), ("t", true), ("true", true), ("yes", true), ("on", true)])
        .or_else(|| {
            let no = [("0", false), ("f", false), ("false", false), ("no", false), ("off", false)];
            choice(text, &no)
        })
        .ok_or_else(|| "expected true or false".into())
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    if text.starts_with("tcp://") {
        return Err("expected a port from 0 to 65535; Kubernetes sets such a value for a Service \
                    of that name, unless the pod says `enableServiceLinks: false`"
            .into());
    }
    digits(text).ok_or_else(|| "expected a port from 0 to 65535".into())
}

/// A whole number, no less than `least`.
pub(super) fn at_least(least: u32, text: &str) -> Parsed<usize> {
    let number = digits::<u32>(text).filter(|&it| least <= it);
    number
        .and_then(|it| usize::try_from(it).ok())
        .ok_or_else(|| format!("expected a whole number from {least} to {}", u32::MAX))
}

/// A whole number of bytes, no less than `least`.
pub(super) fn bytes(least: usize, text: &str) -> Parsed<usize> {
    digits::<usize>(text)
        .filter(|&it| least <= it)
        .ok_or_else(|| format!("expected a whole number of bytes without a unit, at least {least}"))
}

/// Whole seconds; less than none are none.
pub(super) fn seconds(text: &str) -> Parsed<u32> {
    let number = match text.strip_prefix('-') {
        Some(below) => digits::<u64>(below).map(|_| 0),
        None => digits(text),
    };
    number.ok_or_else(|| format!("expected a whole number of seconds, at most {}", u32::MAX))
}

/// Digits alone: unlike `parse`, without a plus.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn ratio<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Parsed<T> {
    let ratio = text.parse().ok().filter(|it| T::from(0) < *it && *it <= T::from(1));
    ratio.ok_or_else(|| "expected a number above 0 and at most 1".into())
}

pub(super) fn part(text: &str) -> Parsed<f64> {
    let part = text.parse().ok().filter(|it| (0.0..=1.0).contains(it));
    part.ok_or_else(|| "expected a number from 0 to 1".into())
}

/// Without the brackets of an IPv6 address.
pub(super) fn host(text: &str) -> Parsed<String> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let legal = match bare {
        Some(bare) => bare.parse::<IpAddr>().is_ok_and(|it| it.is_ipv6()),
        None => text.parse::<IpAddr>().is_ok() || is_host_name(text),
    };
    if legal {
        Ok(bare.unwrap_or(text).to_owned())
    } else {
        Err("expected a host name, an IPv4 or an IPv6 address, without a port".into())
    }
}

/// A name whose last part is a number is an address that went wrong.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |it: &str| {
        (1..=63).contains(&it.len())
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|it| it.is_ascii_digit())
}

/// The name of an HTTP field: a token of RFC 9110.
pub(super) fn header_name(text: &str) -> Parsed<String> {
    let is_token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    if !text.is_empty() && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an HTTP header: letters, digits and !#$%&'*+-.^_`|~".into())
    }
}

/// A duration as Go writes it: `10s`, `1h30m`, `0`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    duration::parse(text).ok_or_else(|| {
        "expected a duration such as 500ms, 10s or 1h30m (units ns, us, ms, s, m and h), of at \
         most 290 years"
            .into()
    })
}

/// A duration that is not zero.
pub(super) fn some_duration(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("expected a duration above 0".into()),
        duration => Ok(duration),
    }
}

/// What every complaint of [`readable`] begins with.
pub(super) const UNREADABLE: &str = "expected a file that can be read";

/// A file that can be read now.
pub(super) fn readable(text: &str) -> Parsed<PathBuf> {
    match File::open(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("{UNREADABLE} ({error})")),
    }
}
