//! Compares the tables in `docs/settings.md` with the table of settings.

use std::{env, fmt::Write, fs};

use crate::settings::table::{self, COMMON, GROUPS};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");

/// The two comments around a generated part of the document.
struct Markers {
    begin: &'static str,
    end: &'static str,
}

const COMMON_MARKERS: Markers = Markers {
    begin: "<!-- The common settings begin. `UPDATE_DOCS=1 cargo test --lib docs` writes them. -->\n",
    end: "<!-- The common settings end. -->\n",
};
const ALL_MARKERS: Markers = Markers {
    begin: "<!-- The tables begin. `UPDATE_DOCS=1 cargo test --lib docs` writes them. -->\n",
    end: "<!-- The tables end. -->\n",
};

impl Markers {
    fn replace(&self, document: &str, content: &str) -> String {
        let (before, rest) = document.split_once(self.begin).unwrap();
        let (_, after) = rest.split_once(self.end).unwrap();
        format!("{before}{}{content}{}{after}", self.begin, self.end)
    }
}

fn default_cell(default: &str) -> String {
    if default.is_empty() { String::new() } else { format!("`{default}`") }
}

fn common_table() -> String {
    let mut text = String::from("\n| Variable | Default | Advice |\n|---|---|---|\n");
    for common in COMMON {
        let default = default_cell(table::find(common.name).unwrap().default);
        writeln!(text, "| `{}` | {default} | {} |", common.name, common.advice).unwrap();
    }
    text + "\n"
}

fn all_tables() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let head = "| Variable and flag | Default | Meaning |\n|---|---|---|";
        writeln!(text, "\n### {}\n\n{head}", group.heading).unwrap();
        for setting in group.settings {
            let default = default_cell(setting.default);
            let (name, flag, help) = (setting.name, setting.flag(), setting.help);
            writeln!(text, "| `{name}`<br>`--{flag}` | {default} | {help} |").unwrap();
        }
    }
    text + "\n"
}

#[test]
fn the_document_shows_every_setting() {
    let document = fs::read_to_string(PATH).unwrap();
    let expected = COMMON_MARKERS.replace(&document, &common_table());
    let expected = ALL_MARKERS.replace(&expected, &all_tables());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PATH, &expected).unwrap();
    } else {
        assert!(
            document == expected,
            "{PATH} is out of date; `UPDATE_DOCS=1 cargo test --lib docs` updates it"
        );
    }
}
