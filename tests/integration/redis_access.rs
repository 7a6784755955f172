//! Authentication at Redis and Sentinels, and verification of their certificates.

use testkit::{
    grpc::{self, Client, is_degraded, request_for},
    redis_certificates::{ClientCertificates, RedisCertificates},
    redis_cluster::Sentinels,
    redis_node::{Node, ServerSetup},
    tollgate::Tollgate,
    wait::eventually_async,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000, on_error: deny }
";

fn start(settings: &[(&str, &str)]) -> Tollgate {
    let patient = [("STORE_DEADLINE", "10s"), ("RESPONSE_DYNAMIC_METADATA", "always")];
    Tollgate::start(RULES, &[&patient[..], settings].concat())
}

/// The remaining hits, or `None` if a policy decided.
async fn hit(client: &mut Client) -> Option<u32> {
    let response = grpc::decide(client, request_for("shop", &[("user", "ann")])).await;
    (!is_degraded(&response)).then_some(response.statuses[0].limit_remaining)
}

/// Checks that Redis decides, with `first` remaining hits after the first one.
async fn expect_used(service: &Tollgate, first: u32) {
    let mut client = grpc::connect(service.grpc).await;
    let remaining = eventually_async("Redis to decide", async || hit(&mut client).await).await;
    assert_eq!(remaining, first);
    assert_eq!(hit(&mut client).await, Some(first - 1));
}

/// Checks that policies decide, and that the log contains the reason and no secret.
async fn expect_not_used(service: &Tollgate, reason: &str, secrets: &[&str]) {
    service.wait_for_log(reason);
    let mut client = grpc::connect(service.grpc).await;
    for _ in 0..20 {
        assert_eq!(hit(&mut client).await, None);
    }
    let log = service.log();
    for secret in secrets {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.lines().count() < 30, "{log}");
}

#[tokio::test]
async fn sentinels_have_their_own_password() {
    let setup = ServerSetup {
        sentinel_config: "sentinel auth-pass main of-the-master\n".into(),
        sentinel_password: "of-the-guards".into(),
        ..ServerSetup::default()
    };
    let setup =
        setup.with_arguments(&["--requirepass", "of-the-master", "--masterauth", "of-the-master"]);
    let all = Sentinels::with_setup(&setup);
    let url = all.url();
    let with = |auth: &'static str, guards: &'static str| {
        let kind = ("REDIS_TYPE", "sentinel");
        start(&[kind, ("REDIS_URL", &url), ("REDIS_AUTH", auth), ("REDIS_SENTINEL_AUTH", guards)])
    };
    let secrets = ["of-the-master", "of-the-guards", "mistaken"];
    expect_used(&with("of-the-master", "of-the-guards"), 999).await;
    expect_used(&with("of-the-master", ":of-the-guards"), 997).await;
    // The password may be in the addresses; the setting overrides it.
    let before = |guards: &str| url.replace("127.0.0.1", &format!("redis://:{guards}@127.0.0.1"));
    let within = |url: &str, guards: &str| {
        let kind = ("REDIS_TYPE", "sentinel");
        let auth = [("REDIS_AUTH", "of-the-master"), ("REDIS_SENTINEL_AUTH", guards)];
        start(&[&[kind, ("REDIS_URL", url)][..], &auth].concat())
    };
    expect_used(&within(&before("of-the-guards"), ""), 995).await;
    expect_used(&within(&before("mistaken"), "of-the-guards"), 993).await;
    // A Sentinel user with few rights suffices.
    for sentinel in &all.sentinels {
        let user = "ACL SETUSER looks on >of-the-guards -@all +sentinel|master \
                    +sentinel|get-master-addr-by-name +ping";
        sentinel.query::<()>(&user.split(' ').collect::<Vec<_>>());
    }
    expect_used(&with("default:of-the-master", "looks:of-the-guards"), 991).await;
    let unknown = "cannot connect to the master main: no Sentinel knows it";
    for wrong in ["mistaken", "of-the-master"] {
        let service = with("of-the-master", wrong);
        expect_not_used(&service, unknown, &secrets).await;
        assert!(service.log().contains("authentication failed"), "{}", service.log());
    }
    let service = with("of-the-master", "");
    expect_not_used(&service, unknown, &secrets).await;
    assert!(service.log().contains("NOAUTH"), "{}", service.log());
    let service = with("mistaken", "of-the-guards");
    expect_not_used(&service, "cannot connect to the master main: ", &secrets).await;
    assert!(service.log().contains("authentication failed"), "{}", service.log());
}

#[tokio::test]
async fn the_configured_ca_is_trusted_besides_those_of_the_system() {
    let (known, other) = (RedisCertificates::new(), RedisCertificates::new());
    let setup = ServerSetup {
        tls: Some(known.server_arguments("localhost", ClientCertificates::NotRequested)),
        ..ServerSetup::default()
    };
    let server = Node::with_setup(setup.with_arguments(&["--save", ""]));
    let url = format!("localhost:{}", server.client_port);
    let [known, other] = [&known, &other].map(|it| it.ca_certificate().display().to_string());
    let with = |given: &str, system: &str| {
        let tls = [("REDIS_URL", &url[..]), ("REDIS_TLS", "true"), ("SSL_CERT_FILE", system)];
        start(&[&tls[..], &[("REDIS_TLS_CACERT", given)]].concat())
    };
    expect_used(&with(&known, &other), 999).await;
    expect_used(&with(&other, &known), 997).await;
    expect_used(&with("", &known), 995).await;
    let why = format!("cannot connect to {url}: ");
    for (given, system) in [(&other[..], &other[..]), ("", &other)] {
        let service = with(given, system);
        expect_not_used(&service, &why, &[]).await;
        assert!(service.log().contains("invalid peer certificate"), "{}", service.log());
    }
    // Only one side uses TLS.
    let plain = format!("localhost:{}", server.port);
    for settings in [
        &[("REDIS_URL", &url[..])][..],
        &[("REDIS_URL", &plain[..]), ("REDIS_TLS", "true"), ("REDIS_TLS_CACERT", &known)],
    ] {
        let why = format!("cannot connect to {}: ", settings[0].1);
        expect_not_used(&start(settings), &why, &[]).await;
    }
}
