//! Checks on the wire: bodies that never come, long heads, and any bytes.

use super::*;

/// The whole answer to these bytes, up to the end of the connection.
async fn send(service: &InProcess, bytes: &[u8]) -> String {
    let connection = service.dialers.http.connect().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut reply = Vec::new();
    let exchange = async { tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut reply)) };
    timeout(Duration::from_secs(30), exchange).await.expect("an end").1.unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

fn head(version: &str, more: &str) -> String {
    format!(
        "GET /check/forwarded/edge {version}\r\nhost: a\r\nx-forwarded-method: GET\r\n\
         x-forwarded-uri: /\r\nx-forwarded-for: 192.0.2.1\r\n{more}\r\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_check_is_answered_without_its_body() {
    let service = start().await;
    for body in ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"] {
        for expect in ["", "expect: 100-continue\r\n"] {
            let begin = Instant::now();
            let reply =
                send(&service, head("HTTP/1.1", &(body.to_owned() + expect)).as_bytes()).await;
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
            assert!(!reply.contains("100 Continue"), "{reply}");
            assert!(begin.elapsed() < Duration::from_secs(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_never_taken_for_a_request() {
    let service = start().await;
    let smuggled = head("HTTP/1.1", "x-api-key: smuggled\r\n");
    let length = format!("content-length: {}\r\n", smuggled.len());
    let early = head("HTTP/1.1", &length) + &smuggled;
    for late in [false, true] {
        let connection = service.dialers.http.connect().await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(connection);
        let first = if late { head("HTTP/1.1", &length) } else { early.clone() };
        writer.write_all(first.as_bytes()).await.unwrap();
        if late {
            reader.read_u8().await.unwrap();
            // The connection may be closed already.
            let _ = writer.write_all(smuggled.as_bytes()).await;
        }
        let mut reply = Vec::new();
        // An open connection waits for the next request.
        let _ = timeout(Duration::from_secs(30), reader.read_to_end(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.matches("TP/1.1 ").count() == 1, "{reply}");
    }
    assert_eq!(checks(&service, "forwarded", "edge", "allowed").await, 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_check() {
    let service = start().await;
    let mut stream = service.dialers.http.connect().await.unwrap();
    for _ in 0..3 {
        stream.write_all(head("HTTP/1.1", "").as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            reply.push(stream.read_u8().await.unwrap());
        }
        assert!(reply.starts_with(b"HTTP/1.1 200 OK"));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn http_1_0_is_answered() {
    let service = start().await;
    let reply = send(&service, head("HTTP/1.0", "content-length: 5\r\n").as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.0 200 OK\r\n"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn long_heads_are_checked_up_to_a_bound() {
    let service = start().await;
    let cookies = [("x-filler", &b"y"[..]); 240];
    let long = "c".repeat(100_000).into_bytes();
    let longer = "c".repeat(140_000).into_bytes();
    let target = format!("/{}", "p".repeat(60_000));
    for (more, uri, status) in [
        (&cookies[..], "/", 200),
        (&[("x-filler", &b"y"[..]); 260], "/", 431),
        (&[("cookie", &long)], "/", 200),
        (&[("cookie", &longer)], "/", 431),
        (&[], &target, 200),
    ] {
        let headers = [forwarded(&[("x-forwarded-uri", uri)]), more.to_vec()].concat();
        let reply = service.http("GET", "/check/forwarded/edge", &headers, b"").await;
        assert_eq!(reply.status, status, "{} headers", more.len());
    }
    let path = format!("/check/envoy/edge{target}");
    let address = [("x-forwarded-for", &b"192.0.2.1"[..])];
    assert_eq!(service.http("GET", &path, &address, b"").await.status, 200);
    let entries = ["192.0.2.1"; 900].join(",");
    let long_list = check(&service, &[("x-forwarded-for", &entries)]).await;
    assert_eq!(long_list.status, 200);
}

#[tokio::test(start_paused = true)]
async fn any_bytes_in_a_value_are_counted_as_they_are() {
    let service = start().await;
    for key in [&b"\xe9\xff"[..], "größe".as_bytes(), b"a\tb", b"a, b", b"{\"a\": \"b\"}"] {
        let headers = [forwarded(&[]), vec![("x-api-key", key)]].concat();
        for status in [200, 200, 200, 200, 200, 429] {
            let reply = service.http("GET", "/check/forwarded/edge", &headers, b"").await;
            assert_eq!(reply.status, status, "{}", key.escape_ascii());
        }
    }
    let two = [forwarded(&[]), vec![("x-api-key", &b"one"[..]), ("x-api-key", b"two")]].concat();
    for status in [200, 200, 200, 200, 200, 429] {
        let reply = service.http("GET", "/check/forwarded/edge", &two, b"").await;
        assert_eq!(reply.status, status);
    }
    assert_eq!(check(&service, &[("x-api-key", "one")]).await.status, 200);
    for uri in
        [&b"/caf\xe9"[..], "/größe".as_bytes(), b"/%00", b"/%0d%0a", b"/\"<>{}|", b"\xff", b"a"]
    {
        let mut headers = forwarded(&[]);
        headers.retain(|(name, _)| *name != "x-forwarded-uri");
        headers.push(("x-forwarded-uri", uri));
        let reply = service.http("GET", "/check/forwarded/edge", &headers, b"").await;
        assert_eq!(reply.status, 200, "{}", uri.escape_ascii());
    }
}

/// Whatever follows the domain in the path and in the headers, the check is one of `edge`,
/// which refuses none of these, or an error of the client.
#[tokio::test(start_paused = true)]
async fn no_bytes_lead_to_another_domain() {
    let service = start().await;
    let mut random = fastrand::Rng::with_seed(7);
    let parts: [&[u8]; 14] = [
        b"/",
        b"..",
        b"%2F",
        b"%2e",
        b"trap",
        b"/check/envoy/trap",
        b"?domain=trap",
        b"%",
        b"%00",
        b"http://trap/",
        b"\xc3\xa9",
        b"\xe9",
        b";",
        b"://",
    ];
    for number in 0..400 {
        let mut rest = Vec::new();
        for _ in 0..random.usize(0..8) {
            rest.extend_from_slice(random.choice(&parts).unwrap());
        }
        let mut value = rest.clone();
        value.push(random.u8(0x21..));
        let mut request = b"GET /check/envoy/edge/".to_vec();
        request.extend_from_slice(&rest);
        request.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        request.extend_from_slice(&value);
        // No key comes twice.
        request.extend_from_slice(format!("\r\nx-api-key: {number}-").as_bytes());
        request.extend_from_slice(&value);
        for name in ["x-forwarded-for", "x-forwarded-uri", "x-forwarded-method"] {
            request.extend_from_slice(format!("\r\n{name}: ").as_bytes());
            request.extend_from_slice(if name.ends_with("for") { b"192.0.2.1" } else { &value });
        }
        request.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        let reply = send(&service, &request).await;
        let status: u16 =
            reply.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_default();
        assert!([200, 400].contains(&status), "{}: {reply}", request.escape_ascii());
    }
    for result in ["allowed", "refused"] {
        assert_eq!(checks(&service, "envoy", "trap", result).await, 0.0);
    }
    assert!(100.0 < checks(&service, "envoy", "edge", "allowed").await);
}
