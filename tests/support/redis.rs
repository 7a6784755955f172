//! A single Redis server.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{network, redis_node::RedisProcess};

/// A Redis server on a port of 127.0.0.1 and on a Unix socket, without persistence. It is
/// killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<RedisProcess>,
    program: PathBuf,
    port: u16,
    password: String,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server without a password.
    pub fn start() -> Self {
        Self::with_password("")
    }

    /// Starts a server that requires `password`.
    pub fn with_password(password: &str) -> Self {
        Self::with_program(Path::new("redis-server"), password)
    }

    /// Starts `program`, which may be another version of Redis, or Valkey.
    pub fn with_program(program: &Path, password: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (program, password) = (program.to_owned(), password.to_owned());
        let mut server = Self { process: None, program, port: 0, password, directory };
        // Another process may take the free port first.
        while server.process.is_none() {
            server.port = network::free_port();
            server.launch();
        }
        server
    }

    /// The TCP port. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1` and the port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn unix_socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// The URL with the password.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// A new connection, independent of the service under test.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Kills the server. Its data is lost.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the server on the same port after [`Self::stop`].
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        self.launch();
        assert!(self.process.is_some(), "another process took port {}", self.port);
    }

    /// Suspends the process: connections stay open and nothing is answered.
    pub fn suspend(&self) {
        self.process.as_ref().unwrap().send_signal("STOP");
    }

    /// Resumes the process after [`Self::suspend`].
    pub fn resume(&self) {
        self.process.as_ref().unwrap().send_signal("CONT");
    }

    /// Leaves `process` empty if the port is taken.
    fn launch(&mut self) {
        let socket = self.unix_socket();
        let _ = std::fs::remove_file(&socket);
        let mut command = std::process::Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--unixsocket", "redis.sock", "--requirepass", &self.password]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.directory.path()).current_dir(self.directory.path());
        // The port may belong to another server, the socket cannot.
        let mut url = format!("unix://{}", socket.display());
        if !self.password.is_empty() {
            url += &format!("?pass={}", self.password);
        }
        let client = redis::Client::open(url).unwrap();
        let is_up = || match client.get_connection() {
            Ok(mut connection) => redis::cmd("PING").exec(&mut connection).is_ok(),
            Err(_) => false,
        };
        self.process = RedisProcess::start(&mut command, is_up);
    }
}
