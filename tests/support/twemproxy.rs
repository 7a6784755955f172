//! twemproxy (`nutcracker`), which sends each key to one of several Redis servers.

use std::{fs, net::TcpStream, path::Path, process::Command};

use tempfile::TempDir;

use crate::{network::free_port, process::Process};

#[derive(Debug)]
pub struct Twemproxy {
    pub port: u16,
    _process: Process,
}

impl Twemproxy {
    /// Starts a proxy for the Redis servers on these ports.
    pub fn start(servers: &[u16]) -> Self {
        let (port, statistics) = (free_port(), free_port().to_string());
        let mut config = format!(
            "counters:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
             redis: true\n  servers:\n"
        );
        for server in servers {
            config += &format!("   - 127.0.0.1:{server}:1 of{server}\n");
        }
        let files = TempDir::new().unwrap();
        let path = files.path().join("nutcracker.yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(Self::binary());
        command.arg("-c").arg(path).args(["-a", "127.0.0.1", "-s", &statistics]);
        let mut process = Process::start("nutcracker", &mut command, files);
        process.wait_until("accepts connections", || TcpStream::connect(("127.0.0.1", port)));
        Self { port, _process: process }
    }

    /// Debian installs it in a directory that is only in the `PATH` of root.
    fn binary() -> &'static str {
        let path = "/usr/sbin/nutcracker";
        if Path::new(path).exists() { path } else { "nutcracker" }
    }
}
