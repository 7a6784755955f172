//! Bounds the replies of a server, before the Redis client keeps them in memory.
//!
//! The client parses a reply of any length, and drops replies that nobody asked for, so a
//! server could occupy any amount of memory and CPU time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The replies to the handshake, and an error before the server closes the connection.
const HANDSHAKE_REPLIES: u64 = 8;

/// The number of replies that a server may send. Clones share the number.
#[derive(Clone, Debug)]
pub(super) struct ExpectedReplies(Arc<AtomicU64>);

impl ExpectedReplies {
    pub(super) fn for_handshake() -> Self {
        Self(Arc::new(AtomicU64::new(HANDSHAKE_REPLIES)))
    }

    /// Expects replies to commands that are about to be sent.
    pub(super) fn add(&self, commands: usize) {
        self.0.fetch_add(u64::try_from(commands).unwrap_or(u64::MAX), Relaxed);
    }
}

/// The largest reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct MostOfReply {
    pub(super) bytes: u64,
    /// The values in it, at any depth. A value of four bytes takes hundreds in memory.
    pub(super) values: u64,
}

/// Follows the boundaries of replies in a stream of bytes, in the protocol RESP2.
#[derive(Debug)]
pub(super) struct ReplyScanner {
    expected: ExpectedReplies,
    most: MostOfReply,
    /// The number of replies that have begun.
    replies: u64,
    /// The number of bytes of the current reply.
    bytes: u64,
    /// The number of values of the current reply that have begun.
    values: u64,
    /// The number of values that the current reply still lacks; 0 between two replies.
    missing: u64,
    part: Part,
    /// The last byte of the previous chunk.
    last: u8,
}

/// The part of a value that comes next.
#[derive(Debug)]
enum Part {
    /// The byte of its type.
    Type,
    /// The rest of its first line.
    Line(Line),
    /// This number of bytes after the first line.
    Text(u64),
}

#[derive(Clone, Copy, Debug)]
struct Line {
    kind: u8,
    is_negative: bool,
    /// The value of the digits, if `kind` is that of a text or a list.
    number: u64,
}

/// The reason to cut the connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("a reply is longer than {0} bytes")]
    TooLong(u64),
    #[error("a reply has more than {0} values")]
    TooManyValues(u64),
    #[error("a reply that no command asked for")]
    Unexpected,
    #[error("a reply is not valid RESP2: it begins with the byte {0}")]
    Malformed(u8),
}

impl ReplyScanner {
    pub(super) fn new(expected: ExpectedReplies, most: MostOfReply) -> Self {
        Self {
            expected,
            most,
            replies: 0,
            bytes: 0,
            values: 0,
            missing: 0,
            part: Part::Type,
            last: 0,
        }
    }

    /// Reads the next bytes of the stream.
    pub(super) fn scan(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            let taken = match &mut self.part {
                Part::Type => {
                    self.begin(first)?;
                    1
                }
                Part::Line(_) => self.line(rest)?,
                Part::Text(left) => {
                    let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                    let taken = available.min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.end_value();
                    }
                    usize::try_from(taken).unwrap_or(rest.len())
                }
            };
            let (done, after) = rest.split_at(taken);
            self.last = done.last().copied().unwrap_or(self.last);
            self.bytes = self.bytes.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            if self.most.bytes < self.bytes {
                return Err(Violation::TooLong(self.most.bytes));
            }
            rest = after;
        }
        Ok(())
    }

    fn begin(&mut self, kind: u8) -> Result<(), Violation> {
        if !matches!(kind, b'+' | b'-' | b':' | b'$' | b'*') {
            return Err(Violation::Malformed(kind));
        }
        if self.missing == 0 {
            if self.expected.0.load(Relaxed) <= self.replies {
                return Err(Violation::Unexpected);
            }
            self.replies += 1;
            self.missing = 1;
            self.bytes = 0;
            self.values = 0;
        }
        self.values += 1;
        self.part = Part::Line(Line { kind, is_negative: false, number: 0 });
        Ok(())
    }

    /// Reads a line up to its end, if `rest` contains it. Returns the number of bytes.
    fn line(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let Part::Line(line) = &mut self.part else { return Ok(0) };
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |index| index + 1);
        if matches!(line.kind, b'$' | b'*') {
            for &byte in &rest[..end] {
                match byte {
                    b'-' => line.is_negative = true,
                    b'0'..=b'9' => {
                        let digit = u64::from(byte - b'0');
                        line.number = line.number.saturating_mul(10).saturating_add(digit);
                    }
                    _ => {}
                }
            }
        }
        let before = if end < 2 { self.last } else { rest[end - 2] };
        if rest[end - 1] == b'\n' && before == b'\r' {
            let line = *line;
            self.end_line(line)?;
        }
        Ok(end)
    }

    fn end_line(&mut self, line: Line) -> Result<(), Violation> {
        self.part = Part::Type;
        if line.is_negative || !matches!(line.kind, b'$' | b'*') {
            self.end_value();
            return Ok(());
        }
        // Fails before the announced bytes or values arrive.
        if line.kind == b'$' {
            if self.most.bytes < self.bytes.saturating_add(line.number) {
                return Err(Violation::TooLong(self.most.bytes));
            }
            // With the line break at its end.
            self.part = Part::Text(line.number + 2);
            return Ok(());
        }
        self.missing = self.missing.saturating_add(line.number);
        self.end_value();
        if self.most.values < self.values.saturating_add(self.missing) {
            return Err(Violation::TooManyValues(self.most.values));
        }
        Ok(())
    }

    fn end_value(&mut self) {
        self.part = Part::Type;
        self.missing = self.missing.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1_000;
    const MOST: MostOfReply = MostOfReply { bytes: MAX, values: 100 };

    fn scanner(expected: usize) -> ReplyScanner {
        let replies = ExpectedReplies(Arc::default());
        replies.add(expected);
        ReplyScanner::new(replies, MOST)
    }

    /// The number of replies in `text`, or the violation.
    fn scan(expected: usize, text: &str) -> Result<u64, Violation> {
        let mut scanner = scanner(expected);
        scanner.scan(text.as_bytes())?;
        Ok(scanner.replies - scanner.missing.min(1))
    }

    const REPLIES: [&str; 10] = [
        "+OK\r\n",
        "-ERR a\nb\r\n",
        ":-12\r\n",
        "$0\r\n\r\n",
        "$5\r\n\r\n\r\n*\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        "*3\r\n+a\r\n*0\r\n*-1\r\n",
    ];

    #[test]
    fn each_kind_of_reply_is_one_reply() {
        for reply in REPLIES {
            assert_eq!(scan(1, reply), Ok(1), "{reply:?}");
            assert_eq!(scan(2, &format!("{reply}{reply}")), Ok(2), "{reply:?}");
            assert_eq!(scan(1, &format!("{reply}:")), Err(Violation::Unexpected), "{reply:?}");
        }
    }

    #[test]
    fn long_replies_are_noticed_before_they_arrive() {
        let too_long = Err(Violation::TooLong(MAX));
        for reply in ["$536870912\r\n", "$18446744073709551615\r\n"] {
            assert_eq!(scan(1, reply), too_long, "{reply:?}");
        }
        assert_eq!(scan(1, &format!("+{}", "a".repeat(1_000))), too_long, "an endless line");
        assert_eq!(scan(1, &format!("*90\r\n{}", "+0123456789\r\n".repeat(90))), too_long);
        assert_eq!(scan(1, &format!("$900\r\n{}\r\n", "a".repeat(900))), Ok(1));
    }

    #[test]
    fn replies_of_many_values_are_noticed_before_they_arrive() {
        let too_many = Err(Violation::TooManyValues(100));
        for reply in ["*100\r\n", "*99999999999999999999\r\n", "*50\r\n*0\r\n*50\r\n"] {
            assert_eq!(scan(1, reply), too_many, "{reply:?}");
        }
        assert_eq!(scan(1, &"*1\r\n".repeat(100)), too_many, "endless nesting");
        let most = format!("*99\r\n{}", "*0\r\n".repeat(99));
        assert_eq!(scan(2, &format!("{most}{most}")), Ok(2));
    }

    #[test]
    fn other_protocols_are_malformed() {
        for (text, byte) in [(">2\r\n", b'>'), ("HTTP/1.1 400", b'H'), ("$1\r\nab\r\n", b'\n')] {
            assert_eq!(scan(1, text), Err(Violation::Malformed(byte)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_size_of_chunks_does_not_matter(
            picks in prop::collection::vec(0..REPLIES.len(), 1..30),
            sizes in prop::collection::vec(1_usize..9, 1..9),
        ) {
            let mut scanner = scanner(picks.len());
            let text: String = picks.iter().map(|pick| REPLIES[*pick]).collect();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                prop_assert_eq!(scanner.scan(chunk), Ok(()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((scanner.replies, scanner.missing), (picks.len() as u64, 0));
        }
    }
}
