//! Lists the rule files below a directory.

use std::{
    fs::{self, DirEntry, Metadata},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::error::{MAX_DEPTH, MAX_ENTRIES, ReadError};

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
    /// Links whose target does not exist, such as the `.#name` of an editor.
    pub(super) broken_links: Vec<PathBuf>,
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
            Self::Yaml => key.ends_with(".yaml") || key.ends_with(".yml"),
            Self::Prefix { prefix, .. } => key.starts_with(prefix),
        }
    }

    /// The name that diagnostics show for a file.
    fn display_name(&self, path: &Path, key: String) -> String {
        match self {
            Self::Yaml => path.display().to_string(),
            Self::Prefix { .. } => key,
        }
    }
}

pub(super) struct DirectoryWalk {
    filter: NameFilter,
    files: Vec<ListedFile>,
    broken_links: Vec<PathBuf>,
    /// The number of files and directories so far.
    entries: usize,
}

impl DirectoryWalk {
    /// The files below `directory` that `filter` allows, sorted by path.
    pub(super) fn list(directory: &Path, filter: NameFilter) -> Result<Listing, ReadError> {
        let mut walk = Self { filter, files: Vec::new(), broken_links: Vec::new(), entries: 0 };
        walk.directory(directory, "", 0)?;
        let Self { mut files, broken_links, .. } = walk;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Listing { directory: directory.to_owned(), files, broken_links })
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
        if !self.filter.allows_file(&key) {
            return Ok(());
        }
        let path = entry.path();
        let metadata = match metadata(&path) {
            Err(ReadError::Io(path, error)) if is_link && error.kind() == ErrorKind::NotFound => {
                self.broken_links.push(path);
                return Ok(());
            }
            metadata => metadata?,
        };
        // A symbolic link to a directory.
        if metadata.is_dir() {
            return Ok(());
        }
        check_regular_file(&path, &metadata)?;
        let name = self.filter.display_name(&path, key);
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
