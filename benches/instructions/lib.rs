//! Counts the instructions of the hot path, in `benches/instructions.rs`.
