//! Holds `docs/settings.md` to the table that it describes.

use std::{env, fmt::Write, fs};

use crate::settings::table::GROUPS;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
const BEGIN: &str = "<!-- The tables begin. `UPDATE_DOCS=1 cargo test` writes them. -->\n";
const END: &str = "<!-- The tables end. -->\n";

fn tables() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let head = "| Variable and flag | Default | Meaning |\n|---|---|---|";
        writeln!(text, "\n### {}\n\n{head}", group.heading).unwrap();
        for setting in group.settings {
            let default = match setting.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let (name, flag, help) = (setting.name, setting.flag(), setting.help);
            writeln!(text, "| `{name}`<br>`--{flag}` | {default} | {help} |").unwrap();
        }
    }
    text + "\n"
}

#[test]
fn the_document_shows_every_setting() {
    let document = fs::read_to_string(PATH).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", tables());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PATH, &expected).unwrap();
    } else {
        assert!(
            document == expected,
            "{PATH} is out of date; `UPDATE_DOCS=1 cargo test` updates it"
        );
    }
}
