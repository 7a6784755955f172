//! Parameters of a query.

use super::path::decode_escape;

/// The first value of the parameter called `name`, decoded as an HTML form encodes it. `None`
/// if there is none.
pub(super) fn parameter(query: &[u8], name: &str) -> Option<Vec<u8>> {
    for pair in query.split(|byte| *byte == b'&') {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (found, value) = match equals {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        if decode(found) == name.as_bytes() {
            return Some(decode(value));
        }
    }
    None
}

/// Escapes with other digits than hex ones stay as they are.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after_first @ ..] = rest {
        let (byte, after) = match first {
            b'+' => (b' ', after_first),
            b'%' => decode_escape(after_first).unwrap_or((b'%', after_first)),
            _ => (*first, after_first),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_decoded_and_the_first_one_counts() {
        let find = |query: &str| {
            let value = parameter(query.as_bytes(), "model")?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        assert_eq!(find("model=a"), Some("a".into()));
        assert_eq!(find("x=1&m%6fdel=a+b%2Bc%zz&model=d"), Some("a b+c%zz".into()));
        assert_eq!(find("model"), Some(String::new()));
        assert_eq!(find("model=a=b"), Some("a=b".into()));
        assert_eq!(find("models=a&xmodel=b&Model=c"), None);
        assert_eq!(find(""), None);
    }
}
