//! Limits on rule files, and the errors that prevent their reading.

use std::{io, path::PathBuf};

use crate::{config::MAX_BYTES, printable::printable_path};

/// The maximum depth of directories.
pub(super) const MAX_DEPTH: usize = 16;

/// The maximum number of files and directories that are listed.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// The maximum size of all rule files together, in bytes.
pub const MAX_TOTAL_BYTES: usize = 256 << 20;

/// An error that prevents the reading of rule files. Each contains the path.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system reported an error.
    #[error("{}: cannot read this: {_1}", printable_path(.0))]
    Io(PathBuf, io::Error),
    /// The path is a device, a socket or a pipe.
    #[error("{}: this is neither a file nor a directory", printable_path(.0))]
    Kind(PathBuf),
    /// The symbolic link leads to the second path, which is not in the directory of the
    /// rules.
    #[error("{}: this link leads out of the rules, to {}; copy the file, or set ALLOW_OUTSIDE_LINKS=true", printable_path(.0), printable_path(.1))]
    Outside(PathBuf, PathBuf),
    /// The symbolic link was replaced during the read.
    #[error("{}: this link was replaced while it was read", printable_path(.0))]
    Replaced(PathBuf),
    /// The directory contains no rule file.
    #[error("{}: no rule file is in this directory, expected names that end in .yaml or .yml", printable_path(.0))]
    Empty(PathBuf),
    /// The directory is nested too deep.
    #[error("{}: this directory is too deep, expected at most {MAX_DEPTH} levels", printable_path(.0))]
    Depth(PathBuf),
    /// Too many files: the directory is probably not a directory of rules.
    #[error("{}: more than {MAX_ENTRIES} files and directories are below this", printable_path(.0))]
    Entries(PathBuf),
    /// The file, or all files together, are too long.
    #[error("{}: this is too long, expected at most {MAX_BYTES} bytes in a file and {MAX_TOTAL_BYTES} in all", printable_path(.0))]
    Size(PathBuf),
}
