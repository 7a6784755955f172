//! Checks the links between pages.

use std::{collections::HashSet, fs, path::Path, sync::LazyLock};

use regex::Regex;

use super::blocks::pages;

static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^)\s]+)\)").unwrap());

/// The text of a page without its fenced blocks.
fn prose(path: &Path) -> String {
    let mut prose = String::new();
    let mut in_block = false;
    for line in fs::read_to_string(path).unwrap().lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// The anchors of the headings, as hosts of repositories make them.
fn anchors(path: &Path) -> HashSet<String> {
    let mut anchors = HashSet::new();
    for line in prose(path).lines() {
        let Some(heading) = line.strip_prefix('#') else { continue };
        let mut anchor = String::new();
        for letter in heading.trim_start_matches('#').trim().to_lowercase().chars() {
            match letter {
                ' ' => anchor.push('-'),
                '-' | '_' => anchor.push(letter),
                _ if letter.is_alphanumeric() => anchor.push(letter),
                _ => {}
            }
        }
        anchors.insert(anchor);
    }
    anchors
}

#[test]
fn links_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for page in pages() {
        let path = root.join(&page.name);
        for link in LINK.captures_iter(&prose(&path)) {
            let link = &link[1];
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let found = match anchor {
                "" => target.exists(),
                _ => target.is_file() && anchors(&target).contains(anchor),
            };
            if !found {
                broken.push(format!("{}: {link}", page.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
