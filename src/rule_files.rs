//! Reads rule files from disk. All functions block.

use std::{
    fmt,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::fs::OFlags;
use tracing::warn;

mod error;
mod walk;

use self::walk::{DirectoryWalk, ListedFile, Listing, NameFilter};
pub use self::{
    error::{MAX_TOTAL_BYTES, ReadError},
    walk::is_rule_file_name,
};
use crate::{
    config::{MAX_BYTES, SourceFile},
    printable::printable_path,
    time::Timestamp,
    watch,
};

/// The place of the rule files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// A rule file, or a directory that contains rule files.
    Path(PathBuf),
    /// Directories in the layout of the reference service.
    Runtime(RuntimeLayout),
}

/// The directory layout of Envoy's reference service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// The top directory, often a symbolic link to the current version of all
    /// files.
    pub root: PathBuf,
    /// A directory below the root; empty for the root itself.
    pub subdirectory: PathBuf,
    /// The directory with the rules, below the subdirectory.
    pub app_directory: String,
    /// Also reads files next to the directory with the rules if their names
    /// start with its name and a dot. Despite its name, the flag does not select
    /// the watched files: they are the files that are read.
    pub watch_root: bool,
    /// Skips files and directories whose names start with a dot.
    pub ignore_dot_files: bool,
}

/// The symbolic links to files that are read below a directory of rules.
///
/// Whoever writes the directory, such as the authors of a Git repository, could make a
/// link to any file that the process can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Links to files in the directory. The directory itself may be a link.
    #[default]
    Inside,
    /// Links to any file.
    Anywhere,
}

impl RuleSource {
    /// Reads the rule files, in the order of their paths.
    ///
    /// For a path, see [`read`]. The files of a [`RuntimeLayout`] may have any
    /// extension, and there may be no file. Each is named as in the reference
    /// service: by its path below the directory that is read, with dots instead
    /// of slashes. Links without a target and links to directories are skipped, with a
    /// warning.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is not a regular file or is too long, or if a link is
    /// not allowed by `links`.
    pub fn read(&self, links: LinkPolicy) -> Result<Vec<SourceFile>, ReadError> {
        read_all(self.list()?, links)
    }

    /// A hash of the metadata of all rule files; see [`fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        fingerprint_of(self.list())
    }

    /// The time of the last edit of a rule file; `None` if there is none that can be read.
    pub fn last_modified(&self) -> Option<Timestamp> {
        let mut last = None;
        for file in self.list().ok()?.files {
            let modified = file.metadata.modified().ok()?.duration_since(UNIX_EPOCH);
            last = last.max(Some(Timestamp::default().plus(modified.unwrap_or_default())));
        }
        last
    }

    fn list(&self) -> Result<Listing, ReadError> {
        match self {
            Self::Path(path) => list(path),
            Self::Runtime(layout) => layout.list(),
        }
    }
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&printable_path(path)),
            Self::Runtime(layout) => f.write_str(&printable_path(&layout.rules_directory())),
        }
    }
}

impl RuntimeLayout {
    /// The path of the directory that contains the rules.
    pub fn rules_directory(&self) -> PathBuf {
        self.root.join(&self.subdirectory).join(&self.app_directory)
    }

    fn list(&self) -> Result<Listing, ReadError> {
        let include_hidden = !self.ignore_dot_files;
        if self.watch_root {
            let name = self.app_directory.trim_matches('/').replace('/', ".");
            let filter = NameFilter::Prefix { prefix: name + ".", include_hidden };
            return DirectoryWalk::list(&self.root.join(&self.subdirectory), filter);
        }
        let filter = NameFilter::Prefix { prefix: String::new(), include_hidden };
        DirectoryWalk::list(&self.rules_directory(), filter)
    }
}

/// Reads the rule file at `path`, or all rule files below the directory at
/// `path`, in the order of their paths.
///
/// Below a directory, the rule files are those whose names end in `.yaml` or
/// `.yml`. Names that start with a dot are skipped: a volume of Kubernetes contains them,
/// and each file would be read twice. Symbolic links to files are followed if `links`
/// allows them; those to directories and those without a target are skipped, with a
/// warning. `path` itself may be any link.
///
/// # Errors
///
/// If there is no rule file, if a file cannot be read, is not a regular file or is too
/// long, or if a link is not allowed.
pub fn read(path: &Path, links: LinkPolicy) -> Result<Vec<SourceFile>, ReadError> {
    read_all(list(path)?, links)
}

/// A hash of the metadata of the files that [`read`] would read, or of its
/// error. It changes when [`read`] would return something else, except if two
/// hashes collide or an edit keeps size and times. The contents are not read.
pub fn fingerprint(path: &Path) -> u64 {
    fingerprint_of(list(path))
}

fn list(path: &Path) -> Result<Listing, ReadError> {
    let metadata = walk::metadata(path)?;
    if !metadata.is_dir() {
        walk::check_regular_file(path, &metadata)?;
        let name = printable_path(path);
        let file = ListedFile { path: path.to_owned(), name, metadata, is_link: false };
        return Ok(Listing {
            directory: path.to_owned(),
            files: vec![file],
            skipped_links: Vec::new(),
        });
    }
    let listing = DirectoryWalk::list(path, NameFilter::Yaml)?;
    if listing.files.is_empty() {
        return Err(ReadError::Empty(path.to_owned()));
    }
    Ok(listing)
}

fn read_all(listing: Listing, links: LinkPolicy) -> Result<Vec<SourceFile>, ReadError> {
    for link in &listing.skipped_links {
        warn!("{link}");
    }
    let mut total_bytes = 0;
    let mut files = Vec::with_capacity(listing.files.len());
    for listed in listing.files {
        let file = open(&listed.path)?;
        if listed.is_link && links == LinkPolicy::Inside {
            check_inside(&listing.directory, &listed.path, &file)?;
        }
        let bytes = read_file(&listed.path, file)?;
        total_bytes += bytes.len();
        if total_bytes > MAX_TOTAL_BYTES {
            return Err(ReadError::Size(listed.path));
        }
        files.push(SourceFile { name: listed.name, bytes });
    }
    Ok(files)
}

/// Opens a regular file. A pipe that took its place since it was listed is an error, and
/// neither blocks.
fn open(path: &Path) -> Result<File, ReadError> {
    let io_error = |error| ReadError::Io(path.to_owned(), error);
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(io_error)?;
    walk::check_regular_file(path, &file.metadata().map_err(io_error)?)?;
    Ok(file)
}

/// Rejects the link at `path` unless `file`, which was opened through it, is in
/// `directory`.
fn check_inside(directory: &Path, path: &Path, file: &File) -> Result<(), ReadError> {
    let io_error = |error| ReadError::Io(path.to_owned(), error);
    let root = fs::canonicalize(directory).map_err(io_error)?;
    let target = fs::canonicalize(path).map_err(io_error)?;
    if !target.starts_with(&root) {
        return Err(ReadError::Outside(path.to_owned(), target));
    }
    // The link may have been replaced since the file was opened.
    let opened = file.metadata().map_err(io_error)?;
    let found = walk::metadata(&target)?;
    if (opened.dev(), opened.ino()) == (found.dev(), found.ino()) {
        Ok(())
    } else {
        Err(ReadError::Replaced(path.to_owned()))
    }
}

fn read_file(path: &Path, file: File) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| ReadError::Io(path.to_owned(), error))?;
    if bytes.len() > MAX_BYTES {
        return Err(ReadError::Size(path.to_owned()));
    }
    Ok(bytes)
}

fn fingerprint_of(listed: Result<Listing, ReadError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match listed {
        Err(error) => format!("{error:?}").hash(&mut hasher),
        Ok(listing) => {
            for ListedFile { path, metadata, .. } in &listing.files {
                path.hash(&mut hasher);
                watch::hash_metadata(metadata, &mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
