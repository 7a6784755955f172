//! See `tollgate_fuzz::mapping`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollgate_fuzz::mapping::check(input));
