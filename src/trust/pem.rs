//! Reads PEM files and the certificates in them.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::error::{MAX_FILE_BYTES, Problem};
use crate::time::Timestamp;

/// Reads a file of at most 4 MiB. Blocks.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    // Opening a pipe could block forever.
    if !fs::metadata(path)?.is_file() {
        return Err(Problem::NotAFile);
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(read) {
        Ok(read) if read <= MAX_FILE_BYTES => Ok(bytes),
        _ => Err(Problem::TooLarge),
    }
}

/// All certificates in `pem`: at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificates.push(certificate.map_err(Problem::Pem)?);
    }
    if certificates.is_empty() {
        return Err(Problem::Missing("a certificate"));
    }
    Ok(certificates)
}

/// The first private key in `pem`.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(Problem::Missing("a private key")),
        Err(error) => Err(Problem::Pem(error)),
    }
}

/// The expiry of a certificate, or `None` if the certificate is malformed.
pub fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    // A certificate that expired before 1970 counts as expired in 1970.
    Some(Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// `time` as a date for people.
pub fn calendar(time: Timestamp) -> jiff::Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_expiry_of_every_kind_of_certificate_is_known() {
        let key = KeyPair::generate().unwrap();
        for ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            for year in [1999, 2049, 2051, 9998] {
                let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
                params.not_after = date_time_ymd(year, 1, 2);
                params.is_ca = ca;
                let certificate = params.self_signed(&key).unwrap();
                let expiry = calendar(expiry(certificate.der()).unwrap());
                assert_eq!(expiry.to_string(), format!("{year}-01-02T00:00:00Z"));
            }
        }
    }

    #[test]
    fn a_malformed_certificate_has_no_expiry() {
        for malformed in [&b""[..], b"no certificate", &[0x30; 99]] {
            assert_eq!(expiry(&CertificateDer::from(malformed)), None);
        }
    }
}
