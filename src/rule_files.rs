//! Rule files on disk. All of it blocks.

use std::{
    fmt,
    fs::{self, File, Metadata},
    hash::{Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    config::{MAX_BYTES, SourceFile},
    watch,
};

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

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// A file of rules, or a directory with such files.
    Path(PathBuf),
    /// Directories as Envoy's reference service lays them out.
    Runtime(RuntimeLayout),
}

/// Directories as Envoy's reference service lays them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// Often a symbolic link to the present version of everything.
    pub root: PathBuf,
    /// Below the root; empty for the root itself.
    pub subdirectory: PathBuf,
    /// Below that: where the rules are.
    pub app_directory: String,
    /// Whether files beside the directory of rules are rules, too, if their
    /// names begin with its name and a dot. It does not decide what is watched:
    /// that is always all that is read.
    pub watch_root: bool,
    /// Whether names that begin with a dot are left out.
    pub ignore_dot_files: bool,
}

impl RuleSource {
    /// Reads the rule files, in the order of their paths.
    ///
    /// Those of a [`RuntimeLayout`] may have any extension, and there may be
    /// none. Each is named as the reference service names it: its path below
    /// the directory that is read, with dots for slashes.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is no regular file or is too long.
    pub fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        read_all(self.list()?)
    }

    /// Like [`fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        fingerprint_of(self.list())
    }

    fn list(&self) -> Result<Vec<Listed>, ReadError> {
        match self {
            Self::Path(path) => list(path),
            Self::Runtime(layout) => layout.list(),
        }
    }
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Runtime(layout) => layout.rules_directory().display().fmt(f),
        }
    }
}

impl RuntimeLayout {
    /// Where the rules are.
    pub fn rules_directory(&self) -> PathBuf {
        self.root.join(&self.subdirectory).join(&self.app_directory)
    }

    fn list(&self) -> Result<Vec<Listed>, ReadError> {
        let (directory, prefix) = match self.watch_root {
            true => {
                let name = self.app_directory.trim_matches('/').replace('/', ".");
                (self.root.join(&self.subdirectory), name + ".")
            }
            false => (self.rules_directory(), String::new()),
        };
        let names = Names::Any { prefix, dots: !self.ignore_dot_files };
        let mut walk = Walk { files: Vec::new(), entries: 0, names };
        walk.directory(&directory, "", 0)?;
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.files)
    }
}

/// A rule file that has not been read.
struct Listed {
    path: PathBuf,
    /// What it is called in messages.
    name: String,
    metadata: Metadata,
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
    read_all(list(path)?)
}

fn read_all(listed: Vec<Listed>) -> Result<Vec<SourceFile>, ReadError> {
    let mut total = 0;
    let mut files = Vec::new();
    for Listed { path, name, .. } in listed {
        let bytes = read_file(&path)?;
        total += bytes.len();
        if total > MAX_TOTAL_BYTES {
            return Err(ReadError::Size(path));
        }
        files.push(SourceFile { name, bytes });
    }
    Ok(files)
}

/// A number that changes, as good as always, when [`read`] would read something
/// else. The files themselves are not read.
///
/// It is made of the path, device, inode, size and times of each file, or of
/// the error that [`read`] would meet.
pub fn fingerprint(path: &Path) -> u64 {
    fingerprint_of(list(path))
}

fn fingerprint_of(listed: Result<Vec<Listed>, ReadError>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    match listed {
        Err(error) => format!("{error:?}").hash(&mut hasher),
        Ok(files) => files.iter().for_each(|Listed { path, metadata: it, .. }| {
            path.hash(&mut hasher);
            watch::hash_identity(it, &mut hasher);
        }),
    }
    hasher.finish()
}

/// The rule files at `path`, sorted by path.
fn list(path: &Path) -> Result<Vec<Listed>, ReadError> {
    let metadata = stat(path)?;
    if !metadata.is_dir() {
        regular(path, &metadata)?;
        let name = path.display().to_string();
        return Ok(vec![Listed { path: path.to_owned(), name, metadata }]);
    }
    let mut walk = Walk { files: Vec::new(), entries: 0, names: Names::Yaml };
    walk.directory(path, "", 0)?;
    if walk.files.is_empty() {
        return Err(ReadError::Empty(path.to_owned()));
    }
    walk.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.files)
}

struct Walk {
    files: Vec<Listed>,
    entries: usize,
    names: Names,
}

/// Which names are those of rule files.
enum Names {
    Yaml,
    /// Those whose key begins with `prefix`; with `dots`, hidden ones, too.
    Any {
        prefix: String,
        dots: bool,
    },
}

impl Names {
    fn hides(&self, name: &[u8]) -> bool {
        match self {
            // The directories and links by which Kubernetes brings a new
            // version: the files that it shows link into them.
            Self::Any { dots: true, .. } => name.starts_with(b".."),
            Self::Any { .. } | Self::Yaml => name.starts_with(b"."),
        }
    }

    /// Whether rule files can be below the directory with this key.
    fn lead_into(&self, key: &str) -> bool {
        match self {
            Self::Yaml => true,
            Self::Any { prefix, .. } => {
                let below = format!("{key}.");
                below.starts_with(prefix) || prefix.starts_with(&below)
            }
        }
    }

    fn include(&self, key: &str) -> bool {
        match self {
            Self::Yaml => key.ends_with(".yaml") || key.ends_with(".yml"),
            Self::Any { prefix, .. } => key.starts_with(prefix),
        }
    }
}

impl Walk {
    fn directory(&mut self, directory: &Path, key: &str, depth: usize) -> Result<(), ReadError> {
        if depth > MAX_DEPTH {
            return Err(ReadError::Depth(directory.to_owned()));
        }
        let io = |error| ReadError::Io(directory.to_owned(), error);
        for entry in fs::read_dir(directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (path, name) = (entry.path(), entry.file_name());
            if self.names.hides(name.as_encoded_bytes()) {
                continue;
            }
            let name = name.to_string_lossy();
            let key = if depth == 0 { name.into_owned() } else { format!("{key}.{name}") };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ReadError::Entries(directory.to_owned()));
            }
            if entry.file_type().map_err(io)?.is_dir() {
                if self.names.lead_into(&key) {
                    self.directory(&path, &key, depth + 1)?;
                }
            } else if self.names.include(&key) {
                let metadata = stat(&path)?;
                if !metadata.is_dir() {
                    regular(&path, &metadata)?;
                    let name = match self.names {
                        Names::Yaml => path.display().to_string(),
                        Names::Any { .. } => key,
                    };
                    self.files.push(Listed { path, name, metadata });
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
