//! TLS to the xDS management server.

use rustls::ServerConfig;

use super::*;
use testkit::certificates::{CertificateAuthority, Identity};

async fn serve(tls: ServerConfig) -> XdsServer {
    XdsServer::serve(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(tls))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_tls_with_a_client_certificate() {
    let authority = CertificateAuthority::new();
    let files = tempfile::tempdir().unwrap();
    authority.write(files.path(), "limiter");
    let path = |it: &str| files.path().join(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let settings = [
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &certificate),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut server = serve(authority.server_config("localhost", &[version])).await;
        let url = format!("localhost:{}", server.address.port());
        let service = follow(&url, &settings);
        let mut stream = server.accept().await;
        greeting(&mut stream, "").await;
        stream.send("v1", "n1", &[rules("shop", 1)]);
        assert_accepted(&stream.next_request().await, "v1", "n1");
        assert_eq!(page(&service), line("shop", 1));
    }

    // The certificate is not valid for the address of the server.
    let mut server = serve(authority.server_config("gateway", rustls::ALL_VERSIONS)).await;
    let url = server.address.to_string();
    let service = follow(&url, &settings);
    eventually("a refusal", || service.log().contains("certificate"));
    drop(service);
    let mut named = settings.to_vec();
    named.push(("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "gateway"));
    let _service = follow(&url, &named);
    greeting(&mut server.accept().await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_server_is_trusted_if_its_certificate_is_the_ca_file() {
    let files = tempfile::tempdir().unwrap();
    let certificate = Identity::self_signed("localhost");
    certificate.write(files.path());
    let ca = files.path().join("tls.crt").display().to_string();
    let mut server = serve(certificate.server_config()).await;
    let url = format!("localhost:{}", server.address.port());
    let use_tls = ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true");
    let service = follow(&url, &[use_tls]);
    eventually("a refusal", || service.log().contains("certificate"));
    drop(service);
    let _service = follow(&url, &[use_tls, ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca)]);
    greeting(&mut server.accept().await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_certificates_apply_to_the_next_connection() {
    let (old, new) = (CertificateAuthority::new(), CertificateAuthority::new());
    let files = tempfile::tempdir().unwrap();
    old.write(files.path(), "limiter");
    let path = |it: &str| files.path().join(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let mut server = serve(new.server_config("localhost", rustls::ALL_VERSIONS)).await;
    let url = format!("localhost:{}", server.address.port());
    let service = follow(
        &url,
        &[
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &certificate),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
        ],
    );
    eventually("a refusal", || service.log().contains("certificate"));
    new.write(files.path(), "limiter");
    greeting(&mut server.accept().await, "").await;
}
