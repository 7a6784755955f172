//! The fuzz targets of `fuzz/`, without coverage. The targets `trace` and `redis` are in the
//! unit tests of their modules.
#![allow(clippy::panic, unreachable_pub, reason = "this is all tests")]

use testkit::fuzz;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn mutated_rule_files_compile_or_have_errors_within_the_file() {
    fuzz::run("rules", targets::rules::check);
}

#[test]
fn mutated_json_is_read_as_grpc_is() {
    fuzz::run("json", targets::json::check);
}

#[test]
fn mutated_grpc_requests_are_read_as_json_is() {
    fuzz::run("grpc", targets::grpc::check);
}

#[test]
fn mutated_manifests_are_checked_and_migrated_the_same_twice() {
    fuzz::run("manifest", targets::manifest::check);
}

#[test]
fn mutated_http_requests_have_normalized_descriptors() {
    fuzz::run("mapping", targets::mapping::check);
}
