//! See `tollgate::spans::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollgate::spans::fuzzing::check_headers(input));
