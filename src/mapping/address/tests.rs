use proptest::prelude::*;

use super::*;
use crate::mapping::Headers;

/// The lines of `X-Forwarded-For`.
#[derive(Debug)]
struct Forwarded<'a>(&'a [&'a str]);

impl Headers for Forwarded<'_> {
    fn visit<'h>(&'h self, name: &str, visit: &mut dyn FnMut(&'h [u8])) {
        if name == "x-forwarded-for" {
            self.0.iter().for_each(|line| visit(line.as_bytes()));
        }
    }
}

fn find(
    trusted: &ClientAddress,
    lines: &[&str],
    peer: Option<&str>,
) -> Result<String, MappingError> {
    let request = HttpRequest {
        method: None,
        target: None,
        host: None,
        scheme: None,
        headers: &Forwarded(lines),
        peer: peer.map(|peer| peer.parse().unwrap()),
    };
    client(trusted, &request).map(|address| address.to_string())
}

#[track_caller]
fn check(trusted: &ClientAddress, lines: &[&str], expected: &str) {
    assert_eq!(find(trusted, lines, None).as_deref(), Ok(expected), "{lines:?}");
}

fn networks(list: &[&str]) -> ClientAddress {
    ClientAddress::Proxies(list.iter().map(|text| Network::parse(text).unwrap()).collect())
}

#[test]
fn all_spellings_of_an_address_are_one() {
    let v4 = [
        "192.0.2.7",
        " 192.0.2.7\t",
        "192.0.2.7:80",
        "192.0.2.7:65535",
        "::ffff:192.0.2.7",
        "::FFFF:c000:207",
        "[::ffff:192.0.2.7]:443",
        "203.0.113.9, 192.0.2.7",
        "203.0.113.9,192.0.2.7:1",
    ];
    for spelling in v4 {
        check(&ClientAddress::Hops(1), &[spelling], "192.0.2.7");
    }
    let v6 = [
        "2001:db8::1",
        "2001:DB8:0:0:0:0:0:1",
        "[2001:0db8::0001]",
        "[2001:db8::1]:443",
        "2001:db8::0.0.0.1",
        "2001:db8::1%eth0",
    ];
    for spelling in v6 {
        check(&ClientAddress::Hops(1), &[spelling], "2001:db8::1");
    }
}

#[test]
fn a_text_that_is_no_address_is_an_error() {
    let texts = [
        "unknown",
        "_hidden",
        "unix:",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:http",
        "1.2.3.4:123456",
        "01.2.3.4",
        "[::1",
        "[::1]80",
        "[1.2.3.4]",
        "::1]:80",
        "1.2.3.4,",
        "1.2.3.4/8",
        "\"1.2.3.4\"",
        ":80",
    ];
    for text in texts {
        let found = find(&ClientAddress::Hops(1), &[text], Some("192.0.2.1"));
        assert!(matches!(found, Err(MappingError::BadAddress { position: 1, .. })), "{text}");
    }
}

#[test]
fn a_client_without_forwarded_addresses_is_the_peer() {
    let hops = ClientAddress::default();
    for lines in [&[][..], &[""], &[" ", "\t"]] {
        assert_eq!(find(&hops, lines, Some("::ffff:192.0.2.1")).as_deref(), Ok("192.0.2.1"));
        assert_eq!(find(&hops, lines, None), Err(MappingError::NoAddress));
    }
    assert_eq!(find(&hops, &["192.0.2.2"], Some("192.0.2.1")).as_deref(), Ok("192.0.2.2"));
}

#[test]
fn hops_are_counted_from_the_right_over_all_lines() {
    let lines = ["spoofed, 192.0.2.1", "192.0.2.2,192.0.2.3"];
    check(&ClientAddress::Hops(1), &lines, "192.0.2.3");
    check(&ClientAddress::Hops(2), &lines, "192.0.2.2");
    check(&ClientAddress::Hops(3), &lines, "192.0.2.1");
    // With fewer entries than proxies, the leftmost.
    check(&ClientAddress::Hops(9), &["192.0.2.2", "192.0.2.3"], "192.0.2.2");
    let spoofed = find(&ClientAddress::Hops(9), &lines, None).unwrap_err();
    assert_eq!(
        spoofed.to_string(),
        "the entry of X-Forwarded-For at position 4 from the right is `spoofed`, expected an IP \
         address; the proxies there may be fewer than trusted_hops or trusted_proxies say"
    );
}

#[test]
fn trusted_proxies_are_passed_over_from_the_right() {
    let trusted = networks(&["10.0.0.0/8", "fd00::/8", "192.0.2.1"]);
    check(&trusted, &["203.0.113.1, 203.0.113.2, 10.1.2.3"], "203.0.113.2");
    check(&trusted, &["203.0.113.1", "192.0.2.1, fd12::1, ::ffff:10.0.0.1"], "203.0.113.1");
    check(&trusted, &["192.0.2.2, 192.0.2.1"], "192.0.2.2");
    check(&trusted, &["10.0.0.1, 10.0.0.2"], "10.0.0.1");
    check(&trusted, &["spoofed, 203.0.113.2, 10.1.2.3"], "203.0.113.2");
    let bad = find(&trusted, &["203.0.113.1, unknown, 10.0.0.1"], None);
    assert!(matches!(bad, Err(MappingError::BadAddress { position: 2, .. })), "{bad:?}");
}

#[test]
fn a_long_list_is_read_from_the_right_only() {
    let long = "10.0.0.1, ".repeat(900) + "10.0.0.2";
    check(&networks(&["10.0.0.0/8"]), &[&long], "10.0.0.1");
    let lines = vec!["10.0.0.1, 10.0.0.3"; 900];
    check(&ClientAddress::Hops(200), &lines, "10.0.0.1");
}

#[test]
fn a_network_is_written_as_envoy_writes_it() {
    let mask =
        |address: &str, ipv4, ipv6| masked(address.parse().unwrap(), AddressMask { ipv4, ipv6 });
    assert_eq!(mask("10.20.30.40", 16, 128), "10.20.0.0/16");
    assert_eq!(mask("10.20.30.40", 32, 48), "10.20.30.40/32");
    assert_eq!(mask("10.20.30.40", 1, 48), "0.0.0.0/1");
    assert_eq!(mask("2001:db8:ffff:1::1", 32, 48), "2001:db8:ffff::/48");
    assert_eq!(mask("2001:db8::1", 32, 128), "2001:db8::1/128");
}

#[test]
fn a_network_has_a_prefix_of_its_address() {
    for text in ["10.0.0.1/8", "0.0.0.0/0", "::/0", "fd00::/8", "::1", "::ffff:10.0.0.0/104"] {
        assert!(Network::parse(text).is_some(), "{text}");
    }
    for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10/8", "a", "::/0/0"] {
        assert_eq!(Network::parse(text), None, "{text}");
    }
    assert_eq!(Network::parse("::ffff:10.0.0.0/104"), Network::parse("10.0.0.0/8"));
    assert!(Network::parse("0.0.0.0/0").unwrap().contains("192.0.2.1".parse().unwrap()));
    assert!(!Network::parse("::/0").unwrap().contains("192.0.2.1".parse().unwrap()));
}

proptest! {
    #[test]
    fn the_client_is_the_entry_that_the_outermost_proxy_wrote(
        spoofed in "([0-9.:a-z, ]{0,12})?",
        chain in proptest::collection::vec(any::<u32>(), 1..6),
        splits in proptest::collection::vec(any::<bool>(), 6),
    ) {
        // Each proxy adds its peer, on the same line or on a line of its own.
        let peers: Vec<IpAddr> = chain.iter().map(|bits| Ipv4Addr::from_bits(*bits).into()).collect();
        let mut lines = vec![spoofed];
        for (peer, own_line) in peers.iter().zip(splits) {
            match lines.last_mut() {
                Some(last) if !own_line && !last.is_empty() => *last += &format!(", {peer}"),
                _ => lines.push(peer.to_string()),
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let hops = ClientAddress::Hops(u8::try_from(peers.len()).unwrap());
        prop_assert_eq!(find(&hops, &lines, None), Ok(peers[0].to_string()));
    }

    #[test]
    fn any_entry_is_an_address_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some(address) = parse(&line) {
            prop_assert_eq!(address.to_canonical(), address);
            prop_assert_eq!(parse(address.to_string().as_bytes()), Some(address));
        }
    }
}
