//! Commands with a closed pipe for their output.

use std::{fs::File, io, process::Command};
use testkit::tollgate::Tollgate;

fn tollgate() -> Command {
    Command::new(Tollgate::binary())
}

/// A pipe without a reader.
fn closed() -> io::PipeWriter {
    io::pipe().unwrap().1
}

#[test]
fn an_error_for_a_closed_pipe_is_not_a_crash() {
    let status = tollgate().args(["migrate", "/nowhere"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_command_with_a_closed_pipe_ends_with_its_own_exit_code() {
    let rules = "domain: shop\ndescriptors: [{ key: user, rate_limit: { unlimited: true } }]";
    let service = Tollgate::start(rules, &[]);
    let address = service.grpc.to_string();
    let hit = ["hit", "--domain", "shop", "--address", &address, "user=ann"];
    for arguments in [&hit[..], &["migrate", "--rules", "config"], &["check", "config"], &["-h"]] {
        let output = tollgate().args(arguments).stdout(closed()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    for (arguments, output) in [
        (&["migrate", "--rules", "config"][..], "cannot write the findings: "),
        (&["check", "config"], ""),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let result = tollgate().args(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8(result.stderr).unwrap();
        let expected = format!("tollgate: {output}No space left on device (os error 28)\n");
        assert_eq!((result.status.code(), error), (Some(2), expected));
    }
}

#[test]
fn check_reads_standard_input() {
    for (path, code) in [("k8s/tollgate.yaml", 0), ("k8s/redis.yaml", 2), ("config/edge.yaml", 0)] {
        let input = File::open(path).unwrap();
        let output = tollgate().args(["check", "-"]).stdin(input).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{path}");
    }
}
