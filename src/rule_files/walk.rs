//! Lists the rule files below a directory.

use std::{
    fmt,
    fs::{self, DirEntry, Metadata},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::error::{MAX_DEPTH, MAX_ENTRIES, ReadError};
use crate::printable::{printable_path, printable_text};

/// A rule file that has not been read.
pub(super) struct ListedFile {
    pub(super) path: PathBuf,
    /// The name that diagnostics show.
    pub(super) name: String,
    /// Of the file, not of a link to it.
    pub(super) metadata: Metadata,
    /// True for a symbolic link in the directory.
    pub(super) is_link: bool,
}

/// The rule files of one directory, or a single file.
pub(super) struct Listing {
    pub(super) directory: PathBuf,
    pub(super) files: Vec<ListedFile>,
    pub(super) skipped_links: Vec<SkippedLink>,
}

/// A symbolic link that is not followed.
pub(super) struct SkippedLink {
    path: PathBuf,
    reason: SkipReason,
}

#[derive(Clone, Copy)]
enum SkipReason {
    /// The target does not exist, such as that of the `.#name` of an editor.
    Broken,
    /// Links between directories could form a loop.
    Directory,
}

impl fmt::Display for SkippedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            SkipReason::Broken => "its target does not exist",
            SkipReason::Directory => "it leads to a directory",
        };
        write!(f, "{}: skipped this link, as {reason}", printable_path(&self.path))
    }
}

/// Chooses rule files by their names.
pub(super) enum NameFilter {
    /// Files whose names end in `.yaml` or `.yml`, and which are not hidden.
    Yaml,
    /// Files whose key starts with `prefix`. The key is the path below the
    /// directory, with dots instead of slashes.
    Prefix { prefix: String, include_hidden: bool },
}

impl NameFilter {
    fn skips(&self, name: &[u8]) -> bool {
        match self {
            // Kubernetes puts each version of a volume into a directory that
            // starts with two dots. The visible files are links into it.
            Self::Prefix { include_hidden: true, .. } => name.starts_with(b".."),
            Self::Prefix { .. } | Self::Yaml => name.starts_with(b"."),
        }
    }

    /// True if a directory with this key can contain rule files.
    fn allows_directory(&self, key: &str) -> bool {
        match self {
            Self::Yaml => true,
            Self::Prefix { prefix, .. } => {
                let key = format!("{key}.");
                key.starts_with(prefix) || prefix.starts_with(&key)
            }
        }
    }

    fn allows_file(&self, key: &str) -> bool {
        match self {
            Self::Yaml => has_yaml_extension(key),
            Self::Prefix { prefix, .. } => key.starts_with(prefix),
        }
    }

    /// The name that diagnostics show for a file.
    fn display_name(&self, path: &Path, key: &str) -> String {
        match self {
            Self::Yaml => printable_path(path),
            Self::Prefix { .. } => printable_text(key),
        }
    }
}

fn has_yaml_extension(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Returns true if a file of this name in a directory of rules is a rule file.
pub fn is_rule_file_name(name: &str) -> bool {
    has_yaml_extension(name) && !name.starts_with('.')
}

pub(super) struct DirectoryWalk {
    filter: NameFilter,
    files: Vec<ListedFile>,
    skipped_links: Vec<SkippedLink>,
    /// The number of files and directories so far.
    entries: usize,
}

impl DirectoryWalk {
    /// The files below `directory` that `filter` allows, sorted by path.
    pub(super) fn list(directory: &Path, filter: NameFilter) -> Result<Listing, ReadError> {
        let mut walk = Self { filter, files: Vec::new(), skipped_links: Vec::new(), entries: 0 };
        walk.directory(directory, "", 0)?;
        let Self { mut files, skipped_links, .. } = walk;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Listing { directory: directory.to_owned(), files, skipped_links })
    }

    fn directory(
        &mut self,
        directory: &Path,
        directory_key: &str,
        depth: usize,
    ) -> Result<(), ReadError> {
        if depth > MAX_DEPTH {
            return Err(ReadError::Depth(directory.to_owned()));
        }
        let io_error = |error| ReadError::Io(directory.to_owned(), error);
        for entry in fs::read_dir(directory).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let name = entry.file_name();
            if self.filter.skips(name.as_encoded_bytes()) {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ReadError::Entries(directory.to_owned()));
            }
            let name = name.to_string_lossy();
            let key =
                if depth == 0 { name.into_owned() } else { format!("{directory_key}.{name}") };
            let kind = entry.file_type().map_err(io_error)?;
            if !kind.is_dir() {
                self.file(&entry, key, kind.is_symlink())?;
            } else if self.filter.allows_directory(&key) {
                self.directory(&entry.path(), &key, depth + 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &DirEntry, key: String, is_link: bool) -> Result<(), ReadError> {
        let path = entry.path();
        if is_link && self.filter.allows_directory(&key) && path.is_dir() {
            self.skipped_links.push(SkippedLink { path, reason: SkipReason::Directory });
            return Ok(());
        }
        if !self.filter.allows_file(&key) {
            return Ok(());
        }
        let metadata = match metadata(&path) {
            Err(ReadError::Io(path, error)) if is_link && error.kind() == ErrorKind::NotFound => {
                self.skipped_links.push(SkippedLink { path, reason: SkipReason::Broken });
                return Ok(());
            }
            metadata => metadata?,
        };
        // A symbolic link to a directory that can contain no rule file.
        if metadata.is_dir() {
            return Ok(());
        }
        check_regular_file(&path, &metadata)?;
        let name = self.filter.display_name(&path, &key);
        self.files.push(ListedFile { path, name, metadata, is_link });
        Ok(())
    }
}

/// The metadata of the file or directory to which `path` leads.
pub(super) fn metadata(path: &Path) -> Result<Metadata, ReadError> {
    fs::metadata(path).map_err(|error| ReadError::Io(path.to_owned(), error))
}

/// Rejects devices, sockets and pipes, because a read could block forever.
pub(super) fn check_regular_file(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    if metadata.is_file() { Ok(()) } else { Err(ReadError::Kind(path.to_owned())) }
}
