use std::collections::HashSet;

use super::*;

/// Header lines, with names in lower case.
#[derive(Debug, Default)]
struct Lines(Vec<(String, Vec<u8>)>);

impl Headers for Lines {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        for (found, value) in &self.0 {
            if found == name {
                visit(value);
            }
        }
    }
}

fn lines(list: &[(&str, &str)]) -> Lines {
    Lines(list.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect())
}

fn get<'a>(target: &'a str, headers: &'a Lines) -> HttpRequest<'a> {
    HttpRequest {
        method: Some(b"GET"),
        target: Some(target.as_bytes()),
        host: Some(b"Example.com:443"),
        scheme: Some(b"HTTPS"),
        headers,
        peer: Some("192.0.2.1".parse().unwrap()),
    }
}

fn entry(key: &str, source: Source) -> EntrySpec {
    EntrySpec { key: key.into(), source, default: None }
}

fn header(name: &str) -> Source {
    Source::Header(name.into())
}

fn mapping(descriptors: Vec<Vec<EntrySpec>>) -> Mapping {
    Mapping::new("edge", MappingSpec { descriptors, ..MappingSpec::default() })
}

/// The descriptors, one on each line.
fn text(mapped: Result<Mapped, MappingError>) -> String {
    let request = match mapped {
        Ok(Mapped::Request(request)) => request,
        other => return format!("{other:?}"),
    };
    assert_eq!(request.domain, "edge");
    let mut lines = Vec::new();
    for descriptor in request.descriptors {
        let entries = descriptor.entries.iter();
        let pairs: Vec<_> = entries
            .map(|Entry { key, value }| format!("{}={}", key.escape_ascii(), value.escape_ascii()))
            .collect();
        lines.push(pairs.join(" "));
    }
    lines.join("\n")
}

#[test]
fn each_source_gives_its_part_of_the_request() {
    let claims =
        Source::Claim { header: "x-claims".into(), path: ClaimPath::parse("org.id").unwrap() };
    let sources = vec![
        Source::RemoteAddress,
        Source::MaskedAddress(AddressMask { ipv4: 24, ipv6: 48 }),
        Source::Path,
        Source::RawPath,
        Source::Method,
        Source::Host,
        Source::Scheme,
        header("x-api-key"),
        Source::Query("model".into()),
        Source::Cookie("session".into()),
        claims,
    ];
    let mut descriptors = Vec::new();
    for source in sources {
        let key = source.default_key().unwrap().to_owned();
        descriptors.push(vec![EntrySpec { key, source, default: None }]);
    }
    descriptors.push(vec![entry("k", Source::Constant("v".into()))]);
    let headers = lines(&[
        ("x-api-key", "one"),
        ("cookie", "a=b; session=s"),
        ("x-api-key", "t\u{e9}o"),
        ("x-claims", "eyJvcmciOnsiaWQiOjd9fQ"),
    ]);
    let mapped = mapping(descriptors).map(&get("//%6Cogin?x=1&model=a%20b", &headers));
    assert_eq!(
        text(mapped),
        "remote_address=192.0.2.1\n\
         masked_remote_address=192.0.2.0/24\n\
         path=/login\n\
         raw_path=//%6Cogin\n\
         method=GET\n\
         host=example.com\n\
         scheme=https\n\
         x-api-key=one,t\\xc3\\xa9o\n\
         model=a b\n\
         session=s\n\
         org.id=7\n\
         k=v"
    );
}

#[test]
fn an_entry_without_a_value_drops_its_descriptor_only() {
    let plan =
        EntrySpec { key: "plan".into(), source: header("x-plan"), default: Some("free".into()) };
    let mapping = mapping(vec![
        vec![entry("path", Source::Path)],
        vec![plan.clone()],
        vec![plan, entry("user", header("x-user"))],
    ]);
    let none = lines(&[]);
    assert_eq!(text(mapping.map(&get("/", &none))), "path=/\nplan=free");
    let both = lines(&[("x-plan", "paid"), ("x-user", "ann")]);
    assert_eq!(text(mapping.map(&get("/", &both))), "path=/\nplan=paid\nplan=paid user=ann");
    // A proxy that sets a header to an empty variable may send it or not.
    let empty = lines(&[("x-plan", ""), ("x-user", "")]);
    assert_eq!(text(mapping.map(&get("/", &empty))), "path=/\nplan=free");

    let MappingCourse::Descriptors(course) = mapping.explain(&get("/", &none)).unwrap() else {
        panic!("nothing is skipped");
    };
    let missing = course[2].clone().unwrap_err();
    assert_eq!(missing.key, "user");
    assert_eq!(format!("{} {}", missing.source, missing.why), "the header `x-user` is missing");
}

#[test]
fn a_request_without_any_descriptor_is_not_limited() {
    let mapping = mapping(vec![vec![entry("user", header("x-user"))]]);
    assert_eq!(mapping.map(&get("/", &lines(&[]))), Ok(Mapped::NoDescriptors));
}

#[test]
fn a_part_that_every_request_has_must_be_there() {
    let headers = lines(&[]);
    let nothing = HttpRequest {
        method: None,
        target: Some(b""),
        host: None,
        scheme: None,
        headers: &headers,
        peer: None,
    };
    let errors = [
        (Source::Method, MappingError::NoMethod),
        (Source::Path, MappingError::NoUri),
        (Source::RawPath, MappingError::NoUri),
        (Source::Query("a".into()), MappingError::NoUri),
        (Source::RemoteAddress, MappingError::NoAddress),
        (Source::Host, MappingError::NoHost),
        (Source::Scheme, MappingError::NoScheme),
    ];
    for (source, error) in errors {
        assert_eq!(mapping(vec![vec![entry("k", source)]]).map(&nothing), Err(error));
    }
    // Nothing needs them here.
    let default = |source| EntrySpec { default: Some("none".into()), ..entry("k", source) };
    let mapping = mapping(vec![vec![default(Source::Host), default(Source::Scheme)]]);
    assert_eq!(text(mapping.map(&nothing)), "k=none k=none");
}

/// Otherwise a client could choose to have no limit.
#[test]
fn an_empty_host_does_not_drop_its_descriptor() {
    let headers = lines(&[]);
    let mapping = mapping(vec![vec![entry("host", Source::Host)]]);
    for host in ["", " ", ":80", "."] {
        let request = HttpRequest { host: Some(host.as_bytes()), ..get("/", &headers) };
        assert_eq!(mapping.map(&request), Err(MappingError::NoHost), "{host:?}");
    }
}

#[test]
fn an_absolute_target_has_host_and_scheme() {
    let headers = lines(&[]);
    let mapping = mapping(vec![vec![
        entry("scheme", Source::Scheme),
        entry("host", Source::Host),
        entry("path", Source::Path),
    ]]);
    let request =
        HttpRequest { host: None, scheme: None, ..get("https://A.example:8443/b?c", &headers) };
    assert_eq!(text(mapping.map(&request)), "scheme=https host=a.example path=/b");
    let request = get("http://other/b", &headers);
    assert_eq!(text(mapping.map(&request)), "scheme=https host=example.com path=/b");
}

/// ingress-nginx puts the `Host` of the client in front of the path.
#[test]
fn a_host_with_a_delimiter_forges_neither_host_nor_path() {
    let headers = lines(&[]);
    for source in [Source::Host, Source::Path, Source::RawPath, Source::Query("a".into())] {
        let mapping = mapping(vec![vec![entry("k", source.clone())]]);
        for host in ["x?.example.com", "x#.example.com", "x@a.example", "?", "a.example?"] {
            let target = format!("https://{host}/login?a=b");
            let request = HttpRequest { host: None, scheme: None, ..get(&target, &headers) };
            let mapped = mapping.map(&request);
            assert_eq!(mapped, Err(MappingError::BadAuthority), "{source} of {target}");
        }
    }
    let method = mapping(vec![vec![entry("method", Source::Method)]]);
    assert_eq!(text(method.map(&get("https://x?y/login", &headers))), "method=GET");
}

#[test]
fn all_spellings_of_a_method_have_one_counter() {
    let headers = lines(&[]);
    let mapping = mapping(vec![vec![entry("method", Source::Method)]]);
    for method in ["DELETE", "delete", "Delete"] {
        let request = HttpRequest { method: Some(method.as_bytes()), ..get("/", &headers) };
        assert_eq!(text(mapping.map(&request)), "method=DELETE", "{method}");
        assert_eq!(Source::Method.normalize(method), "DELETE");
    }
}

/// Otherwise a client could choose to have no limit, if the application takes another method
/// for it.
#[test]
fn only_the_method_as_it_is_written_is_skipped() {
    let skip = ConditionSpec { method: TextPattern::parse("OPTIONS"), ..ConditionSpec::default() };
    let spec = MappingSpec {
        skip: vec![skip],
        descriptors: vec![vec![entry("method", Source::Method)]],
        ..MappingSpec::default()
    };
    let mapping = Mapping::new("edge", spec);
    let headers = lines(&[]);
    let map = |method: &str| {
        mapping.map(&HttpRequest { method: Some(method.as_bytes()), ..get("/", &headers) })
    };
    assert_eq!(map("OPTIONS"), Ok(Mapped::Skipped));
    assert_eq!(text(map("options")), "method=OPTIONS");
    assert_eq!(text(map("Options")), "method=OPTIONS");
}

#[test]
fn skipped_requests_have_no_descriptors() {
    let pattern = |text: &str| TextPattern::parse(text);
    let spec = MappingSpec {
        skip: vec![
            ConditionSpec { method: pattern("OPTIONS"), ..ConditionSpec::default() },
            ConditionSpec {
                method: pattern("GET"),
                path: pattern("/health/*"),
                host: pattern("example.com"),
            },
        ],
        descriptors: vec![vec![entry("path", Source::Path)]],
        ..MappingSpec::default()
    };
    let mapping = Mapping::new("edge", spec);
    let headers = lines(&[]);
    let options = HttpRequest { method: Some(b"OPTIONS"), ..get("/", &headers) };
    assert_eq!(mapping.map(&options), Ok(Mapped::Skipped));
    assert_eq!(mapping.map(&get("/health//a?b", &headers)), Ok(Mapped::Skipped));
    assert_eq!(mapping.explain(&get("/health/", &headers)), Ok(MappingCourse::Skipped(1)));
    let elsewhere = HttpRequest { host: Some(b"example.org"), ..get("/health/", &headers) };
    assert_eq!(text(mapping.map(&elsewhere)), "path=/health/");
    assert_eq!(text(mapping.map(&get("/health", &headers))), "path=/health");
    let nameless = HttpRequest { host: None, ..get("/health/", &headers) };
    assert_eq!(text(mapping.map(&nameless)), "path=/health/");
    let unknown = HttpRequest { method: None, ..get("/", &headers) };
    assert_eq!(mapping.map(&unknown), Err(MappingError::NoMethod));
}

#[test]
fn an_application_that_decodes_slashes_serves_no_skipped_request_for_another() {
    let spec = MappingSpec {
        skip: vec![ConditionSpec {
            path: TextPattern::parse("/health/*"),
            ..ConditionSpec::default()
        }],
        descriptors: vec![vec![entry("path", Source::Path)]],
        ..MappingSpec::default()
    };
    let mapping = Mapping::new("edge", spec);
    let headers = lines(&[]);
    for target in ["/health/", "/health/a.b", "/health/a%2Fb", "/health/%2e", "/health/?a=.."] {
        assert_eq!(mapping.map(&get(target, &headers)), Ok(Mapped::Skipped), "{target}");
    }
    // nginx decodes %2F before it resolves dots, .NET takes a backslash for a slash, and
    // servlets leave out a parameter.
    for target in [
        "/health/..%2flogin",
        "/health/a%2F%2e%2E%2F..%2Flogin",
        "/health/%2e.%5clogin",
        "/health/..\\login",
        "/health/..;/login",
    ] {
        let mapped = text(mapping.map(&get(target, &headers)));
        assert!(mapped.starts_with("path=/health/"), "{target}: {mapped}");
    }
}

#[test]
fn an_empty_path_is_a_slash() {
    // nginx sends `?a` for the target `http://h?a`.
    let mapping =
        mapping(vec![vec![entry("raw_path", Source::RawPath), entry("path", Source::Path)]]);
    for target in ["?a", "http://h/?a", "http://h", "#a", "/"] {
        assert_eq!(text(mapping.map(&get(target, &lines(&[])))), "raw_path=/ path=/", "{target}");
    }
}

#[test]
fn a_value_that_is_too_long_is_an_error() {
    let longest = "x".repeat(MOST_VALUE_BYTES);
    let mapping = mapping(vec![vec![entry("key", header("x-key"))]]);
    let fits = lines(&[("x-key", &longest)]);
    assert_eq!(text(mapping.map(&get("/", &fits))).len(), "key=".len() + MOST_VALUE_BYTES);
    let half = "x".repeat(MOST_VALUE_BYTES / 2);
    for values in [&[longest.clone() + "x"][..], &[half.clone(), half], &[longest, String::new()]] {
        let headers = Lines(values.iter().map(|it| ("x-key".into(), it.clone().into())).collect());
        let error = mapping.map(&get("/", &headers)).unwrap_err();
        assert_eq!(error.to_string(), "the header `x-key` has more than 65536 bytes");
    }
    let target = format!("/{}", "a".repeat(MOST_VALUE_BYTES));
    let path = self::mapping(vec![vec![entry("path", Source::Path)]]);
    assert_eq!(path.map(&get(&target, &lines(&[]))), Err(MappingError::TooLong(Source::Path)));
    // Escapes make it longer.
    let target = format!("/{}", "\u{e9}".repeat(MOST_VALUE_BYTES / 4));
    assert_eq!(path.map(&get(&target, &lines(&[]))), Err(MappingError::TooLong(Source::Path)));
}

#[test]
fn all_spellings_of_a_client_have_one_counter() {
    let mapping = mapping(vec![vec![
        entry("remote_address", Source::RemoteAddress),
        entry("path", Source::Path),
    ]]);
    let mut found = HashSet::new();
    for address in ["192.0.2.7", "192.0.2.7:80", "::ffff:192.0.2.7", "203.0.113.9, 192.0.2.7"] {
        for target in ["/login", "//login?a", "/%6cogin#b", "/a/%2e./login"] {
            let headers = lines(&[("x-forwarded-for", address)]);
            found.insert(text(mapping.map(&get(target, &headers))));
        }
    }
    assert_eq!(found, HashSet::from(["remote_address=192.0.2.7 path=/login".to_owned()]));
}

#[test]
fn equal_sources_share_their_value() {
    let key = || entry("key", header("x-key"));
    let mapping = mapping(vec![vec![key()], vec![entry("path", Source::Path), key()]]);
    assert_eq!(mapping.sources.len(), 2);
    let headers = lines(&[("x-key", "ann")]);
    let Ok(Mapped::Request(request)) = mapping.map(&get("/", &headers)) else { panic!("mapped") };
    let (one, two) = (&request.descriptors[0].entries[0], &request.descriptors[1].entries[1]);
    assert_eq!(one.value.as_ptr(), two.value.as_ptr());
}

#[test]
fn every_error_has_a_name() {
    let errors = [
        MappingError::NoMethod,
        MappingError::NoUri,
        MappingError::NoHost,
        MappingError::NoScheme,
        MappingError::NoAddress,
        MappingError::BadAuthority,
        MappingError::BadAddress { position: 1, entry: Vec::new() },
        MappingError::TooLong(Source::Path),
    ];
    assert_eq!(errors.map(|error| error.name()), MappingError::NAMES);
}
