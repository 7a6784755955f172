//! The cases that hold for each proxy, whatever it does with requests that are not decided.
//! Each has keys, targets and addresses of its own.

use std::{collections::BTreeMap, thread};

use testkit::unique_value;

use super::{
    client::{Request, unused_peer},
    front::{Front, Kind},
};

/// A claim and its test.
pub type Case = (&'static str, fn(&Front));

pub const CASES: &[Case] = &[
    ("a request reaches the application unchanged, after one check", passes_unchanged),
    ("the sixth request of a key is refused, and tells why", sixth_of_a_key),
    ("the client's X-Forwarded-For does not change its address", forged_addresses),
    ("the client's headers about the target do not change the target", forged_targets),
    ("the client's headers about the method do not change the method", forged_methods),
    ("the query of the client is not read", queries),
    ("each spelling of a path is one path", spellings),
    ("nginx serves no path in which it would take %2F for a slash", escaped_slashes),
    ("methods are counted alike, and a refused HEAD has no body", methods),
    ("a target of any length is no error of the server", long_targets),
    ("a key has any bytes", strange_keys),
    ("a target has any bytes", strange_targets),
    ("a key in two lines is refused, or is one key", two_lines),
    ("a header of 90 to 101 lines is counted or refused", many_lines),
    ("of 100 requests at once, exactly a limit of 50 pass", at_once),
    ("no header lets a request pass beyond its limit", no_way_around),
];

/// An API key with five requests.
fn fresh_key() -> String {
    format!("key-{}", unique_value())
}

/// A path of its own.
fn fresh_path() -> String {
    format!("/{}/", unique_value())
}

fn passes_unchanged(front: &Front) {
    let path = fresh_path();
    let target = format!("{path}a%20b?c=d&e=%2F");
    let request = Request::get(&target).method("POST").key(fresh_key()).body(b"GET / HTTP/1.1\r\n");
    assert_eq!(front.status(&request), 200);
    let received = front.application.requests_for(&path);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].method, "POST");
    assert_eq!(String::from_utf8_lossy(&received[0].target), target);
    assert_eq!(received[0].body, b"GET / HTTP/1.1\r\n");
    front.assert_checks(&path, 1);
}

fn sixth_of_a_key(front: &Front) {
    let (path, key) = (fresh_path(), fresh_key());
    let request = Request::get(&path).key(&key);
    for left in (0..5).rev() {
        let reply = front.send(&request).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        // Caddy would send them to the application.
        if front.kind != Kind::Caddy {
            let state = reply.header("ratelimit").unwrap();
            assert!(state.starts_with(&format!("\"per_key\";r={left};t=")), "{state}");
            assert!(reply.header("ratelimit-policy").is_some());
        }
    }
    let refused = front.send(&request).unwrap();
    assert_eq!(refused.status, 429);
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    let state = refused.header("ratelimit").unwrap();
    assert!(state.starts_with("\"per_key\";r=0;t="), "{state}");
    assert_eq!(refused.header("ratelimit-policy").unwrap(), "\"per_key\";q=5;w=31536000");
    assert_eq!(refused.header("content-type").unwrap(), "application/problem+json");
    assert_eq!(refused.header("cache-control").unwrap(), "no-store");
    let problem = refused.json();
    let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!((problem["type"].as_str(), problem["status"].as_u64()), (Some(kind), Some(429)));
    assert!(!refused.text().contains(&key), "{}", refused.text());
    assert_eq!(front.application.requests_for(&path).len(), 5);
    assert_eq!(front.status(&Request::get("/").key(fresh_key())), 200, "another key");
}

fn forged_addresses(front: &Front) {
    let peer = unused_peer();
    for (number, expected) in [(1, 200), (2, 200), (3, 200), (4, 429)] {
        let address = format!("203.0.113.{number}");
        let request = Request::get("/login").from(peer).header("X-Forwarded-For", address);
        assert_eq!(front.status(&request), expected, "request {number}");
    }
    assert_eq!(front.status(&Request::get("/login")), 200, "another peer");
}

fn forged_targets(front: &Front) {
    let mut request = Request::get("/login");
    for name in ["X-Original-URI", "X-Forwarded-Uri", "X_Forwarded_Uri", "X-Rewrite-URL"] {
        request = request.header(name, "/free");
    }
    request = request.header("X-Original-URL", "http://shop.example/free");
    request = request.header("X-Real-IP", "203.0.113.7").header("Forwarded", "for=203.0.113.7");
    assert_eq!(front.statuses(&request), [200, 200, 200, 429]);
}

fn forged_methods(front: &Front) {
    let request = Request::get("/").method("DELETE");
    let request = request.header("X-Original-Method", "GET").header("X-Forwarded-Method", "GET");
    let request = request.header("X-HTTP-Method-Override", "GET");
    assert_eq!(front.statuses(&request), [200, 200, 429]);
}

fn queries(front: &Front) {
    let request = Request::get("/login?dialect=nginx&domain=none&x=/../free");
    assert_eq!(front.statuses(&request), [200, 200, 200, 429]);
}

fn spellings(front: &Front) {
    let peer = unused_peer();
    let mut passed = 0;
    for path in [
        "/login",
        "//login",
        "/./login",
        "/a/../login",
        "/%6Cogin",
        "/login?b",
        "/a/%2e%2e/login",
        "/login",
    ] {
        let expected = if passed < 3 { 200 } else { 429 };
        let status = front.status(&Request::get(path).from(peer));
        // The proxy may refuse a strange path itself.
        assert!(status == expected || status == 400, "{path}: {status}");
        passed += u32::from(status == 200);
    }
    assert_eq!(passed, 3);
}

fn escaped_slashes(front: &Front) {
    let path = fresh_path();
    for escaped in ["a%2F..%2Flogin", "%2flogin", "..%2flogin"] {
        let status = front.status(&Request::get(format!("{path}{escaped}?b=%2F")));
        // The others and their rules agree that it is no slash.
        let expected = if front.kind == Kind::Nginx { 400 } else { 200 };
        assert_eq!(status, expected, "{escaped}");
    }
    let passed = if front.kind == Kind::Nginx { 0 } else { 3 };
    assert_eq!(front.application.requests_for(&path).len(), passed);
    assert_eq!(front.status(&Request::get(path + "?b=%2F")), 200);
}

fn methods(front: &Front) {
    let key = fresh_key();
    for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "PROPFIND"] {
        assert_eq!(front.status(&Request::get("/").method(method).key(&key)), 200, "{method}");
    }
    let refused = front.send(&Request::get("/").method("HEAD").key(&key)).unwrap();
    assert_eq!((refused.status, refused.body), (429, Vec::new()));
}

fn long_targets(front: &Front) {
    for length in [8_000, 30_000, 60_000, 70_000, 300_000] {
        let path = fresh_path();
        let status = front.status(&Request::get(path.clone() + &"t".repeat(length)));
        assert!(matches!(status, 0 | 200 | 400..500), "{length}: {status}");
        assert_eq!(front.application.requests_for(&path).len(), usize::from(status == 200));
    }
}

fn strange_keys(front: &Front) {
    for strange in [&b"\xe9\xff"[..], "größe".as_bytes(), b"a\tb", b"a\"b;c,d", b"a%00b"] {
        let key = [fresh_key().as_bytes(), strange].concat();
        let request = Request::get("/").key(&key);
        assert_eq!(front.statuses(&request), [200, 200, 200, 200, 200, 429], "{strange:?}");
    }
}

fn strange_targets(front: &Front) {
    for strange in
        [&b"\xe9"[..], "größe".as_bytes(), b"%00", b"%0d%0a", b"\"<>{}|\\^`", b"#a", b"%zz", b";a"]
    {
        let target = [fresh_path().as_bytes(), strange].concat();
        let status = front.status(&Request::get(target));
        assert!(matches!(status, 200 | 400 | 404), "{strange:?}: {status}");
    }
}

fn two_lines(front: &Front) {
    let path = fresh_path();
    let request = Request::get(&path).key(fresh_key()).key(fresh_key());
    if front.kind == Kind::Haproxy {
        assert_eq!(front.status(&request), 400);
        assert_eq!(front.application.requests_for(&path).len(), 0);
        return;
    }
    assert_eq!(front.statuses(&request), [200, 200, 200, 200, 200, 429]);
    if matches!(front.kind, Kind::Nginx | Kind::Caddy) {
        for received in front.application.requests_for(&path) {
            assert_eq!(received.lines_of("x-api-key"), 1, "the application reads what was counted");
        }
        let without = fresh_path();
        assert_eq!(front.status(&Request::get(&without)), 200);
        assert_eq!(front.application.requests_for(&without)[0].lines_of("x-api-key"), 0);
    }
}

/// HAProxy takes 101 headers, and its HTTP client for Lua writes no more than that.
fn many_lines(front: &Front) {
    // Envoy refuses 100 headers, and then waits for a second.
    let envoy = matches!(front.kind, Kind::EnvoyByHttp | Kind::EnvoyByGrpc);
    let step = if envoy { 5 } else { 1 };
    for (name, value) in [("X-Forwarded-For", "192.0.2.1"), ("X-Api-Key", "a")] {
        for lines in (90..=101).step_by(step) {
            let path = fresh_path();
            let mut request = Request::get(&path);
            for _ in 0..lines {
                request = request.header(name, value);
            }
            let status = front.status(&request);
            if (name, lines) == ("X-Forwarded-For", 90) {
                assert_eq!(status, 200);
            }
            let passed = front.application.requests_for(&path).len();
            assert_eq!(passed, usize::from(status == 200), "{lines} lines of {name}: {status}");
            if passed == 1 {
                front.assert_checks(&path, 1);
            }
            let next = Request::get("/").key(fresh_key());
            assert_eq!(front.status(&next), 200, "after {lines} lines of {name}: {status}");
        }
    }
}

fn at_once(front: &Front) {
    let (path, key) = (fresh_path(), format!("partner-{}", unique_value()));
    let request = Request::get(&path).key(key);
    let mut counts = BTreeMap::new();
    thread::scope(|scope| {
        let clients = [(); 100].map(|()| scope.spawn(|| front.status(&request)));
        for client in clients {
            *counts.entry(client.join().unwrap()).or_insert(0) += 1;
        }
    });
    assert_eq!(counts, BTreeMap::from([(200, 50), (429, 50)]));
    assert_eq!(front.application.requests_for(&path).len(), 50);
    // None was sent to the application instead of the service.
    assert_eq!(front.application.requests_for("/check/").len(), 0);
    front.assert_checks(&path, 100);
}

/// Headers that make a check fail, if a proxy passes them on, must not make it pass.
fn no_way_around(front: &Front) {
    let (path, key) = (fresh_path(), fresh_key());
    let used_up = Request::get(&path).key(&key);
    assert_eq!(front.statuses(&used_up), [200, 200, 200, 200, 200, 429]);
    let many = |mut request: Request, name: &str, times: usize| {
        for _ in 0..times {
            request = request.header(name, "a");
        }
        request
    };
    let used_up = || Request::get(&path).key(&key);
    let attempts = [
        ("a control character", used_up().header("X-Other", "\x01")),
        ("a control character in the address", used_up().header("X-Forwarded-For", "\x01")),
        ("a control character in the key", Request::get(&path).key(format!("{key}\x01"))),
        ("120 headers", many(used_up(), "X-Other", 120)),
        ("a header of 40 KB", used_up().header("X-Other", "a".repeat(40_000))),
        ("a header of 200 KB", used_up().header("X-Other", "a".repeat(200_000))),
        ("a header of 900 KB", used_up().header("X-Other", "a".repeat(900_000))),
        ("900 addresses", used_up().header("X-Forwarded-For", "192.0.2.1, ".repeat(900) + "::1")),
        ("no addresses", used_up().header("X-Forwarded-For", "unknown, _hidden")),
        ("900 lines of addresses", many(used_up(), "X-Forwarded-For", 900)),
        ("headers of one hop", {
            let names = "X-Forwarded-For, X-Forwarded-Uri, X-Forwarded-Method";
            used_up().header("Connection", names)
        }),
        ("another protocol", used_up().header("Connection", "Upgrade").header("Upgrade", "h2c")),
    ];
    for (attempt, request) in attempts {
        assert_ne!(front.status(&request), 200, "{attempt}");
        assert_eq!(front.application.requests_for(&path).len(), 5, "{attempt}");
    }
    // The service may refuse a head before the proxy has sent all of it.
    for (headers, times) in [(300, 20), (1_200, 50), (2_500, 20)] {
        let request = many(used_up(), "X-Other", headers);
        // Envoy refuses these without asking, and then waits for a second.
        let envoy = matches!(front.kind, Kind::EnvoyByHttp | Kind::EnvoyByGrpc);
        for _ in 0..if envoy { 2 } else { times } {
            assert_ne!(front.status(&request), 200, "{headers} headers");
        }
    }
    assert_eq!(front.application.requests_for(&path).len(), 5);
}
