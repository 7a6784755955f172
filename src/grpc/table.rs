//! The memory that the table of HPACK keeps on a connection.
//!
//! The client chooses which headers the table keeps (RFC 7541, section 2.3). h2 copies no
//! `:path` and no `:authority`: an entry of a few bytes keeps the buffer in which it arrived,
//! with all other bytes in it, long after its call has ended. So a table of 4 KiB could keep
//! two MiB. This module finds such entries.

use std::collections::VecDeque;

/// The most entries of a table of 4,096 bytes: each counts as 32 bytes and its name.
const MOST_ENTRIES: u64 = 4_096 / 33;

/// The static entries with names of pseudo-headers are the first ones (appendix A).
const LAST_PSEUDO: usize = 14;

/// The index of the newest entry.
const FIRST_DYNAMIC: usize = 62;

/// The size of a buffer into which h2 reads short frames.
const BUFFER: usize = 8 << 10;

/// The memory that tables of ordinary clients keep, which is not counted.
const ORDINARY: usize = 4 * BUFFER;

/// An entry that keeps a buffer.
#[derive(Debug)]
struct Pin {
    /// Its number among the entries of the connection.
    entry: u64,
    /// The bytes of the connection before it.
    position: u64,
}

/// What the next byte begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Field,
    NameLength,
    ValueLength,
}

/// Reads blocks of headers, for the entries that they add to the table.
#[derive(Debug)]
pub(super) struct Table {
    part: Part,
    /// A number as far as it has arrived, and the bits of it that have.
    number: usize,
    bits: Option<u32>,
    /// The bytes of a name or value that have not arrived.
    text: usize,
    /// The next byte is the first of a name.
    at_name: bool,
    /// The field has a value.
    is_literal: bool,
    /// The field is kept.
    is_kept: bool,
    /// Its name is that of a pseudo-header.
    is_pseudo: bool,
    entries: u64,
    pins: VecDeque<Pin>,
    /// The bytes of the block of headers, in all of its frames, and its fields.
    block: usize,
    fields: usize,
    /// The most memory of one buffer.
    buffer: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            part: Part::Field,
            number: 0,
            bits: None,
            text: 0,
            at_name: false,
            is_literal: false,
            is_kept: false,
            is_pseudo: false,
            entries: 0,
            pins: VecDeque::new(),
            block: 0,
            fields: 0,
            buffer: BUFFER,
        }
    }

    /// A frame without headers begins.
    pub(super) fn begin_frame(&mut self, length: usize) {
        self.buffer = self.buffer.max(length);
    }

    /// A block of headers begins.
    pub(super) fn begin_block(&mut self) {
        self.block = 0;
        self.fields = 0;
    }

    /// A frame with headers begins. Headers may take twice their bytes, because Huffman codes
    /// are shorter than the text.
    pub(super) fn begin_headers(&mut self, length: usize) {
        self.block += length;
        self.buffer = self.buffer.max(2 * self.block);
    }

    /// The fields of the block of headers so far.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// The memory that the table keeps beyond that of ordinary clients, at most, after so many
    /// bytes of the connection.
    pub(super) fn pinned(&self, position: u64) -> usize {
        let Some(oldest) = self.pins.front() else { return 0 };
        let arrived = usize::try_from(position - oldest.position).unwrap_or(usize::MAX);
        // Long texts in Huffman codes may take twice the bytes that have arrived.
        let factor = if self.buffer == BUFFER { 1 } else { 2 };
        let since = arrived.saturating_mul(factor).saturating_add(2 * self.buffer);
        let memory = (self.pins.len() * self.buffer).min(since);
        memory.saturating_sub(ORDINARY)
    }

    /// The next bytes of a block of headers, which begin at `position`.
    pub(super) fn read(&mut self, mut bytes: &[u8], position: u64) {
        while let Some((first, rest)) = bytes.split_first() {
            if 0 < self.text {
                if self.at_name {
                    self.at_name = false;
                    // A colon, or the Huffman code of one.
                    self.is_pseudo = *first == b':' || first >> 1 == 0b101_1100;
                }
                let (skipped, rest) = bytes.split_at(self.text.min(bytes.len()));
                self.text -= skipped.len();
                bytes = rest;
                continue;
            }
            bytes = rest;
            if self.read_number(*first) {
                self.end_number(position);
            }
        }
    }

    /// Reads a byte of a number (section 5.1). Returns true if it is the last one.
    fn read_number(&mut self, byte: u8) -> bool {
        let Some(bits) = self.bits else {
            let most = (1_usize << self.prefix(byte)) - 1;
            self.number = usize::from(byte) & most;
            if self.number < most {
                return true;
            }
            self.bits = Some(0);
            return false;
        };
        // h2 fails after fewer bits.
        self.number = self.number.saturating_add(usize::from(byte & 0x7f) << bits.min(42));
        self.bits = Some(bits + 7);
        if byte & 0x80 == 0 {
            self.bits = None;
        }
        self.bits.is_none()
    }

    /// The bits of the number that this byte begins.
    fn prefix(&mut self, byte: u8) -> u32 {
        if self.part != Part::Field {
            return 7;
        }
        // Section 6.
        self.is_literal = byte & 0xc0 == 0x40 || byte & 0xe0 == 0;
        self.is_kept = byte & 0xc0 == 0x40;
        match byte.leading_zeros() {
            0 => 7,
            1 => 6,
            2 => 5,
            _ => 4,
        }
    }

    fn end_number(&mut self, position: u64) {
        match self.part {
            Part::Field if !self.is_literal => self.fields += 1,
            Part::Field if self.number == 0 => self.part = Part::NameLength,
            Part::Field => {
                self.is_pseudo = self.is_name_pseudo(self.number);
                self.part = Part::ValueLength;
            }
            Part::NameLength => {
                self.text = self.number;
                self.at_name = true;
                self.is_pseudo = false;
                self.part = Part::ValueLength;
            }
            Part::ValueLength => {
                self.text = self.number;
                self.at_name = false;
                self.part = Part::Field;
                self.fields += 1;
                if self.is_kept {
                    self.add_entry(position);
                }
            }
        }
    }

    fn is_name_pseudo(&self, index: usize) -> bool {
        let Some(age) = index.checked_sub(FIRST_DYNAMIC) else { return index <= LAST_PSEUDO };
        let newer = u64::try_from(age).unwrap_or(u64::MAX).saturating_add(1);
        self.entries
            .checked_sub(newer)
            .is_some_and(|it| self.pins.iter().any(|pin| pin.entry == it))
    }

    fn add_entry(&mut self, position: u64) {
        if self.is_pseudo {
            self.pins.push_back(Pin { entry: self.entries, position });
        }
        self.entries += 1;
        // Those before have left the table.
        let oldest = self.entries.saturating_sub(MOST_ENTRIES);
        while self.pins.front().is_some_and(|pin| pin.entry < oldest) {
            self.pins.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a block in frames of so many bytes.
    fn read(table: &mut Table, block: &[u8], step: usize) {
        table.begin_block();
        for part in block.chunks(step) {
            table.begin_headers(part.len());
            table.read(part, 0);
        }
    }

    fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
        [&[kind, length(name)], name, &[length(value)], value].concat()
    }

    #[test]
    fn entries_of_pseudo_headers_keep_buffers() {
        // Kept, by the index of the name: `:path` and `accept`.
        let (path, accept) = ([0x44, 1, b'/'], [0x53, 1, b'a']);
        // By the name itself, also in the Huffman code.
        let (named, coded) = (literal(0x40, b":path", b"/"), literal(0x40, b"\xb9\xe7", b"/"));
        let other = literal(0x40, b"x:", &[b':'; 100]);
        // By an entry of the table: the newest, and the one before.
        let (newest, second) = ([0x7e, 1, b'/'], [0x7f, 0, 1, b'/']);
        // Not kept, never kept, indexed, and a new size of the table.
        let rest = [0x04, 1, b'/', 0x14, 1, b'/', 0x82, 0xff, 0, 0x3f, 0xe1, 0x1f];
        for (fields, block, pins) in [
            (1, path.to_vec(), 1),
            (1, accept.to_vec(), 0),
            (2, [&named[..], &coded].concat(), 2),
            (1, other, 0),
            (2, [path, newest].concat(), 2),
            (3, [&path[..], &accept, &newest].concat(), 1),
            (3, [&path[..], &accept, &second].concat(), 2),
            // The new size counts as a field, too.
            (5, rest.to_vec(), 0),
        ] {
            for step in [1, 2, 100] {
                let mut table = Table::new();
                read(&mut table, &block, step);
                assert_eq!((table.fields(), table.pins.len()), (fields, pins), "{block:?} {step}");
            }
        }
    }

    #[test]
    fn entries_keep_buffers_until_the_table_has_others() {
        let mut table = Table::new();
        let path = [0x44, 1, b'/'];
        for _ in 0..4 {
            read(&mut table, &path, 3);
        }
        assert_eq!(table.pinned(1 << 20), 0);
        // A long frame makes the buffers larger.
        table.begin_frame(16 << 10);
        assert_eq!(table.pinned(1 << 20), 4 * (16 << 10) - ORDINARY);
        // But the entries keep no more than what has arrived since the first of them can take.
        assert_eq!(table.pinned(1_000), 2 * 1_000 + 2 * (16 << 10) - ORDINARY);
        for _ in 0..MOST_ENTRIES {
            read(&mut table, &[0x53, 1, b'a'], 3);
        }
        assert_eq!(table.pinned(1 << 20), 0);
    }
}
