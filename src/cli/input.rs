//! Input of the commands: a file, or standard input.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    config::{MAX_BYTES, SourceFile},
    printable::printable_path,
};

/// The reason why an input cannot be read. Holds the path.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The system reports an error.
    #[error("{}: cannot read this: {_1}", printable_path(.0))]
    Io(PathBuf, io::Error),
    /// The file is longer than a rule file may be.
    #[error("{}: this is too long, expected at most {MAX_BYTES} bytes", printable_path(.0))]
    TooLong(PathBuf),
}

/// Returns true if `path` is `-`, which stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads the file at `path`, or standard input if it is `-`.
///
/// # Errors
///
/// If the input cannot be read, or is too long.
pub(super) fn read(path: &Path) -> Result<SourceFile, InputError> {
    let mut bytes = Vec::new();
    let result = if is_stdin(path) {
        read_limited(io::stdin().lock(), &mut bytes)
    } else {
        File::open(path).and_then(|file| read_limited(file, &mut bytes))
    };
    result.map_err(|error| InputError::Io(path.to_owned(), error))?;
    if bytes.len() > MAX_BYTES {
        return Err(InputError::TooLong(path.to_owned()));
    }
    let name = if is_stdin(path) { "stdin".into() } else { printable_path(path) };
    Ok(SourceFile { name, bytes })
}

/// Reads one byte more than allowed, to detect an input that is too long.
fn read_limited(input: impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    input.take(MAX_BYTES as u64 + 1).read_to_end(bytes)
}
