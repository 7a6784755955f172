//! `tollgate get`, `reset` and `set`, by the admin API of a running service.

use std::process::Command;

use testkit::{http::json_request, network::unused_host, tollgate::Tollgate};

const RULES: &str = "
domain: demo
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 3, name: per_user}
- key: login
  rate_limit: {unit: year, requests_per_unit: 1, algorithm: sliding_log, penalty: 10m}
- key: two
  rate_limits:
  - {unit: year, requests_per_unit: 5}
  - {unit: year, requests_per_unit: 9, algorithm: token_bucket}
";

/// The result of a command.
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn tollgate(arguments: &[&str]) -> Ended {
    let mut command = Command::new(Tollgate::binary());
    let output = command.args(arguments).env_clear().output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn commands_look_at_reset_and_set_counters() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token").display().to_string();
    let host = unused_host();
    let name = host.to_string();
    let settings = [("ADMIN_HOST", &*name), ("ADMIN_PORT", "62082"), ("ADMIN_TOKEN_FILE", &token)];
    let service = Tollgate::start_at(host, RULES, &settings);
    service.wait_until_ready();
    let url = format!("http://{host}:62082");
    let run = |arguments: &[&str]| {
        let common = ["--domain", "demo", "--admin", &url, "--token-file", &token];
        tollgate(&[&arguments[..1], &common, &arguments[1..]].concat())
    };
    let hit = |key: &str| service.post_json(&json_request("demo", &[(key, "ann")])).status;
    for status in [200, 200, 200, 429] {
        assert_eq!(hit("user"), status);
    }
    let get = run(&["get", "user=ann"]);
    assert_eq!(get.code, Some(0), "{}", get.errors);
    let begin = "user=ann\n  3 per year (per_user): 4 used, 0 remaining, resets in ";
    assert!(get.out.starts_with(begin), "{}", get.out);
    let reset = run(&["reset", "user=ann"]);
    let begin = "user=ann\n  3 per year (per_user): reset, before: 4 used, 0 remaining, resets in ";
    assert!(
        reset.code == Some(0) && reset.out.starts_with(begin),
        "{} {}",
        reset.out,
        reset.errors
    );
    assert_eq!(hit("user"), 200);
    let set = run(&["set", "user=ann", "--used", "3"]);
    assert!(set.out.contains("(per_user): set to 3, before: 1 used"), "{} {}", set.out, set.errors);
    assert_eq!(hit("user"), 429);
    service.wait_for_log("counter reset by start, 4 used before: domain demo: user=ann, ");
    service.wait_for_log("counter set to 3 by start, 1 used before: domain demo: user=ann, ");
    // A reset ends a penalty.
    assert_eq!([hit("login"), hit("login")], [200, 429]);
    assert!(run(&["reset", "login=ann"]).out.contains("penalty for "));
    assert_eq!(hit("login"), 200);
    // One of several limits.
    let several = run(&["set", "two=ann", "--used", "9"]);
    assert_eq!(several.code, Some(2), "{}", several.out);
    assert!(
        several.errors.contains("2 limits apply; name the one to set: `demo|"),
        "{}",
        several.errors
    );
    let limit = "demo|two=ann|token_bucket:31536000s";
    let set = run(&["set", "two=ann", "--used", "9", "--limit", limit]);
    assert_eq!(set.code, Some(0), "{}", set.errors);
    assert_eq!(hit("two"), 429);

    let none = run(&["get", "nobody=ann"]);
    assert_eq!(none.code, Some(3));
    assert!(none.out.contains("no limit: no rule matches nobody=ann"), "{}", none.out);
    let missing = tollgate(&["get", "--domain", "demo", "--admin", &url, "user=ann"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.errors.contains("--token-file"), "{}", missing.errors);
    std::fs::write(directory.path().join("token"), "wrong").unwrap();
    let wrong = run(&["reset", "user=ann"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.errors.contains("answers 401: the token is not known"), "{}", wrong.errors);
}
