//! Generates Rust from `proto/`, one tree of modules for each protocol, and the
//! descriptors for gRPC reflection. The protobuf compiler is pure Rust, so
//! nothing has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const SERVICE: &str = "envoy/service/ratelimit/v3/rls.proto";
const RULES: &str = "ratelimit/config/ratelimit/v3/rls_conf.proto";
const DISCOVERY: &str = "envoy/service/discovery/v3/ads.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (grpc, xds) = (out.join("grpc"), out.join("xds"));
    fs::create_dir_all(&grpc)?;
    fs::create_dir_all(&xds)?;

    let service = protox::compile([SERVICE], ["proto"])?;
    fs::write(grpc.join("descriptors.bin"), service.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::grpc::codec::CheckedCodec")
        .out_dir(grpc)
        .include_file("proto.rs")
        .compile_fds(service)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .out_dir(xds)
        .include_file("proto.rs")
        .compile_fds(protox::compile([DISCOVERY, RULES], ["proto"])?)?;
    Ok(())
}
