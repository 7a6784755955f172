//! Rule files: `config::compile`.
//!
//! The input is one rule file, or several, divided by lines of `%%`.

use super::properties::{check_memory, check_printable, peak_bytes};
use bytes::Bytes;
use tollgate::{
    config::{self, CompileOptions, Compiled, Diagnostic, Diagnostics, Position, SourceFile},
    descriptor::Entry,
    rules::RuleTree,
};

/// More files than this only slow the fuzzer down.
const MAX_FILES: usize = 4;

/// Runs the target.
///
/// # Panics
///
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let files = split(input);
    for merge_domains in [false, true] {
        let options = CompileOptions { merge_domains, ..CompileOptions::default() };
        let (result, peak) = peak_bytes(|| config::compile(&files, options));
        check_memory(peak, input.len(), 4_096);
        let again = config::compile(&files, options);
        match (&result, &again) {
            (Ok(compiled), Ok(again)) => check_compiled(compiled, again, &files),
            (Err(errors), Err(again)) => check_errors(errors, again, &files),
            _ => panic!("the second compilation differs from the first"),
        }
    }
}

fn split(input: &[u8]) -> Vec<SourceFile> {
    let mut files = vec![SourceFile { name: "0.yaml".into(), bytes: Vec::new() }];
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if line == b"%%\n" && files.len() < MAX_FILES {
            let name = format!("{}.yaml", files.len());
            files.push(SourceFile { name, bytes: Vec::new() });
        } else if let Some(file) = files.last_mut() {
            file.bytes.extend_from_slice(line);
        }
    }
    files
}

fn check_compiled(compiled: &Compiled, again: &Compiled, files: &[SourceFile]) {
    assert_eq!(format!("{:?}", compiled.rules.rules()), format!("{:?}", again.rules.rules()));
    assert_eq!(compiled.warnings, again.warnings);
    for warning in &compiled.warnings {
        check_diagnostic(warning, files);
    }
    check_lookups(&compiled.rules, files);
}

fn check_errors(errors: &Diagnostics, again: &Diagnostics, files: &[SourceFile]) {
    assert!(errors.len() > 0);
    assert_eq!(errors.to_string(), again.to_string());
    for error in errors.iter() {
        check_diagnostic(error, files);
    }
}

/// The position must be within its file, or just after the end.
fn check_diagnostic(diagnostic: &Diagnostic, files: &[SourceFile]) {
    check_printable(&diagnostic.to_string());
    check_printable(&diagnostic.snippet().to_string());
    let Some(file) = files.iter().find(|file| file.name == diagnostic.file) else {
        panic!("there is no file of this name: {diagnostic}");
    };
    let Position::Line { line, column } = diagnostic.position else {
        panic!("an error in a file has a line: {diagnostic}");
    };
    let text = String::from_utf8_lossy(&file.bytes).replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let (line, column) = (line as usize, column as usize);
    assert!((1..=lines.len()).contains(&line), "{diagnostic}");
    let length = lines[line - 1].chars().count();
    assert!((1..=length + 1).contains(&column), "{diagnostic}");
}

/// Looks up descriptors made of the words of the files.
fn check_lookups(rules: &RuleTree, files: &[SourceFile]) {
    let mut words = Vec::new();
    for file in files {
        for word in file.bytes.split(|byte| b" \n\t:\"'".contains(byte)) {
            if !word.is_empty() && words.len() < 16 {
                words.push(Bytes::copy_from_slice(word));
            }
        }
    }
    for rule in rules.rules() {
        let domain = rules.domain(rule.domain.as_bytes()).expect("a rule has a domain");
        for key in &words {
            for value in &words {
                let entry = Entry { key: key.clone(), value: value.clone() };
                for entries in [vec![entry.clone()], vec![entry.clone(), entry]] {
                    if let Some(found) = domain.find(&entries) {
                        assert_eq!(rules.rules()[found.index].index, found.index);
                        assert_eq!(found.domain, rule.domain);
                    }
                }
            }
        }
    }
}
