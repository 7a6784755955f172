//! Rule files, and what other programs send in their place: from all of them to
//! the rules, or to every mistake in them.
//!
//! A file passes through three stages: `yaml` turns the text into a tree that
//! knows where everything stands, `read` turns the tree into what it says about
//! descriptors, and `lint` looks for rules that can have no effect. What comes
//! as a tree joins at the second stage, and is held to the same rules. A stage
//! reports what is wrong and goes on, so that one run shows all of it.

use std::{collections::HashMap, sync::Arc};

use crate::rules::{RuleTree, spec::DomainSpec};

pub mod documents;
pub mod keys;
mod lint;
mod diagnostic;
mod read;
mod report;
mod scalar;
mod tree;
mod yaml;

pub use self::{
    diagnostic::{Diagnostic, Diagnostics, Position, Severity, Snippet, printable},
    tree::{SourceTree, Tree},
};
use self::{
    read::{Domain, Sibling},
    report::{Report, Sources, quote},
};

/// The longest rule file there may be, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// One rule file.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// Its name, as it is shown to people.
    pub name: String,
    /// What is in it. Nobody has looked at it yet.
    pub bytes: Vec<u8>,
}

/// How rule files are understood.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileOptions {
    /// Several files may add descriptors to one domain. Else a domain that
    /// occurs twice is a mistake.
    pub merge_domains: bool,
}

/// Rules that make sense.
#[derive(Debug)]
pub struct Compiled {
    /// The rules, in the order of the files.
    pub rules: RuleTree,
    /// What is legal and has no effect, in the order of the files; the first
    /// 10,000 if there are more.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles `files`. No files are no rules.
///
/// # Errors
///
/// All mistakes of all files, in the order of the files and of their lines.
/// Only within a file that is no YAML, those behind the first are unknown.
pub fn compile(files: &[SourceFile], options: CompileOptions) -> Result<Compiled, Diagnostics> {
    compile_all(Report::new(Sources::Files(files)), files.len(), options)
}

/// Compiles `trees`, each of which stands for a file.
///
/// # Errors
///
/// All mistakes, in the order of the trees and of what is in them. What is
/// behind the first is unknown only in a tree that is too deep or too large.
pub fn compile_trees(
    trees: &[SourceTree],
    options: CompileOptions,
) -> Result<Compiled, Diagnostics> {
    compile_all(Report::new(Sources::Trees(trees)), trees.len(), options)
}

fn compile_all(
    mut report: Report<'_>,
    sources: usize,
    options: CompileOptions,
) -> Result<Compiled, Diagnostics> {
    let mut domains: Vec<Domain> = Vec::new();
    let mut known: HashMap<Arc<str>, usize> = HashMap::new();
    for index in 0..sources {
        let Some(domain) = read::file(&mut report, index) else { continue };
        let first = *known.entry(Arc::clone(&domain.name)).or_insert(domains.len());
        if first == domains.len() || domain.name.is_empty() {
            domains.push(domain);
        } else if options.merge_domains {
            domains[first].merge(domain);
        } else {
            duplicate_domain(&domain, &domains[first], &mut report);
            domains.push(domain);
        }
    }
    for domain in &domains {
        read::duplicates(&domain.descriptors, &mut report);
        lint::siblings(&domain.descriptors, &mut report);
        lint::replaced(domain, &mut report);
    }
    let warnings = report.finish()?;
    let specs = domains.into_iter().map(|it| DomainSpec {
        domain: it.name.to_string(),
        descriptors: it.descriptors.into_iter().map(Sibling::into_spec).collect(),
    });
    Ok(Compiled { rules: RuleTree::compile(specs.collect()), warnings })
}

fn duplicate_domain(second: &Domain, first: &Domain, report: &mut Report<'_>) {
    let place = report.place(first.place);
    let message = format!("the domain {} is already at {place}", quote(&second.name));
    let help = "put all of it into one file, or switch on the merging of domains";
    report.mistake(second.place, message, Some(help.into()));
}

#[cfg(test)]
mod tests;
