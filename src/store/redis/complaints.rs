//! Errors that a server answers with.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError};
use tracing::warn;

use super::settings::RedisAddress;

/// How long nothing more is said of calls that a server fails.
const PAUSE: Duration = Duration::from_secs(60);

/// What of the server's errors is logged: one now and then, or a server that is full
/// would fill the log as well.
#[derive(Debug)]
pub(super) struct Complaints {
    pub(super) address: RedisAddress,
    /// When the last one was.
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    pub(super) fn new(address: RedisAddress) -> Self {
        Self { address, last: Mutex::default() }
    }

    /// Says what the server has answered, unless that is part of normal service, or is
    /// said by those who then connect again.
    pub(super) fn of(&self, error: &RedisError) {
        let Some(code) = error.code() else { return };
        let normal = matches!(code, "NOSCRIPT" | "MOVED" | "ASK" | "TRYAGAIN");
        if normal || is_refusal(error) || is_foreign(error) {
            return;
        }
        let mut last = self.last.lock();
        if last.is_none_or(|it| PAUSE <= it.elapsed()) {
            *last = Some(Instant::now());
            warn!("{} fails calls: {}", self.address, words(error));
        }
    }
}

/// The longest that a server may say.
const MOST: usize = 300;

/// `error` in the words of the server, if it is from there, in one line, and what to do
/// about it.
pub(super) fn words(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ if error.kind() == ErrorKind::Parse => {
            "it does not speak the protocol of Redis".to_owned()
        }
        _ => error.to_string(),
    };
    // Redis adds by which of its lines a script failed, and a Sentinel the whole script.
    let ends = [" script: ", ", with args beginning with:"];
    let end = ends.iter().filter_map(|it| text.find(it)).min().unwrap_or(text.len());
    let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().take(MOST).collect();
    match advice(&line) {
        Some(advice) => format!("{line}; {advice}"),
        None => line,
    }
}

/// What to do about an error that says this.
fn advice(text: &str) -> Option<&'static str> {
    const NO_CLUSTER: &str = "it is no Redis Cluster: set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to \
                              single or sentinel";
    const ADVICE: [(&str, &str); 7] = [
        ("No such master", "its name is the first part of REDIS_URL, or of REDIS_PERSECOND_URL"),
        (
            "access one of the keys",
            "keys begin with CACHE_KEY_PREFIX, and then with the domain or tollgate-probe-",
        ),
        ("cluster support disabled", NO_CLUSTER),
        ("unknown command 'CLUSTER'", NO_CLUSTER),
        (
            "unknown command 'SENTINEL'",
            "it is no Sentinel: set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to single or cluster",
        ),
        (
            "unknown command 'EVAL",
            "it knows no scripts; a Sentinel needs sentinel for REDIS_TYPE, or for \
             REDIS_PERSECOND_TYPE",
        ),
        ("READONLY", "it is a replica, and limits need its master"),
    ];
    ADVICE.iter().find(|(part, _)| text.contains(part)).map(|(_, advice)| *advice)
}

/// Whether a server that says so is of no use for now. One that has become a
/// replica still answers, but does not count, and its name may stand for another
/// one now; one that has new passwords may know ours again.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    const CODES: [&str; 5] = ["READONLY", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM"];
    let Some(code) = error.code() else { return false };
    // Before Redis 7, what a command in a script has answered is a part of the text.
    let within = || {
        let text = error.detail().unwrap_or_default();
        CODES.iter().any(|it| text.contains(&format!("-{it} ")))
    };
    CODES.contains(&code) || within()
}

/// Whether INCRBY cannot add to what is kept: no integer, or too large a one. The script
/// for fixed windows knows what to do then.
pub(super) fn is_foreign(error: &RedisError) -> bool {
    let text = error.detail().unwrap_or_default();
    error.code() == Some("WRONGTYPE")
        || ["not an integer", "would overflow"].iter().any(|it| text.contains(it))
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn error(answer: &str) -> RedisError {
        let value = parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?} is no error") };
        error.into()
    }

    fn said(answer: &str) -> String {
        words(&error(answer))
    }

    #[test]
    fn what_is_part_of_normal_service_is_not_complained_of() {
        let complaints = Complaints::new(RedisAddress::Tcp { host: "a".into(), port: 1 });
        for normal in [
            "NOSCRIPT No matching script. Please use EVAL.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR value is not an integer or out of range",
            "ERR increment or decrement would overflow",
        ] {
            complaints.of(&error(normal));
            assert!(complaints.last.lock().is_none(), "{normal}");
        }
        complaints.of(&error("OOM command not allowed when used memory > 'maxmemory'."));
        assert!(complaints.last.lock().is_some());
    }

    #[test]
    fn an_error_is_one_line_that_says_what_to_do() {
        let noise = "ERR can't run this command (SET) script: 2dbbc5e5, on @user_script:155.";
        assert_eq!(said(noise), "ERR can't run this command (SET)");
        let sentinel = "ERR unknown command 'EVAL', with args beginning with: '-- All' 'secret'";
        let text = said(sentinel);
        assert!(text.contains("sentinel for REDIS_TYPE") && !text.contains("secret"), "{text}");
        let text = said("NOPERM No permissions to access one of the keys used as arguments");
        assert!(text.contains("CACHE_KEY_PREFIX"), "{text}");
        assert!(said("ERR This instance has cluster support disabled").contains("REDIS_TYPE"));
        assert!(said(&format!("ERR {}", "x".repeat(10_000))).len() <= MOST);
    }
}
