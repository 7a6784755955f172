//! Compiles rule files, or rules sent by other programs, to a [`RuleTree`], or
//! to a list of all their errors.
//!
//! There are three stages: `yaml` parses a file to nodes that know their
//! location, `read` checks the nodes and turns them into descriptors and limits,
//! and `lint` warns of rules that have no effect. Rules that are sent as a tree
//! of values enter at the second stage. A stage reports an error and continues,
//! so that one run reports all errors.

use std::{collections::HashMap, sync::Arc};

use crate::{rules::RuleTree, time_zones::TimeZones};

mod diagnostic;
pub mod documents;
mod excerpt;
pub mod keys;
mod lint;
mod parsed;
mod read;
mod scalar;
mod sink;
mod source;
mod tree_reader;
mod yaml;

pub use self::{
    diagnostic::{Diagnostic, Diagnostics, Position, PublicDiagnostic, Severity, Snippet},
    source::{MAX_BYTES, SourceFile, SourceTree, TreeValue},
};
use self::{excerpt::quote, parsed::ParsedDomain, sink::DiagnosticSink, source::Sources};

/// The options of a compilation.
#[derive(Clone, Copy, Debug)]
pub struct CompileOptions {
    /// Allows several files to add descriptors to the same domain. If false, a
    /// domain that occurs twice is an error.
    pub merge_domains: bool,
    /// The time zones that calendars name.
    pub time_zones: &'static TimeZones,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { merge_domains: false, time_zones: TimeZones::built_in() }
    }
}

/// The result of a compilation without errors.
#[derive(Debug)]
pub struct Compiled {
    /// The rules, in the order of the sources.
    pub rules: RuleTree,
    /// The warnings in the order of the sources; at most 10,000.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles `files`. An empty list is valid and contains no rules.
///
/// # Errors
///
/// Returns all errors, in the order of the files and of their lines. After a
/// syntax error, the rest of that file is not checked.
pub fn compile(files: &[SourceFile], options: CompileOptions) -> Result<Compiled, Diagnostics> {
    compile_all(DiagnosticSink::new(Sources::Files(files)), files.len(), options)
}

/// Compiles `trees`, each as if it were a file.
///
/// # Errors
///
/// Returns all errors, in the order of the trees and of their values. A tree
/// that is too deep or too large is not checked further.
pub fn compile_trees(
    trees: &[SourceTree],
    options: CompileOptions,
) -> Result<Compiled, Diagnostics> {
    compile_all(DiagnosticSink::new(Sources::Trees(trees)), trees.len(), options)
}

fn compile_all(
    mut sink: DiagnosticSink<'_>,
    source_count: usize,
    options: CompileOptions,
) -> Result<Compiled, Diagnostics> {
    let domains = read_domains(&mut sink, source_count, options);
    for domain in &domains {
        read::check_duplicates(&domain.descriptors, &mut sink);
        lint::check_siblings(&domain.descriptors, &mut sink);
        lint::check_replaced_names(domain, &mut sink);
        lint::check_http(domain, &mut sink);
    }
    let warnings = sink.finish()?;
    let mut specs = Vec::with_capacity(domains.len());
    for domain in domains {
        specs.push(domain.into_spec());
    }
    Ok(Compiled { rules: RuleTree::compile(specs), warnings })
}

fn read_domains(
    sink: &mut DiagnosticSink<'_>,
    source_count: usize,
    options: CompileOptions,
) -> Vec<ParsedDomain> {
    let mut domains: Vec<ParsedDomain> = Vec::new();
    let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
    for index in 0..source_count {
        let Some(domain) = read::read(sink, index, options.time_zones) else { continue };
        let position = *positions.entry(Arc::clone(&domain.name)).or_insert(domains.len());
        let is_first = position == domains.len();
        // The empty name has been reported as an error.
        if is_first || domain.name.is_empty() {
            domains.push(domain);
        } else if options.merge_domains {
            report_second_http(&domain, &domains[position], sink);
            domains[position].merge(domain);
        } else {
            report_duplicate_domain(&domain, &domains[position], sink);
            domains.push(domain);
        }
    }
    domains
}

fn report_duplicate_domain(
    second: &ParsedDomain,
    first: &ParsedDomain,
    sink: &mut DiagnosticSink<'_>,
) {
    let place = sink.describe(first.location);
    let message = format!("the domain {} is already at {place}", quote(&second.name));
    let help = "put all of it into one file, or switch on the merging of domains";
    sink.error_with_help(second.location, message, help);
}

/// Two files that add descriptors to requests would charge each other's rules unseen.
fn report_second_http(second: &ParsedDomain, first: &ParsedDomain, sink: &mut DiagnosticSink<'_>) {
    if let (Some(second_http), Some(first_http)) = (&second.http, &first.http) {
        let (name, place) = (quote(&second.name), sink.describe(first_http.location));
        let message = format!("the domain {name} already has `http` at {place}");
        let help = "put both into one file: a domain has one `http`";
        sink.error_with_help(second_http.location, message, help);
    }
}

#[cfg(test)]
mod tests;
