//! Who may ask, and where.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::tls::tls;
use crate::{
    net::{self, Address, HostPort},
    settings::{ListenerSettings, reader::SettingReader, value},
};

pub(super) fn listeners(reader: &mut SettingReader<'_>) -> ListenerSettings {
    let mut address = |host, port| HostPort {
        host: reader.value(host, value::host),
        port: reader.value(port, value::port),
    };
    let grpc = address("GRPC_HOST", "GRPC_PORT");
    let http = address("HOST", "PORT");
    let debug = address("DEBUG_HOST", "DEBUG_PORT");
    let socket = reader.optional("GRPC_UDS", socket);
    let unless_zero = |it: Duration| Some(it).filter(|it| !it.is_zero());
    ListenerSettings {
        grpc: socket.map_or(Address::Tcp(grpc), Address::Unix),
        tls: tls(reader),
        http,
        debug,
        max_connections: reader.value("MAX_CONNECTIONS", |it| value::at_least(1, it)),
        max_age: unless_zero(reader.value("GRPC_MAX_CONNECTION_AGE", value::duration)),
        max_age_grace: unless_zero(reader.value("GRPC_MAX_CONNECTION_AGE_GRACE", value::duration)),
    }
}

/// Notes listeners that would take each other's port.
pub(super) fn all_apart(
    reader: &mut SettingReader<'_>,
    settings: &ListenerSettings,
    prometheus: Option<&HostPort>,
) {
    let grpc = match &settings.grpc {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    };
    let all: Vec<_> = [
        ("GRPC_PORT", "GRPC_HOST", grpc),
        ("PORT", "HOST", Some(&settings.http)),
        ("DEBUG_PORT", "DEBUG_HOST", Some(&settings.debug)),
        ("PROMETHEUS_ADDR", "PROMETHEUS_ADDR", prometheus),
    ]
    .into_iter()
    .filter_map(|(port, host, address)| Some((port, host, address?)))
    .collect();
    for (at, (port, host, address)) in all.iter().enumerate() {
        let taken = all[..at].iter().find(|(.., other)| address.is_taken_by(other));
        let Some((other_port, other_host, _)) = taken else { continue };
        // A default is not what somebody has to change.
        let (name, other) =
            if reader.is_given(port) { (port, other_port) } else { (other_port, port) };
        let problem = format!("expected another port than that of {other}");
        reader.reject(name, &[port, host, other_port, other_host, "GRPC_UDS"], &problem);
    }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('@') {
        return Err("expected a path; sockets without a file are not supported".into());
    }
    let path = Some(Path::new(text)).filter(|it| net::is_socket_path(it));
    path.map(Path::to_owned).ok_or_else(|| {
        format!("expected a path of at most {} bytes, as sockets have", net::MAX_SOCKET_PATH)
    })
}
