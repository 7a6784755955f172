//! TLS of the listeners: required combinations and the checks of its files. The settings of
//! HTTP have the names of those of gRPC, with another first word.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::tls::{Protocol, ServerTls};

struct Files(TempDir);

impl Files {
    /// Writes a valid certificate with its key, an expired one, and unusable files.
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        let keys = ["key", "other.key"].map(|it| {
            let key = KeyPair::generate().unwrap();
            fs::write(files.0.path().join(it), key.serialize_pem()).unwrap();
            key
        });
        let params = CertificateParams::new(["limiter".to_owned()]).unwrap();
        let mut expired = params.clone();
        expired.not_after = date_time_ymd(2020, 1, 2);
        for (name, params) in [("cert", params), ("expired", expired)] {
            let certificate = params.self_signed(&keys[0]).unwrap();
            fs::write(files.0.path().join(name), certificate.pem()).unwrap();
        }
        fs::write(files.0.path().join("empty"), "").unwrap();
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(files.0.path().join("garbled"), garbled).unwrap();
        files
    }

    /// Reads `env`, with each value that names one of the files replaced by its path: once
    /// as it is, and once for HTTP. The result of gRPC.
    fn read(&self, env: &[(&str, &str)]) -> Result<Option<ServerTls>, String> {
        let http: Vec<_> = env.iter().map(|it| (for_http(it.0), it.1)).collect();
        let http: Vec<_> = http.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let http = self.read_all(&http).map(|it| it.http_tls);
        let grpc = self.read_all(env).map(|it| it.grpc_tls);
        match (&grpc, http) {
            (Ok(grpc), Ok(http)) => {
                let grpc = grpc.clone().map(|it| ServerTls { protocol: Protocol::Http, ..it });
                assert_eq!(http, grpc);
            }
            (Err(grpc), Err(http)) => assert_eq!(http, for_http(grpc)),
            (grpc, http) => panic!("{grpc:?}, and for HTTP {http:?}"),
        }
        grpc
    }

    fn read_all(&self, env: &[(&str, &str)]) -> Result<ListenerSettings, String> {
        let path = |name: &str| self.0.path().join(name);
        let value = |(name, value): &(&str, &str)| {
            let exists = !value.is_empty() && Path::new(&path(value)).exists();
            let value =
                if exists { path(value).display().to_string() } else { (*value).to_owned() };
            ((*name).to_owned(), value)
        };
        let env: Vec<_> = env.iter().map(value).collect();
        let look = |name: &str| env.iter().find(|it| it.0 == name).map(|it| it.1.clone());
        let settings = Settings::read(|_| None, look).map_err(|it| it.to_string())?;
        Ok(settings.listeners)
    }

    /// Expects a single error; `expected` has no directory in its paths.
    #[track_caller]
    fn rejects(&self, env: &[(&str, &str)], expected: &str) {
        let error = self.read(env).unwrap_err();
        let mistakes: Vec<_> = error.lines().skip(1).collect();
        let mistake = mistakes[0].replace(&format!("{}/", self.0.path().display()), "");
        assert_eq!(mistakes.len(), 1, "{error}");
        assert_eq!(mistake.trim(), expected);
    }
}

fn for_http(text: &str) -> String {
    text.replace("GRPC_", "HTTP_")
}

const ON: (&str, &str) = ("GRPC_SERVER_USE_TLS", "true");
const CERT: (&str, &str) = ("GRPC_SERVER_TLS_CERT", "cert");
const KEY: (&str, &str) = ("GRPC_SERVER_TLS_KEY", "key");
const CACERT: (&str, &str) = ("GRPC_CLIENT_TLS_CACERT", "cert");

#[test]
fn a_certificate_and_its_key_are_required_and_client_verification_is_optional() {
    let files = Files::new();
    let tls = files.read(&[ON, CERT, KEY]).unwrap().unwrap();
    assert!(tls.certificate.ends_with("cert") && tls.key.ends_with("key"));
    assert_eq!(tls.clients, None);
    let san = ("GRPC_CLIENT_TLS_SAN", "envoy.example.com");
    let check = files.read(&[ON, CERT, KEY, CACERT, san]).unwrap().unwrap().clients.unwrap();
    assert!(check.ca_file.ends_with("cert"));
    assert_eq!(check.name.unwrap().to_str(), "envoy.example.com");
    let check = files.read(&[ON, CERT, KEY, CACERT]).unwrap().unwrap().clients.unwrap();
    assert_eq!(check.name, None);
    let empty = [("GRPC_CLIENT_TLS_CACERT", ""), ("GRPC_CLIENT_TLS_SAN", "")];
    let tls = files.read(&[&[ON, CERT, KEY], &empty[..]].concat()).unwrap().unwrap();
    assert_eq!(tls.clients, None);
    assert_eq!(files.read(&[CERT, KEY]).unwrap(), None, "off unless GRPC_SERVER_USE_TLS is set");
}

#[test]
fn missing_settings_are_named() {
    let files = Files::new();
    files.rejects(
        &[ON],
        r#"GRPC_SERVER_USE_TLS="true": expected GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY to be set, too"#,
    );
    files.rejects(
        &[ON, CERT, ("GRPC_SERVER_TLS_KEY", "")],
        r#"GRPC_SERVER_TLS_CERT="cert": expected GRPC_SERVER_TLS_KEY to be set, too"#,
    );
    files.rejects(
        &[ON, KEY],
        r#"GRPC_SERVER_TLS_KEY="key": expected GRPC_SERVER_TLS_CERT to be set, too"#,
    );
    files.rejects(
        &[ON, CERT, KEY, ("GRPC_CLIENT_TLS_SAN", "envoy")],
        r#"GRPC_CLIENT_TLS_SAN="envoy": expected GRPC_CLIENT_TLS_CACERT to be set, too"#,
    );
    files.rejects(
        &[CERT, KEY, CACERT],
        r#"GRPC_CLIENT_TLS_CACERT="cert": expected GRPC_SERVER_USE_TLS to be true, too"#,
    );
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let files = Files::new();
    let cert = |file| [ON, ("GRPC_SERVER_TLS_CERT", file), KEY];
    files.rejects(
        &cert("/none"),
        r#"GRPC_SERVER_TLS_CERT="/none": expected a file that can be read (No such file or directory (os error 2))"#,
    );
    files.rejects(
        &cert("empty"),
        r#"GRPC_SERVER_TLS_CERT="empty": expected a certificate in PEM, and there is none in this file"#,
    );
    files.rejects(
        &cert("key"),
        r#"GRPC_SERVER_TLS_CERT="key": expected a certificate in PEM, and there is none in this file"#,
    );
    files.rejects(
        &cert("expired"),
        r#"GRPC_SERVER_TLS_CERT="expired": this certificate expired at 2020-01-02T00:00:00Z"#,
    );
    files.rejects(&cert("/"), r#"GRPC_SERVER_TLS_CERT="/": expected a regular file"#);
    let error = files.read(&cert("garbled")).unwrap_err();
    assert!(error.contains("garbled\": this cannot be used (invalid peer certificate"), "{error}");
    let key = |file| [ON, CERT, ("GRPC_SERVER_TLS_KEY", file)];
    files.rejects(
        &key("cert"),
        r#"GRPC_SERVER_TLS_KEY="cert": expected a private key in PEM, and there is none in this file"#,
    );
    let other = "other.key\": this is not the key of the certificate in ";
    let error = files.read(&key("other.key")).unwrap_err();
    assert!(error.contains("\n  GRPC_SERVER_TLS_KEY=") && error.contains(other), "{error}");
    files.rejects(
        &[ON, CERT, KEY, ("GRPC_CLIENT_TLS_CACERT", "key")],
        r#"GRPC_CLIENT_TLS_CACERT="key": expected a certificate in PEM, and there is none in this file"#,
    );
    files.rejects(
        &[ON, CERT, KEY, CACERT, ("GRPC_CLIENT_TLS_SAN", "envoy:443")],
        r#"GRPC_CLIENT_TLS_SAN="envoy:443": expected a DNS name or an IP address without a port, such as envoy.example.com"#,
    );
}
