//! A rate-limit decision service for Envoy, and for anything that speaks gRPC
//! or HTTP.
//!
//! One request walks the modules in this order, and they may depend on one
//! another only backwards, towards the top of the list:
//!
//! | module         | takes                                  | gives                          |
//! |----------------|----------------------------------------|--------------------------------|
//! | [`time`]       |                                        | [`time::Timestamp`]            |
//! | [`duration`]   | a text                                 | a duration                     |
//! | [`net`]        | a text                                 | an address                     |
//! | [`backoff`]    | failures                               | a delay                        |
//! | [`limit`]      | a counter, hits, now                   | [`limit::Outcome`]             |
//! | [`counter`]    | the entries of a descriptor, a limit   | [`counter::CounterRef`]        |
//! | [`descriptor`] |                                        | [`descriptor::Request`]        |
//! | [`rules`]      | [`descriptor::Descriptor`]             | [`rules::Rule`]                |
//! | [`config`]     | [`config::SourceFile`]s                | [`rules::RuleTree`]            |
//! | [`store`]      | [`store::Charge`]s                     | [`limit::Outcome`]s            |
//! | [`engine`]     | [`descriptor::Request`]                | [`engine::decision::Decision`] |
//! | [`metrics`]    | [`engine::decision::Decision`]         | statistics                     |
//! | [`health`]     | what is known of the process           | whether to send it requests    |
//! | [`watch`]      | files                                  | when they have changed         |
//! | [`rule_files`] | a path                                 | [`config::SourceFile`]s        |
//! | [`reload`]     | files that change                      | the rules in force             |
//! | [`tls`]        | files of certificates                  | how connections are encrypted  |
//! | [`spans`]      | what happens with a call               | traces, at a collector         |
//! | [`answer`]     | [`engine::decision::Decision`]         | statuses, headers, metadata    |
//! | [`service`]    | [`descriptor::Request`]                | [`engine::decision::Decision`] |
//! | [`listen`]     | an address                             | connections                    |
//! | [`http`]       | state of the process                   | pages for operators            |
//! | [`grpc`]       | protobuf                               | protobuf                       |
//! | [`json`]       | JSON                                   | JSON                           |
//! | [`xds`]        | what a management server says          | the rules in force             |
//! | [`statsd`]     | statistics                             | lines for servers of statsd    |
//! | [`settings`]   | flags and environment                  | [`settings::Settings`]         |
//! | [`logging`]    | [`settings::LogSettings`]              | log lines                      |
//! | [`cli`]        | the command line                       | [`cli::Command`]               |
//! | [`app`]        | [`settings::Settings`]                 | the running service            |
//!
//! Everything above `store` is pure: no clock, no socket, no lock, no `async`.
//! Only `grpc` and `xds` contain protobuf, each its own; only `spans` OpenTelemetry; only
//! [`time::SystemClock`] asks for the time, and only
//! [`metrics::Metrics::observe`] counts decisions. Rules are never changed: new
//! ones take the place of all old ones, between two requests.
//!
//! To add something: a key in rule files begins in `config::keys`, a setting in
//! `settings::table`, a field of the protocol in `proto/` and then `grpc`, a
//! statistic in `metrics`.

pub mod time;
pub mod duration;
pub mod net;
pub mod backoff;
pub mod limit;
pub mod counter;
pub mod descriptor;
pub mod rules;
pub mod config;
pub mod store;
pub mod engine;
pub mod metrics;
pub mod health;
pub mod watch;
pub mod rule_files;
pub mod reload;
pub mod tls;
pub mod spans;
pub mod answer;
pub mod service;
pub mod listen;
pub mod http;
pub mod grpc;
pub mod json;
pub mod xds;
pub mod statsd;
pub mod settings;
pub mod logging;
pub mod cli;
pub mod app;
