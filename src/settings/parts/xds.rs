//! How rules come from a management server.

use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

use super::text;
use crate::{
    backoff::BackoffSettings,
    net::HostPort,
    settings::{reader::SettingReader, value},
    tls::client::ClientTls,
    wire::{
        LARGEST_MESSAGE,
        discovery::{Header, Subscriber},
    },
    xds::XdsSettings,
};

const INITIAL: &str = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL";
const MAX: &str = "XDS_CLIENT_BACKOFF_MAX_INTERVAL";

/// None if rules come from files. What is set has to be right all the same.
pub(super) fn xds(reader: &mut SettingReader<'_>) -> Option<XdsSettings> {
    let types = [("FILE", false), ("GRPC_XDS_SOTW", true)];
    let wanted = reader.value("CONFIG_TYPE", |it| value::one_of(it, &types));
    let server = reader.optional("CONFIG_GRPC_XDS_SERVER_URL", target);
    let subscriber = Subscriber {
        node: reader.value("CONFIG_GRPC_XDS_NODE_ID", text),
        metadata: reader.value("CONFIG_GRPC_XDS_NODE_METADATA", metadata),
        headers: reader.value("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", headers),
        max_message: match reader
            .value("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", |it| value::at_least(0, it))
        {
            0 => LARGEST_MESSAGE,
            bytes => bytes,
        },
    };
    let (tls, backoff) = (tls(reader), backoff(reader));
    Some(XdsSettings { server: server?, tls, subscriber, backoff }).filter(|_| wanted)
}

fn tls(reader: &mut SettingReader<'_>) -> Option<ClientTls> {
    const CERTIFICATE: &str = "CONFIG_GRPC_XDS_CLIENT_TLS_CERT";
    const KEY: &str = "CONFIG_GRPC_XDS_CLIENT_TLS_KEY";
    let certificate = reader.optional(CERTIFICATE, value::readable);
    let key = reader.optional(KEY, value::readable);
    if certificate.is_some() && !reader.is_set(KEY) {
        reader.reject(CERTIFICATE, &[KEY], &format!("expected {KEY} to be set, too"));
    }
    if key.is_some() && !reader.is_set(CERTIFICATE) {
        reader.reject(KEY, &[CERTIFICATE], &format!("expected {CERTIFICATE} to be set, too"));
    }
    let settings = ClientTls {
        identity: certificate.zip(key),
        authorities: reader.optional("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", value::readable),
        server_name: reader.optional("CONFIG_GRPC_XDS_SERVER_TLS_SAN", value::host),
    };
    reader.value("CONFIG_GRPC_XDS_SERVER_USE_TLS", value::boolean).then_some(settings)
}

fn backoff(reader: &mut SettingReader<'_>) -> BackoffSettings {
    let (initial, max) = (
        reader.optional(INITIAL, value::some_duration),
        reader.optional(MAX, value::some_duration),
    );
    if let (Some(initial), Some(max)) = (initial, max)
        && max < initial
    {
        reader.reject(
            MAX,
            &[INITIAL],
            &format!("expected no less than {INITIAL}, which is {initial:?}"),
        );
    }
    let jitter = reader.value("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", value::part);
    let on = reader.value("XDS_CLIENT_BACKOFF_JITTER", value::boolean);
    BackoffSettings {
        initial: initial.unwrap_or_default(),
        max: max.unwrap_or_default(),
        jitter: if on { jitter } else { 0.0 },
    }
}

fn target(text: &str) -> Result<HostPort, String> {
    const EXPECTED: &str = "expected host:port or dns:///host:port";
    let target = text.strip_prefix("dns:///").unwrap_or(text);
    let (host, port) = target.rsplit_once(':').ok_or(EXPECTED)?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("{EXPECTED}, with brackets around an IPv6 address"));
    }
    let port = value::port(port).ok().filter(|it| 0 < *it);
    match (value::host(host), port) {
        (Ok(host), Some(port)) => Ok(HostPort { host, port }),
        _ => Err(EXPECTED.into()),
    }
}

/// What stands between the commas, in two parts.
fn pairs<'t>(
    text: &'t str,
    separator: char,
    expected: &str,
) -> Result<Vec<(&'t str, &'t str)>, String> {
    let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let pair = |it: &'t str| {
        let (key, value) = it.split_once(separator).ok_or_else(|| expected.to_owned())?;
        Ok((key.trim(), value.trim()))
    };
    items.map(pair).collect()
}

fn metadata(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = pairs(text, '=', "expected key=value,key=value")?;
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn headers(text: &str) -> Result<Vec<Header>, String> {
    pairs(text, ':', "expected name:value,name:value")?.into_iter().map(header).collect()
}

fn header((name, value): (&str, &str)) -> Result<Header, String> {
    let name = name.to_ascii_lowercase();
    let reserved = name.starts_with("grpc-") || ["te", "content-type"].contains(&name.as_str());
    let key = MetadataKey::<Ascii>::from_bytes(name.as_bytes()).ok().filter(|_| !reserved);
    let mut value = MetadataValue::<Ascii>::try_from(value)
        .map_err(|_| format!("the value of {name} is not fit for a header"))?;
    value.set_sensitive(true);
    let expected = "expected the name of a header that is neither gRPC's own nor ends in -bin";
    Ok((key.ok_or_else(|| format!("{name:?} is no name for a header, {expected}"))?, value))
}
