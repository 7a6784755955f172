//! Certificates in files: those that the gRPC server shows and asks for, and in
//! [`client`] those that are shown to other servers.

use std::{
    fmt,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{time::Timestamp, watch};

pub mod client;
mod reloader;
mod named;

pub use self::reloader::{CertificateReloader, SharedServerConfig};

/// The only protocol that is spoken under TLS.
pub const ALPN: &[u8] = b"h2";

/// The longest file of certificates, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// How connections to the gRPC server are encrypted: files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate that is shown, and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Set if clients have to show a certificate, too.
    pub clients: Option<ClientVerification>,
}

/// Which certificates of clients are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVerification {
    /// The file of the authorities that may have signed them. No others may, not
    /// even those that the system trusts.
    pub authorities: PathBuf,
    /// A name that they must have.
    pub name: Option<ServerName<'static>>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsError {
    /// What the file is for.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, and what was expected.
    pub problem: Problem,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// [`ServerTls::certificate`].
    Certificate,
    /// [`ServerTls::key`].
    Key,
    /// [`ClientVerification::authorities`].
    ClientCa,
}

/// What is wrong with a file of certificates.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused.
    #[error("expected a file that can be read ({0})")]
    Io(#[from] io::Error),
    /// It is a directory, a device or the like.
    #[error("expected a regular file")]
    Kind,
    /// It is something else.
    #[error("expected at most {MAX_BYTES} bytes")]
    Size,
    /// What is between the lines of PEM is not to be understood.
    #[error("expected PEM ({0})")]
    Pem(pem::Error),
    /// There is nothing between such lines.
    #[error("expected {0} in PEM, and there is none in this file")]
    Nothing(&'static str),
    /// A key and a certificate are not a pair.
    #[error("this is not the key of the certificate in {}", .0.display())]
    Pair(PathBuf),
    /// It is too old.
    #[error("this certificate was good until {0}")]
    Ended(jiff::Timestamp),
    /// It cannot be used for another reason.
    #[error("this cannot be used ({0})")]
    Unusable(String),
}

/// How connections are encrypted from now on.
#[derive(Clone, Debug)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    not_after: Option<Timestamp>,
}

/// The contents of the files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl ServerTls {
    /// Reads the files, and sees whether they can be used at `now`. Blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, has nothing of the kind in it or more than
    /// 4 MiB, if key and certificate are not a pair, or if the certificate has
    /// ended.
    pub fn load(&self, now: Timestamp) -> Result<Loaded, TlsError> {
        self.compile(&self.read()?, now)
    }

    /// Changes when the files do. Blocks.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let authorities = self.clients.iter().map(|it| &it.authorities);
        for path in [&self.certificate, &self.key].into_iter().chain(authorities) {
            match fs::metadata(path) {
                Ok(metadata) => watch::hash_metadata(&metadata, &mut hasher),
                Err(error) => error.to_string().hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    fn read(&self) -> Result<Contents, TlsError> {
        let clients = self.clients.as_ref();
        Ok(Contents {
            certificate: read(&self.certificate)
                .map_err(|it| self.error(TlsFile::Certificate, it))?,
            key: read(&self.key).map_err(|it| self.error(TlsFile::Key, it))?,
            authorities: clients
                .map(|it| read(&it.authorities))
                .transpose()
                .map_err(|it| self.error(TlsFile::ClientCa, it))?,
        })
    }

    fn compile(&self, contents: &Contents, now: Timestamp) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&contents.certificate)
            .map_err(|it| self.error(TlsFile::Certificate, it))?;
        let not_after = chain.first().and_then(|it| not_after(it, &provider));
        if let Some(end) = not_after.filter(|it| *it < now) {
            return Err(self.error(TlsFile::Certificate, Problem::Ended(calendar(end))));
        }
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| match error {
            pem::Error::NoItemsFound => Problem::Nothing("a private key"),
            error => Problem::Pem(error),
        });
        let key = key.map_err(|it| self.error(TlsFile::Key, it))?;
        let verifier = match self.clients.as_ref().zip(contents.authorities.as_deref()) {
            Some((check, authorities)) => verifier(check, authorities, &provider)
                .map_err(|it| self.error(TlsFile::ClientCa, it))?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|it| self.error(TlsFile::Certificate, Problem::of(it)))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    self.error(TlsFile::Key, Problem::Pair(self.certificate.clone()))
                }
                // Keys of a kind that is not known, for one.
                rustls::Error::General(_) => self.error(TlsFile::Key, Problem::of(error)),
                error => self.error(TlsFile::Certificate, Problem::of(error)),
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Loaded { config: Arc::new(config), not_after })
    }

    fn error(&self, file: TlsFile, problem: Problem) -> TlsError {
        let path = match (file, &self.clients) {
            (TlsFile::Certificate, _) => &self.certificate,
            (TlsFile::ClientCa, Some(check)) => &check.authorities,
            (TlsFile::Key | TlsFile::ClientCa, _) => &self.key,
        };
        TlsError { file, path: path.clone(), problem }
    }
}

impl Problem {
    fn of(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    // To open a pipe could take for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(Problem::Kind);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MAX_BYTES => Ok(bytes),
        _ => Err(Problem::Size),
    }
}

/// All certificates of a file; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all.map_err(Problem::Pem)? {
        none if none.is_empty() => Err(Problem::Nothing("a certificate")),
        some => Ok(some),
    }
}

fn verifier(
    check: &ClientVerification,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem)? {
        roots.add(authority).map_err(Problem::of)?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::clone(provider));
    let any = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let any = any.build().map_err(Problem::of)?;
    Ok(match &check.name {
        Some(name) => Arc::new(named::Named { any, name: name.clone() }),
        None => any,
    })
}

/// Until when a certificate is good. It is not said anywhere else than in the
/// refusal of one that has ended: in the year 9999 all have.
fn not_after(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Option<Timestamp> {
    use rustls::{CertificateError::ExpiredContext, Error::InvalidCertificate};
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let late = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_800));
    let algorithms = provider.signature_verification_algorithms.all;
    let roots = RootCertStore::empty();
    let verified =
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], late, algorithms);
    match verified {
        Err(InvalidCertificate(ExpiredContext { not_after, .. })) => {
            Some(Timestamp::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn calendar(moment: Timestamp) -> jiff::Timestamp {
    let seconds = i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests;
