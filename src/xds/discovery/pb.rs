//! The messages, generated from `proto/`.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

include!(concat!(env!("OUT_DIR"), "/xds/proto.rs"));
