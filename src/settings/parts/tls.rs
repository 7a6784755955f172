use rustls::pki_types::ServerName;

use crate::{
    settings::{reader::SettingReader, value},
    time::{Clock, SystemClock},
    tls::{ClientVerification, ServerTls, TlsFile},
    trust::ClientIdentity,
};

const USE_TLS: &str = "GRPC_SERVER_USE_TLS";
const CERTIFICATE: &str = "GRPC_SERVER_TLS_CERT";
const KEY: &str = "GRPC_SERVER_TLS_KEY";
const CLIENT_CA: &str = "GRPC_CLIENT_TLS_CACERT";
const CLIENT_NAME: &str = "GRPC_CLIENT_TLS_SAN";

/// TLS of the gRPC listener; `None` if it is off.
pub(super) fn server_tls(reader: &mut SettingReader<'_>) -> Option<ServerTls> {
    let is_on = reader.value(USE_TLS, value::boolean);
    let certificate = reader.optional(CERTIFICATE, value::readable_file);
    let key = reader.optional(KEY, value::readable_file);
    let client_ca = reader.optional(CLIENT_CA, value::readable_file);
    let client_name = reader.optional(CLIENT_NAME, certificate_name);
    if reader.is_set(CERTIFICATE) {
        reader.require(CERTIFICATE, KEY);
    }
    if reader.is_set(KEY) {
        reader.require(KEY, CERTIFICATE);
    }
    if is_on && !reader.is_set(CERTIFICATE) && !reader.is_set(KEY) {
        let problem = format!("expected {CERTIFICATE} and {KEY} to be set, too");
        reader.reject(USE_TLS, &[CERTIFICATE, KEY], &problem);
    }
    // Without these two checks, clients would connect unverified although a setting
    // asks for their verification.
    if client_name.is_some() {
        reader.require(CLIENT_NAME, CLIENT_CA);
    }
    if client_ca.is_some() && !is_on {
        reader.reject(CLIENT_CA, &[USE_TLS], &format!("expected {USE_TLS} to be true, too"));
    }
    let clients = client_ca.map(|ca_file| ClientVerification { ca_file, name: client_name });
    let tls = ServerTls { certificate: certificate?, key: key?, clients };
    reject_unusable_files(reader, &tls);
    if is_on { Some(tls) } else { None }
}

fn reject_unusable_files(reader: &mut SettingReader<'_>, tls: &ServerTls) {
    if let Err(error) = tls.load(SystemClock.now()) {
        let name = match error.file {
            TlsFile::Certificate => CERTIFICATE,
            TlsFile::Key => KEY,
            TlsFile::ClientCa => CLIENT_CA,
        };
        reader.reject(name, &[CERTIFICATE, KEY, CLIENT_CA], &error.problem.to_string());
    }
}

fn certificate_name(text: &str) -> value::Parsed<ServerName<'static>> {
    match ServerName::try_from(text.to_owned()) {
        Ok(name) => Ok(name),
        Err(_) => Err("expected a DNS name or an IP address without a port, such as \
                       envoy.example.com"
            .into()),
    }
}

/// A client certificate. Reports one without its private key, and the reverse.
pub(super) fn client_certificate(
    reader: &mut SettingReader<'_>,
    certificate_name: &str,
    key_name: &str,
) -> Option<ClientIdentity> {
    let certificate = reader.optional(certificate_name, value::readable_file);
    let key = reader.optional(key_name, value::readable_file);
    if certificate.is_some() {
        reader.require(certificate_name, key_name);
    }
    if key.is_some() {
        reader.require(key_name, certificate_name);
    }
    Some(ClientIdentity { certificate: certificate?, key: key? })
}
