//! The fenced blocks of Markdown pages.

use std::{fmt, fs, path::Path};

/// A Markdown page of the repository.
#[derive(Debug)]
pub struct Page {
    /// The path from the root of the repository.
    pub name: String,
    pub blocks: Vec<Block>,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The path and line of the opening fence.
    place: String,
    pub language: String,
    /// The block is excluded from the tests.
    pub no_run: bool,
    /// The name under which the commands of the page find the text.
    pub file_name: Option<String>,
    pub text: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// All pages of the repository with their blocks, by name.
pub fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = vec!["examples/envoy/README.md".to_owned()];
    for directory in ["", "docs/"] {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                names.push(format!("{directory}{name}"));
            }
        }
    }
    names.sort();
    let mut pages = Vec::new();
    for name in names {
        let text = fs::read_to_string(root.join(&name)).unwrap();
        pages.push(Page { blocks: blocks(&name, &text), name });
    }
    pages
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some((indent, info)) = line.split_once("```") else { continue };
        if !indent.trim().is_empty() {
            continue;
        }
        let mut block = Block::new(format!("{page}:{number}"), info);
        loop {
            let (line, _) = lines.next().unwrap_or_else(|| panic!("{block} has no end"));
            let line = line.strip_prefix(indent).unwrap_or(line);
            if line == "```" {
                break;
            }
            block.text += line;
            block.text.push('\n');
        }
        blocks.push(block);
    }
    blocks
}

impl Block {
    fn new(place: String, info: &str) -> Self {
        let mut words = info.split_whitespace();
        let language = words.next().unwrap_or_default().to_owned();
        let (mut no_run, mut file_name) = (false, None);
        for word in words {
            match word {
                "no-run" => no_run = true,
                _ => file_name = Some(word.to_owned()),
            }
        }
        Self { place, language, no_run, file_name, text: String::new() }
    }
}
