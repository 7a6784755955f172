//! See `tollgate::store::redis::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollgate::store::redis::fuzzing::check_replies(input));
