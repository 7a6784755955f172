//! The report as text.

use std::io::{self, Write};

use crate::{
    cli::hit::render,
    explain::{
        DescriptorReport, Report, advice,
        notation::{descriptor, limit_text, printable},
    },
    grpc::client::Response,
    mapping::MappingCourse,
    rules::{
        Rule,
        explain::{Explanation, Tried, TriedLevel, TriedResult},
    },
};

pub(super) fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    if let Some(course) = report.http {
        write_http(course, out)?;
    }
    if let Some(problem) = advice::unknown_domain(report.rules, report.domain) {
        writeln!(out, "{problem}")?;
    }
    for described in &report.descriptors {
        writeln!(out, "{}", descriptor(described.entries))?;
        if let Some(explanation) = &described.explanation {
            write_lookup(described, explanation, out)?;
        }
    }
    writeln!(out, "answer if nothing has been counted")?;
    write_answer(report, &report.answer, out)?;
    if report.shadow {
        writeln!(out, "SHADOW_MODE is true: the service refuses no request")?;
    }
    if let Some(server) = &report.server {
        match server {
            Ok(answer) => {
                writeln!(out, "answer of the running service to a request with 0 hits")?;
                write_answer(report, answer, out)?;
            }
            Err(error) => writeln!(out, "no answer of the running service: {error}")?,
        }
        if let Some(difference) = report.difference() {
            writeln!(out, "{difference}")?;
        }
    }
    Ok(())
}

/// Writes the descriptors that the rules make of an HTTP request.
pub(super) fn write_http(course: &MappingCourse, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "descriptors of the HTTP request")?;
    match course {
        MappingCourse::Skipped(index) => writeln!(out, "  none: {}", advice::skipped(*index))?,
        MappingCourse::Descriptors(list) => {
            for mapped in list {
                match mapped {
                    Ok(entries) => writeln!(out, "  {}", descriptor(entries))?,
                    Err(missing) => writeln!(out, "  none: {}", advice::missing(missing))?,
                }
            }
            if list.iter().all(Result::is_err) {
                writeln!(out, "the request passes, and nothing is counted")?;
            }
        }
    }
    Ok(())
}

/// Writes an answer, indented.
fn write_answer(report: &Report<'_>, answer: &Response, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    let descriptors: Vec<_> = report.descriptors.iter().map(|it| it.entries).collect();
    render::response(&descriptors, answer, &mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn write_lookup(
    described: &DescriptorReport<'_>,
    explanation: &Explanation<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (level, entry) in explanation.levels.iter().zip(described.entries) {
        writeln!(out, "  entry {}", descriptor(std::slice::from_ref(entry)))?;
        write_level(level, out)?;
    }
    match explanation.end.rule() {
        Some(rule) => write_rule(described, rule, out)?,
        None => {
            let reason = advice::reason(explanation, described.entries);
            writeln!(out, "  no rule applies: {reason}")?;
        }
    }
    for shadowed in &explanation.shadowed {
        writeln!(out, "  shadowed: {}", advice::shadowed(shadowed))?;
    }
    for advice in &explanation.advice {
        writeln!(out, "  hint: {}", advice::sentence(advice, described.entries))?;
    }
    Ok(())
}

fn write_level(level: &TriedLevel<'_>, out: &mut impl Write) -> io::Result<()> {
    for Tried { element, result } in &level.tried {
        let result = match result {
            TriedResult::Chosen(by) => format!("matches, by {}", by.phrase()),
            TriedResult::Later(by) => format!("comes later, matches by {}", by.phrase()),
            TriedResult::Unmatched => "does not match".to_owned(),
        };
        writeln!(out, "    {} at {}: {result}", advice::element(element), element.location)?;
    }
    if level.unlisted > 0 {
        writeln!(out, "    {} more patterns do not match", level.unlisted)?;
    }
    if level.tried.is_empty() {
        writeln!(out, "    none of {} elements matches", level.size)?;
    }
    Ok(())
}

fn write_rule(
    described: &DescriptorReport<'_>,
    rule: &Rule,
    out: &mut impl Write,
) -> io::Result<()> {
    let flags = rule_flags(rule);
    writeln!(out, "  rule {} at {}{flags}", printable(&rule.name()), rule.spec.location)?;
    if rule.is_unlimited() {
        writeln!(out, "    unlimited: every request passes, and nothing is counted")?;
        if described.replaced {
            writeln!(out, "    replaced by a rule of another descriptor")?;
        }
    }
    for limit in &described.limits {
        let Some(spec) = rule.spec.limits.get(limit.index) else { continue };
        writeln!(out, "    limit {}", limit_text(spec))?;
        if limit.replaced {
            let name = printable(&spec.name);
            writeln!(out, "      does not apply: another descriptor's rule replaces `{name}`")?;
        } else {
            writeln!(out, "      counter {}", printable(&limit.counter))?;
        }
    }
    Ok(())
}

fn rule_flags(rule: &Rule) -> String {
    let mut flags = String::new();
    if rule.spec.shadow_mode {
        flags += ", in shadow mode: it refuses nothing";
    }
    if rule.spec.quota_mode {
        flags += ", a quota: it refuses only with all other quotas";
    }
    if !rule.spec.replaces.is_empty() {
        flags += &format!(", replaces {}", printable(&rule.spec.replaces.join(" and ")));
    }
    flags
}
