//! The files of the dashboard. They show nothing without a token.

use axum::{Router, body::Bytes, http::header, response::IntoResponse, routing::get};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        File {
            path: concat!("/ui/", $name),
            kind: $kind,
            text: include_bytes!(concat!("ui/", $name)),
        }
    };
}

/// A file as it is in the repository.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static [u8],
}

const PAGE: File =
    File { path: "/", kind: "text/html; charset=utf-8", text: include_bytes!("ui/index.html") };

const FILES: [File; 29] = [
    PAGE,
    file!("api.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("explanation.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("history.js", SCRIPT),
    file!("icon.svg", "image/svg+xml"),
    file!("links.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("main.js", SCRIPT),
    file!("pages/counters.js", SCRIPT),
    file!("pages/health.js", SCRIPT),
    file!("pages/login.js", SCRIPT),
    file!("pages/overview.js", SCRIPT),
    file!("pages/refused.js", SCRIPT),
    file!("pages/rule.js", SCRIPT),
    file!("pages/rules.js", SCRIPT),
    file!("pages/why.js", SCRIPT),
    file!("paste.js", SCRIPT),
    file!("paste_card.js", SCRIPT),
    file!("plot.js", SCRIPT),
    file!("rule_parts.js", SCRIPT),
    file!("style.css", STYLE),
    file!("table.js", SCRIPT),
    file!("text.js", SCRIPT),
    file!("top.js", SCRIPT),
    file!("uPlot.LICENSE", "text/plain; charset=utf-8"),
    file!("uPlot.iife.min.js", SCRIPT),
    file!("uPlot.min.css", STYLE),
];

/// Whether this path has a file.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// The routes of all files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new();
    for File { path, kind, text } in FILES {
        let serve = async move || {
            ([(header::CONTENT_TYPE, kind)], Bytes::from_static(text)).into_response()
        };
        router = router.route(path, get(serve));
    }
    router
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use regex::Regex;
    use sha2::{Digest, Sha256};

    use super::*;

    /// The most bytes of all files together.
    const MOST_BYTES: usize = 150_000;

    /// All files in the directory, as paths of requests.
    fn names(directory: &Path, prefix: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}/{}", path.file_name().unwrap().display());
            if path.is_dir() {
                names.extend(self::names(&path, &name));
            } else if name == "/ui/index.html" {
                names.insert("/".to_owned());
            } else {
                names.insert(name);
            }
        }
        names
    }

    #[test]
    fn every_file_of_the_dashboard_is_served() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/ui");
        let served: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(served, names(&directory, "/ui"));
    }

    #[test]
    fn the_dashboard_has_less_than_150_kilobytes() {
        // Nothing loads the licence.
        let loaded = FILES.iter().filter(|file| !file.path.ends_with("LICENSE"));
        let bytes: usize = loaded.map(|file| file.text.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes}");
    }

    #[test]
    fn text_never_becomes_markup_or_code() {
        let forbidden = Regex::new(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.style\s*=|<style|\sstyle=|\son[a-z]+=|<script(?:\s+[^>]*)?>[^<]",
        )
        .unwrap();
        for File { path, text, .. } in FILES {
            if path.contains("uPlot") {
                continue;
            }
            let text = str::from_utf8(text).unwrap();
            let found = forbidden.find(text).map(|found| found.as_str());
            assert_eq!(found, None, "{path}");
        }
    }

    #[test]
    fn files_of_others_are_unchanged() {
        let documented = fs::read_to_string("docs/dependencies.md").unwrap();
        for name in ["uPlot.LICENSE", "uPlot.iife.min.js", "uPlot.min.css"] {
            let file = FILES.iter().find(|file| file.path.ends_with(name)).unwrap();
            let mut digest = String::new();
            for byte in Sha256::digest(file.text) {
                digest += &format!("{byte:02x}");
            }
            assert!(documented.contains(&digest), "{name} has the SHA-256 {digest}");
        }
    }
}
