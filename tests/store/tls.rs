//! Encrypted connections.

use std::time::Instant;

use tollgate::store::{
    StoreError,
    redis::{ClientCertificate, RedisTls, RedisType},
};

use super::*;
use crate::{
    authority::Authority,
    cluster::ready,
    cluster_servers::{Cluster, Node, Sentinels, Setup},
    faults::eventually,
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
    let ca_file = Some(certificates.own());
    let trusting = RedisTls { ca_file, ..RedisTls::default() };
    let (_node, port) = server(&certificates, "localhost", "no");
    assert_eq!(counts(port, trusting.clone()).await.unwrap(), 1);
    let error = counts(port, RedisTls::default()).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let (_node, port) = server(&certificates, "elsewhere", "no");
    let error = counts(port, trusting.clone()).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert_eq!(
        counts(port, RedisTls { skip_hostname_verification: true, ..trusting }).await.unwrap(),
        1
    );
    let other = Authority::new();
    let theirs =
        RedisTls { skip_hostname_verification: true, ca_file: Some(other.own()), client: None };
    assert!(counts(port, theirs).await.is_err(), "nobody we trust has signed it");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let certificates = Authority::new();
    let (_node, port) = server(&certificates, "localhost", "yes");
    let ca_file = Some(certificates.own());
    let tls = RedisTls { ca_file, ..RedisTls::default() };
    assert!(counts(port, tls.clone()).await.is_err());
    let (certificate, key) = certificates.issue("client", "tollgate");
    let client = Some(ClientCertificate { certificate, key });
    assert_eq!(counts(port, RedisTls { client, ..tls.clone() }).await.unwrap(), 1);
    let (certificate, key) = (certificates.path("gone.pem"), certificates.path("gone.key"));
    let gone = Some(ClientCertificate { certificate, key });
    let error = counts(port, RedisTls { client: gone, ..tls }).await.unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("gone.pem"), "{error}");
}

#[tokio::test]
async fn certificates_are_read_again_for_each_connection() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (node, port) = server(&authority, "localhost", "no");
    let file = authority.path("trusted.pem");
    let trust = |it: &Authority| std::fs::copy(it.own(), &file).expect("a file can be made");
    trust(&authority);
    let url = format!("rediss://localhost:{port}");
    let settings = RedisSettings::parse(&url, None, PATIENT).expect("the URL is valid");
    let tls = RedisTls { ca_file: Some(file.clone()), ..RedisTls::default() };
    let store = Redis::new(&RedisSettings { tls: Some(tls), ..settings });
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    trust(&other);
    assert_eq!(hit(&store, "a").await.unwrap(), 2);
    node.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    // The first to notice may be told of the connection that is lost.
    eventually(async || match hit(&store, "a").await {
        Err(error) if error.to_string().contains("invalid peer certificate") => Ok(()),
        other => Err(StoreError::Failed(format!("{other:?}"))),
    })
    .await;
    trust(&authority);
    let last = eventually(|| hit(&store, "a")).await;
    assert_eq!(hit(&store, "a").await.unwrap(), last + 1);
}

/// What a store may do that trusts `authority` and shows a certificate of its own.
fn of(authority: &Authority, kind: RedisType, url: &str) -> Redis {
    let settings = RedisSettings::from_url(kind, url, None, PATIENT).expect("the URL is valid");
    let (certificate, key) = authority.issue("client", "tollgate");
    let client = Some(ClientCertificate { certificate, key });
    let ca_file = Some(authority.own());
    let tls = RedisTls { client, ca_file, ..RedisTls::default() };
    Redis::new(&RedisSettings { tls: Some(tls), ..settings })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_cluster_are_encrypted_and_known_by_the_names_that_they_announce() {
    let authority = Authority::new();
    // Their certificates are for that name alone.
    let setup = Setup { tls: Some(authority.server("localhost", "yes")), ..Setup::default() };
    let cluster = Cluster::of(
        &setup.tell(&[
            "--cluster-announce-hostname",
            "localhost",
            "--cluster-preferred-endpoint-type",
            "hostname",
        ]),
        3,
        false,
    );
    let store = of(&authority, RedisType::Cluster, &cluster.url_at("localhost"));
    ready(&store).await;
    for expected in 1..=2 {
        for name in 0..60 {
            assert_eq!(hit(&store, &format!("n{name}")).await.unwrap(), expected);
        }
        let counters = |it: &Node| it.ask(&["DBSIZE"]) != ::redis::Value::Int(0);
        assert!(cluster.primaries.iter().all(counters), "a node has no counter");
        // All that the first one has goes elsewhere, by names as well.
        if expected == 1 {
            let first = &cluster.primaries[0];
            let slots = |name: u32| {
                let key = charge(&format!("n{name}"), minutely(1), Hits::Add(1), NOON).counter.key;
                let key = String::from_utf8(key.as_bytes().to_vec()).expect("it is text");
                first.ask(&["CLUSTER", "KEYSLOT", &key])
            };
            for name in 0..6 {
                if let ::redis::Value::Int(slot @ 0..5_461) = slots(name) {
                    cluster.migrate(u16::try_from(slot).expect("it is a slot"), 0, 1);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_the_master_behind_them_are_encrypted() {
    let authority = Authority::new();
    let setup = Setup { tls: Some(authority.server("127.0.0.1", "yes")), ..Setup::default() };
    let all = Sentinels::of(&setup);
    let store = of(&authority, RedisType::Sentinel, &all.url());
    ready(&store).await;
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    let first = all.master();
    assert_eq!(first, all.servers[0].service);
    all.fail_over();
    let begin = Instant::now();
    let counted = || all.servers[1].ask(&["DBSIZE"]) == ::redis::Value::Int(2);
    while hit(&store, "b").await.is_err() || !counted() {
        assert!(begin.elapsed() < PATIENT, "the failover is not followed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
