//! Encrypted connections to Redis.

use std::{path::Path, process::Command};

use testkit::{
    redis_certificates::{CertificateFiles, ClientCertificates, RedisCertificates},
    redis_cluster::{Cluster, Sentinels},
    redis_node::{Node, ServerSetup},
    wait::eventually_async,
};
use tollgate::{
    store::{StoreError, redis::RedisType},
    trust::{ClientIdentity, ClientTls, ExpectedName},
};

use super::*;
use crate::cluster::ready;

/// A server whose certificate is for `name`.
fn server(certificates: &RedisCertificates, name: &str, clients: ClientCertificates) -> Node {
    let tls = Some(certificates.server_arguments(name, clients));
    Node::with_setup(ServerSetup { tls, ..ServerSetup::default() })
}

/// A client certificate signed by the authority.
fn client_certificate(certificates: &RedisCertificates) -> ClientIdentity {
    let CertificateFiles { certificate, key } = certificates.issue("client", "tollgate");
    ClientIdentity { certificate, key }
}

/// A hit by a new store with these TLS settings.
async fn hit_with(server: &Node, tls: &ClientTls) -> Result<u64, StoreError> {
    let url = format!("rediss://localhost:{}", server.client_port);
    let settings = RedisSettings::parse(&url, None, PATIENT).expect("the URL is valid");
    assert_eq!(settings.tls, Some(ClientTls::default()));
    hit(&Redis::new(&RedisSettings { tls: Some(tls.clone()), ..settings }), "a").await
}

#[tokio::test]
async fn a_server_needs_a_certificate_of_a_trusted_ca_for_its_name() {
    let certificates = RedisCertificates::new();
    let ca_file = Some(certificates.ca_certificate());
    let trusting = ClientTls { ca_file, ..ClientTls::default() };
    let valid = server(&certificates, "localhost", ClientCertificates::NotRequested);
    assert_eq!(hit_with(&valid, &trusting).await.unwrap(), 1);
    let error = hit_with(&valid, &ClientTls::default()).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let misnamed = server(&certificates, "elsewhere", ClientCertificates::NotRequested);
    let error = hit_with(&misnamed, &trusting).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let any_name = ClientTls { name: ExpectedName::Any, ..trusting };
    assert_eq!(hit_with(&misnamed, &any_name).await.unwrap(), 1);
    let other_ca = Some(RedisCertificates::new().ca_certificate());
    let wrong_ca = ClientTls { ca_file: other_ca, ..any_name };
    assert!(hit_with(&misnamed, &wrong_ca).await.is_err(), "the CA is still verified");
}

/// A certificate and key by `openssl req -x509`, with its defaults except for the names.
fn openssl_certificate(directory: &Path, names: &[&str]) -> CertificateFiles {
    let files = CertificateFiles {
        certificate: directory.join("redis.crt"),
        key: directory.join("redis.key"),
    };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=redis"]);
    command.arg("-keyout").arg(&files.key).arg("-out").arg(&files.certificate);
    for name in names {
        command.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
    }
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    files
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_the_ca_file() {
    let directory = tempfile::tempdir().unwrap();
    for (names, is_for_host) in [(&["localhost"][..], true), (&["elsewhere"], false), (&[], false)]
    {
        let CertificateFiles { certificate, key } = openssl_certificate(directory.path(), names);
        let mut arguments = Vec::new();
        for (option, value) in [
            ("--tls-cert-file", certificate.to_str().unwrap()),
            ("--tls-key-file", key.to_str().unwrap()),
            ("--tls-ca-cert-file", certificate.to_str().unwrap()),
            ("--tls-auth-clients", "no"),
        ] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        let tls = Some(arguments);
        let server = Node::with_setup(ServerSetup { tls, ..ServerSetup::default() });
        let error = hit_with(&server, &ClientTls::default()).await.unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate"), "{error}");
        let pinned = ClientTls { ca_file: Some(certificate), ..ClientTls::default() };
        match hit_with(&server, &pinned).await {
            Ok(hits) => assert_eq!((hits, is_for_host), (1, true)),
            Err(error) => {
                assert!(
                    !is_for_host && error.to_string().contains("not valid for name"),
                    "{error}"
                );
            }
        }
        let any_name = ClientTls { name: ExpectedName::Any, ..pinned };
        hit_with(&server, &any_name).await.unwrap();
    }
}

#[tokio::test]
async fn the_client_certificate_is_presented_on_request() {
    let certificates = RedisCertificates::new();
    let server = server(&certificates, "localhost", ClientCertificates::Required);
    let ca_file = Some(certificates.ca_certificate());
    let mut tls = ClientTls { ca_file, ..ClientTls::default() };
    assert!(hit_with(&server, &tls).await.is_err());
    tls.identity = Some(client_certificate(&certificates));
    assert_eq!(hit_with(&server, &tls).await.unwrap(), 1);
    let (certificate, key) = (certificates.path("gone.pem"), certificates.path("gone.key"));
    tls.identity = Some(ClientIdentity { certificate, key });
    let error = hit_with(&server, &tls).await.unwrap_err().to_string();
    assert!(error.contains("can be read") && error.contains("gone.pem"), "{error}");
}

#[tokio::test]
async fn certificate_files_are_read_again_for_each_connection() {
    let (certificates, other) = (RedisCertificates::new(), RedisCertificates::new());
    let server = server(&certificates, "localhost", ClientCertificates::NotRequested);
    let ca_file = certificates.path("trusted.pem");
    let trust = |certificates: &RedisCertificates| {
        std::fs::copy(certificates.ca_certificate(), &ca_file).expect("the file can be written");
    };
    trust(&certificates);
    let url = format!("rediss://localhost:{}", server.client_port);
    let settings = RedisSettings::parse(&url, None, PATIENT).expect("the URL is valid");
    let tls = ClientTls { ca_file: Some(ca_file.clone()), ..ClientTls::default() };
    let store = Redis::new(&RedisSettings { tls: Some(tls), ..settings });
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    trust(&other);
    assert_eq!(hit(&store, "a").await.unwrap(), 2);
    server.query::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    // The first call may fail because of the closed connection.
    eventually_async("the new CA to be used", async || match hit(&store, "a").await {
        Err(error) if error.to_string().contains("invalid peer certificate") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    trust(&certificates);
    let last = eventually_async("a connection", async || hit(&store, "a").await).await;
    assert_eq!(hit(&store, "a").await.unwrap(), last + 1);
}

/// A store that trusts only this CA and has a client certificate of it.
fn store_with(certificates: &RedisCertificates, kind: RedisType, url: &str) -> Redis {
    let settings = RedisSettings::from_url(kind, url, None, PATIENT).expect("the URL is valid");
    let identity = Some(client_certificate(certificates));
    let ca_file = Some(certificates.ca_certificate());
    let tls = ClientTls { identity, ca_file, ..ClientTls::default() };
    Redis::new(&RedisSettings { tls: Some(tls), ..settings })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_cluster_nodes_are_encrypted_and_use_their_announced_names() {
    let certificates = RedisCertificates::new();
    // The certificates are valid for this name only.
    let tls = certificates.server_arguments("localhost", ClientCertificates::Required);
    let setup = ServerSetup { tls: Some(tls), ..ServerSetup::default() };
    let setup = setup.with_arguments(&[
        "--cluster-announce-hostname",
        "localhost",
        "--cluster-preferred-endpoint-type",
        "hostname",
    ]);
    let cluster = Cluster::with_setup(&setup, 3);
    let store = store_with(&certificates, RedisType::Cluster, &cluster.url_at("localhost"));
    ready(&store).await;
    hit_all(&store, 1).await;
    for node in &cluster.primaries {
        assert_ne!(node.query::<u64>(&["DBSIZE"]), 0, "a node has no counter");
    }
    // The redirections of the first node use names as well.
    for name in 0..6 {
        let slot = slot_of(&cluster, &format!("n{name}"));
        if slot < 5_461 {
            cluster.migrate(slot, 0, 1);
        }
    }
    hit_all(&store, 2).await;
}

/// Hits 60 counters, each of which then has the value `expected`.
async fn hit_all(store: &Redis, expected: u64) {
    for name in 0..60 {
        assert_eq!(hit(store, &format!("n{name}")).await.unwrap(), expected);
    }
}

fn slot_of(cluster: &Cluster, name: &str) -> u16 {
    let key = charge(name, minutely(1), Hits::Add(1), NOON).counter.key;
    let key = String::from_utf8(key.as_bytes().to_vec()).expect("keys are text");
    cluster.primaries[0].query(&["CLUSTER", "KEYSLOT", &key])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_sentinels_and_their_master_are_encrypted() {
    let certificates = RedisCertificates::new();
    let tls = certificates.server_arguments("127.0.0.1", ClientCertificates::Required);
    let setup = ServerSetup { tls: Some(tls), ..ServerSetup::default() };
    let sentinels = Sentinels::with_setup(&setup);
    let store = store_with(&certificates, RedisType::Sentinel, &sentinels.url());
    ready(&store).await;
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    assert_eq!(sentinels.master_port(), sentinels.servers[0].client_port);
    sentinels.fail_over();
    eventually_async("the failover to be followed", async || {
        hit(&store, "b").await.is_ok() && sentinels.servers[1].query::<u64>(&["DBSIZE"]) == 2
    })
    .await;
}
