//! The address of the client, among those that proxies tell.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use smallvec::SmallVec;

use super::{HttpRequest, MappingError, source::AddressMask};

/// The most entries of `X-Forwarded-For` that are looked at, from the right.
const MOST_ENTRIES: usize = 100;

/// The way to find the client in `X-Forwarded-For`, whose entries on the left anybody can write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// This many proxies, at least one, have each added an entry: the client is that far from
    /// the right, or the leftmost if there are fewer entries.
    Hops(u8),
    /// The client is the first entry from the right that is in none of these networks, or the
    /// leftmost if all are.
    Proxies(Vec<Network>),
}

impl Default for ClientAddress {
    /// The rightmost entry: the peer of the proxy that asks.
    fn default() -> Self {
        Self::Hops(1)
    }
}

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address: all bits after the prefix are 0.
    address: IpAddr,
    /// The length of the prefix.
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            // `parse` would also accept a sign.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        if bits > most {
            return None;
        }
        Some(match address {
            // Addresses are compared in their canonical form.
            IpAddr::V6(mapped) if mapped.to_ipv4_mapped().is_some() && bits >= 96 => {
                Self::of(address.to_canonical(), bits - 96)
            }
            address => Self::of(address, bits),
        })
    }

    /// Returns true if it contains every IPv4 address, or every IPv6 address.
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// The network of `address` with a prefix of at most `bits`.
    fn of(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                let first = Ipv4Addr::from_bits(address.to_bits() & mask);
                Self { address: first.into(), bits }
            }
            IpAddr::V6(address) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                let first = Ipv6Addr::from_bits(address.to_bits() & mask);
                Self { address: first.into(), bits }
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::of(address, self.bits) == *self
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The network of `address`, as Envoy writes it.
pub(super) fn masked(address: IpAddr, mask: AddressMask) -> String {
    let bits = if address.is_ipv4() { mask.ipv4 } else { mask.ipv6 };
    Network::of(address, bits).to_string()
}

/// The canonical address of the client.
pub(super) fn client(
    trusted: &ClientAddress,
    request: &HttpRequest<'_>,
) -> Result<IpAddr, MappingError> {
    let mut lines: SmallVec<[&[u8]; 4]> = SmallVec::new();
    request.headers.visit("x-forwarded-for", &mut |line| {
        if !line.trim_ascii().is_empty() {
            lines.push(line);
        }
    });
    let mut entries = Vec::new();
    for line in lines.iter().rev() {
        let room = MOST_ENTRIES - entries.len();
        entries.extend(line.rsplit(|byte| *byte == b',').take(room));
    }
    if entries.is_empty() {
        return match request.peer {
            Some(peer) => Ok(peer.to_canonical()),
            None => Err(MappingError::NoAddress),
        };
    }
    match trusted {
        ClientAddress::Hops(hops) => {
            let index = usize::from(*hops).clamp(1, entries.len()) - 1;
            address_at(&entries, index)
        }
        ClientAddress::Proxies(networks) => {
            for index in 0..entries.len() - 1 {
                let address = address_at(&entries, index)?;
                if !networks.iter().any(|network| network.contains(address)) {
                    return Ok(address);
                }
            }
            address_at(&entries, entries.len() - 1)
        }
    }
}

/// The address in the entry at `index`, from the right.
fn address_at(entries: &[&[u8]], index: usize) -> Result<IpAddr, MappingError> {
    const SHOWN_BYTES: usize = 64;
    let entry = entries.get(index).copied().unwrap_or_default().trim_ascii();
    parse(entry).ok_or_else(|| MappingError::BadAddress {
        position: index + 1,
        entry: entry[..entry.len().min(SHOWN_BYTES)].to_vec(),
    })
}

/// Reads an address, with or without a port, and makes it canonical.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    let text = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
                return None;
            }
            return parse_v6(address);
        }
        None => text,
    };
    if text.matches(':').count() > 1 {
        return parse_v6(text);
    }
    let address = match text.split_once(':') {
        Some((address, port)) if is_port(port) => address,
        Some(_) => return None,
        None => text,
    };
    Some(IpAddr::V4(address.parse().ok()?))
}

fn parse_v6(text: &str) -> Option<IpAddr> {
    // The zone of a link-local address is a name on the machine of the proxy.
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    let address: Ipv6Addr = address.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
