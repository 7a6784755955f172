//! Differences in the reading of single variables.

use super::{
    environment::{EnvValue, EnvVariable, Environment},
    finding::{Finding, Grade},
    reference::{self, Reading, ReferenceVariable, Syntax},
};
use crate::settings::{
    hints::{self, Hint},
    table::{self, Setting},
};

/// Adds settings that have a value outside the input.
pub(super) fn unknown_values(env: &Environment, findings: &mut Vec<Finding>) {
    for variable in env.iter() {
        let EnvValue::Unknown(origin) = &variable.value else { continue };
        if table::find(&variable.name).is_none() {
            continue;
        }
        let title = format!("the value of {} is not known: it comes from {origin}", variable.name);
        findings.push(Finding::new(Grade::Note, title).about(env, &variable.name));
    }
}

/// Adds settings that are set to an empty value.
pub(super) fn empty_values(env: &Environment, findings: &mut Vec<Finding>) {
    for EnvVariable { name, value, .. } in env.iter() {
        if *value != EnvValue::Known(String::new()) {
            continue;
        }
        if let (Some(variable), Some(setting)) = (reference::find(name), table::find(name)) {
            findings.push(empty_value(env, variable, setting));
        }
    }
}

fn empty_value(env: &Environment, variable: &ReferenceVariable, setting: &Setting) -> Finding {
    const REMEDY: &str = "remove the variable, or set the value that you want";
    let tollgate = match setting.default {
        "" => "treats it as not set".to_owned(),
        default => format!("treats it as not set, and uses {default}"),
    };
    let (grade, reference, remedy) = if !variable.syntax.allows_empty() {
        (Grade::Differs, "does not start with this", REMEDY)
    } else if variable.default.is_empty() && setting.default.is_empty() {
        (Grade::Same, "", "")
    } else {
        (Grade::Differs, "uses the empty text, not the default", REMEDY)
    };
    Finding::new(grade, format!("{} is set and empty", variable.name))
        .about(env, variable.name)
        .reference(reference)
        .tollgate(tollgate)
        .remedy(remedy)
}

/// Adds integers with a leading zero: octal for the reference, decimal for
/// tollgate.
pub(super) fn octal_numbers(env: &Environment, findings: &mut Vec<Finding>) {
    for variable in reference::VARIABLES {
        if variable.syntax != Syntax::Int || table::find(variable.name).is_none() {
            continue;
        }
        let Some(text) = env.text(variable.name) else { continue };
        let decimal = text.trim_start_matches('0');
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && decimal.len() < text.len() && !decimal.is_empty() {
            findings.push(octal_number(env, variable.name, text, decimal));
        }
    }
}

fn octal_number(env: &Environment, name: &str, text: &str, decimal: &str) -> Finding {
    let (grade, reference, remedy) = match reference::parse_int(text) {
        Some(octal) => {
            let is_same = octal.to_string() == decimal;
            let grade = if is_same { Grade::Same } else { Grade::Differs };
            (grade, format!("reads an octal number: {octal}"), format!("write {octal} to keep it"))
        }
        None => {
            let reference = "does not start with this: it is not an octal number";
            (Grade::Differs, reference.to_owned(), format!("write {decimal}"))
        }
    };
    Finding::new(grade, format!("{name}={text}"))
        .about(env, name)
        .reference(reference)
        .tollgate(format!("reads a decimal number: {decimal}"))
        .remedy(remedy)
}

/// Adds values that tollgate accepts and the reference rejects.
pub(super) fn rejected_by_reference(env: &Environment, findings: &mut Vec<Finding>) {
    for variable in reference::VARIABLES {
        if variable.syntax == Syntax::Int || table::find(variable.name).is_none() {
            continue;
        }
        let Some(text) = env.text(variable.name) else { continue };
        if reference::read(variable, text) != Reading::Rejected
            || will_not_start(findings, variable.name)
        {
            continue;
        }
        let remedy = match reference::equivalent(variable, text) {
            Some(word) => format!("write {word}"),
            None => String::new(),
        };
        findings.push(
            Finding::new(Grade::Differs, format!("{}={text}", variable.name))
                .about(env, variable.name)
                .reference("does not start with this")
                .tollgate("accepts this")
                .remedy(remedy),
        );
    }
}

fn will_not_start(findings: &[Finding], variable: &str) -> bool {
    for finding in findings {
        if finding.variable == variable && finding.grade == Grade::WillNotStart {
            return true;
        }
    }
    false
}

/// Adds variables that are not settings.
pub(super) fn not_settings(env: &Environment, findings: &mut Vec<Finding>) {
    let mut mogrifiers = Vec::new();
    for name in env.text("USE_DOG_STATSD_MOGRIFIERS").unwrap_or_default().split(',') {
        mogrifiers.push(name.trim().to_uppercase());
    }
    for EnvVariable { name, .. } in env.iter() {
        if !env.is_set(name) || table::find(name).is_some() {
            continue;
        }
        if let Some(finding) = not_a_setting(env, name, &mogrifiers) {
            findings.push(finding.about(env, name));
        }
    }
}

fn not_a_setting(env: &Environment, name: &str, mogrifiers: &[String]) -> Option<Finding> {
    // The value only serves to detect variables that Kubernetes sets.
    let text = env.text(name).unwrap_or("unknown");
    let is_of_reference = reference::find(name).is_some();
    match hints::hint(name, text, mogrifiers) {
        Some(Hint::Ignored(reason)) => {
            Some(Finding::new(Grade::Same, format!("{name} has no effect: {reason}")))
        }
        Some(Hint::UnlistedMogrifier) => {
            let title = format!("{name} has no effect: its mogrifier is not listed");
            Some(Finding::new(Grade::Note, title).reference("also ignores it"))
        }
        _ if is_of_reference => {
            let finding = Finding::new(Grade::Differs, format!("{name} has no effect"));
            Some(finding.tollgate("does not read this variable"))
        }
        Some(Hint::Unknown(near)) => {
            let suggestion = match near {
                Some(near) => format!("; {near} is, was that meant?"),
                None => String::new(),
            };
            let title = format!("{name} is not a setting{suggestion}");
            Some(Finding::new(Grade::Note, title).reference("does not read it either"))
        }
        None => None,
    }
}

/// Adds the settings that no other finding is about.
pub(super) fn unchanged(env: &Environment, findings: &mut Vec<Finding>) {
    for EnvVariable { name, .. } in env.iter() {
        if table::find(name).is_none() || has_finding(findings, name) {
            continue;
        }
        let meaning = match reference::find(name) {
            Some(_) => "means the same",
            None => "is a setting of tollgate alone",
        };
        findings.push(Finding::new(Grade::Same, format!("{name} {meaning}")).about(env, name));
    }
}

fn has_finding(findings: &[Finding], variable: &str) -> bool {
    findings.iter().any(|finding| finding.variable == variable)
}
