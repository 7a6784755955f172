//! Rule files on disk. All of it blocks.

use std::{
    fs::{self, File, Metadata},
    hash::{Hash, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::config::{MAX_BYTES, SourceFile};

/// How deep directories may stand in the one that is read.
const MAX_DEPTH: usize = 16;

/// How many files and directories are looked at.
const MAX_ENTRIES: usize = 100_000;

/// How long all files of a set may be together, in bytes.
pub const MAX_TOTAL_BYTES: usize = 256 << 20;

/// Why rule files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("{}: cannot read this: {_1}", .0.display())]
    Io(PathBuf, io::Error),
    /// It is a device, a socket or the like.
    #[error("{}: this is neither a file nor a directory", .0.display())]
    Kind(PathBuf),
    /// No rule file is there.
    #[error("{}: no rule file is in this directory, expected names that end in .yaml or .yml", .0.display())]
    Empty(PathBuf),
    /// The path is too deep.
    #[error("{}: this directory is too deep, expected at most {MAX_DEPTH} levels", .0.display())]
    Depth(PathBuf),
    /// The directory is something else than a directory of rules.
    #[error("{}: more than {MAX_ENTRIES} files and directories are below this", .0.display())]
    Entries(PathBuf),
    /// A file is too long, or all are together.
    #[error("{}: this is too long, expected at most {MAX_BYTES} bytes in a file and {MAX_TOTAL_BYTES} in all", .0.display())]
    Size(PathBuf),
}

/// Reads the rule file at `path`, or all rule files below the directory at
/// `path`, in the order of their paths.
///
/// Below a directory, the rule files are those whose names end in `.yaml` or
/// `.yml`. A name that begins with a dot is ignored, and so is a symbolic link
/// to a directory: a volume of Kubernetes has both, and shows each file once
/// more without them. A symbolic link to a file is read.
///
/// # Errors
///
/// If there is no rule file, or if one of them cannot be read, is no regular
/// file or is too long.
pub fn read(path: &Path) -> Result<Vec<SourceFile>, ReadError> {
    let mut total = 0;
    let mut files = Vec::new();
    for (path, _) in list(path)? {
        let bytes = read_file(&path)?;
        total += bytes.len();
        if total > MAX_TOTAL_BYTES {
            return Err(ReadError::Size(path));
        }
        files.push(SourceFile { name: path.display().to_string(), bytes });
    }
    Ok(files)
}

/// A number that changes, as good as always, when [`read`] would read something
/// else. The files themselves are not read.
///
/// It is made of the path, device, inode, size and times of each file, or of
/// the error that [`read`] would meet.
pub fn fingerprint(path: &Path) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    match list(path) {
        Err(error) => format!("{error:?}").hash(&mut hasher),
        Ok(files) => files.iter().for_each(|(path, it)| {
            path.hash(&mut hasher);
            (it.dev(), it.ino(), it.size()).hash(&mut hasher);
            (it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()).hash(&mut hasher);
        }),
    }
    hasher.finish()
}

/// The rule files at `path`, sorted by path.
fn list(path: &Path) -> Result<Vec<(PathBuf, Metadata)>, ReadError> {
    let metadata = stat(path)?;
    if !metadata.is_dir() {
        regular(path, &metadata)?;
        return Ok(vec![(path.to_owned(), metadata)]);
    }
    let mut walk = Walk { files: Vec::new(), entries: 0 };
    walk.directory(path, 0)?;
    if walk.files.is_empty() {
        return Err(ReadError::Empty(path.to_owned()));
    }
    walk.files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(walk.files)
}

struct Walk {
    files: Vec<(PathBuf, Metadata)>,
    entries: usize,
}

impl Walk {
    fn directory(&mut self, directory: &Path, depth: usize) -> Result<(), ReadError> {
        if depth > MAX_DEPTH {
            return Err(ReadError::Depth(directory.to_owned()));
        }
        let io = |error| ReadError::Io(directory.to_owned(), error);
        for entry in fs::read_dir(directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.as_encoded_bytes();
            if name.starts_with(b".") {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ReadError::Entries(directory.to_owned()));
            }
            if entry.file_type().map_err(io)?.is_dir() {
                self.directory(&path, depth + 1)?;
            } else if name.ends_with(b".yaml") || name.ends_with(b".yml") {
                let metadata = stat(&path)?;
                if !metadata.is_dir() {
                    regular(&path, &metadata)?;
                    self.files.push((path, metadata));
                }
            }
        }
        Ok(())
    }
}

fn stat(path: &Path) -> Result<Metadata, ReadError> {
    fs::metadata(path).map_err(|error| ReadError::Io(path.to_owned(), error))
}

fn regular(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(ReadError::Kind(path.to_owned())),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    let io = |error| ReadError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > MAX_BYTES {
        return Err(ReadError::Size(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
