//! Which certificates are accepted, without a connection.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    client::danger::ServerCertVerifier,
    pki_types::{ServerName, UnixTime},
};

use super::authorities::Authorities;

/// The middle of 2026.
const NOW: Duration = Duration::from_secs(1_782_000_000);
const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn self_signed(params: CertificateParams) -> Certificate {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap()
}

/// Presents `certificate` as that of the server `redis`, and of a client of that name, to
/// processes that trust `trusted`. Returns the error, or an empty text.
#[track_caller]
fn verify(certificate: &Certificate, trusted: &[&Certificate]) -> [String; 2] {
    let pem: String = trusted.iter().map(|it| it.pem()).collect();
    let authorities = Authorities::from_pem(pem.as_bytes()).unwrap();
    let name = ServerName::try_from("redis").unwrap();
    let now = UnixTime::since_unix_epoch(NOW);
    let server = authorities.clone().server_verifier(false).unwrap();
    let client = authorities.client_verifier(Some(name.clone())).unwrap();
    let server = server.verify_server_cert(certificate.der(), &[], &name, &[], now);
    let client = client.verify_client_cert(certificate.der(), &[], now);
    [server.err().map(|it| it.to_string()), client.err().map(|it| it.to_string())]
        .map(Option::unwrap_or_default)
}

#[track_caller]
fn check(certificate: &Certificate, trusted: &[&Certificate], expected: &str) {
    for error in verify(certificate, trusted) {
        if expected.is_empty() {
            assert_eq!(error, "");
        } else {
            assert!(error.contains(expected), "{error:?}, expected {expected:?}");
        }
    }
}

#[test]
fn a_trusted_certificate_needs_no_issuer() {
    for is_ca in [CA, IsCa::NoCa, IsCa::ExplicitNoCa] {
        let own = self_signed(params("redis", is_ca));
        let other = self_signed(params("redis", CA));
        check(&own, &[&own], "");
        check(&own, &[&other, &own], "");
    }
    let issuer = CertifiedIssuer::self_signed(params("ca", CA), KeyPair::generate().unwrap());
    let key = KeyPair::generate().unwrap();
    let issued = params("redis", CA).signed_by(&key, &issuer.unwrap()).unwrap();
    check(&issued, &[&issued], "");
}

#[test]
fn names_times_and_purposes_of_a_trusted_certificate_are_verified() {
    let refused = |change: &dyn Fn(&mut CertificateParams), expected: &str| {
        let mut params = params("redis", CA);
        change(&mut params);
        let own = self_signed(params);
        check(&own, &[&own], expected);
    };
    refused(&|it| it.subject_alt_names.clear(), "not valid for name");
    refused(&|it| it.not_after = date_time_ymd(2026, 2, 1), "certificate expired");
    refused(&|it| it.not_before = date_time_ymd(2026, 12, 1), "certificate not valid yet");
    let code = ExtendedKeyUsagePurpose::CodeSigning;
    refused(&|it| it.extended_key_usages = vec![code.clone()], "InvalidPurpose");
    let mut params = params("redis", CA);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = self_signed(params);
    let [server, client] = verify(&own, &[&own]);
    assert_eq!(server, "");
    assert!(client.contains("InvalidPurpose"), "{client}");
}

#[test]
fn an_issued_certificate_that_says_ca_true_is_refused_with_the_remedy() {
    let key = KeyPair::generate().unwrap();
    let issuer = CertifiedIssuer::self_signed(params("ca", CA), key).unwrap();
    let key = KeyPair::generate().unwrap();
    let authority = params("redis", CA).signed_by(&key, &issuer).unwrap();
    check(&authority, &[issuer.as_ref()], "it says CA:TRUE, expected CA:FALSE");
    let leaf = params("redis", IsCa::NoCa).signed_by(&key, &issuer).unwrap();
    check(&leaf, &[issuer.as_ref()], "");
}
