//! A redis-server with any configuration: a node of a cluster, a replica, a Sentinel.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{FromRedisValue, RedisResult, Value};
use tempfile::TempDir;

use crate::{
    network::free_port,
    process::send_signal,
    wait::{TIMEOUT, eventually},
};

/// A redis-server process. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisProcess(Child);

impl RedisProcess {
    /// Starts `command` and waits until `is_up` returns true. `None` if the process ends
    /// instead, because its port is taken.
    pub(crate) fn start(command: &mut Command, mut is_up: impl FnMut() -> bool) -> Option<Self> {
        let child = command.stdout(Stdio::null()).spawn();
        let missing = "this test needs redis-server, and the versions that tests/setup.sh installs";
        let mut process = Self(child.expect(missing));
        let runs = eventually("redis-server to answer", || {
            if process.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            is_up().then_some(true)
        });
        runs.then_some(process)
    }

    pub(crate) fn send_signal(&self, signal: &str) {
        send_signal(&self.0, signal);
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How servers are started.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    pub program: PathBuf,
    /// Command line arguments besides the address.
    pub arguments: Vec<String>,
    /// Arguments for TLS. With `None`, servers and Sentinels use plain text.
    pub tls: Option<Vec<String>>,
    /// Lines to add to the configuration file of each Sentinel.
    pub sentinel_config: String,
    /// The password that Sentinels require; empty for none.
    pub sentinel_password: String,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self {
            program: "redis-server".into(),
            arguments: Vec::new(),
            tls: None,
            sentinel_config: String::new(),
            sentinel_password: String::new(),
        }
    }
}

impl ServerSetup {
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        for argument in arguments {
            self.arguments.push((*argument).to_owned());
        }
        self
    }
}

/// A redis-server of any kind. It is killed when dropped.
#[derive(Debug)]
pub struct Node {
    process: Option<RedisProcess>,
    /// The port for the test's own queries, always plain text.
    pub port: u16,
    /// The port for clients: the same, or the one with TLS.
    pub client_port: u16,
    setup: ServerSetup,
    directory: TempDir,
}

impl Node {
    /// Starts a server with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::with_setup(ServerSetup::default().with_arguments(arguments))
    }

    pub fn with_setup(setup: ServerSetup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut node = Self { process: None, port: 0, client_port: 0, setup, directory };
        // Another process may take a free port first.
        while node.process.is_none() {
            node.port = free_port();
            node.client_port = if node.setup.tls.is_some() { free_port() } else { node.port };
            node.launch();
        }
        node
    }

    /// Leaves `process` empty if a port is taken.
    fn launch(&mut self) {
        let mut command = Command::new(&self.setup.program);
        command.args(&self.setup.arguments);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        if let Some(tls) = &self.setup.tls {
            command.args(["--tls-port", &self.client_port.to_string()]).args(tls);
        }
        command.current_dir(&self.directory);
        let is_up = || match self.try_query(&["PING"]) {
            Ok(_) => true,
            Err(error) => error.code() == Some("LOADING"),
        };
        self.process = RedisProcess::start(&mut command, is_up);
    }

    /// The value of a command line argument.
    fn argument(&self, name: &str) -> Option<&str> {
        let index = self.setup.arguments.iter().position(|argument| argument == name)?;
        self.setup.arguments.get(index + 1).map(String::as_str)
    }

    /// Runs a command on a new connection.
    ///
    /// # Errors
    /// The server cannot be reached, or replies with an error.
    pub fn try_query(&self, command: &[&str]) -> RedisResult<Value> {
        let password = self.argument("--requirepass").unwrap_or_default();
        let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{}", self.port))?;
        let mut client = client.get_connection_with_timeout(Duration::from_secs(2))?;
        client.set_read_timeout(Some(TIMEOUT))?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut client)
    }

    /// Runs a command and returns its reply as a `T`.
    #[track_caller]
    pub fn query<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let reply = self.try_query(command).unwrap();
        redis::from_redis_value(reply).unwrap()
    }

    /// Runs a command that replies with text. `None` if there is no reply: a server closes
    /// its connections when it is promoted.
    pub fn try_query_text(&self, command: &[&str]) -> Option<String> {
        redis::from_redis_value(self.try_query(command).ok()?).ok()
    }

    /// A field of `INFO section` that is a number.
    #[track_caller]
    pub fn info(&self, section: &str, field: &str) -> u32 {
        info_field(&self.query::<String>(&["INFO", section]), field)
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Adds arguments for the next start.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.setup = self.setup.clone().with_arguments(arguments);
    }

    /// Starts the server on the same ports after [`Self::kill`].
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
}

/// The number behind `field:` in the reply to `INFO`.
#[track_caller]
pub fn info_field(info: &str, field: &str) -> u32 {
    let (_, rest) = info.split_once(&format!("{field}:")).unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

/// How often a server ran `command` since its statistics were reset.
pub fn command_calls(client: &mut redis::Connection, command: &str) -> u32 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(client).unwrap();
    match stats.split_once(&format!("cmdstat_{command}:calls=")) {
        Some((_, rest)) => rest.split(',').next().unwrap().parse().unwrap(),
        None => 0,
    }
}
