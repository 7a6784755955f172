//! Generates Rust from `proto/`, one tree of modules for each protocol, and the
//! descriptors for gRPC reflection. The protobuf compiler is pure Rust, so
//! nothing has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

const SERVICE: &str = "envoy/service/ratelimit/v3/rls.proto";
const HEALTH: &str = "grpc/health/v1/health.proto";
const RULES: &str = "ratelimit/config/ratelimit/v3/rls_conf.proto";
const DISCOVERY: &str = "envoy/service/discovery/v3/ads.proto";

/// The strings of requests that may hold bytes that are not UTF-8: Envoy copies bytes of
/// headers into them unchecked, and a decoder of strings would reject the whole request.
const UNCHECKED_STRINGS: [&str; 3] = [
    ".envoy.service.ratelimit.v3.RateLimitRequest.domain",
    ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry.key",
    ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry.value",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (grpc, xds) = (out.join("grpc"), out.join("xds"));
    fs::create_dir_all(&grpc)?;
    fs::create_dir_all(&xds)?;

    let mut served = protox::compile([SERVICE, HEALTH], ["proto"])?;
    fs::write(grpc.join("descriptors.bin"), served.encode_to_vec())?;
    let replaced = replace_unchecked_strings(&mut served);
    assert_eq!(replaced, UNCHECKED_STRINGS.len(), "fields of {UNCHECKED_STRINGS:?} in proto/");
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::grpc::codec::CheckedCodec")
        .out_dir(grpc)
        .include_file("proto.rs")
        .compile_fds(served)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .out_dir(xds)
        .include_file("proto.rs")
        .compile_fds(protox::compile([DISCOVERY, RULES], ["proto"])?)?;
    Ok(())
}

/// Gives [`UNCHECKED_STRINGS`] the type `bytes`, which has the same encoding, and returns
/// their number. Clients see the descriptors without this change.
fn replace_unchecked_strings(files: &mut FileDescriptorSet) -> usize {
    let mut replaced = 0;
    for file in &mut files.file {
        let package = format!(".{}", file.package());
        for message in &mut file.message_type {
            replaced += replace_in_message(&package, message);
        }
    }
    replaced
}

fn replace_in_message(scope: &str, message: &mut DescriptorProto) -> usize {
    let path = format!("{scope}.{}", message.name());
    let mut replaced = 0;
    for field in &mut message.field {
        if UNCHECKED_STRINGS.contains(&&*format!("{path}.{}", field.name())) {
            field.set_type(Type::Bytes);
            replaced += 1;
        }
    }
    for nested in &mut message.nested_type {
        replaced += replace_in_message(&path, nested);
    }
    replaced
}
