//! A rate-limit decision service for Envoy, and for anything that speaks gRPC
//! or HTTP.
//!
//! One request walks the modules in this order, and they may depend on one
//! another only backwards, towards the top of the list:
//!
//! | module         | takes                        | gives                        |
//! |----------------|------------------------------|------------------------------|
//! | [`time`]       |                              | [`time::Timestamp`]          |
//! | [`limit`]      | a counter, hits, now         | [`limit::Outcome`]           |
//! | [`descriptor`] |                              | [`descriptor::Request`]      |
//! | [`rules`]      | [`descriptor::Descriptor`]   | [`rules::Rule`]              |
//! | [`config`]     | [`config::SourceFile`]s      | [`rules::RuleTree`]          |
//! | [`rule_files`] | a path                       | [`config::SourceFile`]s      |
//! | [`store`]      | [`store::Charge`]s           | [`limit::Outcome`]s          |
//! | [`engine`]     | [`descriptor::Request`]      | [`engine::decision::Decision`] |
//!
//! Everything above `store` is pure, but for `rule_files`: no clock, no socket,
//! no lock, no `async`.

pub mod time;
pub mod limit;
pub mod descriptor;
pub mod rules;
pub mod config;
pub mod rule_files;
pub mod store;
pub mod engine;
pub mod cli;
