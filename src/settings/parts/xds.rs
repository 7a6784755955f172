use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

use super::tls::client_certificate;
use crate::{
    backoff::BackoffSettings,
    net::HostPort,
    service::LARGEST_MESSAGE,
    settings::{reader::SettingReader, value},
    trust::{ClientTls, ExpectedName},
    xds::{
        XdsSettings,
        discovery::{Header, Subscriber},
    },
};

const INITIAL_INTERVAL: &str = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL";
const MAX_INTERVAL: &str = "XDS_CLIENT_BACKOFF_MAX_INTERVAL";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ConfigType {
    #[default]
    Files,
    Xds,
}

/// The xDS management server; `None` if the rules are in files.
pub(super) fn xds(reader: &mut SettingReader<'_>) -> Option<XdsSettings> {
    let types = [("FILE", ConfigType::Files), ("GRPC_XDS_SOTW", ConfigType::Xds)];
    let config_type = reader.choice("CONFIG_TYPE", &types);
    let server = reader.optional("CONFIG_GRPC_XDS_SERVER_URL", server);
    let subscriber = Subscriber {
        node: reader.value("CONFIG_GRPC_XDS_NODE_ID", value::text),
        metadata: reader.value("CONFIG_GRPC_XDS_NODE_METADATA", metadata),
        headers: reader.value("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", headers),
        max_message: reader.value("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", max_message),
    };
    let tls = tls(reader);
    let backoff = backoff(reader);
    match config_type {
        ConfigType::Files => None,
        ConfigType::Xds => Some(XdsSettings { server: server?, tls, subscriber, backoff }),
    }
}

fn max_message(text: &str) -> value::Parsed<usize> {
    match value::number(text, 0..=u32::MAX)? {
        0 => Ok(LARGEST_MESSAGE),
        bytes => Ok(bytes),
    }
}

fn tls(reader: &mut SettingReader<'_>) -> Option<ClientTls> {
    let identity = client_certificate(
        reader,
        "CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
        "CONFIG_GRPC_XDS_CLIENT_TLS_KEY",
    );
    let ca_file = reader.optional("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", value::readable_file);
    let name = match reader.optional("CONFIG_GRPC_XDS_SERVER_TLS_SAN", value::host) {
        Some(name) => ExpectedName::Name(name),
        None => ExpectedName::Host,
    };
    let settings = ClientTls { identity, ca_file, name };
    let is_on = reader.value("CONFIG_GRPC_XDS_SERVER_USE_TLS", value::boolean);
    if is_on { Some(settings) } else { None }
}

fn backoff(reader: &mut SettingReader<'_>) -> BackoffSettings {
    let initial = reader.optional(INITIAL_INTERVAL, value::positive_duration);
    let max = reader.optional(MAX_INTERVAL, value::positive_duration);
    if let (Some(initial), Some(max)) = (initial, max)
        && max < initial
    {
        let problem = format!("expected no less than {INITIAL_INTERVAL}, which is {initial:?}");
        reader.reject(MAX_INTERVAL, &[INITIAL_INTERVAL], &problem);
    }
    let jitter = reader.value("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", value::fraction);
    let use_jitter = reader.value("XDS_CLIENT_BACKOFF_JITTER", value::boolean);
    BackoffSettings {
        initial: initial.unwrap_or_default(),
        max: max.unwrap_or_default(),
        jitter: if use_jitter { jitter } else { 0.0 },
    }
}

fn server(text: &str) -> value::Parsed<HostPort> {
    const EXPECTED: &str = "expected host:port or dns:///host:port";
    let target = text.strip_prefix("dns:///").unwrap_or(text);
    let server = value::host_port(target, EXPECTED)?;
    if server.port == 0 { Err(EXPECTED.into()) } else { Ok(server) }
}

fn metadata(text: &str) -> value::Parsed<Vec<(String, String)>> {
    let mut metadata = Vec::new();
    for (key, value) in value::pairs(text, '=', "expected key=value,key=value")? {
        metadata.push((key.to_owned(), value.to_owned()));
    }
    Ok(metadata)
}

fn headers(text: &str) -> value::Parsed<Vec<Header>> {
    let mut headers = Vec::new();
    for (name, value) in value::pairs(text, ':', "expected name:value,name:value")? {
        let name = name.to_ascii_lowercase();
        headers.push((header_name(&name)?, header_value(&name, value)?));
    }
    Ok(headers)
}

fn header_name(name: &str) -> value::Parsed<MetadataKey<Ascii>> {
    let is_reserved = name.starts_with("grpc-") || name == "te" || name == "content-type";
    match MetadataKey::<Ascii>::from_bytes(name.as_bytes()) {
        Ok(key) if !is_reserved => Ok(key),
        _ => Err(format!(
            "expected the name of a header that is neither gRPC's own nor ends in -bin, not \
             {name:?}"
        )),
    }
}

fn header_value(name: &str, value: &str) -> value::Parsed<MetadataValue<Ascii>> {
    match MetadataValue::try_from(value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(value)
        }
        Err(_) => Err(format!("expected a value of printable ASCII characters for {name}")),
    }
}
