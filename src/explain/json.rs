//! The report as JSON.

use serde_json::{Value, json};

use super::{
    DescriptorReport, Report, advice,
    notation::{descriptor, limit_text},
};
use crate::{
    descriptor::Entry,
    grpc::client::{Response, ResponseStatus},
    mapping::MappingCourse,
    rules::{
        Rule,
        explain::{Tried, TriedLevel, TriedResult},
        lookup::MatchKind,
    },
};

/// The whole report.
pub fn report(report: &Report<'_>) -> Value {
    let descriptors: Vec<_> = report.descriptors.iter().map(|it| described(report, it)).collect();
    json!({
        "error": null,
        "domain": String::from_utf8_lossy(report.domain),
        "problem": advice::unknown_domain(report.rules, report.domain),
        "http": report.http.map(http),
        "descriptors": descriptors,
        "answer": answer(report, &report.answer),
        "server": report.server.as_ref().map(|server| match server {
            Ok(found) => answer(report, found),
            Err(error) => json!({ "error": error }),
        }),
        "difference": report.difference(),
        "globalShadowMode": report.shadow,
    })
}

/// The same fields as those of [`report`], for rules that cannot be used.
pub fn unusable(domain: &[u8], error: &str) -> Value {
    json!({
        "error": error,
        "domain": String::from_utf8_lossy(domain),
        "problem": null,
        "http": null,
        "descriptors": [],
        "answer": null,
        "server": null,
        "difference": null,
        "globalShadowMode": null,
    })
}

/// The same fields, for an HTTP request without descriptors.
pub fn without_descriptors(domain: &[u8], course: &MappingCourse) -> Value {
    json!({
        "error": null,
        "domain": String::from_utf8_lossy(domain),
        "problem": null,
        "http": http(course),
        "descriptors": [],
        "answer": null,
        "server": null,
        "difference": null,
        "globalShadowMode": null,
    })
}

/// The descriptors of an HTTP request, or the reasons why it has none.
fn http(course: &MappingCourse) -> Value {
    let mut descriptors = Vec::new();
    let mut skipped = None;
    match course {
        MappingCourse::Skipped(index) => skipped = Some(advice::skipped(*index)),
        MappingCourse::Descriptors(list) => {
            for mapped in list {
                descriptors.push(match mapped {
                    Ok(entries) => json!({ "descriptor": descriptor(entries), "problem": null }),
                    Err(it) => json!({ "descriptor": null, "problem": advice::missing(it) }),
                });
            }
        }
    }
    json!({ "skipped": skipped, "descriptors": descriptors })
}

fn described(report: &Report<'_>, described: &DescriptorReport<'_>) -> Value {
    let entries = described.entries;
    let mut problem = advice::unknown_domain(report.rules, report.domain);
    let (mut levels, mut shadowed, mut hints) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(explanation) = &described.explanation {
        if explanation.end.rule().is_none() {
            problem = Some(advice::reason(explanation, entries));
        }
        levels.extend(explanation.levels.iter().zip(entries).map(level));
        shadowed.extend(explanation.shadowed.iter().map(advice::shadowed));
        hints.extend(explanation.advice.iter().map(|it| advice::sentence(it, entries)));
    }
    json!({
        "descriptor": descriptor(entries),
        "matched": described.is_matched(),
        "rule": described.rule().map(|found| rule(described, found)),
        "end": described.explanation.as_ref().map(|explanation| explanation.end.name()),
        "problem": problem,
        "entries": levels,
        "shadowed": shadowed,
        "hints": hints,
    })
}

fn level((level, entry): (&TriedLevel<'_>, &Entry)) -> Value {
    let tried: Vec<_> = level.tried.iter().map(tried).collect();
    json!({
        "entry": descriptor(std::slice::from_ref(entry)),
        "tried": tried,
        "unlisted": level.unlisted,
    })
}

fn tried(tried: &Tried<'_>) -> Value {
    let (result, by) = match tried.result {
        TriedResult::Chosen(by) => ("chosen", Some(by)),
        TriedResult::Later(by) => ("later", Some(by)),
        TriedResult::Unmatched => ("unmatched", None),
    };
    json!({
        "element": advice::element(tried.element),
        "place": &*tried.element.location,
        "result": result,
        "by": by.map(MatchKind::name),
    })
}

fn rule(described: &DescriptorReport<'_>, rule: &Rule) -> Value {
    let mut limits = Vec::new();
    for limit in &described.limits {
        let Some(spec) = rule.spec.limits.get(limit.index) else { continue };
        limits.push(json!({
            "limit": limit_text(spec),
            "name": &*spec.name,
            "counter": limit.counter,
            "replaced": limit.replaced,
        }));
    }
    json!({
        "key": rule.name(),
        "place": &*rule.spec.location,
        "unlimited": rule.is_unlimited(),
        "replaced": described.replaced,
        "shadowMode": rule.spec.shadow_mode,
        "quotaMode": rule.spec.quota_mode,
        "limits": limits,
    })
}

/// An answer with the names of `/json`.
fn answer(report: &Report<'_>, answer: &Response) -> Value {
    let mut statuses = Vec::new();
    for (described, found) in report.descriptors.iter().zip(&answer.statuses) {
        statuses.push(status(described.entries, found));
    }
    let headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| json!({"key": name, "value": value})).collect();
    json!({
        "overallCode": answer.code.name(),
        "statuses": statuses,
        "responseHeadersToAdd": headers,
        "dynamicMetadata": answer.metadata,
    })
}

fn status(entries: &[Entry], status: &ResponseStatus) -> Value {
    let limit = status.limit.as_ref().map(|limit| {
        json!({
            "name": limit.name,
            "requestsPerUnit": limit.requests,
            "unit": limit.unit,
            "unitMultiplier": limit.multiplier,
        })
    });
    json!({
        "descriptor": descriptor(entries),
        "code": status.code.name(),
        "currentLimit": limit,
        "limitRemaining": status.remaining,
        "resetSeconds": status.reset_seconds,
    })
}
