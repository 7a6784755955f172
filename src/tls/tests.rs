use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

use super::*;

#[test]
fn the_end_of_every_kind_of_certificate_is_known() {
    let provider = ring::default_provider();
    let key = KeyPair::generate().unwrap();
    for ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        for year in [1999, 2049, 2051, 9998] {
            let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 2);
            params.is_ca = ca;
            let certificate = params.self_signed(&key).unwrap();
            let end = not_after(certificate.der(), &provider).map(calendar);
            assert_eq!(end.unwrap().to_string(), format!("{year}-01-02T00:00:00Z"));
        }
    }
}
