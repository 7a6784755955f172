use std::time::Duration;

use regex::Regex;

use crate::{
    metrics::tags::Tags,
    net::HostPort,
    settings::{
        model::{PrometheusSettings, StatisticsSettings},
        reader::SettingReader,
        value,
    },
    statsd::{SinkSettings, StatsdProtocol, TagDialect, mogrifier::Mogrifier},
};

const MOGRIFIERS: &str = "USE_DOG_STATSD_MOGRIFIERS";
const MIN_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn statistics(reader: &mut SettingReader<'_>) -> StatisticsSettings {
    let is_disabled = reader.value("DISABLE_STATS", value::boolean);
    let mogrifiers = Mogrifiers::read(reader);
    let mogrifier_names = mogrifiers.names.clone();
    let sinks = sinks(reader, mogrifiers);
    let prometheus = prometheus(reader);
    StatisticsSettings {
        tags: reader.value("EXTRA_TAGS", tags),
        flush_interval: reader.value("STATS_FLUSH_INTERVAL", flush_interval),
        sinks: if is_disabled { Vec::new() } else { sinks },
        mogrifier_names,
        prometheus: if is_disabled { None } else { prometheus },
        response_times_in_milliseconds: reader
            .value("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", value::boolean),
    }
}

fn sinks(reader: &mut SettingReader<'_>, mogrifiers: Mogrifiers) -> Vec<SinkSettings> {
    let server = HostPort {
        host: reader.value("STATSD_HOST", value::host),
        port: reader.value("STATSD_PORT", remote_port),
    };
    let protocols = [("tcp", StatsdProtocol::Tcp), ("udp", StatsdProtocol::Udp)];
    let protocol = reader.choice("STATSD_PROTOCOL", &protocols);
    let use_dogstatsd = reader.value("USE_DOG_STATSD", value::boolean);
    let use_statsd = match reader.optional("USE_STATSD", value::boolean) {
        Some(use_statsd) => use_statsd,
        None => !use_dogstatsd && names_statsd_server(reader),
    };
    let mut sinks = Vec::new();
    if use_statsd {
        sinks.push(SinkSettings { server: server.clone(), protocol, dialect: TagDialect::Statsd });
    }
    if use_dogstatsd {
        sinks.push(SinkSettings {
            server,
            protocol: StatsdProtocol::Udp,
            dialect: TagDialect::DogStatsd(mogrifiers.valid),
        });
    }
    sinks
}

fn names_statsd_server(reader: &SettingReader<'_>) -> bool {
    reader.is_given("STATSD_HOST")
        || reader.is_given("STATSD_PORT")
        || reader.is_given("STATSD_PROTOCOL")
}

fn prometheus(reader: &mut SettingReader<'_>) -> Option<PrometheusSettings> {
    let is_on = reader.value("USE_PROMETHEUS", value::boolean);
    let address = reader.optional("PROMETHEUS_ADDR", value::listen_address);
    let path = reader.value("PROMETHEUS_PATH", url_path);
    if is_on { Some(PrometheusSettings { address: address?, path }) } else { None }
}

fn remote_port(text: &str) -> value::Parsed<u16> {
    match value::port(text)? {
        0 => Err("expected a port from 1 to 65535".into()),
        port => Ok(port),
    }
}

fn flush_interval(text: &str) -> value::Parsed<Duration> {
    let interval = value::duration(text)?;
    if interval < MIN_FLUSH_INTERVAL {
        return Err(format!("expected at least {MIN_FLUSH_INTERVAL:?}"));
    }
    Ok(interval)
}

fn url_path(text: &str) -> value::Parsed<String> {
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_legal) {
        Ok(text.to_owned())
    } else {
        Err("expected a path such as /metrics".into())
    }
}

/// Tags such as `key:value,key:value`. Values may be empty.
fn tag_pairs(text: &str) -> value::Parsed<Vec<(&str, &str)>> {
    const EXPECTED: &str = "expected key:value,key:value";
    let pairs = value::pairs(text, ':', EXPECTED)?;
    for (key, value) in &pairs {
        if key.is_empty() || value.contains(':') {
            return Err(EXPECTED.into());
        }
    }
    Ok(pairs)
}

fn tags(text: &str) -> value::Parsed<Tags> {
    let mut pairs = tag_pairs(text)?;
    pairs.retain(|(_, value)| !value.is_empty());
    Tags::new(pairs)
}

#[derive(Default)]
struct Mogrifiers {
    /// All names in `USE_DOG_STATSD_MOGRIFIERS`, in capitals.
    names: Vec<String>,
    /// In the order of `names`, without invalid ones.
    valid: Vec<Mogrifier>,
}

impl Mogrifiers {
    fn read(reader: &mut SettingReader<'_>) -> Self {
        let names = reader.value(MOGRIFIERS, mogrifier_names);
        let mut valid = Vec::new();
        for name in &names {
            valid.extend(mogrifier(reader, name));
        }
        Self { names, valid }
    }
}

/// Returns the names in capitals, as they are in the names of their variables.
fn mogrifier_names(text: &str) -> value::Parsed<Vec<String>> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut names = Vec::new();
    for name in value::list(text) {
        let name = name.to_uppercase();
        if !name.bytes().all(is_legal) || names.contains(&name) {
            return Err("expected different names of letters, digits and underscores, separated \
                        by commas"
                .into());
        }
        names.push(name);
    }
    Ok(names)
}

fn mogrifier(reader: &mut SettingReader<'_>, name: &str) -> Option<Mogrifier> {
    let variable = |part| format!("DOG_STATSD_MOGRIFIER_{name}_{part}");
    let pattern = reader.variable(&variable("PATTERN"), regex);
    let new_name = reader.variable(&variable("NAME"), value::text);
    let tags = reader.variable(&variable("TAGS"), mogrifier_tags);
    for part in ["PATTERN", "NAME"] {
        let variable = variable(part);
        if !reader.has_variable(&variable) {
            let problem = format!("expected it to be set, as {MOGRIFIERS} lists {name}");
            reader.reject(&variable, &[MOGRIFIERS], &problem);
        }
    }
    Some(Mogrifier { pattern: pattern?, name: new_name?, tags: tags.unwrap_or_default() })
}

fn regex(text: &str) -> value::Parsed<Regex> {
    Regex::new(text).map_err(|error| {
        // The last line is the message; the lines before it point to the place.
        let error = error.to_string();
        let message = error.lines().last().unwrap_or_default().trim();
        format!("expected a regular expression ({})", message.trim_start_matches("error: "))
    })
}

fn mogrifier_tags(text: &str) -> value::Parsed<Vec<(String, String)>> {
    let mut tags = Vec::new();
    for (key, value) in tag_pairs(text)? {
        if value.is_empty() {
            return Err("expected key:value,key:value, without empty values".into());
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(tags)
}
