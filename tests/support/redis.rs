//! A Redis of the test's own.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
};

use tempfile::TempDir;

use super::process::Process;

#[derive(Debug)]
pub struct Redis {
    port: u16,
    _process: Process,
    _files: TempDir,
}

impl Redis {
    pub fn start() -> Self {
        let files = TempDir::new().unwrap();
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.arg("--dir").arg(files.path());
        let mut process = Process::start("redis-server", &mut command, files.path().join("log"));
        process.until("listens", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Self { port, _process: process, _files: files }
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
