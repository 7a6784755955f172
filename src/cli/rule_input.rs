//! The rules that a command reads: those that `serve` would read, or paths of the command
//! line.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use super::{input, manifest::is_manifest};
use crate::{
    config::{CompileOptions, Diagnostic, Position, SourceFile, documents::Item},
    rule_files::{self, LinkPolicy, RuleSource},
    time_zones::TimeZones,
};

mod manifest_rules;

use self::manifest_rules::Block;

/// The rules that a command reads, as one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInput {
    /// Their places.
    pub rules: RulePlaces,
    /// The symbolic links that are followed below a directory.
    pub links: LinkPolicy,
    /// Set if several files may have the same domain.
    pub merge_domains: bool,
}

/// The places of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePlaces {
    /// The rules that `serve` would read with the current settings.
    Configured(RuleSource),
    /// Rule files, directories of them, and manifests; `-` is standard input.
    Paths(Vec<PathBuf>),
}

/// The rules that could be read.
#[derive(Default)]
pub(super) struct ReadRules {
    pub(super) files: Vec<SourceFile>,
    /// By file name, the positions of ConfigMap values in their manifests.
    blocks: HashMap<String, Block>,
    /// The errors of the paths that could not be read.
    pub(super) errors: Vec<String>,
    /// The ConfigMaps and keys of manifests that are not read, or not by `serve`.
    pub(super) notes: Vec<String>,
}

impl RuleInput {
    pub(super) fn read(&self) -> ReadRules {
        let mut rules = ReadRules::default();
        match &self.rules {
            RulePlaces::Configured(source) => match source.read(self.links) {
                Ok(files) => rules.files = files,
                Err(error) => rules.errors.push(error.to_string()),
            },
            RulePlaces::Paths(paths) => {
                let mut known = HashSet::new();
                for path in paths {
                    // Also other spellings of a path. Standard input has none.
                    if let Ok(place) = path.canonicalize()
                        && !known.insert(place)
                    {
                        let error = format!("{}: this is given twice: remove one", path.display());
                        rules.errors.push(error);
                        continue;
                    }
                    rules.read_path(path, self.links);
                }
            }
        }
        rules
    }

    pub(super) fn options(&self) -> CompileOptions {
        CompileOptions { merge_domains: self.merge_domains, time_zones: TimeZones::newest() }
    }
}

impl ReadRules {
    /// Adds rules that are written in `file`, as its value `inline_rules`.
    pub(super) fn add_inline(&mut self, file: &SourceFile, rules: Item<'_>) {
        let content = rules.text().unwrap_or_default().as_bytes();
        let text = String::from_utf8_lossy(&file.bytes);
        let lines: Vec<_> = text.lines().collect();
        let name = file.name.clone();
        match manifest_rules::find_block(&lines, rules, content) {
            Some(block) => {
                self.files.push(block.file(name.clone(), content));
                self.blocks.insert(name, block);
            }
            None => self.files.push(SourceFile { name, bytes: content.to_vec() }),
        }
    }

    pub(super) fn read_path(&mut self, path: &Path, links: LinkPolicy) {
        if path.is_dir() {
            self.read_directory(path, links);
            return;
        }
        let file = match input::read(path) {
            Ok(file) => file,
            Err(error) => {
                self.errors.push(error.to_string());
                return;
            }
        };
        match manifest_rules::read(&file) {
            Ok(Some(found)) => {
                self.files.extend(found.files);
                self.blocks.extend(found.blocks);
                self.notes.extend(found.notes);
            }
            Ok(None) => self.files.push(file),
            Err(error) => self.errors.push(format!("{}: {error}", file.name)),
        }
    }

    /// Reads a directory as `serve` does, which does not accept manifests.
    fn read_directory(&mut self, path: &Path, links: LinkPolicy) {
        let files = match rule_files::read(path, links) {
            Ok(files) => files,
            Err(error) => {
                self.errors.push(error.to_string());
                return;
            }
        };
        for file in files {
            if is_manifest(&String::from_utf8_lossy(&file.bytes)) {
                self.errors.push(format!(
                    "{}: this is a Kubernetes manifest, which `serve` does not read; to check the \
                     rules in its ConfigMaps, name the file itself",
                    file.name
                ));
            } else {
                self.files.push(file);
            }
        }
    }

    /// Changes the position in a ConfigMap's value to that in the manifest.
    pub(super) fn move_to_manifest(&self, diagnostic: &mut Diagnostic) {
        if let Some(block) = self.blocks.get(&diagnostic.file)
            && let Position::Line { line, column } = &mut diagnostic.position
        {
            // A mistake in the value as a whole is reported at its padding.
            *line = (*line).max(block.skipped_lines + 1);
            *column += block.indent;
        }
    }
}
