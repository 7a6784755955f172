//! The dashboard in a real Chromium. Pictures of its pages are left in `target/dashboard`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    browser::Browser,
    http::{self, json_request},
    network,
    tollgate::Tollgate,
    wait::eventually,
};

const READER: &str = "ann-reads-0123456789abcdef";
const WRITER: &str = "bob-writes-0123456789abcdef";

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {name: per_user, unit: year, requests_per_unit: 3}}
- {key: trial, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 1}}
";

/// Values with which a client may attack an operator.
const HOSTILE: [&str; 6] = [
    "<img src=x onerror=\"window.pwned=1\">",
    "\"><script>window.pwned=1</script>",
    "\u{202e}nimda",
    "\u{1b}[2Jgone",
    "two\r\nlines",
    "javascript:window.pwned=1",
];

/// One browser at a time: each needs a core.
static TURN: Mutex<()> = Mutex::new(());

/// A service with the admin API, and a browser.
struct Desk {
    service: Tollgate,
    browser: Browser,
    _tokens: TempDir,
}

impl Desk {
    fn open(rules: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let tokens = directory.path().join("tokens");
        fs::write(&tokens, format!("ann read {READER}\nbob write {WRITER}\n")).unwrap();
        let host = network::unused_host();
        let settings = [("ADMIN_TOKENS_FILE", tokens.to_str().unwrap())];
        let service = Tollgate::start_at(host, rules, &settings);
        service.wait_until_ready();
        Self { service, browser: Browser::start(host), _tokens: directory }
    }

    /// The address of a page.
    fn address(&self, fragment: &str) -> String {
        format!("http://{}/{fragment}", self.service.admin)
    }

    fn log_in(&self, token: &str) {
        self.browser.open(&self.address(&format!("#token={token}")));
        self.browser.find("nav a[aria-current]", "Overview");
    }

    /// Follows a link of the bar.
    fn go_to(&self, page: &str) {
        self.browser.click(&self.browser.find("nav a", page));
        self.browser.find("nav a[aria-current]", page);
    }

    fn hit(&self, key: &str, value: &str) -> u16 {
        let body = json_request("shop", &[(key, value)]);
        self.service.post_json(&body).status
    }

    fn save_pictures(&self, name: &str) {
        for (suffix, is_dark) in [("light", false), ("dark", true)] {
            self.browser.prefer_dark(is_dark);
            self.browser.save_picture(&pictures().join(format!("{name}-{suffix}.png")));
        }
    }

    /// Checks what the pages did behind the scenes.
    fn check_silence(&self) {
        assert_eq!(self.browser.console(), [""; 0]);
        let own = self.address("");
        for address in self.browser.requests() {
            // The page of a new window is in the browser itself.
            let is_inside = ["about:", "chrome:", "data:"].iter().any(|it| address.starts_with(it));
            assert!(is_inside || address.starts_with(&own), "{address} was requested");
            assert!(!address.contains(READER) && !address.contains(WRITER), "{address}");
        }
    }
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dashboard")
}

fn turn() -> impl Drop {
    // A test that failed does not matter to the next.
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn an_operator_sees_who_is_refused_and_why_in_two_clicks() {
    let _turn = turn();
    let desk = Desk::open(RULES);
    let browser = &desk.browser;
    desk.log_in(READER);
    assert_eq!(browser.address(), desk.address("#/"));
    browser.find(".headline", "No limited request has arrived");
    browser.find(".answer code", "tollgate hit --domain shop user=test");

    // Its numbers move with the traffic.
    eventually("a refusal on the overview", || {
        desk.hit("user", "ann");
        desk.hit("trial", "ann");
        browser.text().contains("were refused")
    });
    browser.find(".top.refused td", "user=ann");
    browser.find(".top.would_refuse td", "trial=ann");
    browser.find("table a", "shop.user");
    let canvas = browser.run(
        "const canvas = document.querySelector('canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((byte) => byte !== 0)",
    );
    assert_eq!(canvas, json!(true));
    desk.save_pictures("overview");

    desk.go_to("Refused");
    let row = browser.find("table a", "user=ann");
    desk.save_pictures("refused");
    browser.click(&row);
    browser.find(".headline", "It would be refused now: 3 per year (per_user) has 0 left.");
    browser.find(".answer", "rules.yaml:4: 3 per year (per_user)");
    browser.find(".steps li.chosen", "rules.yaml:4 applies");
    browser.find(".facts dd", "rules.yaml:4");
    desk.save_pictures("why");
    desk.check_silence();
}

#[test]
fn the_address_of_an_explanation_can_be_sent_to_others() {
    let _turn = turn();
    let desk = Desk::open(RULES);
    let browser = &desk.browser;
    browser.open(&desk.address("#/why?domain=shop&descriptor=user%3Deve&hits=4"));
    let field = browser.find("label + input", "");
    browser.type_into(&field, "no-such-token-0123456789\n");
    browser.find(".bad-line", "the token is not known");
    browser.type_into(&browser.find("label + input", ""), &format!("{WRITER}\n"));
    browser.find(".headline", "It would be refused now: 3 per year (per_user) has 3 left.");
    assert!(!browser.address().contains(WRITER));

    // The pasted text needs not be clean.
    let refusal = json!({
        "domain": "shop", "descriptors": [{ "entries": ["user=bob"] }],
        "rule": {
            "key": "shop.user", "limit": "3 per year", "name": "per_user", "place": "rules.yaml:4",
            "remaining": 0, "resetSeconds": 61,
        },
    });
    let script = format!(
        "document.getElementById('paste').value = {}",
        json!(format!("[2026-01-01] 429 RL {refusal} \"-\""))
    );
    browser.run(&script);
    browser.click(&browser.find("form button", "Explain"));
    browser.find(".answer", "The refusal said: shop.user at rules.yaml:4, 3 per year (per_user), 0 left, passes after 1 min 1 s.");
    browser.find(".headline", "It would pass now.");
    assert_eq!(browser.address(), desk.address("#/why?domain=shop&descriptor=user%3Dbob"));

    browser.open(&desk.address("#/why?domain=shop&descriptor=usr%3Dbob"));
    browser.find(".bad-line", "No rule applies");
    // Chromium reports the status of the wrong token by itself.
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("status of 401")), "{console:?}");
}

#[test]
fn values_that_clients_choose_are_inert() {
    let _turn = turn();
    let desk = Desk::open(RULES);
    let browser = &desk.browser;
    desk.log_in(READER);
    for value in HOSTILE {
        for _ in 0..4 {
            desk.hit("user", value);
        }
    }
    let long = "x".repeat(65_536);
    for _ in 0..4 {
        desk.hit("user", &long);
    }
    for page in ["Overview", "Refused"] {
        desk.go_to(page);
        for shown in [
            "user=<img src=x onerror=\"window.pwned=1\">",
            "user=\"><script>window.pwned=1</script>",
            "user=\\u{202e}nimda",
            "user=\\u{1b}[2Jgone",
            "user=two\\r\\nlines",
            "user=javascript:window.pwned=1",
            "…",
        ] {
            browser.find("td", shown);
        }
        assert_inert(browser);
    }
    desk.save_pictures("hostile");
    browser.click(&browser.find("td a", "two\\r\\nlines"));
    browser.find(".headline", "It would be refused now");
    browser.find(".steps", "user=two\\r\\nlines");
    assert_inert(browser);

    // In full only on demand.
    let call = json!({ "domain": "shop", "descriptors": [{ "entries": [{ "key": "user", "value": long }] }] });
    browser.run(&format!("document.getElementById('paste').value = {}", json!(call.to_string())));
    browser.click(&browser.find("form button", "Explain"));
    let more = browser.find(".card-head button.more", "+65,");
    assert!(browser.text().len() < 10_000);
    browser.click(&more);
    browser.find(".card-head .whole", &long);
    assert_inert(browser);
    desk.check_silence();
}

fn assert_inert(browser: &Browser) {
    let found = browser.run(
        "return [window.pwned === undefined, document.querySelectorAll('main img, main script').length,
        [...document.querySelectorAll('main a')].every((a) => a.getAttribute('href').startsWith('#/'))]",
    );
    assert_eq!(found, json!([true, 0, true]));
}

#[test]
fn every_page_works_by_keyboard_and_says_what_is_next() {
    let _turn = turn();
    let desk = Desk::open(RULES);
    let browser = &desk.browser;
    desk.log_in(READER);
    assert_eq!(browser.run("return document.querySelectorAll('nav a').length"), json!(5));
    for page in ["Rules", "Health"] {
        desk.go_to(page);
        desk.save_pictures(&page.to_lowercase());
    }
    browser.find(".facts dd", "none rejected");
    browser.find(".facts dd", "ann may read");
    browser.open(&desk.address("#/rules"));

    // Without a pointer: the focus goes through the bar to the first rule.
    let link = browser.find("td a", "shop.user");
    let mut steps = 0;
    let is_there = "return document.activeElement.textContent === 'shop.user'";
    while browser.run(is_there) != json!(true) {
        browser.press(TAB);
        steps += 1;
        assert!(steps < 30, "the focus does not reach {link:?}");
    }
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, json!("solid"));
    browser.press(ENTER);
    browser.find("h1", "shop.user");
    // Only some decisions are counted.
    eventually("the clients of the rule", || {
        desk.hit("user", "ann");
        browser.text().contains("3 in 365 d would refuse 1 of these 1 clients")
    });
    browser.run(
        "const trial = document.getElementById('trial');
        trial.value = 1e12; trial.dispatchEvent(new Event('input'))",
    );
    browser.find(".verdict", "would refuse 0 of these");
    desk.save_pictures("rule");

    // Every control has a name.
    let nameless = browser.run(
        "return [...document.querySelectorAll('input, select, textarea')]
            .filter((it) => !it.labels.length && !it.getAttribute('aria-label')).length",
    );
    assert_eq!(nameless, json!(0));

    // The service ends: the page says so and what to check.
    desk.service.terminate();
    browser.find("#errors", "no answer from");
}

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

#[test]
fn pasted_refusals_of_all_kinds_are_recognised() {
    let _turn = turn();
    let desk = Desk::open(RULES);
    desk.browser.open(&desk.address(""));
    let call = |entries: Value| json!({ "domain": "d", "descriptors": [{ "entries": entries }] });
    let entry = |key: &str, value: &str| json!({ "key": key, "value": value });
    for (text, expected) in [
        (
            r#"{"domain":"d","descriptors":[{"entries":["k=v=w"]}]}"#,
            call(json!([entry("k", "v=w")])),
        ),
        (
            r#"x={ y {"domain":"d","descriptors":[{"entries":[{"key":"k","value":"{"}]}]} z"#,
            call(json!([entry("k", "{")])),
        ),
        (
            r#"{"log":"{\"domain\":\"d\",\"entries\":[{\"key\":\"k\",\"value\":\"v\"}],\"hits\":1}"}"#,
            call(json!([entry("k", "v")])),
        ),
        (r#"429 domain=d descriptors=[{"entries":["k=v"]}] end"#, call(json!([entry("k", "v")]))),
        ("domain: d\nk=a b,l=c\\,d\n", call(json!([entry("k", "a b"), entry("l", "c,d")]))),
        ("tollgate hit --domain d k=v", call(json!([entry("k", "v")]))),
        ("d k=", call(json!([entry("k", "")]))),
        ("nothing of use", Value::Null),
        ("{{{{[[", Value::Null),
        ("", Value::Null),
        (r#"rule={"key":"d.k","limit":"3 per hour","place":"r.yaml:1"}"#, Value::Null),
    ] {
        let found = desk.browser.run_async(&format!(
            "async () => (await import('./ui/paste.js')).read({}).call ?? null",
            json!(text)
        ));
        assert_eq!(found, expected, "{text}");
        // An address brings the same call.
        if !expected.is_null() {
            let again = desk.browser.run_async(&format!(
                "async () => {{
                    const {{callLink}} = await import('./ui/links.js');
                    const {{readParameters}} = await import('./ui/paste.js');
                    return readParameters(new URLSearchParams(callLink('why', {expected}).split('?')[1]));
                }}"
            ));
            assert_eq!(again, expected, "{text}");
        }
    }
}

#[test]
fn the_files_of_the_dashboard_need_no_token_and_have_strict_headers() {
    let tokens = TempDir::new().unwrap();
    let file = tokens.path().join("tokens");
    fs::write(&file, format!("ann read {READER}\n")).unwrap();
    let settings = [("ADMIN_TOKENS_FILE", file.to_str().unwrap())];
    let service = Tollgate::start(RULES, &settings);
    let host = service.admin.to_string();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/ui/main.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
    ] {
        let reply = http::get(service.admin, path, &[("host", host.as_bytes())]);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type").as_deref(), Some(kind));
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
        let policy = reply.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "require-trusted-types-for 'script'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    for path in ["/ui/", "/ui/none.js", "/ui/../main.rs", "/index.html"] {
        let status = http::get(service.admin, path, &[("host", host.as_bytes())]).status;
        assert!([401, 404].contains(&status), "{path}: {status}");
    }
}

#[test]
fn a_link_from_another_site_opens_the_dashboard_and_nothing_else() {
    let tokens = TempDir::new().unwrap();
    let file = tokens.path().join("tokens");
    fs::write(&file, format!("ann read {READER}\n")).unwrap();
    let service = Tollgate::start(RULES, &[("ADMIN_TOKENS_FILE", file.to_str().unwrap())]);
    let host = service.admin.to_string();
    let click = [
        ("host", host.as_bytes()),
        ("sec-fetch-site", b"cross-site"),
        ("sec-fetch-mode", b"navigate"),
        ("sec-fetch-dest", b"document"),
        ("sec-fetch-user", b"?1"),
    ];
    let status =
        |path: &str, headers: &[(&str, &[u8])]| http::get(service.admin, path, headers).status;
    assert_eq!(status("/", &click), 200);
    for path in ["/ui/main.js", "/openapi.json", "/v1/status"] {
        assert_eq!(status(path, &click), 403, "{path}");
    }
    // A script that opens windows, a frame, and a fetch.
    assert_eq!(status("/", &click[..4]), 403);
    assert_eq!(
        status("/", &[&click[..3], &[("sec-fetch-dest", b"iframe"), click[4]]].concat()),
        403
    );
    assert_eq!(status("/", &click[..2]), 403);
}
