//! Generates Rust from `proto/`, one tree of modules for each protocol, and the
//! descriptors for gRPC reflection. The protobuf compiler is pure Rust, so
//! nothing has to be installed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

const SERVICE: &str = "envoy/service/ratelimit/v3/rls.proto";
const AUTHORIZATION: &str = "envoy/service/auth/v3/external_auth.proto";
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

/// Those of the external authorization. The maps among them become lists of entries.
const UNCHECKED_STRINGS_OF_CHECKS: [&str; 11] = [
    ".envoy.config.core.v3.HeaderValue.key",
    ".envoy.config.core.v3.HeaderValue.value",
    ".envoy.config.core.v3.SocketAddress.address",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.method",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.HeadersEntry.key",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.HeadersEntry.value",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.path",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.host",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest.scheme",
    ".envoy.service.auth.v3.AttributeContext.ContextExtensionsEntry.key",
    ".envoy.service.auth.v3.AttributeContext.ContextExtensionsEntry.value",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let grpc = directory(&out, "grpc")?;
    let served = protox::compile([SERVICE, AUTHORIZATION, HEALTH], ["proto"])?;
    fs::write(grpc.join("descriptors.bin"), served.encode_to_vec())?;
    generate_server(grpc, &[SERVICE, HEALTH], &UNCHECKED_STRINGS)?;
    let ext_authz = directory(&out, "ext_authz")?;
    generate_server(ext_authz, &[AUTHORIZATION], &UNCHECKED_STRINGS_OF_CHECKS)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .out_dir(directory(&out, "xds")?)
        .include_file("proto.rs")
        .compile_fds(protox::compile([DISCOVERY, RULES], ["proto"])?)?;
    Ok(())
}

fn directory(out: &Path, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = out.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn generate_server(out: PathBuf, files: &[&str], unchecked: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut files = protox::compile(files, ["proto"])?;
    let replaced = replace_strings(unchecked, &mut files);
    assert_eq!(replaced, unchecked.len(), "fields of {unchecked:?} in proto/");
    for file in &mut files.file {
        // The entries of maps have no place in the source, which prost-build expects of messages.
        file.source_code_info = None;
    }
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::grpc::codec::CheckedCodec")
        .out_dir(out)
        .include_file("proto.rs")
        .compile_fds(files)?;
    Ok(())
}

/// Gives these strings the type `bytes`, which has the same encoding, and returns
/// their number. Clients see the descriptors without this change.
fn replace_strings(strings: &[&str], files: &mut FileDescriptorSet) -> usize {
    let mut replaced = 0;
    for file in &mut files.file {
        let package = format!(".{}", file.package());
        for message in &mut file.message_type {
            replaced += replace_in_message(strings, &package, message);
        }
    }
    replaced
}

fn replace_in_message(strings: &[&str], scope: &str, message: &mut DescriptorProto) -> usize {
    let path = format!("{scope}.{}", message.name());
    let mut replaced = 0;
    for field in &mut message.field {
        if strings.contains(&&*format!("{path}.{}", field.name())) {
            field.set_type(Type::Bytes);
            // A key of a map cannot be `bytes`.
            if let Some(options) = &mut message.options {
                options.map_entry = None;
            }
            replaced += 1;
        }
    }
    for nested in &mut message.nested_type {
        replaced += replace_in_message(strings, &path, nested);
    }
    replaced
}
