//! The type of an unquoted scalar by the rules of YAML 1.1, which the reference
//! service uses for rule files.

/// The value of an unquoted scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    /// A whole number that fits into an `i64` or a `u64`.
    Int(i128),
    /// Any other number, including whole numbers that do not fit.
    Float(f64),
    Text,
}

impl Plain {
    /// The number as one that may have a fraction.
    pub(super) fn into_float(self) -> Self {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a float has no more digits")]
            Self::Int(number) => Self::Float(number as f64),
            other => other,
        }
    }
}

/// Finds the value of the unquoted scalar `text`.
pub(super) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Plain::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Plain::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Plain::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Plain::Float(f64::NAN),
        _ => match text.as_bytes()[0] {
            b'0'..=b'9' | b'+' | b'-' | b'.' => number(text),
            _ => Plain::Text,
        },
    }
}

fn number(text: &str) -> Plain {
    let text = text.replace('_', "");
    if let Some(number) = whole_number(&text)
        && (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number)
    {
        return Plain::Int(number);
    }
    // `parse` would also accept "inf" and "nan".
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse() {
        Ok(number) if is_decimal => Plain::Float(number),
        _ => Plain::Text,
    }
}

fn whole_number(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would accept a second sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], expected: Plain) {
        for text in texts {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn scalars_follow_yaml_1_1() {
        check(&["", "~", "null", "NULL"], Plain::Null);
        check(&["y", "Yes", "on", "TRUE"], Plain::Bool(true));
        check(&["n", "No", "off", "False"], Plain::Bool(false));
        check(&["8", "+8", "010", "0o10", "0b1000", "0x8", "0_1_0", "8_"], Plain::Int(8));
        check(&["-8", "-010", "-0x8", "-0b1000"], Plain::Int(-8));
        check(&["18446744073709551615"], Plain::Int(u64::MAX.into()));
        check(&["18446744073709551616"], Plain::Float(18_446_744_073_709_551_616.0));
        check(&["1.5", "1_.5", "15e-1", "+.15E1", "01.5"], Plain::Float(1.5));
        check(&["9.", "09"], Plain::Float(9.0));
        check(&["-.inf"], Plain::Float(f64::NEG_INFINITY));
        let texts = [
            "10.0.0.1",
            "2024-01-01",
            "1:30",
            "yEs",
            "0x",
            "0xg",
            "1e",
            "-",
            "+",
            ".",
            "--1",
            "0x-1",
            "+-1",
            "_1",
            "inf",
            "nan",
            "1d",
            "0b2",
            "1 2",
            "-inf",
            "+infinity",
            "e1",
        ];
        check(&texts, Plain::Text);
    }
}
