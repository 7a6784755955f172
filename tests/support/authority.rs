//! An authority of certificates for tests of Redis: all of them in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::ExtendedKeyUsagePurpose;
use tempfile::TempDir;

use crate::certificates;

/// Certificates in files, all signed by one authority.
#[derive(Debug)]
pub(crate) struct Authority {
    files: TempDir,
    issuer: certificates::Authority,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let issuer = certificates::Authority::new();
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
        let purposes =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let [certificate, key] = self.issuer.sign_for(name, purposes).pem();
        let paths = [("pem", certificate), ("key", key)].map(|(kind, text)| {
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
