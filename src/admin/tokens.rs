//! The tokens of the admin API.

use std::{
    convert::Infallible,
    fmt::{self, Write as _},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::task::{self, JoinError};
use tracing::{error, info};

use crate::{printable::printable_path, watch::Watch};

/// The most bytes of a file with tokens.
const MOST_BYTES: u64 = 1 << 20;

/// The fewest characters of a token: with fewer, it could be guessed.
const LEAST_LENGTH: usize = 20;

/// The most characters of a token and of a name.
const MOST_LENGTH: usize = 512;

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Read everything.
    #[default]
    Read,
    /// Read everything, and change what can be changed.
    Write,
}

impl Role {
    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The holder of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The name in the file. Empty where no token is needed.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
}

/// The tokens that are accepted now.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<ArcSwap<Vec<Token>>>);

struct Token {
    digest: [u8; 32],
    actor: Actor,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("actor", &self.actor).finish_non_exhaustive()
    }
}

/// The tokens cannot be used. No error contains a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the tokens of {path} (ADMIN_TOKENS_FILE)")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A line of the file has a mistake.
    #[error("{path}:{line} (ADMIN_TOKENS_FILE): {problem}")]
    Invalid {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// What was expected.
        problem: String,
    },
    /// The token of the start cannot be written.
    #[error("cannot write the token to {path} (ADMIN_TOKEN_FILE)")]
    Write {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("cannot make a token: the system has no random numbers")]
    Random,
}

impl Tokens {
    /// A new token of 256 random bits, which may do everything.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn generate() -> Result<(Self, String), TokenError> {
        let mut bytes = [0; 32];
        let provider = rustls::crypto::ring::default_provider();
        provider.secure_random.fill(&mut bytes).map_err(|_| TokenError::Random)?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        let actor = Actor { name: "start".into(), role: Role::Write };
        let token = Token { digest: Sha256::digest(&text).into(), actor };
        Ok((Self(Arc::new(ArcSwap::from_pointee(vec![token]))), text))
    }

    /// The tokens of a file. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or at its first mistake.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(read(path)?))))
    }

    /// The holder of a token. Takes as long for every token of the same length.
    pub fn find(&self, token: &[u8]) -> Option<Actor> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let tokens = self.0.load();
        let mut found = None;
        for token in tokens.iter() {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(&token.actor);
            }
        }
        found.cloned()
    }

    /// Reads the file again after each change. If it has a mistake, the tokens stay. Does not
    /// return.
    ///
    /// # Errors
    ///
    /// If a look at the file panics.
    pub async fn watch(self, path: PathBuf) -> Result<Infallible, JoinError> {
        let mut watch = Watch::start("the file of ADMIN_TOKENS_FILE keeps changing");
        let mut last = None;
        loop {
            let look = || {
                let path = path.clone();
                task::spawn_blocking(move || fingerprint(&path))
            };
            watch.changed(look).await?;
            let place = path.clone();
            let result = task::spawn_blocking(move || read(&place)).await?;
            self.install(result, &path, &mut last);
        }
    }

    fn install(
        &self,
        result: Result<Vec<Token>, TokenError>,
        path: &Path,
        last: &mut Option<String>,
    ) {
        let outcome = match &result {
            Ok(tokens) => format!("{:?}", digests(tokens)),
            Err(error) => crate::causes::text(error),
        };
        if last.as_ref() == Some(&outcome) {
            return;
        }
        let is_first = last.replace(outcome).is_none();
        match result {
            Ok(tokens) => {
                let count = tokens.len();
                self.0.store(Arc::new(tokens));
                if !is_first {
                    let path = printable_path(path);
                    info!(count, "the tokens of {path} are in force (ADMIN_TOKENS_FILE)");
                }
            }
            Err(error) => {
                let why = crate::causes::text(&error);
                error!("the tokens of the admin API stay as they are: {why}");
            }
        }
    }
}

fn digests(tokens: &[Token]) -> Vec<([u8; 32], &Actor)> {
    tokens.iter().map(|token| (token.digest, &token.actor)).collect()
}

/// Changes with the file.
fn fingerprint(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(found) = fs::metadata(path) {
        (found.ino(), found.dev(), found.len(), found.mtime(), found.mtime_nsec())
            .hash(&mut hasher);
    }
    hasher.finish()
}

fn read(path: &Path) -> Result<Vec<Token>, TokenError> {
    let unreadable = |source| TokenError::Read { path: printable_path(path), source };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if MOST_BYTES < length {
        let why = format!("it has {length} bytes, expected at most {MOST_BYTES}");
        return Err(unreadable(io::Error::other(why)));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|(line, problem)| TokenError::Invalid {
        path: printable_path(path),
        line,
        problem,
    })
}

/// One token a line: `name role token`. The error has the line, counted from 1.
fn parse(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse_line(line).map_err(|problem| (index + 1, problem))?;
        if tokens.iter().any(|other| other.digest == token.digest) {
            return Err((index + 1, "expected a token that no earlier line has".to_owned()));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn parse_line(line: &str) -> Result<Token, String> {
    let parts: Vec<_> = line.split_ascii_whitespace().collect();
    let [name, role, token] = parts[..] else {
        return Err("expected three words: a name, `read` or `write`, and a token".to_owned());
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@:-".contains(&byte);
    if MOST_LENGTH < name.len() || !name.bytes().all(is_name) {
        return Err("expected a name of letters, digits and _.@:-".to_owned());
    }
    let role = match role {
        "read" => Role::Read,
        "write" => Role::Write,
        _ => return Err("expected `read` or `write` as the second word".to_owned()),
    };
    let digest = match token.strip_prefix("sha256:") {
        Some(digits) => parse_digest(digits)?,
        None => {
            let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
            if !(LEAST_LENGTH..=MOST_LENGTH).contains(&token.len()) || !is_visible {
                return Err(format!(
                    "expected a token of {LEAST_LENGTH} to {MOST_LENGTH} ASCII characters, or \
                     `sha256:` and 64 hexadecimal digits"
                ));
            }
            Sha256::digest(token).into()
        }
    };
    Ok(Token { digest, actor: Actor { name: name.into(), role } })
}

fn parse_digest(digits: &str) -> Result<[u8; 32], String> {
    let wrong = || "expected 64 hexadecimal digits after `sha256:`".to_owned();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        let pair = digits.get(2 * index..2 * index + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// Writes a token to a file that only this user can read, instead of an earlier one. Blocks.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(path: &Path, token: &str) -> Result<(), TokenError> {
    write_private(path, token)
        .map_err(|source| TokenError::Write { path: printable_path(path), source })
}

fn write_private(path: &Path, token: &str) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt};
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // Left by a process that was killed; it may have other rights.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = writeln!(text, "{token}");
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ANN: &str = "0123456789abcdefghij";
    const BOB: &str = "abcdefghij0123456789";

    fn tokens(text: &str) -> Result<Tokens, (usize, String)> {
        Ok(Tokens(Arc::new(ArcSwap::from_pointee(parse(text)?))))
    }

    #[test]
    fn a_token_is_found_as_text_or_by_its_digest() {
        let mut hex = String::new();
        for byte in Sha256::digest(BOB) {
            write!(hex, "{byte:02X}").unwrap();
        }
        let text = format!("# staff\n\nann read {ANN}\r\n bob\twrite  sha256:{hex}\n");
        let tokens = tokens(&text).unwrap();
        let found = |token: &str| tokens.find(token.as_bytes()).map(|it| (it.name, it.role));
        assert_eq!(found(ANN), Some(("ann".into(), Role::Read)));
        assert_eq!(found(BOB), Some(("bob".into(), Role::Write)));
        for wrong in ["", "0123456789abcdefghi", "0123456789abcdefghij ", &hex] {
            assert_eq!(found(wrong), None);
        }
    }

    #[test]
    fn mistakes_name_the_line_and_no_token() {
        let long = "x".repeat(MOST_LENGTH + 1);
        for (line, expected) in [
            ("ann read".to_owned(), "expected three words"),
            (format!("ann read {ANN} more"), "expected three words"),
            (format!("ann admin {ANN}"), "expected `read` or `write`"),
            (format!("a/n read {ANN}"), "expected a name"),
            ("ann read short".to_owned(), "expected a token of 20 to 512"),
            (format!("ann read {long}"), "expected a token of 20 to 512"),
            (format!("ann read {ANN}\u{fc}"), "expected a token of 20 to 512"),
            ("ann read sha256:12".to_owned(), "expected 64 hexadecimal"),
            (format!("ann read {BOB}"), "expected a token that no earlier line has"),
        ] {
            let (number, problem) = tokens(&format!("# x\nbob write {BOB}\n{line}")).unwrap_err();
            assert_eq!(number, 3);
            assert!(problem.starts_with(expected), "{problem}");
            for secret in [ANN, BOB, "short"] {
                assert!(!problem.contains(secret), "{problem}");
            }
        }
    }

    #[test]
    fn a_token_of_the_start_is_long_random_and_private() {
        let (tokens, token) = Tokens::generate().unwrap();
        let (_, other) = Tokens::generate().unwrap();
        assert!(token.len() == 43 && token != other);
        assert_eq!(tokens.find(token.as_bytes()).unwrap().role, Role::Write);
        assert_eq!(tokens.find(other.as_bytes()), None);
        assert!(!format!("{tokens:?}").contains(&token));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "old").unwrap();
        fs::write(directory.path().join("token.new"), "left").unwrap();
        super::write(&path, &token).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let missing = super::write(&directory.path().join("no/token"), &token).unwrap_err();
        assert!(missing.to_string().contains("ADMIN_TOKEN_FILE"), "{missing}");
    }
}
