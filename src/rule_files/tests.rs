use std::{collections::HashSet, os::unix::fs::symlink, process::Command};

use super::*;

/// A directory with these files, whose contents are their names.
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

/// The names of what is read, without that of the directory.
fn names(directory: &Path) -> Vec<String> {
    let files = read(directory).unwrap_or_else(|it| panic!("{it}"));
    let prefix = format!("{}/", directory.display());
    let names = files.iter().map(|it| it.name.strip_prefix(&prefix).expect("below it").to_owned());
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
    let it = directory(&["b.yaml", "a/z.yml", "a.yaml", "a/b/c.yaml", "notes.txt", "c.yaml~", "d"]);
    assert_eq!(names(it.path()), ["a/b/c.yaml", "a/z.yml", "a.yaml", "b.yaml"]);
    assert_eq!(read(it.path()).unwrap()[1].bytes, b"a/z.yml");
}

#[test]
fn a_file_is_read_whatever_its_name() {
    let it = directory(&["rules"]);
    let files = read(&it.path().join("rules")).unwrap();
    assert_eq!((files.len(), files[0].bytes.as_slice()), (1, &b"rules"[..]));
}

#[test]
fn a_volume_of_kubernetes_shows_each_file_once() {
    let it = directory(&["..2026_01_01/a.yaml", "..2026_01_01/b.yaml", ".hidden.yaml"]);
    symlink("..2026_01_01", it.path().join("..data")).unwrap();
    symlink("..data/a.yaml", it.path().join("a.yaml")).unwrap();
    symlink("..data/b.yaml", it.path().join("b.yaml")).unwrap();
    assert_eq!(names(it.path()), ["a.yaml", "b.yaml"]);
    let before = fingerprint(it.path());
    write(it.path(), "..2026_01_02/a.yaml", "a");
    write(it.path(), "..2026_01_02/b.yaml", "b");
    symlink("..2026_01_02", it.path().join("..tmp")).unwrap();
    fs::rename(it.path().join("..tmp"), it.path().join("..data")).unwrap();
    assert_ne!(fingerprint(it.path()), before);
    assert_eq!(read(it.path()).unwrap()[1].bytes, b"b");
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let it = directory(&["a.yaml"]);
    symlink(".", it.path().join("loop")).unwrap();
    symlink(".", it.path().join("loop.yaml")).unwrap();
    assert_eq!(names(it.path()), ["a.yaml"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let it = directory(&["notes.txt"]);
    assert_eq!(
        error(it.path()),
        "no rule file is in this directory, expected names that end in .yaml or .yml"
    );
    let gone = "cannot read this: No such file or directory (os error 2)";
    assert_eq!(error(&it.path().join("missing")), gone);
    symlink("nowhere", it.path().join("a.yaml")).unwrap();
    assert_eq!(error(it.path()), gone);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let it = directory(&[]);
    let pipe = it.path().join("a.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    assert_eq!(error(it.path()), "this is neither a file nor a directory");
    assert_eq!(error(&pipe), "this is neither a file nor a directory");
}

#[test]
fn directories_have_a_greatest_depth() {
    let it = directory(&[&("d/".repeat(16) + "a.yaml")]);
    assert_eq!(names(it.path()).len(), 1);
    write(it.path(), &("d/".repeat(17) + "a.yaml"), "");
    assert_eq!(error(it.path()), "this directory is too deep, expected at most 16 levels");
}

#[test]
fn a_file_has_a_greatest_length() {
    let it = directory(&[]);
    let file = File::create(it.path().join("a.yaml")).unwrap();
    file.set_len(MAX_BYTES as u64).unwrap();
    assert_eq!(read(it.path()).unwrap()[0].bytes.len(), MAX_BYTES);
    file.set_len(MAX_BYTES as u64 + 1).unwrap();
    assert!(error(it.path()).starts_with("this is too long, expected at most 16777216 bytes"));
}

#[test]
fn a_fingerprint_changes_with_what_would_be_read() {
    let it = directory(&["a.yaml"]);
    let mut seen = HashSet::new();
    let mut is_new = |what: &str| assert!(seen.insert(fingerprint(it.path())), "{what}");
    is_new("at first");
    write(it.path(), "a.yaml", "longer than before");
    is_new("written");
    write(it.path(), "b.yaml", "");
    is_new("added");
    fs::rename(it.path().join("b.yaml"), it.path().join("c.yaml")).unwrap();
    is_new("renamed");
    write(it.path(), "new", "longer than before");
    fs::rename(it.path().join("new"), it.path().join("a.yaml")).unwrap();
    is_new("replaced by one of the same length");
    fs::remove_file(it.path().join("a.yaml")).unwrap();
    is_new("removed");
    fs::remove_file(it.path().join("c.yaml")).unwrap();
    is_new("empty");
    fs::remove_dir(it.path()).unwrap();
    is_new("gone");
}

#[test]
fn a_fingerprint_stays_while_nothing_changes() {
    let it = directory(&["a.yaml", "b/c.yaml"]);
    let before = fingerprint(it.path());
    write(it.path(), "notes.txt", "");
    write(it.path(), ".a.yaml.swp", "");
    assert_eq!(fingerprint(it.path()), before);
}
