use super::{
    url::{NO_SENTINELS, UNEXPECTED_LIST},
    *,
};

fn list(addresses: &[RedisAddress]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn or_dash(text: Option<&String>) -> &str {
    text.map_or("-", |text| text)
}

fn show(settings: &RedisSettings) -> String {
    let servers = match &settings.servers {
        RedisServers::Single(address) => address.to_string(),
        RedisServers::Cluster(addresses) => list(addresses),
        RedisServers::Sentinel { master, sentinels } => format!("{master} {}", list(sentinels)),
    };
    let Login { username, password } = &settings.login;
    let (username, password) = (or_dash(username.as_ref()), or_dash(password.as_ref()));
    let tls = if settings.tls.is_some() { " tls" } else { "" };
    let mut shown = format!("{servers} {username} {password} {}{tls}", settings.database);
    let Login { username, password } = &settings.sentinel_login;
    if settings.sentinel_login != Login::default() {
        let (username, password) = (or_dash(username.as_ref()), or_dash(password.as_ref()));
        shown.push_str(&format!(", sentinels {username} {password}"));
    }
    shown
}

/// `expected` consists of address, user, password and database.
#[track_caller]
fn check(url: &str, auth: Option<&str>, expected: &str) {
    check_as(RedisType::Single, url, auth, expected);
}

#[track_caller]
fn check_as(kind: RedisType, url: &str, auth: Option<&str>, expected: &str) {
    let found = match RedisSettings::from_url(kind, url, auth, Duration::from_millis(20)) {
        Ok(settings) => show(&settings),
        Err(error) => error,
    };
    assert_eq!(found, expected, "{url}");
}

#[test]
fn every_form_of_an_address_is_parsed() {
    check("redis", None, "redis:6379 - - 0");
    check("my_redis.example:7000", None, "my_redis.example:7000 - - 0");
    check("127.0.0.1:7000", None, "127.0.0.1:7000 - - 0");
    check("[::1]:7000", None, "[::1]:7000 - - 0");
    check("[::1]", None, "[::1]:6379 - - 0");
    check("redis://redis", None, "redis:6379 - - 0");
    check("redis://redis:7000/3", None, "redis:7000 - - 3");
    check("redis://:p%40ss%3f@redis", None, "redis:6379 - p@ss? 0");
    check("redis://redis?password=s%26t", None, "redis:6379 - s&t 0");
    check("redis://a:b@redis/1?username=u&db=3", None, "redis:6379 u b 3");
    check("rediss://redis:7?username=u&password=p", Some("q"), "redis:7 - q 0 tls");
    check("unix:///run/redis.sock?db=2", None, "/run/redis.sock - - 2");
    check("redis://ann:pass@redis:7000/3", None, "redis:7000 ann pass 3");
    check("redis://:pass@[::1]:7000", None, "[::1]:7000 - pass 0");
    check("/run/redis?.sock", None, "/run/redis?.sock - - 0");
    check("unix:///run/redis%20x.sock", None, "/run/redis x.sock - - 0");
    check("rediss://:pass@redis/2", None, "redis:6379 - pass 2 tls");
}

#[test]
fn clusters_and_sentinels_are_lists() {
    let cluster = |url, expected| check_as(RedisType::Cluster, url, None, expected);
    cluster("a:1", "a:1 - - 0");
    cluster("a:1,redis://ann:pass@b,[::1]:3", "a:1,b:6379,[::1]:3 ann pass 0");
    cluster("rediss://a,b", "a:6379,b:6379 - - 0 tls");
    cluster("a/1", "a Redis Cluster has no other database than 0");
    cluster("a,/socket", "the Redis address is a socket; expected host:port,host:port");
    let sentinel = |url, expected| check_as(RedisType::Sentinel, url, Some("p"), expected);
    sentinel("main,a:1,b", "main a:1,b:6379 - p 0");
    sentinel("main,a/3", "main a:6379 - p 3");
    // A password in an address is for the Sentinels.
    sentinel("main,redis://:s@a,redis://:s@b", "main a:6379,b:6379 - p 0, sentinels - s");
    sentinel("main,a,redis://u:s@b", "main a:6379,b:6379 - p 0, sentinels u s");
    for wrong in ["main", "a:1,b:2", ",a:1", "redis://a,b"] {
        sentinel(wrong, NO_SENTINELS);
    }
}

#[test]
fn addresses_that_contradict_each_other_are_an_error() {
    for list in [
        "redis://:secret@a,redis://:secret2@b",
        "redis://ann:secret@a,redis://bob:secret@b",
        "redis://ann:secret@a,redis://:secret@b",
        "redis://a/1,redis://b/2",
        "a/1,b/0",
        "redis://a?db=1,redis://b/2",
        "redis://a,rediss://b",
    ] {
        for (kind, url) in
            [(RedisType::Cluster, list.to_owned()), (RedisType::Sentinel, format!("main,{list}"))]
        {
            let error = RedisSettings::from_url(kind, &url, None, Duration::ZERO).expect_err(&url);
            assert!(error.starts_with("the Redis addresses contradict"), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

#[test]
fn a_list_is_an_error_if_the_type_is_single() {
    for url in [
        "a,b",
        "a:1,b:2",
        "mymaster,10.0.0.1:26379",
        "redis://:secret@a:1,redis://:secret@b:2",
        "rediss://a,b",
    ] {
        check(url, None, UNEXPECTED_LIST);
    }
    check("redis://:se,cret@a", None, "a:6379 - se,cret 0");
    check("/run/a,b.sock", None, "/run/a,b.sock - - 0");
}

#[test]
fn explicit_credentials_replace_credentials_of_the_url() {
    check("redis", Some("pass"), "redis:6379 - pass 0");
    check("redis", Some("ann:pa:ss"), "redis:6379 ann pa:ss 0");
    check("redis", Some(":pass"), "redis:6379 - pass 0");
    check("redis", Some(":pa:ss"), "redis:6379 - pa:ss 0");
    check("/redis.sock", Some("ann:pass"), "/redis.sock ann pass 0");
    check("redis://bob:word@redis/2", Some("ann:pass"), "redis:6379 ann pass 2");
    check("redis://bob:word@redis", Some("pass"), "redis:6379 - pass 0");
    check("redis://bob:word@redis", Some(""), "redis:6379 bob word 0");
}

#[test]
fn errors_do_not_contain_the_password() {
    for url in [
        "",
        ":7000",
        "redis://",
        "redis:secret",
        "redis:99999",
        "redis://:secret@redis/one",
        "redis://:secret@redis:port",
        "redis://:secret#@redis",
        "redis://:secret?@redis",
        "redis://redis?pass=secret",
        "redis://redis?db=secret",
        "redis://redis?password=secret#",
        "redis://secret@redis",
        "http://secret@redis",
        "unix://secret",
        "redis://:%ffsecret@redis",
    ] {
        let error = RedisSettings::parse(url, None, Duration::ZERO).expect_err(url);
        assert!(!error.contains("secret") && error.starts_with("the Redis "), "{url}: {error}");
    }
}

#[test]
fn debug_output_does_not_contain_the_password() {
    let settings = RedisSettings::parse("redis://a:secret@b", None, Duration::ZERO).unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
}
