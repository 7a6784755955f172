//! Which slot of a cluster a key is in: the specification of Redis Cluster,
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

/// How many there are.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of `key`: of what its first `{…}` holds, if that is anything.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|it| *it == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|it| *it == b'}')?;
    (0 < close).then(|| &rest[..close])
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let index = (crc >> 8) ^ u16::from(*byte);
        crc << 8 ^ TABLE[usize::from(index)]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u16;
    while byte < 256 {
        let (mut crc, mut bit) = (byte << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_slots_that_redis_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in [
            ("", 0),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("bar{foo}{baz}", 12_182),
            ("foo{", crc16(b"foo{") % SLOTS),
            ("foo{}{bar}", crc16(b"foo{}{bar}") % SLOTS),
            ("foo{{bar}}", crc16(b"{bar") % SLOTS),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }
}
