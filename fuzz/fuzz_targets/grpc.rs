//! See `tollgate_fuzz::grpc`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollgate_fuzz::grpc::check(input));
