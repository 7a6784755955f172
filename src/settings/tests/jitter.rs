//! Jitter of the expiry of counters.

use super::*;
use crate::store::redis::Jitter;

#[test]
fn the_jitter_applies_to_both_redis() {
    let bounds = |text| {
        let env = [
            ("REDIS_URL", "a"),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", "b"),
            ("EXPIRATION_JITTER_MAX_SECONDS", text),
        ];
        match read(&[], &env).unwrap().store {
            StoreSettings::Redis { main, per_second, .. } => {
                [main.jitter, per_second.unwrap().jitter]
            }
            StoreSettings::Memory { .. } => unreachable!(),
        }
    };
    for (text, bound) in [("", 0), ("0", 0), ("-9223372036854775808", 0), ("300", 300)] {
        assert_eq!(bounds(text), [Jitter::below(bound); 2], "{text}");
    }
}
