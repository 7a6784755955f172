//! Replies of Redis servers, Redis Cluster nodes and Sentinels.
//!
//! The input is a sequence of replies in the Redis protocol.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::store::redis::fuzzing::check_replies;

fuzz_target!(|input: &[u8]| check_replies(input));
