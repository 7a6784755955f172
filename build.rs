//! Turns `proto/` into Rust, and into the descriptors that reflection serves.
//! The compiler is pure Rust, so nothing has to be installed for it.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const SERVICE: &str = "envoy/service/ratelimit/v3/rls.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([SERVICE], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::wire::codec::CheckedCodec")
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
