//! An authority of certificates for tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

/// Certificates in files, all signed by one authority.
#[derive(Debug)]
pub(crate) struct Authority {
    files: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can be signed");
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(files.path().join("ca.pem"), issuer.pem()).expect("a file can be made");
        Self { files, issuer }
    }

    /// A file of these, which need not be there.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.files.path().join(file)
    }

    /// Its own certificate.
    pub(crate) fn own(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate for `name`, which may be an address, and its key.
    pub(crate) fn issue(&self, file: &str, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        // One that is called like its issuer is taken for its own issuer.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let paths =
            [("pem", certificate.pem()), ("key", key.serialize_pem())].map(|(kind, text)| {
                let path = self.path(&format!("{file}.{kind}"));
                fs::write(&path, text).expect("a file can be made");
                path
            });
        paths.into()
    }

    /// What a redis-server is to be told that has a certificate for `name`.
    /// `clients` says whether it asks for theirs: `yes` or `no`.
    pub(crate) fn server(&self, name: &str, clients: &str) -> Vec<String> {
        let (certificate, key) = self.issue("server", name);
        let text = |it: &Path| it.to_str().expect("it is text").to_owned();
        let files = [
            ("--tls-cert-file", text(&certificate)),
            ("--tls-key-file", text(&key)),
            ("--tls-ca-cert-file", text(&self.own())),
            ("--tls-auth-clients", clients.to_owned()),
        ];
        files.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}
