//! Values that tollgate's settings reject.

use super::{
    environment::{EnvValue, Environment},
    finding::{Finding, Grade},
    reference::{self, Reading},
};
use crate::{
    settings::{InvalidSetting, Settings, table},
    spans::{self, OtlpProtocol},
};

/// Advice that goes beyond the error text of a setting.
struct Remedy {
    name: &'static str,
    /// The only value with this remedy; `None` for any value.
    value: Option<&'static str>,
    text: &'static str,
}

const REMEDIES: &[Remedy] = &[
    Remedy {
        name: "BACKEND_TYPE",
        value: Some("memcache"),
        text: "set REDIS_URL and remove BACKEND_TYPE; or set BACKEND_TYPE=memory if there is only \
               one instance. Counters start again from zero",
    },
    Remedy {
        name: "BACKEND_TYPE",
        value: None,
        text: "set REDIS_URL to a Redis; the reference's default, \
               /var/run/nutcracker/ratelimit.sock, is a twemproxy, which tollgate supports only \
               with a single server",
    },
    Remedy {
        name: "REDIS_PERSECOND",
        value: None,
        text: "set REDIS_PERSECOND_URL to a Redis; the reference's default, \
               /var/run/nutcracker/ratelimitpersecond.sock, is a twemproxy, which tollgate \
               supports only with a single server",
    },
];

fn find_remedy(name: &str, text: Option<&str>) -> &'static str {
    for remedy in REMEDIES {
        if remedy.name == name && (remedy.value.is_none() || remedy.value == text) {
            return remedy.text;
        }
    }
    ""
}

/// Reads the environment as tollgate would, and adds its errors.
pub(super) fn invalid_settings(env: &Environment, findings: &mut Vec<Finding>) {
    let Err(error) = Settings::read(|_| None, |name| value_or_placeholder(env, name)) else {
        return;
    };
    let mut unreadable = Vec::new();
    for setting in error.invalid_settings() {
        if setting.is_unreadable_file() {
            unreadable.push(setting.name.as_str());
        } else if !depends_on_unknown(env, setting) {
            findings.push(invalid_setting(env, setting));
        }
    }
    add_unreadable_files(&unreadable, findings);
}

fn depends_on_unknown(env: &Environment, setting: &InvalidSetting) -> bool {
    for name in &setting.related {
        if env.unknown_origin(&[name]).is_some() {
            return true;
        }
    }
    env.unknown_origin(&[&setting.name]).is_some()
}

/// Adds one finding for the files `names`. They are in the container, not on
/// this machine.
fn add_unreadable_files(names: &[&str], findings: &mut Vec<Finding>) {
    if names.is_empty() {
        return;
    }
    let title = format!("the files of {} are not on this machine", names.join(", "));
    let finding = Finding::new(Grade::Same, title);
    findings.push(finding.tollgate("exits at the start if the container does not have them"));
}

/// Reads the variables of OpenTelemetry if traces are on, and adds their errors.
pub(super) fn invalid_collector(env: &Environment, findings: &mut Vec<Finding>) {
    if !env.is_true("TRACING_ENABLED") {
        return;
    }
    let protocol = if env.is_word("TRACING_EXPORTER_PROTOCOL", "grpc") {
        OtlpProtocol::Grpc
    } else {
        OtlpProtocol::Http
    };
    let known_value = |name: &str| env.text(name).map(str::to_owned);
    let mut unreadable = Vec::new();
    for setting in spans::check_variables(protocol, &known_value) {
        if setting.is_unreadable_file {
            unreadable.push(setting.name);
        } else if !is_overridden_for_traces(env, setting.name) {
            let finding = Finding::new(Grade::WillNotStart, setting.place);
            findings.push(finding.about(env, setting.name).tollgate(setting.problem));
        }
    }
    add_unreadable_files(&unreadable, findings);
}

/// Returns true if a variable for traces only takes precedence over `name`,
/// also if its value is unknown.
fn is_overridden_for_traces(env: &Environment, name: &str) -> bool {
    let traces_name = name.replace("_OTLP_", "_OTLP_TRACES_");
    traces_name != name && env.is_set(&traces_name)
}

fn invalid_setting(env: &Environment, setting: &InvalidSetting) -> Finding {
    let name = setting.name.as_str();
    Finding::new(Grade::WillNotStart, setting.place.as_str())
        .about(env, name)
        .reference(reference_behaviour(setting, env.text(name)))
        .tollgate(setting.problem.as_str())
        .remedy(find_remedy(name, env.text(name)))
}

/// Describes the effect of a rejected value on the reference; empty if unknown.
fn reference_behaviour(setting: &InvalidSetting, text: Option<&str>) -> String {
    let name = setting.name.as_str();
    if name == "BACKEND_TYPE" && text == Some("memcache") {
        return "counts in Memcached".to_owned();
    }
    let Some(variable) = reference::find(name) else { return String::new() };
    // A port is rejected beside another variable if that has the same port.
    if name.ends_with("PORT") && !setting.related.is_empty() {
        for other in &setting.related {
            if other == "PROMETHEUS_ADDR" {
                return String::new();
            }
        }
        return "opens the port twice; a connection may reach either listener".to_owned();
    }
    let Some(text) = text else { return String::new() };
    match reference::read(variable, text) {
        Reading::Accepted => "accepts this".to_owned(),
        Reading::Integer(number) => format!("reads {number}"),
        Reading::Rejected => "does not start with this either".to_owned(),
        Reading::Unknown => String::new(),
    }
}

/// The value of a variable. A placeholder that the settings accept replaces an
/// unknown value.
fn value_or_placeholder(env: &Environment, name: &str) -> Option<String> {
    match &env.get(name)?.value {
        EnvValue::Known(text) => Some(text.clone()),
        EnvValue::Unknown(_) => Some(placeholder(env, name)?.to_owned()),
    }
}

fn placeholder(env: &Environment, name: &str) -> Option<&'static str> {
    let setting = table::find(name)?;
    if let Some(prefix) = setting.name.strip_suffix("URL")
        && prefix.starts_with("REDIS_")
    {
        return Some(if env.is_word(&format!("{prefix}TYPE"), "sentinel") {
            "name,host:1"
        } else if env.is_word(&format!("{prefix}SOCKET_TYPE"), "unix") {
            "/socket"
        } else {
            "host:1"
        });
    }
    Some(match setting.value {
        table::ValueKind::Text("FILE" | "PATH") => "unknown",
        table::ValueKind::Secret(_) if setting.name.ends_with("_AUTH") => "unknown",
        _ => setting.default,
    })
}
