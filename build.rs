//! Turns `proto/` into Rust, and what is served of it into the descriptors
//! that reflection serves. The compiler is pure Rust, so nothing has to be
//! installed for it.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const SERVICE: &str = "envoy/service/ratelimit/v3/rls.proto";
const RULES: &str = "ratelimit/config/ratelimit/v3/rls_conf.proto";
const DISCOVERY: &str = "envoy/service/discovery/v3/ads.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let served = protox::compile([SERVICE], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), served.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::wire::codec::CheckedCodec")
        .include_file("proto.rs")
        .compile_fds(protox::compile([SERVICE, DISCOVERY, RULES], ["proto"])?)?;
    Ok(())
}
