//! A rate-limit decision service for Envoy, and for anything that speaks gRPC
//! or HTTP.
//!
//! The modules in the order of their dependencies: a module uses only modules above
//! it. Below a module, two siblings never use each other, not even through others; a child
//! may use the types of its parent, which uses the child. A request comes in through [`listen`] and a protocol, passes [`service`] and
//! [`engine`], and reaches [`store`].
//!
//! | module         | input                                  | output                         |
//! |----------------|----------------------------------------|--------------------------------|
//! | [`time`]       |                                        | [`time::Timestamp`]            |
//! | [`duration`]   | text                                   | a duration                     |
//! | [`printable`]  | text of others                         | text that is safe to print     |
//! | [`net`]        | text                                   | an address                     |
//! | [`causes`]     | an error                               | its text with all sources      |
//! | [`backoff`]    | failures                               | a delay                        |
//! | [`warnings`]   | errors that repeat                     | a log line a minute            |
//! | [`trust`]      | certificates of other processes        | whether they are accepted      |
//! | [`time_zones`] | names                                  | time zones                     |
//! | [`limit`]      | a counter, hits, the time              | [`limit::Outcome`]             |
//! | [`counter`]    | entries of a descriptor, a limit       | [`counter::CounterRef`]        |
//! | [`descriptor`] |                                        | [`descriptor::Request`]        |
//! | [`mapping`]    | HTTP requests                          | [`descriptor::Request`]        |
//! | [`rules`]      | [`descriptor::Descriptor`]             | [`rules::Rule`]                |
//! | [`config`]     | [`config::SourceFile`]s                | [`rules::RuleTree`]            |
//! | [`store`]      | [`store::Charge`]s                     | [`limit::Outcome`]s            |
//! | [`engine`]     | [`descriptor::Request`]                | [`engine::decision::Decision`] |
//! | [`metrics`]    | [`engine::decision::Decision`]         | statistics                     |
//! | [`live`]       | [`engine::decision::Decision`]         | top names, refusals, history   |
//! | [`health`]     | events in the process                  | whether to send it requests    |
//! | [`watch`]      | files                                  | their changes                  |
//! | [`rule_files`] | a path                                 | [`config::SourceFile`]s        |
//! | [`reload`]     | changes of files                       | the active rules               |
//! | [`tls`]        | certificate files                      | the TLS of the servers         |
//! | [`spans`]      | calls                                  | traces for a collector         |
//! | [`answer`]     | [`engine::decision::Decision`]         | statuses, headers, metadata    |
//! | [`decision_log`] | [`engine::decision::Decision`]       | log lines                      |
//! | [`service`]    | [`descriptor::Request`]                | [`engine::decision::Decision`] |
//! | [`budget`]     | bytes of calls in flight               | whether there is room          |
//! | [`listen`]     | an address                             | connections                    |
//! | [`http`]       | state of the process                   | health checks and pages        |
//! | [`grpc`]       | `RateLimitRequest` of Envoy            | `RateLimitResponse`            |
//! | [`ext_authz`]  | `CheckRequest` of Envoy                | `CheckResponse`                |
//! | [`json`]       | JSON                                   | JSON                           |
//! | [`check`]      | HTTP requests of proxies               | HTTP statuses                  |
//! | [`explain`]    | [`descriptor::Request`]                | the rule that applies, and why |
//! | [`admin`]      | requests of operators                  | JSON                           |
//! | [`xds`]        | rules from a management server         | the active rules               |
//! | [`statsd`]     | statistics                             | packets for StatsD servers     |
//! | [`settings`]   | flags and environment                  | [`settings::Settings`]         |
//! | [`logging`]    | [`settings::LogSettings`]              | log lines                      |
//! | [`cli`]        | the command line                       | [`cli::Command`]               |
//! | [`app`]        | [`settings::Settings`]                 | the running service            |
//!
//! `duration`, `printable`, `net`, `limit`, `counter`, `descriptor`, `mapping`, `rules` and `config`
//! are pure: no clock, no socket, no file, no lock, no `async`; but the time zones that `config`
//! is given may read their files. Only `grpc`, `ext_authz`
//! and `xds` contain protobuf, each its own; only `spans` contains OpenTelemetry, and only
//! `metrics` contains Prometheus. Only [`time::SystemClock`] reads the time of day for decisions.
//! Rules never change: new rules replace all old ones between two requests.
//! `tests/architecture` checks this in the product code of every file, by the names in it,
//! except the last sentence; a lint of clippy checks the clock.
//!
//! To add something, start here, and see CONTRIBUTING.md:
//!
//! | addition               | first file                                          |
//! |------------------------|-----------------------------------------------------|
//! | a key in rule files    | `config/keys.rs`                                    |
//! | an algorithm           | `limit/algorithm.rs`, a file with its Lua twin in `limit/` |
//! | a setting              | `settings/table/`, then `settings/parts/`           |
//! | a statistic            | `metrics/process_statistics.rs`                     |
//! | an HTTP protocol       | a module like `json`, and one line in `app`         |
//! | a page for operators   | `http.rs`                                           |
//! | a field of Envoy's API | `proto/`, then `grpc`, `json` and `descriptor/envoy.rs` |

pub mod time;
pub mod duration;
pub mod printable;
pub mod net;
pub mod causes;
pub mod backoff;
pub mod warnings;
pub mod trust;
pub mod time_zones;
pub mod limit;
pub mod counter;
pub mod descriptor;
pub mod mapping;
pub mod rules;
pub mod config;
pub mod store;
pub mod engine;
pub mod metrics;
pub mod live;
pub mod health;
pub mod watch;
pub mod rule_files;
pub mod reload;
pub mod tls;
pub mod spans;
pub mod answer;
pub mod decision_log;
pub mod service;
pub mod budget;
pub mod listen;
pub mod http;
pub mod grpc;
pub mod ext_authz;
pub mod json;
pub mod check;
pub mod explain;
pub mod admin;
pub mod xds;
pub mod statsd;
pub mod settings;
pub mod logging;
pub mod cli;
pub mod app;
