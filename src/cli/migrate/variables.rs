//! Each variable by itself: what tollgate's settings make of it.

use super::{
    Case,
    environment::Value,
    finding::{Finding, Grade},
    reference::{self, Kind},
};
use crate::{
    settings::{
        InvalidSetting, Settings,
        hints::{self, Hint},
        table::{self, GROUPS, Setting},
    },
    spans::{self, OtlpProtocol},
};

/// What to do about mistakes that have more to them than their text says: the
/// variable, the value if only that one is meant, and the remedy.
const REMEDIES: &[(&str, Option<&str>, &str)] = &[
    (
        "BACKEND_TYPE",
        Some("memcache"),
        "set REDIS_URL, and leave BACKEND_TYPE out; or BACKEND_TYPE=memory if there is one \
         instance alone. Counters begin anew",
    ),
    (
        "BACKEND_TYPE",
        None,
        "set REDIS_URL to a Redis; the reference's default, /var/run/nutcracker/ratelimit.sock, is \
         a twemproxy, which may have one server alone here",
    ),
    (
        "REDIS_PERSECOND",
        None,
        "set REDIS_PERSECOND_URL to a Redis; the reference's default, \
         /var/run/nutcracker/ratelimitpersecond.sock, is a twemproxy, which may have one server \
         alone here",
    ),
];

/// The setting called `name`.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    GROUPS.iter().flat_map(|it| it.settings).find(|it| it.name == name)
}

/// Whether hits will be counted in Redis.
pub(super) fn uses_redis(case: &Case<'_>) -> bool {
    match case.env.text("BACKEND_TYPE") {
        Some(backend) => backend.eq_ignore_ascii_case("redis"),
        // What is not known of a service that has only Redis is most likely that.
        None => case.env.has("REDIS_URL") || case.env.doubt(&["REDIS_URL"]).is_some(),
    }
}

/// Whether hits of plain requests are held before they count: their counters may be in
/// several places, and which of them count depends on all.
pub(super) fn holds_hits(case: &Case<'_>) -> bool {
    let is_cluster =
        case.env.text("REDIS_TYPE").is_some_and(|it| it.eq_ignore_ascii_case("cluster"));
    case.env.is_true("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT")
        && (is_cluster || case.env.is_true("REDIS_PERSECOND"))
}

/// What the settings make of the environment as a whole.
pub(super) fn mistakes(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Err(error) = Settings::read(|_| None, |name| looked_up(case, name)) else { return };
    let mut unread = Vec::new();
    for mistake in error.invalid_settings() {
        let mut names = mistake.related.iter().chain([&mistake.name]);
        if mistake.is_unreadable_file() {
            unread.push(mistake.name.as_str());
        } else if names.all(|it| case.env.doubt(&[it]).is_none()) {
            findings.push(refused(case, mistake));
        }
    }
    unreadable(&unread, findings);
}

fn unreadable(names: &[&str], findings: &mut Vec<Finding>) {
    if !names.is_empty() {
        let title = format!("{} name files that cannot be read here", names.join(", "));
        let here = "ends at the start if they cannot be read there";
        findings.push(Finding::new(Grade::Same, title).here(here));
    }
}

/// What is wrong with the variables of OpenTelemetry, which count only where calls
/// are recorded.
pub(super) fn collector(case: &Case<'_>, findings: &mut Vec<Finding>) {
    if !case.env.is_true("TRACING_ENABLED") {
        return;
    }
    let by_grpc = case.env.text("TRACING_EXPORTER_PROTOCOL");
    let by_grpc = by_grpc.is_some_and(|it| it.eq_ignore_ascii_case("grpc"));
    let protocol = if by_grpc { OtlpProtocol::Grpc } else { OtlpProtocol::Http };
    let known = |name: &str| case.env.text(name).map(str::to_owned);
    let mistakes = spans::check_variables(protocol, &known);
    let (unread, wrong): (Vec<_>, Vec<_>) = mistakes.iter().partition(|it| it.is_unreadable_file);
    unreadable(&unread.iter().map(|it| it.name).collect::<Vec<_>>(), findings);
    // One for traces alone, of which nothing is known, takes its place.
    let is_hidden = |name: &str| {
        let specific = name.replace("_OTLP_", "_OTLP_TRACES_");
        specific != name && case.env.has(&specific)
    };
    let wrong = wrong.into_iter().filter(|it| !is_hidden(it.name));
    findings.extend(wrong.map(|it| {
        Finding::new(Grade::WillNotStart, it.place.as_str())
            .of(case.env, it.name)
            .here(it.problem.as_str())
    }));
}

fn refused(case: &Case<'_>, mistake: &InvalidSetting) -> Finding {
    let name = mistake.name.as_str();
    let text = case.env.text(name);
    let remedy = REMEDIES.iter().find(|(it, value, _)| {
        *it == name && value.is_none_or(|it| text.is_some_and(|text| it == text))
    });
    let there = match (reference::find(name), text) {
        (_, Some("memcache")) if name == "BACKEND_TYPE" => Some("counts in Memcached".into()),
        // Two ports that are the same, as the only mistake that has to do with others.
        (Some(_), _) if name.ends_with("PORT") && !mistake.related.is_empty() => {
            let is_prometheus = mistake.related.iter().any(|it| it == "PROMETHEUS_ADDR");
            (!is_prometheus).then(|| "opens the port twice, and a connection reaches either".into())
        }
        (Some(variable), Some(text)) => reference::reading(variable, text),
        _ => None,
    };
    Finding::new(Grade::WillNotStart, mistake.place.as_str())
        .of(case.env, name)
        .there(there.unwrap_or_default())
        .here(mistake.problem.as_str())
        .remedy(remedy.map_or("", |it| it.2))
}

/// A variable as the settings are to see it: where its value is not known,
/// something that is surely right stands in for it.
fn looked_up(case: &Case<'_>, name: &str) -> Option<String> {
    match &case.env.get(name)?.value {
        Value::Known(text) => Some(text.clone()),
        Value::Unknown(_) => stand_in(case, name),
    }
}

fn stand_in(case: &Case<'_>, name: &str) -> Option<String> {
    let setting = setting(name)?;
    if let Some(prefix) = setting.name.strip_suffix("URL").filter(|it| it.starts_with("REDIS_")) {
        let says = |what: &str, text: &str| {
            let value = case.env.text(&format!("{prefix}{what}"));
            value.is_some_and(|it| it.eq_ignore_ascii_case(text))
        };
        return Some(if says("TYPE", "sentinel") {
            "name,host:1".into()
        } else if says("SOCKET_TYPE", "unix") {
            "/socket".into()
        } else {
            "host:1".into()
        });
    }
    let text = match setting.value {
        table::ValueKind::Text("FILE" | "PATH") => "unknown",
        table::ValueKind::Secret(_) if setting.name.ends_with("_AUTH") => "unknown",
        _ => setting.default,
    };
    Some(text.to_owned())
}

/// Variables whose values are somewhere else.
pub(super) fn unknown(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in case.env.iter() {
        let Value::Unknown(origin) = &it.value else { continue };
        if setting(&it.name).is_none() {
            continue;
        }
        let title = format!("the value of {} is not known: it comes from {origin}", it.name);
        findings.push(Finding::new(Grade::Note, title).of(case.env, &it.name));
    }
}

/// Variables that are set and empty.
pub(super) fn empty(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in case.env.iter().filter(|it| it.value == Value::Known(String::new())) {
        let (Some(variable), Some(setting)) = (reference::find(&it.name), setting(&it.name)) else {
            continue;
        };
        let finding = |grade| {
            let title = format!("{} is set and empty", it.name);
            let here = match setting.default {
                "" => "counts it as not set".into(),
                default => format!("counts it as not set, which means {default}"),
            };
            Finding::new(grade, title).of(case.env, &it.name).here(here)
        };
        let remedy = "remove the variable, or give it the value that you want";
        findings.push(match variable.kind.may_be_empty() {
            false => finding(Grade::Differs).there("does not start with this").remedy(remedy),
            true if variable.default.is_empty() && setting.default.is_empty() => {
                finding(Grade::Same)
            }
            true => {
                let there = "takes the empty text, not its default";
                finding(Grade::Differs).there(there).remedy(remedy)
            }
        });
    }
}

/// Numbers that are not decimal there, and are here.
pub(super) fn numbers(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in reference::VARIABLES.iter().filter(|it| it.kind == Kind::Int) {
        let Some(text) = case.env.text(it.name).filter(|_| setting(it.name).is_some()) else {
            continue;
        };
        let digits = text.bytes().all(|it| it.is_ascii_digit());
        if !digits || !text.starts_with('0') || text.trim_start_matches('0').is_empty() {
            continue;
        }
        let decimal = text.trim_start_matches('0');
        let octal = reference::int(text);
        let remedy = match octal {
            Some(number) => format!("write {number} to keep it"),
            None => format!("write {decimal}"),
        };
        let there = octal.map_or_else(
            || "does not start with this: it is no octal number".into(),
            |it| format!("reads an octal number: {it}"),
        );
        let grade = if octal.is_some_and(|it| it.to_string() == decimal) {
            Grade::Same
        } else {
            Grade::Differs
        };
        findings.push(
            Finding::new(grade, format!("{}={text}", it.name))
                .of(case.env, it.name)
                .there(there)
                .here(format!("reads a decimal number: {decimal}"))
                .remedy(remedy),
        );
    }
}

/// Values with which tollgate alone starts.
pub(super) fn refused_there(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in reference::VARIABLES.iter().filter(|it| it.kind != Kind::Int) {
        let Some(text) = case.env.text(it.name).filter(|_| setting(it.name).is_some()) else {
            continue;
        };
        let is_told =
            |finding: &Finding| finding.variable == it.name && finding.grade == Grade::WillNotStart;
        if !reference::refuses(it, text) || findings.iter().any(is_told) {
            continue;
        }
        let remedy = reference::alike(it, text).map(|it| format!("write {it}"));
        findings.push(
            Finding::new(Grade::Differs, format!("{}={text}", it.name))
                .of(case.env, it.name)
                .there("does not start with this")
                .here("takes it")
                .remedy(remedy.unwrap_or_default()),
        );
    }
}

/// Variables that are no settings.
pub(super) fn others(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let mogrifiers = case.env.text("USE_DOG_STATSD_MOGRIFIERS").unwrap_or_default();
    let mogrifiers: Vec<_> = mogrifiers.split(',').map(|it| it.trim().to_uppercase()).collect();
    for it in case.env.iter() {
        // What the value is matters only to tell the variables of Kubernetes.
        let text = case.env.text(&it.name).unwrap_or("unknown");
        if !case.env.has(&it.name) {
            continue;
        }
        let name = it.name.as_str();
        let finding = match (hints::hint(name, text, &mogrifiers), reference::find(name)) {
            _ if setting(name).is_some() => continue,
            (Some(Hint::Ignored(reason)), _) => {
                Finding::new(Grade::Same, format!("{name} has no effect: {reason}"))
            }
            (Some(Hint::UnlistedMogrifier), _) => {
                let title = format!("{name} has no effect: its mogrifier is not listed");
                Finding::new(Grade::Note, title).there("ignores it, too")
            }
            (_, Some(_)) => Finding::new(Grade::Differs, format!("{name} has no effect"))
                .here("does not know this variable"),
            (Some(Hint::Unknown(near)), None) => {
                let near = near.map_or(String::new(), |it| format!("; {it} is, was that meant?"));
                let title = format!("{name} is not a setting{near}");
                Finding::new(Grade::Note, title).there("does not know it either")
            }
            (None, None) => continue,
        };
        findings.push(finding.of(case.env, name));
    }
}

/// Settings of which nothing else was said.
pub(super) fn same(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for it in case.env.iter().filter(|it| setting(&it.name).is_some()) {
        if findings.iter().all(|finding| finding.variable != it.name) {
            let meaning = match reference::find(&it.name) {
                Some(_) => "means the same",
                None => "is a setting of tollgate alone",
            };
            let title = format!("{} {meaning}", it.name);
            findings.push(Finding::new(Grade::Same, title).of(case.env, &it.name));
        }
    }
}
