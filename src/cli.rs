//! The commands beside the server itself.

pub mod check;
