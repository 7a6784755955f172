//! How gRPC is encrypted.

use rustls::pki_types::ServerName;

use crate::{
    settings::{reader::SettingReader, value},
    time::{Clock, SystemClock},
    tls::{ClientVerification, ServerTls, TlsFile},
};

const USE_TLS: &str = "GRPC_SERVER_USE_TLS";
const CERTIFICATE: &str = "GRPC_SERVER_TLS_CERT";
const KEY: &str = "GRPC_SERVER_TLS_KEY";
const AUTHORITIES: &str = "GRPC_CLIENT_TLS_CACERT";
const NAME: &str = "GRPC_CLIENT_TLS_SAN";

/// None if gRPC is not encrypted. What is set has to be right all the same.
pub(super) fn tls(reader: &mut SettingReader<'_>) -> Option<ServerTls> {
    let wanted = reader.value(USE_TLS, value::boolean);
    let certificate = reader.optional(CERTIFICATE, value::readable);
    let key = reader.optional(KEY, value::readable);
    let authorities = reader.optional(AUTHORITIES, value::readable);
    let name = reader.optional(NAME, name);
    for (one, other) in [(CERTIFICATE, KEY), (KEY, CERTIFICATE)] {
        if reader.is_set(one) && !reader.is_set(other) {
            reader.reject(one, &[other], &format!("expected {other} to be set, too"));
        }
    }
    if wanted && !reader.is_set(CERTIFICATE) && !reader.is_set(KEY) {
        let problem = format!("expected {CERTIFICATE} and {KEY} to be set, too");
        reader.reject(USE_TLS, &[CERTIFICATE, KEY], &problem);
    }
    // Whoever sets these relies on clients being asked who they are.
    if name.is_some() && !reader.is_set(AUTHORITIES) {
        reader.reject(NAME, &[AUTHORITIES], &format!("expected {AUTHORITIES} to be set, too"));
    }
    if !wanted && authorities.is_some() {
        reader.reject(AUTHORITIES, &[USE_TLS], &format!("expected {USE_TLS} to be true, too"));
    }
    let clients = authorities.map(|authorities| ClientVerification { authorities, name });
    let tls = ServerTls { certificate: certificate?, key: key?, clients };
    if let Err(error) = tls.load(SystemClock.now()) {
        let name = match error.file {
            TlsFile::Certificate => CERTIFICATE,
            TlsFile::Key => KEY,
            TlsFile::ClientCa => AUTHORITIES,
        };
        reader.reject(name, &[CERTIFICATE, KEY, AUTHORITIES], &error.problem.to_string());
    }
    Some(tls).filter(|_| wanted)
}

fn name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        "expected a name as certificates have it, such as envoy.example.com, without a port".into()
    })
}
