//! Errors that Redis replies with: their text for operators, and their consequences.

use redis::{ErrorKind, RedisError};

/// The longest part of an error that is kept, in characters.
const MAX_LENGTH: usize = 300;

/// Redis appends to an error the line of the script that failed, and a Sentinel the
/// arguments of the command.
const NOISE: [&str; 2] = [" script: ", ", with args beginning with:"];

const NOT_A_CLUSTER: &str = "the server is not part of a Redis Cluster: set REDIS_TYPE, or \
                             REDIS_PERSECOND_TYPE, to single or sentinel";

/// Texts in errors, and advice for the operator.
const ADVICE: [(&str, &str); 8] = [
    ("No such master", "its name is the first part of REDIS_URL, or of REDIS_PERSECOND_URL"),
    (
        "access one of the keys",
        "keys start with CACHE_KEY_PREFIX, followed by the domain or by tollgate-probe-",
    ),
    (
        "can't run this command",
        "the Redis user needs eval, evalsha, get, set, del, incrby, decrby, pexpire, pttl, getrange, \
         setrange and strlen",
    ),
    ("cluster support disabled", NOT_A_CLUSTER),
    ("unknown command 'CLUSTER'", NOT_A_CLUSTER),
    (
        "unknown command 'SENTINEL'",
        "the server is not a Sentinel: set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to single or cluster",
    ),
    (
        "unknown command 'EVAL",
        "the server cannot run scripts; if it is a Sentinel, set REDIS_TYPE, or \
         REDIS_PERSECOND_TYPE, to sentinel",
    ),
    ("READONLY", "it is a replica, and limits need its master"),
];

/// Error codes of a server that was demoted, or that no longer accepts our credentials.
const UNUSABLE: [&str; 5] = ["READONLY", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM"];

/// Returns the error in one line, with advice if there is any.
pub(super) fn error_text(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ if error.kind() == ErrorKind::Parse => "it does not speak the protocol of Redis".into(),
        _ => error.to_string(),
    };
    let mut end = text.len();
    for noise in NOISE {
        end = end.min(text.find(noise).unwrap_or(end));
    }
    let words: Vec<&str> = text[..end].split_whitespace().collect();
    let mut line: String = words.join(" ").chars().take(MAX_LENGTH).collect();
    for (part, advice) in ADVICE {
        if line.contains(part) {
            line.push_str("; ");
            line.push_str(advice);
            break;
        }
    }
    line
}

/// Returns whether to connect again after this error. The name of a demoted server may
/// resolve to its successor by now, and a server with new passwords may accept ours later.
pub(super) fn requires_reconnect(error: &RedisError) -> bool {
    UNUSABLE.iter().any(|unusable| has_code(error, unusable))
}

/// Returns whether the server had no memory for a counter.
pub(super) fn is_out_of_memory(error: &RedisError) -> bool {
    has_code(error, "OOM")
}

fn has_code(error: &RedisError, expected: &str) -> bool {
    let Some(code) = error.code() else { return false };
    // Before Redis 7, the error of a command in a script is part of the text.
    let text = error.detail().unwrap_or_default();
    code == expected || text.contains(&format!("-{expected} "))
}

/// Returns whether INCRBY cannot add to a value because it is not an integer, or too large.
/// The script for fixed windows can handle such a value.
pub(super) fn cannot_increment(error: &RedisError) -> bool {
    let text = error.detail().unwrap_or_default();
    error.code() == Some("WRONGTYPE")
        || text.contains("not an integer")
        || text.contains("would overflow")
}

/// Returns whether the server did not accept the password or the user.
pub(super) fn is_authentication_failure(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

#[cfg(test)]
pub(super) mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    pub(in crate::store::redis) fn server_error(reply: &str) -> RedisError {
        let value = parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?} is not an error") };
        error.into()
    }

    fn text(reply: &str) -> String {
        error_text(&server_error(reply))
    }

    #[test]
    fn an_error_is_one_line_with_advice() {
        let with_script = "ERR can't do this (SET) script: 2dbbc5e5, on @user_script:155.";
        assert_eq!(text(with_script), "ERR can't do this (SET)");
        let sentinel = "ERR unknown command 'EVAL', with args beginning with: '-- All' 'secret'";
        let error = text(sentinel);
        assert!(error.contains("to sentinel") && !error.contains("secret"), "{error}");
        let error = text("NOPERM No permissions to access one of the keys used as arguments");
        assert!(error.contains("CACHE_KEY_PREFIX"), "{error}");
        assert!(text("ERR This instance has cluster support disabled").contains("REDIS_TYPE"));
        assert!(text(&format!("ERR {}", "x".repeat(10_000))).len() <= MAX_LENGTH);
    }

    #[test]
    fn advice_on_rights_names_every_command_that_the_scripts_use() {
        let error = text("ERR The user executing the script can't run this command or subcommand");
        for line in include_str!("lua/probe.lua").lines() {
            let Some((command, _)) =
                line.trim().strip_prefix("{'").and_then(|it| it.split_once('\''))
            else {
                continue;
            };
            assert!(error.contains(&command.to_lowercase()), "{command}: {error}");
        }
    }

    #[test]
    fn a_full_server_is_known_also_from_within_a_script() {
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        assert!(is_out_of_memory(&server_error(full)));
        let in_script = format!("ERR Error running script (call to f_2dbbc5e5): -{full}");
        assert!(is_out_of_memory(&server_error(&in_script)));
        assert!(!is_out_of_memory(&server_error("READONLY You can't write")));
    }
}
