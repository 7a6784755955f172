//! The rules that are mounted into a pod.

use std::path::{Component, Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{
    Case,
    finding::{Finding, Grade},
    layout::{LAYOUT, by_layout, watches_root},
    manifest::{Pod, text},
};
use crate::config::{MAX_BYTES, SourceFile, documents::Item};

/// What is mounted where rules are looked for.
pub(super) struct Mounted<'n> {
    /// Where that is.
    rules: PathBuf,
    /// In the order of their names.
    pub(super) files: Vec<SourceFile>,
    /// The mounts that may have rules.
    mounts: Vec<Item<'n>>,
    /// What of them is not in the manifest, and the mount.
    unseen: Vec<(Item<'n>, String)>,
    /// How many bytes there may be in further files.
    left: usize,
}

/// What is in a volume.
enum Content<'n> {
    /// A ConfigMap, and what chooses from it.
    Map(Item<'n>, Item<'n>),
    /// Something that is not in the manifest.
    Unseen(String),
}

impl<'n> Mounted<'n> {
    /// Finds what `pod` mounts.
    ///
    /// # Errors
    ///
    /// If it is longer than any manifest, as aliases can make it.
    pub(super) fn find(case: &Case<'_>, pod: &Pod<'n>) -> Result<Self, String> {
        let rules = case.rules_path();
        let mounts = mounts(pod, &rules);
        let (files, unseen) = (Vec::new(), Vec::new());
        let mut mounted = Self { rules, files, mounts: mounts.clone(), unseen, left: MAX_BYTES };
        for mount in mounts {
            for content in contents(pod, mount) {
                match content {
                    Content::Map(object, choice) => mounted.add(case, mount, object, choice)?,
                    Content::Unseen(name) => mounted.unseen.push((mount, name)),
                }
            }
        }
        mounted.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(mounted)
    }

    /// Adds the rules that are in a ConfigMap.
    fn add(
        &mut self,
        case: &Case<'_>,
        mount: Item<'n>,
        object: Item<'n>,
        choice: Item<'n>,
    ) -> Result<(), String> {
        let items: Vec<_> = choice.get("items").into_iter().flat_map(Item::list).collect();
        for (key, is_binary, value) in entries(object) {
            let chosen = items.iter().find(|it| text(**it, "key") == key);
            if !items.is_empty() && chosen.is_none() {
                continue;
            }
            let file = Path::new(chosen.map_or(key, |it| text(*it, "path")));
            let Ok(file) = file.strip_prefix(text(mount, "subPath")) else { continue };
            let path = normal(&Path::new(text(mount, "mountPath")).join(file));
            if !self.is_rules(case, &path) {
                continue;
            }
            let Some(bytes) = bytes(value, is_binary) else {
                self.unseen.push((mount, format!("{key}, which is no base64")));
                continue;
            };
            let too_long = || format!("the mounted rules are longer than {MAX_BYTES} bytes");
            self.left = self.left.checked_sub(bytes.len()).ok_or_else(too_long)?;
            self.files.push(SourceFile { name: path.display().to_string(), bytes });
        }
        Ok(())
    }

    /// Whether the file at `path` is read as rules.
    fn is_rules(&self, case: &Case<'_>, path: &Path) -> bool {
        let is_beside = || {
            let name = |path: &Path| path.file_name().map(|it| it.to_string_lossy().into_owned());
            let prefix = name(&self.rules).map(|it| it + ".");
            let named = prefix.zip(name(path)).is_some_and(|(prefix, it)| it.starts_with(&prefix));
            path.parent() == self.rules.parent() && named
        };
        path.starts_with(&self.rules) || by_layout(case) && watches_root(case) && is_beside()
    }

    /// Whether something is mounted where rules are looked for.
    pub(super) fn check(&self, case: &Case<'_>, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
        let Some(mount) = self.mounts.first() else {
            let title = format!("nothing is mounted at {}", self.rules.display());
            findings.push(
                Finding::new(Grade::WillNotStart, title)
                    .at(pod.place(pod.container))
                    .there("reads the rules that its image has there, if it has any")
                    .here("has no rules there, and ends")
                    .remedy("mount the rules there")
                    .unless(case.env, &LAYOUT),
            );
            return;
        };
        let is_above = |it: &Item<'_>| normal(Path::new(text(*it, "mountPath"))) != self.rules;
        let lacks = self.mounts.iter().all(is_above) && !self.has_below();
        if self.unseen.is_empty() && (lacks || self.has_none_of_tollgate(case)) {
            findings.push(self.without_rules(case).at(pod.place(*mount)));
        }
        let by_link = self.mounts.iter().find(|it| links(pod, **it));
        let dots = !case.env.is_true("RUNTIME_IGNOREDOTFILES") && !case.env.has("TOLLGATE_CONFIG");
        if let Some(mount) = by_link.filter(|_| dots) {
            let title = "RUNTIME_IGNOREDOTFILES is not true, and rules are in a ConfigMap";
            findings.push(
                Finding::new(Grade::Differs, title)
                    .at(pod.place(*mount))
                    .there("reads every file twice, by way of ..data, and refuses its domain")
                    .here("never reads names that begin with two dots")
                    .unless(case.env, &["RUNTIME_IGNOREDOTFILES", "TOLLGATE_CONFIG"]),
            );
        }
    }

    /// Whether something is mounted below the directory of rules, or a ConfigMap
    /// has files for it.
    fn has_below(&self) -> bool {
        let below = |path: &Path| path.starts_with(&self.rules);
        self.files.iter().any(|it| below(Path::new(&it.name)))
            || self.mounts.iter().any(|it| below(&normal(Path::new(text(*it, "mountPath")))))
    }

    /// Whether `TOLLGATE_CONFIG` names a place where no file is read.
    fn has_none_of_tollgate(&self, case: &Case<'_>) -> bool {
        let is_yaml = |it: &str| it.ends_with(".yaml") || it.ends_with(".yml");
        let is_read = |it: &SourceFile| is_yaml(&it.name) || Path::new(&it.name) == self.rules;
        case.env.has("TOLLGATE_CONFIG") && !self.files.iter().any(is_read)
    }

    fn without_rules(&self, case: &Case<'_>) -> Finding {
        let rules = self.rules.display();
        let title = match case.env.has("TOLLGATE_CONFIG") {
            true => format!("no file of rules is mounted at {rules}"),
            false => format!("what is mounted has no {rules}"),
        };
        let finding = match by_layout(case) && watches_root(case) {
            true if !self.files.is_empty() => Finding::new(Grade::Same, title),
            true => Finding::new(Grade::Note, title)
                .there("has no rules, and lets everything pass")
                .here("does so, too"),
            false if by_layout(case) => Finding::new(Grade::WillNotStart, title)
                .there("does not start with this either")
                .here("ends at the start"),
            false => Finding::new(Grade::WillNotStart, title).here("ends at the start"),
        };
        finding.remedy("mount the rules there").unless(case.env, &LAYOUT)
    }

    /// Notes what may have rules and was not looked at.
    pub(super) fn note_unseen(&self, pod: &Pod<'_>, findings: &mut Vec<Finding>) {
        findings.extend(self.unseen.iter().map(|(mount, name)| {
            Finding::new(Grade::Note, format!("rules were not looked at: they may be in {name}"))
                .at(pod.place(*mount))
                .remedy("give a copy of them with --rules, or put ConfigMaps into the manifest")
        }));
    }
}

/// The mounts in which the rules are: the nearest above, and all below.
fn mounts<'n>(pod: &Pod<'n>, rules: &Path) -> Vec<Item<'n>> {
    let all = || pod.container.get("volumeMounts").into_iter().flat_map(Item::list);
    let path = |it: Item<'_>| normal(Path::new(text(it, "mountPath")));
    let above = all().filter(|it| rules.starts_with(path(*it)));
    let nearest = above.max_by_key(|it| path(*it).components().count());
    let below = all().filter(|it| path(*it) != rules && path(*it).starts_with(rules));
    nearest.into_iter().chain(below).collect()
}

/// What is in the volume of `mount`.
fn contents<'n>(pod: &Pod<'n>, mount: Item<'_>) -> Vec<Content<'n>> {
    let unnamed = || vec![Content::Unseen(format!("the volume {}", text(mount, "name")))];
    let Some(volume) = volume(pod, mount) else { return unnamed() };
    let sources: Vec<_> = match volume.get_path(&["projected", "sources"]) {
        Some(sources) => sources.list().collect(),
        None => vec![volume],
    };
    let content = |source: Item<'n>| {
        let named = |kind: &str, key: &str| Some(text(source.get(kind)?, key));
        if let Some(map) = source.get("configMap") {
            let name = text(map, "name");
            return match pod.config_map(name) {
                Some(object) => Content::Map(object, map),
                None => Content::Unseen(format!("the ConfigMap {name}")),
            };
        }
        let secret = named("secret", "secretName").filter(|it| !it.is_empty());
        Content::Unseen(match secret.or_else(|| named("secret", "name")) {
            Some(name) => format!("the Secret {name}"),
            None => format!("the volume {}", text(mount, "name")),
        })
    };
    sources.into_iter().map(content).collect()
}

/// The keys of a ConfigMap, whether their values are base64, and the values.
fn entries<'n>(object: Item<'n>) -> impl Iterator<Item = (&'n str, bool, Item<'n>)> {
    let of = move |part: &str, is_binary| {
        let entries = object.get(part).into_iter().flat_map(Item::map);
        entries.map(move |(key, _, value)| (key, is_binary, value))
    };
    of("data", false).chain(of("binaryData", true))
}

/// None if it is no base64.
fn bytes(value: Item<'_>, is_binary: bool) -> Option<Vec<u8>> {
    let text = value.text().unwrap_or_default();
    if !is_binary {
        return Some(text.as_bytes().to_vec());
    }
    let text: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(text).ok()
}

/// Whether the files of `mount` are links to those of a ConfigMap, by way of
/// `..data`.
fn links(pod: &Pod<'_>, mount: Item<'_>) -> bool {
    let maps = |it: Item<'_>| it.get("configMap").is_some() || it.get("projected").is_some();
    text(mount, "subPath").is_empty() && volume(pod, mount).is_some_and(maps)
}

/// The volume that a mount is of.
fn volume<'n>(pod: &Pod<'n>, mount: Item<'_>) -> Option<Item<'n>> {
    let mut volumes = pod.spec.get("volumes")?.list();
    volumes.find(|it| text(*it, "name") == text(mount, "name"))
}

/// A path without `.` and slashes that say nothing.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|it| *it != Component::CurDir).collect()
}
