//! Who is told the statistics.

use std::time::Duration;

use regex::Regex;

use crate::{
    metrics::tags::Tags,
    net::HostPort,
    settings::{PrometheusSettings, StatisticsSettings, reader::SettingReader, value},
    statsd::{SinkSettings, StatsdProtocol, TagDialect, mogrifier::Mogrifier},
};

const MOGRIFIERS: &str = "USE_DOG_STATSD_MOGRIFIERS";
/// How often statistics may be sent at most.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn statistics(reader: &mut SettingReader<'_>) -> StatisticsSettings {
    let disabled = reader.value("DISABLE_STATS", value::boolean);
    let server = HostPort {
        host: reader.value("STATSD_HOST", value::host),
        port: reader.value("STATSD_PORT", some_port),
    };
    let protocols = [("tcp", StatsdProtocol::Tcp), ("udp", StatsdProtocol::Udp)];
    let protocol = reader.value("STATSD_PROTOCOL", |it| value::one_of(it, &protocols));
    let dog = reader.value("USE_DOG_STATSD", value::boolean);
    let implied = ["STATSD_HOST", "STATSD_PORT", "STATSD_PROTOCOL"];
    let implied = !dog && implied.iter().any(|it| reader.is_given(it));
    let statsd = reader.optional("USE_STATSD", value::boolean).unwrap_or(implied);
    let mogrifiers = mogrifiers(reader);

    let sink = |protocol, dialect| SinkSettings { server: server.clone(), protocol, dialect };
    let statsd = statsd.then(|| sink(protocol, TagDialect::Statsd));
    let mogrifier_names = mogrifiers.iter().map(|(name, _)| name.clone()).collect();
    let mogrifiers = mogrifiers.into_iter().filter_map(|(_, it)| it).collect();
    let dog = dog.then(|| sink(StatsdProtocol::Udp, TagDialect::DogStatsd(mogrifiers)));
    StatisticsSettings {
        tags: reader.value("EXTRA_TAGS", tags),
        flush_interval: reader.value("STATS_FLUSH_INTERVAL", interval),
        sinks: statsd.into_iter().chain(dog).filter(|_| !disabled).collect(),
        mogrifier_names,
        prometheus: prometheus(reader).filter(|_| !disabled),
        response_times_in_milliseconds: reader
            .value("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", value::boolean),
    }
}

fn prometheus(reader: &mut SettingReader<'_>) -> Option<PrometheusSettings> {
    let wanted = reader.value("USE_PROMETHEUS", value::boolean);
    let address = reader.optional("PROMETHEUS_ADDR", listen_address);
    let path = reader.value("PROMETHEUS_PATH", path);
    Some(PrometheusSettings { address: address?, path }).filter(|_| wanted)
}

fn some_port(text: &str) -> Result<u16, String> {
    match value::port(text)? {
        0 => Err("expected a port from 1 to 65535".into()),
        port => Ok(port),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = value::duration(text)?;
    if interval < SHORTEST {
        return Err(format!("expected at least {SHORTEST:?}"));
    }
    Ok(interval)
}

/// As Go writes where to listen.
fn listen_address(text: &str) -> Result<HostPort, String> {
    const EXPECTED: &str = "expected host:port, or :port for all addresses";
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("{EXPECTED}, with brackets around an IPv6 address"));
    }
    let host = if host.is_empty() { "::" } else { host };
    match (value::host(host), value::port(port)) {
        (Ok(host), Ok(port)) => Ok(HostPort { host, port }),
        _ => Err(EXPECTED.into()),
    }
}

fn path(text: &str) -> Result<String, String> {
    let legal = |it: u8| it.is_ascii_graphic() && !b"?#".contains(&it);
    match text.starts_with('/') && text.bytes().all(legal) {
        true => Ok(text.to_owned()),
        false => Err("expected a path such as /metrics".into()),
    }
}

/// What stands between the commas: keys, and values, which may be empty.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    const EXPECTED: &str = "expected key:value,key:value";
    let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let pair = |it| match str::split_once(it, ':') {
        Some((key, value)) if !key.trim().is_empty() && !value.contains(':') => {
            Ok((key.trim(), value.trim()))
        }
        _ => Err(EXPECTED.to_owned()),
    };
    items.map(pair).collect()
}

fn tags(text: &str) -> Result<Tags, String> {
    Tags::new(pairs(text)?.into_iter().filter(|(_, value)| !value.is_empty()))
}

/// Those that are listed, in order, with their names; none for one that is wrong.
fn mogrifiers(reader: &mut SettingReader<'_>) -> Vec<(String, Option<Mogrifier>)> {
    let names = reader.value(MOGRIFIERS, mogrifier_names);
    let mogrifier = |name: String| {
        let mogrifier = mogrifier(reader, &name);
        (name, mogrifier)
    };
    names.into_iter().map(mogrifier).collect()
}

/// In capitals, as they are in the names of variables.
fn mogrifier_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let names: Vec<_> = names.map(str::to_uppercase).collect();
    let legal = |it: &String| it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    let twice = |(at, it): (usize, &String)| names[..at].contains(it);
    if !names.iter().all(legal) || names.iter().enumerate().any(twice) {
        let expected = "expected names with commas, each once, of letters, digits and underscores";
        return Err(expected.into());
    }
    Ok(names)
}

fn mogrifier(reader: &mut SettingReader<'_>, name: &str) -> Option<Mogrifier> {
    let variable = |part| format!("DOG_STATSD_MOGRIFIER_{name}_{part}");
    let pattern = reader.variable(&variable("PATTERN"), pattern);
    let new_name = reader.variable(&variable("NAME"), |it| Ok(it.to_owned()));
    let tags = reader.variable(&variable("TAGS"), mogrifier_tags);
    for part in ["PATTERN", "NAME"] {
        let variable = variable(part);
        if !reader.has_variable(&variable) {
            let problem = format!("expected it to be set, as {MOGRIFIERS} names {name}");
            reader.reject(&variable, &[MOGRIFIERS], &problem);
        }
    }
    Some(Mogrifier { pattern: pattern?, name: new_name?, tags: tags.unwrap_or_default() })
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        // The last line says what is wrong, the others show where.
        let error = error.to_string();
        let error = error.lines().last().unwrap_or_default().trim();
        format!("expected a regular expression ({})", error.trim_start_matches("error: "))
    })
}

fn mogrifier_tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = pairs(text)?;
    if pairs.iter().any(|(_, value)| value.is_empty()) {
        return Err("expected key:value,key:value, without empty values".into());
    }
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}
