//! Rule files in the ConfigMaps of a Kubernetes manifest.

use std::collections::HashMap;

use crate::{
    cli::manifest::{
        ConfigMapEntry, config_map_entries, is_config_map, is_manifest, name, namespace, objects,
    },
    config::{
        MAX_BYTES, SourceFile,
        documents::{self, Item},
    },
    printable::printable_text,
    rule_files,
};

/// The position of a value in its manifest, where it is a block scalar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The lines of the manifest before the value.
    pub(super) skipped_lines: u32,
    /// The columns of the manifest before each line of the value.
    pub(super) indent: u32,
}

impl Block {
    /// A rule file with the line numbers of the manifest.
    pub(super) fn file(self, name: String, content: &[u8]) -> SourceFile {
        let mut bytes = vec![b'\n'; self.skipped_lines as usize];
        bytes.extend_from_slice(content);
        SourceFile { name, bytes }
    }
}

struct Manifest<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

/// The value of one key of a ConfigMap.
struct Value<'n> {
    entry: ConfigMapEntry<'n>,
    bytes: Vec<u8>,
    /// Set if the content is that of a rule file.
    is_rule_file: bool,
}

/// The rule files of one manifest.
#[derive(Debug, Default)]
pub(super) struct ManifestRules {
    pub(super) files: Vec<SourceFile>,
    /// By file name. A file with a block has the line numbers of the manifest.
    pub(super) blocks: HashMap<String, Block>,
    /// The ConfigMaps and keys that are not read, or not by `serve`.
    pub(super) notes: Vec<String>,
}

/// Reads the rule files of the manifest `file`. Returns `None` for a file that is
/// not a manifest. A rule file with keys of manifests is not one: its errors name
/// these keys.
///
/// # Errors
///
/// If the manifest is not valid YAML, has no rule file, or multiplies its
/// content with aliases.
pub(super) fn read(file: &SourceFile) -> Result<Option<ManifestRules>, String> {
    let text = String::from_utf8_lossy(&file.bytes);
    if !is_manifest(&text) || is_rule_file(&file.bytes) {
        return Ok(None);
    }
    let documents = documents::read(file);
    if let Some(diagnostics) = &documents.diagnostics {
        if let Some(error) = template_error(&text) {
            return Err(error);
        }
        return Err(format!("this is not a valid manifest:\n{diagnostics}"));
    }
    let manifest = Manifest { name: &file.name, lines: text.lines().collect() };
    let mut rules = ManifestRules::default();
    let mut remaining_bytes = MAX_BYTES;
    for object in objects(&documents) {
        if is_config_map(object) {
            rules.add_config_map(&manifest, object, &mut remaining_bytes)?;
        }
    }
    if rules.files.is_empty() {
        return Err(
            "no ConfigMap in this manifest has a rule file, expected a key whose value has \
                    `domain` at the top"
                .to_owned(),
        );
    }
    Ok(Some(rules))
}

/// Names the first line with a template, if there is one.
fn template_error(text: &str) -> Option<String> {
    for (index, line) in text.lines().enumerate() {
        let Some((_, rest)) = line.split_once("{{") else { continue };
        if let Some((template, _)) = rest.split_once("}}") {
            let template = printable_text(template);
            return Some(format!(
                "line {} has the template `{{{{{template}}}}}`, expected a manifest: render it \
                 first, for example with `helm template`",
                index + 1
            ));
        }
    }
    None
}

/// Returns true if the top level has a key of rule files, also in a file that
/// is not valid YAML.
fn is_rule_file(bytes: &[u8]) -> bool {
    const KEYS: [&str; 2] = ["domain", "descriptors"];
    let source = SourceFile { name: String::new(), bytes: bytes.to_vec() };
    if let Some(roots) = documents::read(&source).roots() {
        for root in roots {
            for (key, _, _) in root.map() {
                if KEYS.contains(&key) {
                    return true;
                }
            }
        }
        return false;
    }
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some((key, _)) = line.split_once(':')
            && KEYS.contains(&key)
        {
            return true;
        }
    }
    false
}

/// For example `ConfigMap edge/rules, key a.yaml`.
fn entry_name(object: Item<'_>, entry: &ConfigMapEntry<'_>) -> String {
    format!("{}, key {}", config_map_name(object), printable_text(entry.key))
}

fn config_map_name(object: Item<'_>) -> String {
    let name = match (namespace(object), name(object)) {
        ("", "") => "(without a name)".to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    printable_text(&format!("ConfigMap {name}"))
}

impl ManifestRules {
    /// Adds the rule files of a ConfigMap. If one of its values is a rule file, each key
    /// that `serve` would read from the mounted directory is one too.
    fn add_config_map(
        &mut self,
        manifest: &Manifest<'_>,
        object: Item<'_>,
        remaining_bytes: &mut usize,
    ) -> Result<(), String> {
        let mut values = Vec::new();
        let mut has_rules = false;
        for entry in config_map_entries(object) {
            let Some(bytes) = entry.bytes() else {
                return Err(format!("{} is not valid base64", entry_name(object, &entry)));
            };
            let is_rule_file = is_rule_file(&bytes);
            has_rules |= is_rule_file;
            values.push(Value { entry, bytes, is_rule_file });
        }
        if !has_rules {
            let name = config_map_name(object);
            self.notes.push(format!("{name} has no rules and is skipped"));
            return Ok(());
        }
        for Value { entry, bytes, is_rule_file } in values {
            let name = entry_name(object, &entry);
            if !rule_files::is_rule_file_name(entry.key) {
                self.notes.push(if is_rule_file {
                    format!(
                        "{name}: `serve` does not read this from a directory, where the names of \
                         rule files end in .yaml or .yml and do not start with a dot; with \
                         RUNTIME_ROOT, it does"
                    )
                } else {
                    format!("{name} has no rules and is skipped")
                });
                if !is_rule_file {
                    continue;
                }
            }
            if bytes.len() > *remaining_bytes {
                return Err(format!("the rules are longer than {MAX_BYTES} bytes in total"));
            }
            *remaining_bytes -= bytes.len();
            self.add(manifest, &name, &entry, bytes);
        }
        Ok(())
    }

    /// Adds the value of `entry`, with the line numbers of the manifest if its
    /// lines are lines of the manifest.
    fn add(
        &mut self,
        manifest: &Manifest<'_>,
        entry_name: &str,
        entry: &ConfigMapEntry<'_>,
        bytes: Vec<u8>,
    ) {
        let Some(block) = find_block(&manifest.lines, entry.value, &bytes) else {
            let name = format!("{}, {entry_name}", manifest.name);
            self.files.push(SourceFile { name, bytes });
            return;
        };
        let name = format!("{entry_name}, {}", manifest.name);
        self.blocks.insert(name.clone(), block);
        self.files.push(block.file(name, &bytes));
    }
}

/// Finds `bytes`, the content of `value`, in the lines of the manifest. Returns
/// `None` if they are written in another form, such as a quoted string.
pub(super) fn find_block(lines: &[&str], value: Item<'_>, bytes: &[u8]) -> Option<Block> {
    let text = str::from_utf8(bytes).ok()?;
    // The parser reports the first line of the content, or the line above.
    for skipped_lines in [value.line.saturating_sub(1), value.line] {
        if let Some(following) = lines.get(skipped_lines as usize..)
            && let Some(indent) = block_indent(following, text)
        {
            return Some(Block { skipped_lines, indent });
        }
    }
    None
}

/// The number of spaces before each of the first lines of the manifest that
/// make it equal to `text`, or `None` if they differ otherwise.
fn block_indent(manifest_lines: &[&str], text: &str) -> Option<u32> {
    let first_line = text.lines().next()?;
    let indent = manifest_lines.first()?.len().checked_sub(first_line.len())?;
    let mut lines = manifest_lines.iter();
    for line in text.lines() {
        let manifest_line = lines.next()?;
        // A line may be shorter than the indentation if it is blank.
        let (margin, rest) = manifest_line.split_at_checked(indent).unwrap_or((manifest_line, ""));
        if !margin.bytes().all(|byte| byte == b' ') || rest != line {
            return None;
        }
    }
    u32::try_from(indent).ok()
}
