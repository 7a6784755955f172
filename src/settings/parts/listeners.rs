use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

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

const STREAM_WINDOW: &str = "GRPC_STREAM_WINDOW_BYTES";
const CONNECTION_WINDOW: &str = "GRPC_CONNECTION_WINDOW_BYTES";

/// The least window of a stream: that of a frame of the usual length.
const LEAST_STREAM_WINDOW: u32 = 16 << 10;

/// The least window of a connection: the default of a stream's. Before any setting, it is one
/// byte less (RFC 9113, section 6.9.2).
const LEAST_CONNECTION_WINDOW: u32 = 64 << 10;

/// The most of either (section 6.9.1).
const MOST_WINDOW: u32 = i32::MAX.cast_unsigned();

/// The most bytes of headers: a fourth of the least `MAX_BYTES_IN_FLIGHT`.
const MOST_HEADERS: u32 = 256 << 10;
const LEAST_HEADERS: u32 = 4 << 10;

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
            max_streams: reader.value("GRPC_MAX_STREAMS", |text| whole(text, 1..=u32::MAX)),
            stream_window: reader
                .value(STREAM_WINDOW, |text| whole(text, LEAST_STREAM_WINDOW..=MOST_WINDOW)),
            connection_window: reader.value(CONNECTION_WINDOW, |text| {
                whole(text, LEAST_CONNECTION_WINDOW..=MOST_WINDOW)
            }),
            max_header_bytes: reader
                .value("GRPC_MAX_HEADER_BYTES", |text| whole(text, LEAST_HEADERS..=MOST_HEADERS)),
            transfer_timeout: reader.value("GRPC_TRANSFER_TIMEOUT", value::positive_duration),
            max_age: reader.value("GRPC_MAX_CONNECTION_AGE", value::optional_duration),
            max_age_grace: reader.value("GRPC_MAX_CONNECTION_AGE_GRACE", value::optional_duration),
        },
    }
}

fn whole(text: &str, range: RangeInclusive<u32>) -> value::Parsed<u32> {
    let number = value::number(text, range)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Reports windows that promise more room than there is.
pub(super) fn reject_large_windows(
    reader: &mut SettingReader<'_>,
    limits: ConnectionLimits,
    max_bytes_in_flight: usize,
) {
    const BUDGET: &str = "MAX_BYTES_IN_FLIGHT";
    let ConnectionLimits { stream_window, connection_window, .. } = limits;
    // An invalid value is 0, and reported already.
    if 0 < connection_window && connection_window < stream_window {
        let problem =
            format!("expected no more than {CONNECTION_WINDOW}, which is {connection_window}");
        reader.reject(STREAM_WINDOW, &[CONNECTION_WINDOW], &problem);
    }
    let is_above = usize::try_from(connection_window).is_ok_and(|it| max_bytes_in_flight < it);
    if 0 < max_bytes_in_flight && is_above {
        let problem = format!("expected no more than {BUDGET}, which is {max_bytes_in_flight}");
        reader.reject(CONNECTION_WINDOW, &[BUDGET], &problem);
    }
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

pub(super) fn host_port(reader: &mut SettingReader<'_>, host: &str, port: &str) -> HostPort {
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
    admin: Option<&HostPort>,
) {
    let mut ports = ports(settings, prometheus);
    if let Some(address) = admin {
        ports.push(Port { port_setting: "ADMIN_PORT", host_setting: "ADMIN_HOST", address });
    }
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
