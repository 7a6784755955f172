//! twemproxy, a proxy that sends each key to one of several servers.

use std::{fs, net::TcpListener, path::Path, process::Command};

use tempfile::TempDir;

use super::process::Process;

#[derive(Debug)]
pub struct Nutcracker {
    pub port: u16,
    _process: Process,
    _files: TempDir,
}

impl Nutcracker {
    /// In front of servers of Redis on these ports.
    pub fn start(servers: &[u16]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, stats) = (free(), free().to_string());
        let files = TempDir::new().unwrap();
        let servers: String =
            servers.iter().map(|it| format!("   - 127.0.0.1:{it}:1 of{it}\n")).collect();
        let config = format!(
            "counters:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
             redis: true\n  servers:\n{servers}"
        );
        let path = files.path().join("nutcracker.yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(Self::binary());
        command.arg("-c").arg(path).args(["-a", "127.0.0.1", "-s", &stats]);
        let mut process = Process::start("nutcracker", &mut command, files.path().join("log"));
        process.until("listens", |_| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, _process: process, _files: files }
    }

    /// Debian puts it where only the administrator looks.
    fn binary() -> &'static str {
        let path = "/usr/sbin/nutcracker";
        if Path::new(path).exists() { path } else { "nutcracker" }
    }
}
