//! Parsers for the values of settings. Every error states the expected value.

use std::{
    fs::File, net::IpAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration,
};

use crate::{duration, net::HostPort};

pub(super) type Parsed<T> = Result<T, String>;

/// The longest hostname and the longest label in a hostname, in bytes (RFC 1035).
const MAX_HOSTNAME: usize = 253;
const MAX_LABEL: usize = 63;

pub(super) fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

/// Finds the meaning of a word in a list of words; letter case does not matter.
pub(super) fn find_word<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    for &(word, meaning) in words {
        if word.eq_ignore_ascii_case(text) {
            return Some(meaning);
        }
    }
    None
}

/// Like [`find_word`], with an error that lists all words.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    match find_word(text, words) {
        Some(meaning) => Ok(meaning),
        None => {
            let words: Vec<_> = words.iter().map(|&(word, _)| word).collect();
            Err(format!("expected {}", words.join(" or ")))
        }
    }
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    const WORDS: [(&str, bool); 10] = [
        ("1", true),
        ("t", true),
        ("true", true),
        ("yes", true),
        ("on", true),
        ("0", false),
        ("f", false),
        ("false", false),
        ("no", false),
        ("off", false),
    ];
    match find_word(text, &WORDS) {
        Some(value) => Ok(value),
        None => Err("expected true or false".into()),
    }
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    if text.starts_with("tcp://") {
        return Err("expected a port from 0 to 65535; Kubernetes sets such a value for a Service \
                    of that name, unless the pod's spec has `enableServiceLinks: false`"
            .into());
    }
    match digits(text) {
        Some(port) => Ok(port),
        None => Err("expected a port from 0 to 65535".into()),
    }
}

/// A whole number in a range.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Parsed<usize> {
    if let Some(number) = digits::<u32>(text)
        && range.contains(&number)
        && let Ok(number) = usize::try_from(number)
    {
        return Ok(number);
    }
    Err(format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// A number of bytes, at least `least`.
pub(super) fn bytes(text: &str, least: usize) -> Parsed<usize> {
    match digits(text) {
        Some(bytes) if least <= bytes => Ok(bytes),
        _ => Err(format!(
            "expected a whole number of bytes from {least} to {}, without a unit",
            usize::MAX
        )),
    }
}

/// A number of seconds. Negative numbers count as 0.
pub(super) fn seconds(text: &str) -> Parsed<u32> {
    let seconds = match text.strip_prefix('-') {
        Some(number) => digits::<u64>(number).map(|_| 0),
        None => digits(text),
    };
    match seconds {
        Some(seconds) => Ok(seconds),
        None => Err(format!("expected a whole number of seconds, at most {}", u32::MAX)),
    }
}

/// Like [`str::parse`], but without a plus sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A fraction above 0, at most 1.
pub(super) fn ratio<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Parsed<T> {
    match text.parse::<T>() {
        Ok(ratio) if T::from(0) < ratio && ratio <= T::from(1) => Ok(ratio),
        _ => Err("expected a number above 0 and at most 1".into()),
    }
}

/// A fraction from 0 to 1.
pub(super) fn fraction(text: &str) -> Parsed<f64> {
    match text.parse() {
        Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// A hostname or an IP address. Removes the brackets of an IPv6 address.
pub(super) fn host(text: &str) -> Parsed<String> {
    if let Some(rest) = text.strip_prefix('[')
        && let Some(address) = rest.strip_suffix(']')
        && let Ok(IpAddr::V6(_)) = address.parse()
    {
        return Ok(address.to_owned());
    }
    if text.parse::<IpAddr>().is_ok() || is_hostname(text) {
        return Ok(text.to_owned());
    }
    Err("expected a host name, an IPv4 or an IPv6 address, without a port".into())
}

fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last_label = name.rsplit('.').next().unwrap_or_default();
    // A name whose last label is a number is a malformed IPv4 address.
    let ends_in_number = last_label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= MAX_HOSTNAME && name.split('.').all(is_label) && !ends_in_number
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `host:port`, with brackets around an IPv6 address. `expected` is the error text.
pub(super) fn host_port(text: &str, expected: &str) -> Parsed<HostPort> {
    let Some((host, port)) = text.rsplit_once(':') else { return Err(expected.into()) };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("{expected}, with brackets around an IPv6 address"));
    }
    match (self::host(host), self::port(port)) {
        (Ok(host), Ok(port)) => Ok(HostPort { host, port }),
        _ => Err(expected.into()),
    }
}

/// An address to listen on, in the notation of Go.
pub(super) fn listen_address(text: &str) -> Parsed<HostPort> {
    const EXPECTED: &str = "expected host:port, or :port for all addresses";
    if text.rfind(':') == Some(0) {
        host_port(&format!("[::]{text}"), EXPECTED)
    } else {
        host_port(text, EXPECTED)
    }
}

/// The items between commas, without surrounding spaces and without empty items.
pub(super) fn list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    for item in text.split(',') {
        let item = item.trim();
        if !item.is_empty() {
            items.push(item);
        }
    }
    items
}

/// A list of keys and values, such as `key:value,key:value`. Values may be empty.
/// `expected` is the error text.
pub(super) fn pairs<'t>(
    text: &'t str,
    separator: char,
    expected: &str,
) -> Parsed<Vec<(&'t str, &'t str)>> {
    let mut pairs = Vec::new();
    for item in list(text) {
        let Some((key, value)) = item.split_once(separator) else { return Err(expected.into()) };
        pairs.push((key.trim(), value.trim()));
    }
    Ok(pairs)
}

/// The name of an HTTP header: a token of RFC 9110.
pub(super) fn header_name(text: &str) -> Parsed<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an HTTP header: letters, digits and !#$%&'*+-.^_`|~".into())
    }
}

/// A duration in the notation of Go: `10s`, `1h30m`, `0`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    match duration::parse(text) {
        Some(duration) => Ok(duration),
        None => Err("expected a duration such as 500ms, 10s or 1h30m (units ns, us, ms, s, m and \
                     h), of at most 290 years"
            .into()),
    }
}

/// Like [`duration()`], but 0 is invalid.
pub(super) fn positive_duration(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("expected a duration above 0".into()),
        duration => Ok(duration),
    }
}

/// Like [`duration()`]; 0 turns the bound off.
pub(super) fn optional_duration(text: &str) -> Parsed<Option<Duration>> {
    match duration(text)? {
        Duration::ZERO => Ok(None),
        duration => Ok(Some(duration)),
    }
}

/// The start of every error of [`readable_file`].
pub(super) const UNREADABLE: &str = "expected a file that can be read";

/// A file that this process can open.
pub(super) fn readable_file(text: &str) -> Parsed<PathBuf> {
    match File::open(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("{UNREADABLE} ({error})")),
    }
}
