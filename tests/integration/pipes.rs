//! What is printed when nobody reads it any more.

use std::{io, process::Command};

use crate::support::tollgate::Tollgate;

fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// Where nobody reads.
fn closed() -> io::PipeWriter {
    io::pipe().unwrap().1
}

#[test]
fn an_error_that_nobody_reads_is_no_crash() {
    let status = tollgate().args(["migrate", "/nowhere"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn an_answer_that_nobody_reads_is_an_error_that_is_said_once() {
    let service = Tollgate::start("domain: shop", &[]);
    let address = service.grpc.to_string();
    let hit = ["hit", "--domain", "shop", "--address", &address, "user=ann"];
    for (arguments, what) in
        [(&hit[..], "the answer"), (&["migrate", "--rules", "config"], "what was found")]
    {
        let output = tollgate().args(arguments).stdout(closed()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let expected = format!("tollgate: cannot write {what}: Broken pipe (os error 32)\n");
        assert_eq!((output.status.code(), error), (Some(2), expected));
    }
}
