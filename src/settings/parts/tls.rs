use rustls::pki_types::ServerName;

use crate::{
    settings::{reader::SettingReader, value},
    time::{Clock, SystemClock},
    tls::{ClientVerification, Protocol, ServerTls, TlsFile},
    trust::ClientIdentity,
};

/// The names of the settings of a listener with TLS.
pub(super) struct Names {
    protocol: Protocol,
    use_tls: &'static str,
    certificate: &'static str,
    key: &'static str,
    client_ca: &'static str,
    client_name: &'static str,
}

pub(super) const GRPC: Names = Names {
    protocol: Protocol::Grpc,
    use_tls: "GRPC_SERVER_USE_TLS",
    certificate: "GRPC_SERVER_TLS_CERT",
    key: "GRPC_SERVER_TLS_KEY",
    client_ca: "GRPC_CLIENT_TLS_CACERT",
    client_name: "GRPC_CLIENT_TLS_SAN",
};

pub(super) const HTTP: Names = Names {
    protocol: Protocol::Http,
    use_tls: "HTTP_SERVER_USE_TLS",
    certificate: "HTTP_SERVER_TLS_CERT",
    key: "HTTP_SERVER_TLS_KEY",
    client_ca: "HTTP_CLIENT_TLS_CACERT",
    client_name: "HTTP_CLIENT_TLS_SAN",
};

/// TLS of a listener; `None` if it is off.
pub(super) fn server_tls(reader: &mut SettingReader<'_>, names: &Names) -> Option<ServerTls> {
    let is_on = reader.value(names.use_tls, value::boolean);
    let certificate = reader.optional(names.certificate, value::readable_file);
    let key = reader.optional(names.key, value::readable_file);
    let client_ca = reader.optional(names.client_ca, value::readable_file);
    let client_name = reader.optional(names.client_name, certificate_name);
    if reader.is_set(names.certificate) {
        reader.require(names.certificate, names.key);
    }
    if reader.is_set(names.key) {
        reader.require(names.key, names.certificate);
    }
    if is_on && !reader.is_set(names.certificate) && !reader.is_set(names.key) {
        let problem = format!("expected {} and {} to be set, too", names.certificate, names.key);
        reader.reject(names.use_tls, &[names.certificate, names.key], &problem);
    }
    // Without these two checks, clients would connect unverified although a setting
    // asks for their verification.
    if client_name.is_some() {
        reader.require(names.client_name, names.client_ca);
    }
    if client_ca.is_some() && !is_on {
        let problem = format!("expected {} to be true, too", names.use_tls);
        reader.reject(names.client_ca, &[names.use_tls], &problem);
    }
    let clients = client_ca.map(|ca_file| ClientVerification { ca_file, name: client_name });
    let (certificate, key) = (certificate?, key?);
    let tls = ServerTls { protocol: names.protocol, certificate, key, clients };
    reject_unusable_files(reader, names, &tls);
    if is_on { Some(tls) } else { None }
}

fn reject_unusable_files(reader: &mut SettingReader<'_>, names: &Names, tls: &ServerTls) {
    if let Err(error) = tls.load(SystemClock.now()) {
        let name = match error.file {
            TlsFile::Certificate => names.certificate,
            TlsFile::Key => names.key,
            TlsFile::ClientCa => names.client_ca,
        };
        let related = [names.certificate, names.key, names.client_ca];
        reader.reject(name, &related, &error.problem.to_string());
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
