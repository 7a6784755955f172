use std::{collections::HashSet, fs, os::unix::fs::symlink, process::Command};

use super::{LinkPolicy::Inside, *};

fn read(path: &Path) -> Result<Vec<SourceFile>, ReadError> {
    super::read(path, Inside)
}

/// Makes a directory with these files. The contents of a file are its name.
fn directory(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in names {
        write(directory.path(), name, name);
    }
    directory
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// The names of the files that are read, relative to the directory.
fn names(directory: &Path) -> Vec<String> {
    let files = read(directory).unwrap_or_else(|error| panic!("{error}"));
    let prefix = format!("{}/", directory.display());
    let names =
        files.iter().map(|file| file.name.strip_prefix(&prefix).expect("below it").to_owned());
    names.collect()
}

fn error(path: &Path) -> String {
    let error = read(path).expect_err("this cannot be read").to_string();
    let (_, message) = error.split_once(": ").expect("a path");
    assert!(error.starts_with('/'), "{error}");
    message.to_owned()
}

#[test]
fn a_directory_is_read_in_the_order_of_paths() {
    let directory =
        directory(&["b.yaml", "a/z.yml", "a.yaml", "a/b/c.yaml", "notes.txt", "c.yaml~", "d"]);
    assert_eq!(names(directory.path()), ["a/b/c.yaml", "a/z.yml", "a.yaml", "b.yaml"]);
    assert_eq!(read(directory.path()).unwrap()[1].bytes, b"a/z.yml");
}

#[test]
fn a_single_file_may_have_any_name() {
    let directory = directory(&["rules"]);
    let files = read(&directory.path().join("rules")).unwrap();
    assert_eq!((files.len(), files[0].bytes.as_slice()), (1, &b"rules"[..]));
}

#[test]
fn each_file_of_a_kubernetes_volume_is_read_once() {
    let directory = directory(&["..2026_01_01/a.yaml", "..2026_01_01/b.yaml", ".hidden.yaml"]);
    symlink("..2026_01_01", directory.path().join("..data")).unwrap();
    symlink("..data/a.yaml", directory.path().join("a.yaml")).unwrap();
    symlink("..data/b.yaml", directory.path().join("b.yaml")).unwrap();
    assert_eq!(names(directory.path()), ["a.yaml", "b.yaml"]);
    let before = fingerprint(directory.path());
    write(directory.path(), "..2026_01_02/a.yaml", "a");
    write(directory.path(), "..2026_01_02/b.yaml", "b");
    symlink("..2026_01_02", directory.path().join("..tmp")).unwrap();
    fs::rename(directory.path().join("..tmp"), directory.path().join("..data")).unwrap();
    assert_ne!(fingerprint(directory.path()), before);
    assert_eq!(read(directory.path()).unwrap()[1].bytes, b"b");
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let directory = directory(&["a.yaml"]);
    symlink(".", directory.path().join("loop")).unwrap();
    symlink(".", directory.path().join("loop.yaml")).unwrap();
    symlink("a.yaml", directory.path().join("file")).unwrap();
    symlink(".", directory.path().join("..data")).unwrap();
    assert_eq!(names(directory.path()), ["a.yaml"]);
    let mut skipped: Vec<_> =
        list(directory.path()).unwrap().skipped_links.iter().map(ToString::to_string).collect();
    skipped.sort();
    let line = |name: &str| {
        let path = directory.path().join(name);
        format!("{}: skipped this link, as it leads to a directory", path.display())
    };
    assert_eq!(skipped, [line("loop.yaml"), line("loop")]);
}

/// The directory of the rules is a link in the layout of the reference.
#[test]
fn a_link_in_place_of_the_directory_of_the_rules_is_named() {
    let files = directory(&["versions/1/a.yaml", "versions/2/b.yaml"]);
    let root = files.path().join("root");
    fs::create_dir(&root).unwrap();
    symlink("../versions/1", root.join("config")).unwrap();
    symlink("../versions/2", root.join("other")).unwrap();
    let layout = RuntimeLayout {
        root: root.clone(),
        subdirectory: PathBuf::new(),
        app_directory: "config".into(),
        watch_root: true,
        ignore_dot_files: false,
    };
    let listing = layout.list().unwrap();
    assert!(listing.files.is_empty());
    let skipped: Vec<_> = listing.skipped_links.iter().map(ToString::to_string).collect();
    let path = root.join("config");
    assert_eq!(
        skipped,
        [format!("{}: skipped this link, as it leads to a directory", path.display())],
    );
}

#[test]
fn a_link_out_of_the_directory_is_refused_unless_it_is_allowed() {
    let files = directory(&["rules/a.yaml", "secret", "rules/sub/c.yaml"]);
    let rules = files.path().join("rules");
    symlink("sub/c.yaml", rules.join("inside.yaml")).unwrap();
    assert_eq!(names(&rules), ["a.yaml", "inside.yaml", "sub/c.yaml"]);
    for target in ["../secret".into(), files.path().join("secret"), "/proc/self/environ".into()] {
        let link = rules.join("b.yaml");
        symlink(&target, &link).unwrap();
        let error = error(&rules);
        assert!(error.starts_with("this link leads out of the rules, to /"), "{error}");
        assert!(error.ends_with("; copy the file, or set ALLOW_OUTSIDE_LINKS=true"), "{error}");
        assert_eq!(super::read(&rules, LinkPolicy::Anywhere).unwrap().len(), 4);
        fs::remove_file(link).unwrap();
    }
    let prefix = files.path().join("rules-and-more/b.yaml");
    write(files.path(), "rules-and-more/b.yaml", "");
    symlink(prefix, rules.join("b.yaml")).unwrap();
    assert!(error(&rules).starts_with("this link leads out"));
}

/// The layout of git-sync: a link to a worktree, replaced at each new commit.
#[test]
fn a_link_to_a_worktree_is_followed_like_its_directory() {
    let git = directory(&[".worktrees/1/rules/a.yaml", ".worktrees/2/rules/b.yaml"]);
    symlink("a.yaml", git.path().join(".worktrees/1/rules/same.yaml")).unwrap();
    let link = git.path().join("link");
    symlink(".worktrees/1", &link).unwrap();
    assert_eq!(names(&link.join("rules")), ["a.yaml", "same.yaml"]);
    let before = fingerprint(&link.join("rules"));
    symlink(".worktrees/2", git.path().join("next")).unwrap();
    fs::rename(git.path().join("next"), &link).unwrap();
    assert_eq!(names(&link.join("rules")), ["b.yaml"]);
    assert_ne!(fingerprint(&link.join("rules")), before);
    // The rules are the root of the worktree, or a single file.
    assert_eq!(names(&link), ["rules/b.yaml"]);
    let file = git.path().join("rules.yaml");
    symlink("link/rules/b.yaml", &file).unwrap();
    assert_eq!(read(&file).unwrap()[0].bytes, b".worktrees/2/rules/b.yaml");
}

#[test]
fn a_pipe_in_the_place_of_a_listed_file_is_not_waited_for() {
    let directory = directory(&["a.yaml"]);
    let listed = list(directory.path()).unwrap();
    let path = directory.path().join("a.yaml");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = read_all(listed, Inside).unwrap_err().to_string();
    assert!(error.ends_with("this is neither a file nor a directory"), "{error}");
}

#[test]
fn errors_name_the_path() {
    let directory = directory(&["notes.txt"]);
    assert_eq!(
        error(directory.path()),
        "no rule file is in this directory, expected names that end in .yaml or .yml"
    );
    let gone = "cannot read this: No such file or directory (os error 2)";
    assert_eq!(error(&directory.path().join("missing")), gone);
}

#[test]
fn a_name_with_a_line_break_forges_no_line() {
    let name = "b\nINFO forged\u{202e}.yaml";
    let files = directory(&["rules/a.yaml", "t\nINFO forged"]);
    let rules = files.path().join("rules");
    let path = rules.join(name);
    let check = |kind: &str, text: String| {
        assert!(text.contains("INFO forged"), "{kind}: {text:?}");
        assert!(!text.contains(['\n', '\u{202e}']), "{kind}: {text:?}");
    };
    let error = || super::read(&rules, Inside).unwrap_err().to_string();
    fs::write(&path, "").unwrap();
    check("a file", names(&rules).remove(1));
    let too_long = u64::try_from(MAX_BYTES).unwrap() + 1;
    File::options().write(true).open(&path).unwrap().set_len(too_long).unwrap();
    check("a long file", error());
    fs::remove_file(&path).unwrap();
    symlink("../t\nINFO forged", &path).unwrap();
    check("a link that leads out", error());
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    check("a pipe", error());
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    let listing = list(&rules).unwrap();
    check("a link without a target", listing.skipped_links[0].to_string());
}

#[test]
fn a_link_without_a_target_is_skipped() {
    let directory = directory(&["a.yaml"]);
    symlink("ann@desk.17:1700000000", directory.path().join(".#a.yaml")).unwrap();
    symlink("nowhere", directory.path().join("b.yaml")).unwrap();
    assert_eq!(names(directory.path()), ["a.yaml"]);
    let layout = RuntimeLayout {
        root: directory.path().to_owned(),
        subdirectory: PathBuf::new(),
        app_directory: String::new(),
        watch_root: false,
        ignore_dot_files: false,
    };
    let files = RuleSource::Runtime(layout).read(LinkPolicy::Inside).unwrap();
    assert_eq!(files.len(), 1);
    write(directory.path(), "nowhere", "");
    assert_eq!(names(directory.path()), ["a.yaml", "b.yaml"]);
}

#[test]
fn a_pipe_is_rejected_without_waiting() {
    let directory = directory(&[]);
    let pipe = directory.path().join("a.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    assert_eq!(error(directory.path()), "this is neither a file nor a directory");
    assert_eq!(error(&pipe), "this is neither a file nor a directory");
}

#[test]
fn directories_have_a_maximum_depth() {
    let directory = directory(&[&("d/".repeat(16) + "a.yaml")]);
    assert_eq!(names(directory.path()).len(), 1);
    write(directory.path(), &("d/".repeat(17) + "a.yaml"), "");
    assert_eq!(error(directory.path()), "this directory is too deep, expected at most 16 levels");
}

#[test]
fn a_file_has_a_maximum_length() {
    let directory = directory(&[]);
    let file = File::create(directory.path().join("a.yaml")).unwrap();
    file.set_len(MAX_BYTES as u64).unwrap();
    assert_eq!(read(directory.path()).unwrap()[0].bytes.len(), MAX_BYTES);
    file.set_len(MAX_BYTES as u64 + 1).unwrap();
    assert!(
        error(directory.path()).starts_with("this is too long, expected at most 16777216 bytes")
    );
}

#[test]
fn a_fingerprint_changes_with_the_files() {
    let directory = directory(&["a.yaml"]);
    let mut seen = HashSet::new();
    let mut is_new = |change: &str| assert!(seen.insert(fingerprint(directory.path())), "{change}");
    is_new("at first");
    write(directory.path(), "a.yaml", "longer than before");
    is_new("written");
    write(directory.path(), "b.yaml", "");
    is_new("added");
    fs::rename(directory.path().join("b.yaml"), directory.path().join("c.yaml")).unwrap();
    is_new("renamed");
    write(directory.path(), "new", "longer than before");
    fs::rename(directory.path().join("new"), directory.path().join("a.yaml")).unwrap();
    is_new("replaced by one of the same length");
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    is_new("removed");
    fs::remove_file(directory.path().join("c.yaml")).unwrap();
    is_new("empty");
    fs::remove_dir(directory.path()).unwrap();
    is_new("gone");
}

#[test]
fn a_fingerprint_ignores_other_files() {
    let directory = directory(&["a.yaml", "b/c.yaml"]);
    let before = fingerprint(directory.path());
    write(directory.path(), "notes.txt", "");
    write(directory.path(), ".a.yaml.swp", "");
    assert_eq!(fingerprint(directory.path()), before);
}
