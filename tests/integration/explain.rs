//! Each usual mistake of rules and descriptors: one command tells the reason.

use std::process::Command;

use testkit::{network::free_port, tollgate::Tollgate};

const RULES: &str = r#"
domain: shop
descriptors:
- key: tenant
  descriptors:
  - key: user
    rate_limit: { unit: year, requests_per_unit: 3 }
- key: path
  value: /api/*
  rate_limit: { unit: year, requests_per_unit: 50 }
- key: path
  value: /api/login*
  rate_limit: { unit: year, requests_per_unit: 5 }
- key: destination_cluster
  value: outbound|80||shop.svc
  rate_limit: { unit: year, requests_per_unit: 9 }
- key: address
  value: local
  rate_limit: { unit: year, requests_per_unit: 7 }
- key: address
  rate_limit: { unit: year, requests_per_unit: 700 }
- key: free
  rate_limit: { unlimited: true }
"#;

/// The result of a command.
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn tollgate(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(Tollgate::binary());
    command.args(arguments).env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Explains one descriptor of a domain by [`RULES`].
fn explain(domain: &str, descriptor: &str) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    std::fs::write(directory.path().join("empty.yaml"), "domain: empty").unwrap();
    let path = directory.path().to_str().unwrap();
    tollgate(&["explain", "--config", path, "--domain", domain, descriptor], &[])
}

#[test]
fn the_reason_is_one_command_away() {
    for (domain, descriptor, reason) in [
        ("shop", "metal=tin", "no rule applies: the key `metal` is unknown for the first entry\n"),
        (
            "shop",
            "path=/",
            "the key `path` is known for the first entry, but not with the value `/`\n",
        ),
        (
            "shop",
            "tenant=a,usr=ann",
            "no rule applies: the key `usr` is unknown below `tenant` at ",
        ),
        ("Shop", "tenant=a,user=ann", "no rule file has the domain `Shop`; did you mean `shop`?"),
        ("shop", "user=ann,tenant=a", "in another order, `tenant=a,user=ann`, the rule "),
        ("shop", "tenant=a", "the rules below it need more entries: `tenant,user`"),
        (
            "shop",
            "tenant=a,user=ann,path=/",
            "`path=/` is one entry too many: to `tenant=a,user=ann` alone, shop.tenant.user at ",
        ),
        (
            "shop",
            "path=/,tenant=a,user=ann",
            "`path=/` is one entry too many: to `tenant=a,user=ann` alone, shop.tenant.user at ",
        ),
        (
            "shop",
            "path=/cart",
            "hint: the key `path` is known here, the value is not; known here: `path=/api/*` at ",
        ),
        ("empty", "a=b", "no rule applies: the domain has no rules\nanswer "),
        ("shop", "user=ann", "the key `user` belongs elsewhere, in `tenant,user` at "),
        (
            "shop",
            r#"destination_cluster="outbound|80||shop.svc""#,
            "in quotation marks, which are part of the text",
        ),
        (
            "shop",
            "destination_cluster=outbound_80__shop_svc",
            "in punctuation, which statistics show as `_`",
        ),
        (
            "shop",
            "destination_cluster=outbound|80||shop.svc.cluster.local",
            "rules.yaml:14 after a common start",
        ),
        ("shop", "Tenant=a,user=ann", "rules.yaml:4 only in upper and lower case"),
    ] {
        let Ended { code, out, errors } = explain(domain, descriptor);
        assert!(out.contains(reason), "{descriptor}: {out}");
        assert_eq!((code, errors.as_str()), (Some(3), ""), "{descriptor}");
    }
}

#[test]
fn a_rule_that_another_one_hides_is_named() {
    let Ended { code, out, .. } = explain("shop", "path=/api/login/new");
    let hidden = "  shadowed: shop.path_/api/login* at ";
    let reason = "rules.yaml:11 would apply if `path=/api/*` at ";
    assert!(out.contains(hidden) && out.contains(reason), "{out}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_slip_in_a_value_is_named_although_a_rule_applies() {
    let Ended { code, out, .. } = explain("shop", "address=LOCAL");
    let hint = "  hint: the value in `address=LOCAL` differs from `address=local` at ";
    assert!(out.contains(hint) && out.contains(" only in upper and lower case\n"), "{out}");
    assert_eq!(code, Some(0));
}

#[test]
fn rules_with_mistakes_explain_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, RULES.replace("unlimited", "unlimitd")).unwrap();
    for path in [path.to_str().unwrap(), "/nowhere"] {
        let ended = tollgate(&["explain", "--config", path, "--domain", "shop", "a=b"], &[]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.errors);
        assert!(ended.errors.starts_with("error: "), "{}", ended.errors);
        let json =
            tollgate(&["explain", "--json", "--config", path, "--domain", "shop", "a=b"], &[]);
        let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(report["error"], json.errors.trim_end());
        assert_eq!(report["descriptors"], serde_json::json!([]));
    }
}

#[test]
fn a_running_service_is_asked_without_a_charge() {
    let service = Tollgate::start(RULES, &[]);
    let (address, rules) = (service.grpc.to_string(), service.rules_directory());
    let arguments = ["--config", rules.to_str().unwrap(), "--address", &address];
    let descriptor = ["--domain", "shop", "tenant=a,user=ann"];
    let hit = [&["hit", "--address", &address], &descriptor[..]].concat();
    assert_eq!(tollgate(&hit, &[]).code, Some(0));
    for _ in 0..2 {
        let explain = [&["explain"], &arguments[..], &descriptor].concat();
        let Ended { code, out, errors } = tollgate(&explain, &[]);
        let (_, answer) = out.split_once("\nanswer of the running service").unwrap();
        assert!(answer.contains("tenant=a,user=ann: OK, 3 per year, 2 remaining, "), "{out}");
        assert!(!answer.contains("other rules"), "{out}");
        assert_eq!((code, errors.as_str()), (Some(0), ""));
    }
    service.replace_rules("rules.yaml", "domain: shop");
    testkit::wait::eventually("new rules", || service.rules_page().is_empty());
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let arguments = ["explain", "--config", path.to_str().unwrap(), "--address", &address];
    let ended = tollgate(&[&arguments[..], &descriptor].concat(), &[]);
    assert!(ended.out.contains("the running service has other rules than these"), "{}", ended.out);
    drop(service);
    let ended = tollgate(&[&arguments[..], &descriptor].concat(), &[]);
    let expected = format!("\nno answer of the running service: nothing listens at {address}; ");
    assert!(ended.out.starts_with("tenant=a,user=ann\n"), "{}", ended.out);
    assert!(ended.out.contains(&expected), "{}", ended.out);
    assert_eq!(ended.code, Some(2));
}

#[test]
fn hit_tells_loudly_that_no_rule_applies() {
    let service = Tollgate::start(RULES, &[]);
    let (address, port) = (service.grpc.to_string(), service.http.port().to_string());
    let hit = |domain: &str, descriptors: &[&str], port: &str| {
        let arguments = ["hit", "--address", &address, "--domain", domain];
        tollgate(&[&arguments[..], descriptors].concat(), &[("PORT", port)])
    };
    let missing = hit("shop", &["tenant=a,user=ann", "user=ann"], &port);
    assert!(missing.out.starts_with("OK\n"), "{}", missing.out);
    let expected = [
        "tollgate: NO RULE of the domain `shop` applies to `user=ann`\n",
        "/rlconfig shows: the nearest rules that begin with `shop.`: `tenant.user`, ",
        "\nto see the reason: tollgate explain --config RULES --domain shop \
         tenant=a,user=ann user=ann\n",
    ];
    for text in expected {
        assert!(missing.errors.contains(text), "{}", missing.errors);
    }
    assert_eq!(missing.code, Some(3));

    let typo = hit("shp", &["tenant=a,user=ann"], &port);
    assert!(typo.errors.contains(", the nearest: `shop."), "{}", typo.errors);
    assert_eq!(typo.code, Some(3));
    let without_page = hit("shp", &["tenant=a,user=ann"], &free_port().to_string());
    assert!(without_page.errors.contains("the service has no such domain, or"), "{}", typo.errors);
    assert_eq!(without_page.code, Some(3));

    let unlimited = hit("shop", &["free=x"], &port);
    assert!(unlimited.out.contains("free=x: OK, unlimited\n"), "{}", unlimited.out);
    assert_eq!((unlimited.code, unlimited.errors.as_str()), (Some(0), ""));
}

#[test]
fn hit_tells_that_another_rule_replaces_a_limit() {
    let rules = "
domain: shop
descriptors:
- key: user
  rate_limit: { name: base, unit: year, requests_per_unit: 1 }
- key: plan
  rate_limit: { unit: year, requests_per_unit: 9, replaces: [{ name: base }] }
";
    let service = Tollgate::start(rules, &[]);
    let (address, port) = (service.grpc.to_string(), service.http.port().to_string());
    let hit = |descriptors: &[&str]| {
        let arguments = ["hit", "--address", &address, "--domain", "shop"];
        tollgate(&[&arguments[..], descriptors].concat(), &[("PORT", &port)])
    };
    let replaced = hit(&["user=ann", "plan=paid"]);
    assert!(replaced.out.contains("user=ann: OK, no limit\n"), "{}", replaced.out);
    assert_eq!(
        replaced.errors,
        "tollgate: `user=ann` is NOT LIMITED in this request: the rule of another descriptor \
         replaces its rule\n\
         to see the reason: tollgate explain --config RULES --domain shop user=ann plan=paid\n"
    );
    assert_eq!(replaced.code, Some(3));
    let both = hit(&["user=ann", "plan=paid", "usr=ann"]);
    assert!(both.errors.contains("`user=ann` is NOT LIMITED"), "{}", both.errors);
    assert!(both.errors.contains("NO RULE of the domain `shop` applies to `usr=ann`\n"));
    assert!(!both.errors.contains("or another descriptor's rule"), "{}", both.errors);
    // The questions charged nothing.
    let alone = hit(&["user=ann"]);
    assert!(alone.out.contains("user=ann: OK, 1 per year (base), 0 remaining"), "{}", alone.out);
}

#[test]
fn test_has_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop_test.yaml");
    std::fs::write(directory.path().join("rules.yaml"), RULES).unwrap();
    for (remaining, code, result) in
        [("2", 0, "0 failed"), ("9", 1, "1 failed"), ("x", 2, "0 failed")]
    {
        let step = format!(
            "{{ domain: shop, descriptors: ['tenant=a,user=b'], expect: {{ remaining: {remaining} }} }}"
        );
        let text = format!("rules: rules.yaml\ntests: [{{ name: a, steps: [{step}] }}]\n");
        std::fs::write(&path, text).unwrap();
        let ended = tollgate(&["test", path.to_str().unwrap()], &[]);
        assert_eq!(ended.code, Some(code), "{}{}", ended.out, ended.errors);
        assert!(ended.out.ends_with(&format!("{result}\n")), "{}", ended.out);
    }
}
