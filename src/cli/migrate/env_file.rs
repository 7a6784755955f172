//! Files of environment variables, `NAME=value` on each line.

use std::fmt::Write;

use super::environment::{EnvValue, EnvVariable, Environment};

/// The number of wrong lines that an error lists.
const MAX_LISTED: usize = 20;

/// Reads lines `NAME=value` as `env` prints them, as Docker's `--env-file`
/// takes them, or as a shell reads them, with `export` and quotes.
///
/// # Errors
///
/// A list of the lines that have another form, with their numbers.
pub(super) fn parse(file: &str, text: &str) -> Result<Environment, String> {
    let mut environment = Environment::new(file, file);
    let mut wrong_lines = 0;
    let mut problems = String::new();
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, text) in (1..).zip(text.lines()) {
        match parse_line(text.trim()) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                environment.set(EnvVariable { name: name.to_owned(), value, line })?;
            }
            Err(problem) => {
                wrong_lines += 1;
                if wrong_lines <= MAX_LISTED {
                    let _ = write!(problems, "\n  {file}:{line}: {problem}");
                }
            }
        }
    }
    if wrong_lines == 0 {
        return Ok(environment);
    }
    if wrong_lines > MAX_LISTED {
        let _ = write!(problems, "\n  and {} more", wrong_lines - MAX_LISTED);
    }
    Err(format!("this is not a file of variables, expected NAME=value on each line:{problems}"))
}

/// Returns `None` for an empty line and for a comment.
fn parse_line(line: &str) -> Result<Option<(&str, EnvValue)>, String> {
    if line.is_empty() || line.starts_with('#') || line == "set -a" || line == "set +a" {
        return Ok(None);
    }
    let line = match (line.strip_prefix("export "), line.strip_prefix("declare -x ")) {
        (Some(exported), _) | (None, Some(exported)) => exported.trim_start(),
        (None, None) => line,
    };
    let (name, text) = match line.split_once('=') {
        Some((name, text)) => (name, Some(text)),
        None => (line, None),
    };
    if !is_variable_name(name) {
        return Err("expected the name of a variable and a value, NAME=value".into());
    }
    let value = match text {
        Some(text) => unquote(text)?,
        None => EnvValue::Unknown("the process that starts the service".into()),
    };
    Ok(Some((name, value)))
}

fn is_variable_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let Some(first) = bytes.first() else { return false };
    !first.is_ascii_digit()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The value that a shell would read from `text`. It is unknown if the shell
/// would replace a part of it.
fn unquote(text: &str) -> Result<EnvValue, String> {
    let (value, has_expansion) = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&text[1..], quote)?,
        _ => {
            let value = text.split(" #").next().unwrap_or_default().trim_end();
            let expands = value.contains("${") || value.contains("$(") || value.starts_with('$');
            (value.to_owned(), expands)
        }
    };
    if has_expansion {
        return Ok(EnvValue::Unknown("a shell, which replaces text that begins with `$`".into()));
    }
    Ok(EnvValue::Known(value))
}

/// Reads `text`, which follows the opening `quote`. Returns the value, and
/// whether a shell would expand a part of it.
fn quoted(text: &str, quote: char) -> Result<(String, bool), String> {
    let unclosed = || format!("expected another {quote} at the end");
    let mut value = String::new();
    let mut expands = false;
    let mut chars = text.chars();
    loop {
        let char = chars.next().ok_or_else(unclosed)?;
        if char == quote {
            break;
        }
        if quote == '"' && char == '\\' {
            match chars.next().ok_or_else(unclosed)? {
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            }
            continue;
        }
        expands |= quote == '"' && (char == '$' || char == '`');
        value.push(char);
    }
    let rest = chars.as_str().trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return Err(format!("expected nothing behind the second {quote}"));
    }
    Ok((value, expands))
}
