use std::path::{Path, PathBuf};

use super::tls;
use crate::{
    grpc::connection::ConnectionLimits,
    listen::ConnectionBounds,
    net::{self, Address, HostPort},
    settings::{
        model::{ListenerSettings, PrometheusSettings},
        reader::SettingReader,
        value,
    },
};

pub(super) fn listeners(reader: &mut SettingReader<'_>) -> ListenerSettings {
    let grpc = host_port(reader, "GRPC_HOST", "GRPC_PORT");
    let http = host_port(reader, "HOST", "PORT");
    let debug = host_port(reader, "DEBUG_HOST", "DEBUG_PORT");
    let socket = reader.optional("GRPC_UDS", socket_path);
    ListenerSettings {
        grpc: socket.map_or(Address::Tcp(grpc), Address::Unix),
        grpc_tls: tls::server_tls(reader, &tls::GRPC),
        http,
        http_tls: tls::server_tls(reader, &tls::HTTP),
        probes: reader.optional("PROBE_ADDR", value::listen_address),
        debug,
        bounds: bounds(reader),
        connections: ConnectionLimits {
            max_streams: reader.value("GRPC_MAX_STREAMS", max_streams),
            transfer_timeout: reader.value("GRPC_TRANSFER_TIMEOUT", value::positive_duration),
            max_age: reader.value("GRPC_MAX_CONNECTION_AGE", value::optional_duration),
            max_age_grace: reader.value("GRPC_MAX_CONNECTION_AGE_GRACE", value::optional_duration),
        },
    }
}

fn max_streams(text: &str) -> value::Parsed<u32> {
    let streams = value::number(text, 1..=u32::MAX)?;
    Ok(u32::try_from(streams).unwrap_or(u32::MAX))
}

/// The default of `MAX_CONNECTIONS_PER_PEER`, if half of all connections are more.
const MOST_PER_PEER: usize = 1_000;

fn bounds(reader: &mut SettingReader<'_>) -> ConnectionBounds {
    let most = reader.value("MAX_CONNECTIONS", |text| value::number(text, 1..=u32::MAX));
    let per_peer = |text: &str| value::number(text, 0..=u32::MAX);
    let most_per_peer = match reader.optional("MAX_CONNECTIONS_PER_PEER", per_peer) {
        Some(0) => None,
        Some(most_per_peer) => Some(most_per_peer),
        None => Some(most.div_ceil(2).min(MOST_PER_PEER)),
    };
    ConnectionBounds { most, most_per_peer }
}

fn host_port(reader: &mut SettingReader<'_>, host: &str, port: &str) -> HostPort {
    HostPort { host: reader.value(host, value::host), port: reader.value(port, value::port) }
}

fn socket_path(text: &str) -> value::Parsed<PathBuf> {
    if text.starts_with('@') {
        return Err("expected a path; sockets without a file are not supported".into());
    }
    let path = Path::new(text);
    if net::is_socket_path(path) {
        Ok(path.to_owned())
    } else {
        Err(format!("expected a path of at most {} bytes, as sockets have", net::MAX_SOCKET_PATH))
    }
}

/// A port that is open, and the names of its settings.
#[derive(Clone, Copy)]
struct Port<'a> {
    port_setting: &'static str,
    host_setting: &'static str,
    address: &'a HostPort,
}

/// Reports listeners that need the same port.
pub(super) fn reject_shared_ports(
    reader: &mut SettingReader<'_>,
    settings: &ListenerSettings,
    prometheus: Option<&PrometheusSettings>,
) {
    let ports = ports(settings, prometheus);
    for (index, port) in ports.iter().enumerate() {
        for other in &ports[..index] {
            if port.address.is_taken_by(other.address) {
                reject_port(reader, *port, *other);
                break;
            }
        }
    }
}

fn ports<'a>(
    settings: &'a ListenerSettings,
    prometheus: Option<&'a PrometheusSettings>,
) -> Vec<Port<'a>> {
    let mut ports = Vec::new();
    if let Address::Tcp(address) = &settings.grpc {
        ports.push(Port { port_setting: "GRPC_PORT", host_setting: "GRPC_HOST", address });
    }
    ports.push(Port { port_setting: "PORT", host_setting: "HOST", address: &settings.http });
    ports.push(Port {
        port_setting: "DEBUG_PORT",
        host_setting: "DEBUG_HOST",
        address: &settings.debug,
    });
    if let Some(address) = &settings.probes {
        ports.push(Port { port_setting: "PROBE_ADDR", host_setting: "PROBE_ADDR", address });
    }
    if let Some(PrometheusSettings { address, .. }) = prometheus {
        ports.push(Port {
            port_setting: "PROMETHEUS_ADDR",
            host_setting: "PROMETHEUS_ADDR",
            address,
        });
    }
    ports
}

fn reject_port(reader: &mut SettingReader<'_>, port: Port<'_>, other: Port<'_>) {
    // The error names a setting that was given rather than one with its default.
    let (rejected, kept) =
        if reader.is_given(port.port_setting) { (port, other) } else { (other, port) };
    let problem = format!("expected another port than that of {}", kept.port_setting);
    let related =
        [port.port_setting, port.host_setting, other.port_setting, other.host_setting, "GRPC_UDS"];
    reader.reject(rejected.port_setting, &related, &problem);
}
