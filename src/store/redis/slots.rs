//! The hash slots of Redis Cluster, as in its specification:
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

pub(super) const SLOT_COUNT: u16 = 16_384;

/// Returns the slot of `key`, the result of CLUSTER KEYSLOT.
pub(super) fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOT_COUNT
}

/// Returns the content of the first `{…}`, unless it is empty.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let rest = &key[open + 1..];
    let close = memchr::memchr(b'}', rest)?;
    if close == 0 { None } else { Some(&rest[..close]) }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        let index = (crc >> 8) ^ u16::from(*byte);
        crc = crc << 8 ^ TABLE[usize::from(index)];
    }
    crc
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
    fn slots_match_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in [
            ("", 0),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("bar{foo}{baz}", 12_182),
            ("foo{", crc16(b"foo{") % SLOT_COUNT),
            ("foo{}{bar}", crc16(b"foo{}{bar}") % SLOT_COUNT),
            ("foo{{bar}}", crc16(b"{bar") % SLOT_COUNT),
        ] {
            assert_eq!(key_slot(key.as_bytes()), expected, "{key}");
        }
    }
}
