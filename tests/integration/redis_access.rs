//! Who is let in by Redis and by Sentinels, and whom the service trusts.

use std::time::{Duration, Instant};

use testkit::{
    grpc::{self, Client, request_for},
    redis_certificates::{ClientCertificates, RedisCertificates},
    redis_cluster::Sentinels,
    redis_node::{Node, ServerSetup},
    tollgate::Tollgate,
    wait::{TIMEOUT, eventually},
};
use tokio::time::sleep;

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

/// What remains; nothing if a policy has decided.
async fn hit(client: &mut Client) -> Option<u32> {
    let answer = client.should_rate_limit(request_for("shop", &[("user", "ann")])).await;
    let answer = answer.unwrap().into_inner();
    let degraded = answer.dynamic_metadata.as_ref().unwrap().fields.contains_key("degraded");
    (!degraded).then_some(answer.statuses[0].limit_remaining)
}

async fn is_used(service: &Tollgate, first: u32) {
    let mut client = grpc::connect(service.grpc).await;
    let begin = Instant::now();
    let left = loop {
        if let Some(left) = hit(&mut client).await {
            break left;
        }
        assert!(begin.elapsed() < TIMEOUT, "{}", service.log());
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(left, first);
    assert_eq!(hit(&mut client).await, Some(first - 1));
}

/// Policies decide, and the log says this, and none of the secrets.
async fn is_not_used(service: &Tollgate, why: &str, secrets: &[&str]) {
    eventually(why, || service.log().contains(why));
    let mut client = grpc::connect(service.grpc).await;
    for _ in 0..20 {
        assert_eq!(hit(&mut client).await, None);
        sleep(Duration::from_millis(20)).await;
    }
    let log = service.log();
    assert!(secrets.iter().all(|it| !log.contains(it)), "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

#[tokio::test]
async fn sentinels_are_told_a_password_of_their_own() {
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
    is_used(&with("of-the-master", "of-the-guards"), 999).await;
    is_used(&with("of-the-master", ":of-the-guards"), 997).await;
    // So they may be in the addresses, unless the setting says something else.
    let before = |guards: &str| url.replace("127.0.0.1", &format!("redis://:{guards}@127.0.0.1"));
    let within = |url: &str, guards: &str| {
        let kind = ("REDIS_TYPE", "sentinel");
        let auth = [("REDIS_AUTH", "of-the-master"), ("REDIS_SENTINEL_AUTH", guards)];
        start(&[&[kind, ("REDIS_URL", url)][..], &auth].concat())
    };
    is_used(&within(&before("of-the-guards"), ""), 995).await;
    is_used(&within(&before("mistaken"), "of-the-guards"), 993).await;
    // A user with few rights will do.
    for sentinel in &all.sentinels {
        let user = "ACL SETUSER looks on >of-the-guards -@all +sentinel|master \
                    +sentinel|get-master-addr-by-name +ping";
        sentinel.query::<()>(&user.split(' ').collect::<Vec<_>>());
    }
    is_used(&with("default:of-the-master", "looks:of-the-guards"), 991).await;
    let unknown = "cannot connect to the master main: no Sentinel knows it";
    for wrong in ["mistaken", "of-the-master"] {
        let service = with("of-the-master", wrong);
        is_not_used(&service, unknown, &secrets).await;
        assert!(service.log().contains("authentication failed"), "{}", service.log());
    }
    let service = with("of-the-master", "");
    is_not_used(&service, unknown, &secrets).await;
    assert!(service.log().contains("NOAUTH"), "{}", service.log());
    let service = with("mistaken", "of-the-guards");
    is_not_used(&service, "cannot connect to the master main: ", &secrets).await;
    assert!(service.log().contains("authentication failed"), "{}", service.log());
}

#[tokio::test]
async fn a_given_authority_is_trusted_besides_those_of_the_system() {
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
    is_used(&with(&known, &other), 999).await;
    is_used(&with(&other, &known), 997).await;
    is_used(&with("", &known), 995).await;
    let why = format!("cannot connect to {url}: ");
    for (given, system) in [(&other[..], &other[..]), ("", &other)] {
        let service = with(given, system);
        is_not_used(&service, &why, &[]).await;
        assert!(service.log().contains("invalid peer certificate"), "{}", service.log());
    }
    // One of the two speaks TLS, and the other does not.
    let plain = format!("localhost:{}", server.port);
    for settings in [
        &[("REDIS_URL", &url[..])][..],
        &[("REDIS_URL", &plain[..]), ("REDIS_TLS", "true"), ("REDIS_TLS_CACERT", &known)],
    ] {
        let why = format!("cannot connect to {}: ", settings[0].1);
        is_not_used(&start(settings), &why, &[]).await;
    }
}
