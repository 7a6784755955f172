//! See `tollgate_fuzz::rules`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollgate_fuzz::rules::check(input));
