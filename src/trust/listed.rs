//! Certificates that are trusted themselves, and need no issuer.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, Error, OtherError,
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate, x509::X509Version};

/// The certificates of [`Authorities`](super::Authorities).
pub(super) type Listed = Vec<CertificateDer<'static>>;

/// The role of a certificate's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

/// True if `certificate` is byte for byte one of `listed`.
pub(super) fn contains(listed: &Listed, certificate: &CertificateDer<'_>) -> bool {
    listed.iter().any(|it| it.as_ref() == certificate.as_ref())
}

/// Verifies everything in a listed certificate but its names.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let certificate = parse(certificate)?;
    let validity = certificate.validity();
    let not_before = unix_time(validity.not_before.timestamp());
    let not_after = unix_time(validity.not_after.timestamp());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if not_after < now {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    let Some(usage) = usage else { return Ok(()) };
    let has_purpose = match purpose {
        Purpose::Server => usage.value.server_auth,
        Purpose::Client => usage.value.client_auth,
    };
    if has_purpose || usage.value.any { Ok(()) } else { Err(CertificateError::InvalidPurpose) }
}

/// Verifies that `name` is one of the certificate's subject alternative names.
pub(super) fn verify_name(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

/// Adds the remedy to errors that the TLS library only names.
pub(super) fn explain(error: Error, certificate: &CertificateDer<'_>) -> Error {
    if !matches!(error, Error::InvalidCertificate(CertificateError::Other(_))) {
        return error;
    }
    let Ok(parsed) = parse(certificate) else { return error };
    let refusal = if parsed.version() != X509Version::V3 {
        OLD_VERSION
    } else if parsed.is_ca() {
        CA_TRUE
    } else {
        return error;
    };
    CertificateError::Other(OtherError(Arc::new(refusal))).into()
}

const OLD_VERSION: Refusal = Refusal(
    "it has an old version of X.509, expected version 3, as `openssl x509 -req` makes only with \
     -extfile",
);
const CA_TRUE: Refusal = Refusal(
    "it says CA:TRUE, expected CA:FALSE; or add this certificate itself to the trusted CA \
     certificates",
);

/// The reason why a certificate is refused that other TLS libraries accept.
#[derive(Clone, Copy, thiserror::Error)]
#[error("{0}")]
struct Refusal(&'static str);

/// The TLS library logs other errors by their `Debug`.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match parse_x509_certificate(certificate) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// Times before 1970 count as 1970.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
