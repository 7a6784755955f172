//! The admin API, and who may use it.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    http::{self, Reply},
    network,
    tollgate::Tollgate,
};

use crate::in_process::{InProcess, ManualClock, START, TokioClock, pass};

/// One row for each operation: its method, path and body, and whether it needs no token.
const OPERATIONS: [(&str, &str, &str, bool); 11] = [
    ("GET", "/v1/status", "", false),
    ("GET", "/v1/rules", "", false),
    ("GET", "/v1/top", "", false),
    ("GET", "/v1/refusals", "", false),
    ("GET", "/v1/history", "", false),
    ("POST", "/v1/explain", CALL, false),
    ("POST", "/v1/simulate", CALL, false),
    ("POST", "/v1/counters/look", CALL, false),
    ("POST", "/v1/counters/reset", CALL, false),
    ("POST", "/v1/counters/set?used=1", CALL, false),
    ("GET", "/openapi.json", "", true),
];

/// The operations that need a token with the role `write`.
const WRITING: [&str; 2] = ["/v1/counters/reset", "/v1/counters/set?used=1"];

const CALL: &str =
    r#"{"domain": "shop", "descriptors": [{"entries": [{"key": "user", "value": "ann"}]}]}"#;

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {name: users, unit: hour, requests_per_unit: 3}}
- {key: trial, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}
";

const ANN: &str = "ann-reads-0123456789abcdef";
const BOB: &str = "bob-writes-0123456789abcdef";
const EVE: &str = "eve-leaves-0123456789abcdef";

/// The service with its admin API, and the file of the tokens.
struct Office {
    service: InProcess,
    tokens: PathBuf,
    _directory: TempDir,
}

impl Office {
    async fn open(rules: &str) -> Self {
        Self::open_with(Arc::new(TokioClock::starting_at(START)), rules).await
    }

    async fn open_with(clock: Arc<dyn tollgate::time::Clock>, rules: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let tokens = directory.path().join("tokens");
        let text = format!("ann read {ANN}\nbob write {BOB}\neve write {EVE}\n");
        fs::write(&tokens, text).unwrap();
        let settings =
            [("ADMIN_TOKENS_FILE", tokens.to_str().unwrap()), ("ADMIN_NAMES", "admin.example.com")];
        let service = InProcess::start_with(clock, rules, &settings).await;
        Self { service, tokens, _directory: directory }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.service.admin(method, path, &headers, body.as_bytes()).await
    }

    /// What a holder of the token `ANN` reads.
    async fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, &[("authorization", &bearer(ANN))], "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[("authorization", &bearer(ANN))], body).await
    }

    async fn hit(&self, key: &str, value: &str) -> u16 {
        let body = http::json_request("shop", &[(key, value)]);
        self.service.http("POST", "/json", &[], body.as_bytes()).await.status
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_closed_to_all_but_holders_of_a_token() {
    let office = Office::open(RULES).await;
    // Eve leaves.
    let without = format!("ann read {ANN}\nbob write {BOB}\n");
    fs::write(&office.tokens, without).unwrap();
    let mut waited = 0;
    while office.send("GET", "/v1/status", &[("authorization", &bearer(EVE))], "").await.status
        != 401
    {
        pass(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < 60, "the file is not read again");
    }
    let [ann, bob, eve, wrong] = [ANN, BOB, EVE, "x"].map(bearer);
    for (method, path, body, is_open) in OPERATIONS {
        let closed = |status: u16| if is_open { 200 } else { status };
        let read = if WRITING.contains(&path) { 403 } else { 200 };
        for (name, headers, expected) in [
            ("no token", vec![], closed(401)),
            ("wrong token", vec![("authorization", &*wrong)], closed(401)),
            ("wrong scheme", vec![("authorization", "Basic YW5uOng=")], closed(401)),
            ("two tokens", vec![("authorization", &*ann), ("authorization", &bob)], closed(401)),
            ("read", vec![("authorization", &*ann)], read),
            ("write", vec![("authorization", &*bob)], 200),
            ("removed from the file", vec![("authorization", &*eve)], closed(401)),
            ("wrong host", vec![("authorization", &*ann), ("host", "evil.example.com")], 421),
            (
                "two hosts",
                vec![("authorization", &*ann), ("host", "localhost"), ("host", "evil")],
                421,
            ),
            ("host in user", vec![("authorization", &*ann), ("host", "localhost@evil.com")], 421),
            ("own name", vec![("authorization", &*bob), ("host", "Admin.Example.Com:80")], 200),
            ("address", vec![("authorization", &*bob), ("host", "[::1]:8082")], 200),
            ("cross-site", vec![("authorization", &*ann), ("sec-fetch-site", "cross-site")], 403),
            ("same-site", vec![("authorization", &*ann), ("sec-fetch-site", "same-site")], 403),
            ("same-origin", vec![("authorization", &*bob), ("sec-fetch-site", "same-origin")], 200),
        ] {
            let reply = office.send(method, path, &headers, body).await;
            assert_eq!(reply.status, expected, "{method} {path} with {name}: {}", reply.text());
            check_headers(&reply);
            // Three of these fail to log in.
            pass(Duration::from_secs(60)).await;
        }
    }
}

fn without_query(path: &str) -> String {
    path.split('?').next().unwrap().to_owned()
}

/// The headers of every answer.
#[track_caller]
fn check_headers(reply: &Reply) {
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert_eq!(reply.header("x-content-type-options").unwrap(), "nosniff");
    assert_eq!(reply.header("referrer-policy").unwrap(), "no-referrer");
    assert_eq!(reply.header("cache-control").unwrap(), "no-store");
    assert_eq!(reply.header("access-control-allow-origin"), None);
    assert_eq!(reply.header("set-cookie"), None);
    let kind = reply.header("content-type").unwrap();
    if reply.status == 200 {
        assert_eq!(kind, "application/json");
        return;
    }
    assert_eq!(kind, "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["status"], reply.status);
    assert!(problem["type"].as_str().unwrap().starts_with("/problems/"), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    for token in [ANN, BOB, EVE] {
        assert!(!reply.text().contains(token), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_of_the_document_has_a_row() {
    let office = Office::open(RULES).await;
    let document = office.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            documented.insert((method.to_uppercase(), path.clone()));
            let codes: BTreeSet<_> = operation["responses"].as_object().unwrap().keys().collect();
            assert!(codes.contains(&"200".to_owned()), "{operation}");
            assert!(operation["description"].is_string() || operation["summary"].is_string());
        }
    }
    let rows: BTreeSet<_> =
        OPERATIONS.iter().map(|row| (row.0.to_owned(), without_query(row.1))).collect();
    assert_eq!(documented, rows);
    // Every reference leads somewhere.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_fails_to_log_in_ten_times_waits_for_the_next_minute() {
    let office = Office::open(RULES).await;
    let login = async |token: &str| {
        office.send("GET", "/v1/status", &[("authorization", &bearer(token))], "").await
    };
    for _ in 0..10 {
        assert_eq!(login(ANN).await.status, 200);
        assert_eq!(login("wrong").await.status, 401);
        // No guess.
        assert_eq!(office.send("GET", "/v1/status", &[], "").await.status, 401);
    }
    for token in ["wrong", ANN] {
        let reply = login(token).await;
        assert_eq!(reply.status, 429, "{}", reply.text());
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        check_headers(&reply);
    }
    pass(Duration::from_secs(60)).await;
    assert_eq!(login(ANN).await.status, 200);
    let metrics = office.service.get("/metrics").await.text();
    for (reason, count) in [("wrong_token", 10), ("no_token", 10), ("too_many_failures", 2)] {
        let line = format!("tollgate_admin_denied_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let office = Office::open(RULES).await;
    let token = bearer(ANN);
    for (method, path, status) in [
        ("GET", "/v2", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/rules/", 404),
        ("GET", "/json", 404),
        ("GET", "/metrics", 404),
        ("POST", "/v1/rules", 405),
        ("DELETE", "/v1/explain", 405),
        ("OPTIONS", "/v1/rules", 405),
    ] {
        let reply = office.send(method, path, &[("authorization", &token)], "").await;
        assert_eq!(reply.status, status, "{method} {path}");
        check_headers(&reply);
        assert_eq!(reply.header("allow").is_some(), status == 405, "{method} {path}");
        // Nothing tells those without a token what exists.
        let reply = office.send(method, path, &[], "").await;
        assert_eq!(reply.status, 401, "{method} {path}");
    }
    for (method, path, parameter) in [
        ("GET", "/v1/rules?limit=0", "limit"),
        ("GET", "/v1/top?by=x", "by"),
        ("GET", "/v1/history?step=1h", "step"),
        ("GET", "/v1/refusals?after=-1", "after"),
        ("GET", "/v1/status?x=%22%3Cimg%3E", "x"),
        ("POST", "/v1/explain?x=1", "x"),
        ("POST", "/v1/simulate?limit=1", "limit"),
        ("POST", "/v1/counters/look?limit=1", "limit"),
        ("POST", "/v1/counters/reset?used=1", "used"),
        ("POST", "/v1/counters/set", "used"),
        ("POST", "/v1/counters/set?used=-1", "used"),
        ("POST", "/v1/counters/set?used=9007199254740992", "used"),
    ] {
        let reply = office.send(method, path, &[("authorization", &token)], CALL).await;
        assert_eq!(reply.status, 400, "{path}");
        check_headers(&reply);
        assert_eq!(reply.json()["errors"][0]["parameter"], parameter, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_seen_with_who_what_and_why() {
    let office = Office::open(RULES).await;
    for _ in 0..5 {
        office.hit("user", "<img onerror=x>\u{202e}").await;
        office.hit("trial", "t").await;
    }
    pass(Duration::from_secs(1)).await;
    let top = office.get("/v1/top?by=refused&window=1m").await;
    let item = &top["items"][0];
    assert_eq!((&top["total"], &top["sampled"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&item["hits"], &item["atLeast"], &item["atMost"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(item["domain"], "shop");
    assert_eq!(item["entries"], json!([{"key": "user", "value": "<img onerror=x>\u{202e}"}]));
    assert_eq!(item["descriptor"], "user=<img onerror=x>\\u{202e}");
    assert_eq!(item["rule"]["name"], "shop.user");
    assert!(item["rule"]["place"].as_str().unwrap().ends_with("rules.yaml:4"), "{item}");
    let shadow = office.get("/v1/top?by=would_refuse&rule=shop.trial").await;
    assert_eq!(shadow["items"][0]["hits"], 4);
    assert_eq!(office.get("/v1/top?by=refused&rule=shop.trial").await["items"], json!([]));

    let refusals = office.get("/v1/refusals").await;
    let first = &refusals["items"][0];
    assert_eq!((&refusals["next"], &refusals["notRecorded"]), (&json!(2), &json!(0)));
    assert_eq!(first["limit"]["text"], "3 per hour");
    assert_eq!(first["limit"]["name"], "users");
    assert_eq!((&first["hits"], &first["remaining"]), (&json!(1), &json!(0)));
    assert_eq!((&first["waitSeconds"], &first["policy"]), (&json!(3_600), &Value::Null));
    assert_eq!(first["at"], "2026-01-01T00:00:00Z");
    let later = office.get("/v1/refusals?after=1&domain=shop&rule=shop.user").await;
    assert_eq!(later["items"].as_array().unwrap().len(), 1);
    assert_eq!(office.get("/v1/refusals?domain=other").await["items"], json!([]));

    let history = office.get("/v1/history?rule=shop.user").await;
    assert_eq!(
        (&history["stepSeconds"], &history["rule"]["name"]),
        (&json!(5), &json!("shop.user"))
    );
    let points = history["points"].as_array().unwrap();
    assert_eq!(points.len(), 120);
    let hits = json!({"passed": 3, "refused": 2, "wouldRefuse": 0, "byPolicy": 0});
    assert_eq!(points[119], json!({"at": "2026-01-01T00:00:00Z", "hits": hits}));
    let all = office.get("/v1/history?step=1m").await;
    assert_eq!(all["points"][359]["hits"]["wouldRefuse"], 4);
    let token = bearer(BOB);
    let headers = [("authorization", &*token)];
    let reply = office.send("GET", "/v1/history?rule=no", &headers, "").await;
    assert_eq!((reply.status, &reply.json()["type"]), (404, &json!("/problems/unknown-rule")));
}

#[tokio::test(start_paused = true)]
async fn the_rules_in_force_are_listed_page_by_page_with_their_use() {
    let office = Office::open(RULES).await;
    for _ in 0..4 {
        office.hit("user", "ann").await;
    }
    pass(Duration::from_secs(1)).await;
    let first = office.get("/v1/rules?limit=1").await;
    let rule = &first["items"][0];
    assert_eq!(rule["rule"]["name"], "shop.user");
    let hits = json!({"passed": 3, "refused": 1, "wouldRefuse": 0, "byPolicy": 0});
    assert_eq!(rule["hits"], json!({"total": hits, "lastMinute": hits}));
    assert_eq!(
        rule["limits"],
        json!([{"name": "users", "text": "3 per hour, name users", "requests": 3,
                "windowSeconds": 3_600, "algorithm": "fixed_window"}])
    );
    let next = first["next"].as_str().unwrap();
    let second = office.get(&format!("/v1/rules?limit=1&after={next}")).await;
    assert_eq!(second["items"][0]["rule"]["name"], "shop.trial");
    assert_eq!((&second["items"][0]["shadowMode"], &second["next"]), (&json!(true), &Value::Null));
    assert_eq!(office.get("/v1/rules?domain=other").await, json!({"items": [], "next": null}));
    let token = bearer(ANN);
    let headers = [("authorization", &*token)];
    let reply = office.send("GET", "/v1/rules?after=9~no", &headers, "").await;
    assert_eq!(reply.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_explained_and_simulated_without_a_charge() {
    let office = Office::open(RULES).await;
    let call = |hits: u32| {
        let mut call: Value = serde_json::from_str(CALL).unwrap();
        call["hitsAddend"] = hits.into();
        call.to_string()
    };
    assert_eq!(office.hit("user", "ann").await, 200);
    for (hits, refused) in [(1, false), (2, false), (3, true), (4_000_000_000, true)] {
        let reply = office.post("/v1/simulate", &call(hits)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let simulation = reply.json();
        assert_eq!(simulation["refused"], refused, "{hits}: {simulation}");
        let limit = &simulation["descriptors"][0]["limits"][0];
        assert_eq!((&limit["used"], &limit["remaining"]), (&json!(1), &json!(2)), "{simulation}");
        assert_eq!(limit["over"], refused);
    }
    let trial = r#"{"domain": "shop", "hitsAddend": 9, "descriptors": [{"entries": [{"key": "trial", "value": "x"}]}]}"#;
    let simulation = office.post("/v1/simulate", trial).await.json();
    assert_eq!((&simulation["refused"], &simulation["wouldRefuse"]), (&json!(false), &json!(true)));

    let explained = office.post("/v1/explain", CALL).await.json();
    let descriptor = &explained["descriptors"][0];
    assert_eq!(
        (&descriptor["matched"], &descriptor["rule"]["key"]),
        (&json!(true), &json!("shop.user"))
    );
    assert_eq!(explained["answer"]["statuses"][0]["limitRemaining"], 2);
    // The first answer is that of unused counters, the second the present one.
    assert_eq!(explained["server"]["statuses"][0]["limitRemaining"], 2);
    let typo = CALL.replace("\"user\"", "\"User\"");
    let explained = office.post("/v1/explain", &typo).await.json();
    assert_eq!(explained["descriptors"][0]["matched"], false);
    assert!(!explained["descriptors"][0]["hints"].as_array().unwrap().is_empty(), "{explained}");

    for _ in 0..2 {
        assert_eq!(office.hit("user", "ann").await, 200);
    }
    assert_eq!(office.hit("user", "ann").await, 429);
    for body in ["", "{", "[]", r#"{"domain": ""}"#, "{\"domain\": \"\u{fffd}"] {
        for path in ["/v1/simulate", "/v1/explain"] {
            let reply = office.post(path, body).await;
            assert_eq!(reply.status, 400, "{body}");
            check_headers(&reply);
        }
    }
    let long = format!("{}{CALL}", " ".repeat(1 << 20));
    assert_eq!(office.post("/v1/simulate", &long).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn the_status_names_the_rules_in_force_and_why_newer_ones_are_not() {
    let clock = Arc::new(ManualClock::default());
    let office = Office::open_with(Arc::clone(&clock) as _, RULES).await;
    let status = office.get("/v1/status").await;
    assert_eq!(status["you"], json!({"name": "ann", "role": "read"}));
    assert_eq!((&status["ready"], &status["problems"]), (&json!(true), &json!([])));
    assert_eq!(status["startedAt"], "2026-01-01T00:00:00Z");
    let rules = &status["rules"];
    let hash = rules["hash"].as_str().unwrap().to_owned();
    assert_eq!((hash.len(), &rules["domains"], &rules["rules"]), (16, &json!(1), &json!(2)));
    assert_eq!(
        (&rules["loadedAt"], &rules["rejected"]),
        (&json!("2026-01-01T00:00:00Z"), &Value::Null)
    );
    assert_eq!(
        (&status["store"]["kind"], &status["store"]["answers"]),
        (&json!("memory"), &json!(true))
    );
    assert_eq!(status["policies"]["decided"][0], json!({"policy": "allow", "limits": 0}));
    let metrics = office.service.get("/metrics").await.text();
    assert!(metrics.contains(&format!("tollgate_rules_info{{hash=\"{hash}\"}} 1\n")), "{metrics}");
    assert!(metrics.contains("tollgate_rules_loaded_timestamp_seconds 1767225600\n"));

    clock.advance(60);
    let changed = async |text: &str, field: &str, old: &Value| {
        office.service.edit("rules.yaml", text);
        for _ in 0..60 {
            pass(Duration::from_secs(1)).await;
            let status = office.get("/v1/status").await;
            if status["rules"][field] != *old {
                return status["rules"].clone();
            }
        }
        panic!("the rules stay as they are");
    };
    let rejected =
        changed("domain: shop\ndescriptors: [{kye: user}]\n", "rejected", &Value::Null).await;
    assert!(rejected["rejected"].as_str().unwrap().contains("rules.yaml:2"), "{rejected}");
    assert_eq!(
        (rejected["hash"].as_str().unwrap(), &rejected["loadedAt"]),
        (&*hash, &rules["loadedAt"])
    );
    let new = changed(&RULES.replace('3', "4"), "hash", &json!(hash)).await;
    assert_eq!(
        (&new["loadedAt"], &new["rejected"]),
        (&json!("2026-01-01T00:01:00Z"), &Value::Null)
    );
    let metrics = office.service.get("/metrics").await.text();
    assert_eq!(metrics.matches("tollgate_rules_info{").count(), 1);
}

const PORT: &str = "62082";

/// A process whose admin API is at an address of its own.
fn settings<'a>(host: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("ADMIN_HOST", host), ("ADMIN_PORT", PORT), ("ADMIN_NAMES", "test")], more].concat()
}

#[test]
fn the_token_of_a_start_is_in_its_file_alone() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("token");
    let host = network::unused_host();
    let name = host.to_string();
    let settings = settings(&name, &[("ADMIN_TOKEN_FILE", file.to_str().unwrap())]);
    let service = Tollgate::start_at(host, RULES, &settings);
    let token = fs::read_to_string(&file).unwrap().trim_end().to_owned();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let address = SocketAddr::new(host.into(), PORT.parse().unwrap());
    let authorization = bearer(&token);
    let reply = http::get(address, "/v1/status", &[("authorization", authorization.as_bytes())]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["you"], json!({"name": "start", "role": "write"}));
    check_headers(&reply);
    let wrong = http::get(address, "/v1/status", &[("authorization", b"Bearer x")]);
    assert_eq!(wrong.status, 401);
    service.wait_for_log("a request to the admin API was refused");
    assert!(!service.log().contains(&token), "{}", service.log());
}

#[test]
fn without_a_token_for_anybody_the_port_is_closed() {
    let host = network::unused_host();
    let name = host.to_string();
    let service = Tollgate::start_at(host, RULES, &settings(&name, &[]));
    service.wait_for_log("the admin API is closed");
    let address = SocketAddr::new(host.into(), PORT.parse().unwrap());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_file_of_tokens_with_a_mistake_ends_the_start() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tokens");
    fs::write(&file, format!("ann read {ANN}\nbob admin {BOB}\n")).unwrap();
    let mut process = Tollgate::launch(RULES, &[("ADMIN_TOKENS_FILE", file.to_str().unwrap())]);
    assert!(!process.wait_for_exit().success());
    let log = process.log();
    assert!(log.contains("tokens:2") && log.contains("expected `read` or `write`"), "{log}");
    assert!(!log.contains(BOB), "{log}");
}

/// Changes counters with the token `BOB`.
async fn change(office: &Office, path: &str, body: &str) -> Reply {
    office.send("POST", path, &[("authorization", &bearer(BOB))], body).await
}

#[tokio::test(start_paused = true)]
async fn a_counter_is_looked_at_reset_and_set() {
    let office = Office::open(RULES).await;
    for status in [200, 200, 200, 429] {
        assert_eq!(office.hit("user", "ann").await, status);
    }
    let reply = office.post("/v1/counters/look", CALL).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let report = reply.json();
    assert_eq!(
        (&report["at"], &report["shadowMode"]),
        (&json!("2026-01-01T00:00:00Z"), &json!(false))
    );
    let descriptor = &report["descriptors"][0];
    assert_eq!(
        (&descriptor["descriptor"], &descriptor["noLimit"]),
        (&json!("user=ann"), &Value::Null)
    );
    assert_eq!(descriptor["rule"]["name"], "shop.user");
    let counter = &descriptor["counters"][0];
    assert_eq!(counter["limit"]["name"], "users");
    assert_eq!((&counter["effect"], &counter["changed"]), (&json!("enforced"), &Value::Null));
    assert_eq!(counter["counter"], "shop|user=ann|3600s@1767225600");
    let found = json!({"used": 4, "remaining": 0, "resetSeconds": 3_600, "bannedSeconds": 0});
    assert_eq!(counter["found"], found);
    // A reset has what was there, and takes effect on the next decision.
    let reset = change(&office, "/v1/counters/reset", CALL).await.json();
    let counter = &reset["descriptors"][0]["counters"][0];
    assert_eq!((&counter["found"], &counter["changed"]), (&found, &json!(true)));
    assert_eq!(office.hit("user", "ann").await, 200);
    let set = change(&office, "/v1/counters/set?used=3&limit=users", CALL).await.json();
    assert_eq!(set["descriptors"][0]["counters"][0]["found"]["used"], 1);
    assert_eq!(office.hit("user", "ann").await, 429);
    let metrics = office.service.get("/metrics").await.text();
    for operation in ["look", "reset", "set"] {
        let labels = format!("{{operation=\"{operation}\",result=\"done\"}}");
        assert!(metrics.contains(&format!("tollgate_counter_operations_total{labels} 1\n")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_counters_tells_why_it_changes_nothing() {
    let office = Office::open(RULES).await;
    let call = |key: &str| CALL.replace("user", key);
    let reply = change(&office, "/v1/counters/reset", &call("nothing")).await;
    let report = reply.json();
    assert_eq!((reply.status, &report["descriptors"][0]["counters"]), (200, &json!([])));
    let reason = "no rule matches nothing=ann as the first entry";
    assert_eq!(report["descriptors"][0]["noLimit"], reason);
    let shadow = change(&office, "/v1/counters/reset", &call("trial")).await.json();
    assert_eq!(shadow["descriptors"][0]["counters"][0]["effect"], "shadow");
    let reply = change(&office, "/v1/counters/reset?limit=%1b[2J", CALL).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let detail = "no limit of these descriptors has this name; expected `users`";
    assert_eq!(reply.json()["detail"], detail);
    let reply = office.post("/v1/counters/reset", CALL).await;
    assert_eq!((reply.status, &reply.json()["type"]), (403, &json!("/problems/read-only")));
}
