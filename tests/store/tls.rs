//! Encrypted connections.

use tollgate::store::redis::RedisTls;

use super::*;
use crate::{
    authority::Authority,
    cluster_servers::{Node, Setup},
};

/// A server whose certificate is for `name`, and its TLS port.
fn server(authority: &Authority, name: &str, clients: &str) -> (Node, u16) {
    let node = Node::of(Setup { tls: Some(authority.server(name, clients)), ..Setup::default() });
    let port = node.service;
    (node, port)
}

async fn counts(port: u16, tls: RedisTls) -> Result<u64, StoreError> {
    let url = format!("rediss://localhost:{port}");
    let settings =
        RedisSettings::parse(&url, None, Duration::from_secs(5)).expect("the URL is valid");
    assert_eq!(settings.tls, Some(RedisTls::default()));
    hit(&Redis::new(&RedisSettings { tls: Some(tls), ..settings }), "a").await
}

#[tokio::test]
async fn a_server_is_only_trusted_with_a_certificate_that_is_good() {
    let certificates = Authority::new();
    let authority = Some(certificates.own());
    let trusting = RedisTls { authority, ..RedisTls::default() };
    let (_node, port) = server(&certificates, "localhost", "no");
    assert_eq!(counts(port, trusting.clone()).await.unwrap(), 1);
    let error = counts(port, RedisTls::default()).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let (_node, port) = server(&certificates, "elsewhere", "no");
    let error = counts(port, trusting.clone()).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert_eq!(counts(port, RedisTls { any_name: true, ..trusting }).await.unwrap(), 1);
    let other = Authority::new();
    let theirs = RedisTls { any_name: true, authority: Some(other.own()), client: None };
    assert!(counts(port, theirs).await.is_err(), "nobody we trust has signed it");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let certificates = Authority::new();
    let (_node, port) = server(&certificates, "localhost", "yes");
    let authority = Some(certificates.own());
    let tls = RedisTls { authority, ..RedisTls::default() };
    assert!(counts(port, tls.clone()).await.is_err());
    let client = Some(certificates.issue("client", "tollgate"));
    assert_eq!(counts(port, RedisTls { client, ..tls.clone() }).await.unwrap(), 1);
    let gone = Some((certificates.path("gone.pem"), certificates.path("gone.key")));
    let error = counts(port, RedisTls { client: gone, ..tls }).await.unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("gone.pem"), "{error}");
}
