//! The rule files that a pod mounts.

use std::path::{Path, PathBuf};

use super::{
    environment::Environment,
    finding::{Finding, Grade},
    layout::LAYOUT,
    pod::Pod,
    volumes::{VolumeContent, has_links, mount_path, mounted_path, volume_contents},
};
use crate::{
    cli::manifest::{config_map_entries, list},
    config::{MAX_BYTES, SourceFile, documents::Item},
    printable::printable_path,
};

/// The mounts that may contain rules, and the rule files in them.
pub(super) struct MountedRules<'n> {
    /// The directory or file that the service reads.
    rules_path: PathBuf,
    /// Sorted by name.
    pub(super) files: Vec<SourceFile>,
    mounts: Vec<Item<'n>>,
    /// Content that is not in the manifest, and may contain rules.
    missing: Vec<MissingContent<'n>>,
    /// The bytes that further files may have.
    remaining_bytes: usize,
}

struct MissingContent<'n> {
    mount: Item<'n>,
    /// For example `the Secret a`.
    name: String,
}

impl<'n> MountedRules<'n> {
    /// Reads the rules that `pod` mounts.
    ///
    /// # Errors
    ///
    /// If the files are longer in total than a manifest may be. YAML aliases
    /// can multiply the content of a manifest.
    pub(super) fn read(env: &Environment, pod: &Pod<'n>) -> Result<Self, String> {
        let rules_path = env.rules_path();
        let mut rules = Self {
            mounts: rule_mounts(pod, &rules_path),
            rules_path,
            files: Vec::new(),
            missing: Vec::new(),
            remaining_bytes: MAX_BYTES,
        };
        for mount in rules.mounts.clone() {
            for content in volume_contents(pod, mount) {
                match content {
                    VolumeContent::ConfigMap { object, source } => {
                        rules.add_config_map(env, mount, object, source)?;
                    }
                    VolumeContent::Missing(name) => {
                        rules.missing.push(MissingContent { mount, name });
                    }
                }
            }
        }
        rules.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rules)
    }

    fn add_config_map(
        &mut self,
        env: &Environment,
        mount: Item<'n>,
        object: Item<'n>,
        source: Item<'n>,
    ) -> Result<(), String> {
        for entry in config_map_entries(object) {
            let Some(path) = mounted_path(mount, source, &entry) else { continue };
            if !self.is_rule_file(env, &path) {
                continue;
            }
            let Some(bytes) = entry.bytes() else {
                let name = format!("{}, which is not valid base64", entry.key);
                self.missing.push(MissingContent { mount, name });
                continue;
            };
            if bytes.len() > self.remaining_bytes {
                return Err(format!("the mounted rules are longer than {MAX_BYTES} bytes"));
            }
            self.remaining_bytes -= bytes.len();
            self.files.push(SourceFile { name: printable_path(&path), bytes });
        }
        Ok(())
    }

    fn is_rule_file(&self, env: &Environment, path: &Path) -> bool {
        if path.starts_with(&self.rules_path) {
            return true;
        }
        // A watched root also has rules in files beside the directory, with
        // names such as `config.a`.
        if !env.has_runtime_layout()
            || !env.watches_root()
            || path.parent() != self.rules_path.parent()
        {
            return false;
        }
        let (Some(directory), Some(file)) = (self.rules_path.file_name(), path.file_name()) else {
            return false;
        };
        let prefix = format!("{}.", directory.to_string_lossy());
        file.to_string_lossy().starts_with(&prefix)
    }

    /// Finds mounts that do not give the service its rules.
    pub(super) fn check(&self, env: &Environment, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
        let Some(first_mount) = self.mounts.first() else {
            findings.push(self.not_mounted(env, pod));
            return;
        };
        if self.missing.is_empty() && (!self.has_rules_path() || self.lacks_tollgate_config(env)) {
            findings.push(self.without_rules(env).at(pod.place(*first_mount)));
        }
        if env.is_true("RUNTIME_IGNOREDOTFILES") || env.is_set("TOLLGATE_CONFIG") {
            return;
        }
        for mount in &self.mounts {
            if has_links(pod, *mount) {
                findings.push(read_twice(env, pod, *mount));
                return;
            }
        }
    }

    fn not_mounted(&self, env: &Environment, pod: &Pod<'_>) -> Finding {
        let title = format!("nothing is mounted at {}", self.rules_path.display());
        Finding::new(Grade::WillNotStart, title)
            .at(pod.place(pod.container))
            .reference("reads the rules of its image there, if it has any")
            .tollgate("has no rules there, and exits")
            .remedy("mount the rules there")
            .unless_set(env, &LAYOUT)
    }

    /// Returns true if the rules path is a mount, or a mount or a file is
    /// below it.
    fn has_rules_path(&self) -> bool {
        for mount in &self.mounts {
            if mount_path(*mount).starts_with(&self.rules_path) {
                return true;
            }
        }
        self.files.iter().any(|file| Path::new(&file.name).starts_with(&self.rules_path))
    }

    /// Returns true if `TOLLGATE_CONFIG` is a place without a rule file.
    fn lacks_tollgate_config(&self, env: &Environment) -> bool {
        if !env.is_set("TOLLGATE_CONFIG") {
            return false;
        }
        for file in &self.files {
            let is_yaml = file.name.ends_with(".yaml") || file.name.ends_with(".yml");
            if is_yaml || Path::new(&file.name) == self.rules_path {
                return false;
            }
        }
        true
    }

    fn without_rules(&self, env: &Environment) -> Finding {
        let path = self.rules_path.display();
        let title = if env.is_set("TOLLGATE_CONFIG") {
            format!("no rule file is mounted at {path}")
        } else {
            format!("the mounted volumes have no {path}")
        };
        let finding = if !env.has_runtime_layout() {
            Finding::new(Grade::WillNotStart, title).tollgate("exits at the start")
        } else if !env.watches_root() {
            Finding::new(Grade::WillNotStart, title)
                .reference("does not start with this either")
                .tollgate("exits at the start")
        } else if self.files.is_empty() {
            Finding::new(Grade::Note, title)
                .reference("has no rules, and allows every request")
                .tollgate("also has no rules, and allows every request")
        } else {
            Finding::new(Grade::Same, title)
        };
        finding.remedy("mount the rules there").unless_set(env, &LAYOUT)
    }

    /// Adds a note for content that may have rules and is not in the manifest.
    pub(super) fn add_notes(&self, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
        for MissingContent { mount, name } in &self.missing {
            let title = format!("some rules were not compared: they may be in {name}");
            findings.push(
                Finding::new(Grade::Note, title)
                    .at(pod.place(*mount))
                    .remedy("name a copy of them with --rules, or add ConfigMaps to the manifest"),
            );
        }
    }
}

fn read_twice(env: &Environment, pod: &Pod<'_>, mount: Item<'_>) -> Finding {
    let title = "RUNTIME_IGNOREDOTFILES is not true, and rules are in a ConfigMap";
    Finding::new(Grade::Differs, title)
        .at(pod.place(mount))
        .reference("reads every file again through ..data, and rejects the duplicate domain")
        .tollgate("never reads names that begin with two dots")
        .unless_set(env, &["RUNTIME_IGNOREDOTFILES", "TOLLGATE_CONFIG"])
}

/// The mounts that may contain the rules: the deepest one above `rules_path` or
/// at it, and all below.
fn rule_mounts<'n>(pod: &Pod<'n>, rules_path: &Path) -> Vec<Item<'n>> {
    let mut deepest = None;
    let mut max_depth = 0;
    let mut below = Vec::new();
    for mount in list(pod.container, "volumeMounts") {
        let path = mount_path(mount);
        if rules_path.starts_with(&path) {
            let depth = path.components().count();
            if depth >= max_depth {
                max_depth = depth;
                deepest = Some(mount);
            }
        } else if path.starts_with(rules_path) {
            below.push(mount);
        }
    }
    let mut mounts: Vec<_> = deepest.into_iter().collect();
    mounts.append(&mut below);
    mounts
}
