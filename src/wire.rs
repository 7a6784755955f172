//! The protocol's messages, and what they mean.

/// The messages as `build.rs` generates them.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub)]
#[allow(clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}
