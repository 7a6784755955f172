//! One server of several, for tests.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// What to run.
    pub(crate) program: PathBuf,
    /// What each server is told besides.
    pub(crate) arguments: Vec<String>,
    /// What each server, and each Sentinel, is told that is encrypted; none means
    /// that nothing is.
    pub(crate) tls: Option<Vec<String>>,
    /// More lines in the file of each Sentinel.
    pub(crate) sentinel: String,
    /// What Sentinels demand; empty for nothing.
    pub(crate) sentinel_password: String,
}

impl Default for Setup {
    fn default() -> Self {
        let program = "redis-server".into();
        let (sentinel, sentinel_password) = (String::new(), String::new());
        Self { program, arguments: Vec::new(), tls: None, sentinel, sentinel_password }
    }
}

impl Setup {
    pub(crate) fn tell(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|it| (*it).to_owned()));
        self
    }
}

/// A redis-server of any kind. It ends with this.
#[derive(Debug)]
pub(crate) struct Node {
    child: Option<Child>,
    /// Where it is asked here, never encrypted.
    pub(crate) port: u16,
    /// Where others ask it.
    pub(crate) service: u16,
    setup: Setup,
    directory: TempDir,
}

impl Node {
    /// Starts a server on a free port, with these arguments besides.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::of(Setup::default().tell(arguments))
    }

    /// Starts a server on free ports.
    pub(crate) fn of(setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut node = Self { child: None, port: 0, service: 0, setup, directory };
        while node.child.is_none() {
            node.port = free_port();
            node.service = if node.setup.tls.is_some() { free_port() } else { node.port };
            node.launch();
        }
        node
    }

    fn launch(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new(&self.setup.program);
        command.args(&self.setup.arguments).args(["--bind", "127.0.0.1", "--port", &port]);
        if let Some(tls) = &self.setup.tls {
            command.args(["--tls-port", &self.service.to_string()]).args(tls);
        }
        command.current_dir(&self.directory).stdout(Stdio::null());
        let missing = "this test needs redis-server, and those that tests/setup.sh gets";
        let mut child = command.spawn().expect(missing);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if child.try_wait().expect("it was started here").is_some() {
                return;
            }
            let answer = self.try_ask(&["PING"]);
            if answer.is_ok() || answer.is_err_and(|it| it.code() == Some("LOADING")) {
                self.child = Some(child);
                return;
            }
            assert!(Instant::now() < deadline, "redis-server on port {port} does not answer");
            sleep(Duration::from_millis(5));
        }
    }

    /// The value of an argument that it was started with.
    fn told(&self, name: &str) -> Option<&str> {
        let place = self.setup.arguments.iter().position(|it| it == name)?;
        self.setup.arguments.get(place + 1).map(String::as_str)
    }

    pub(crate) fn try_ask(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let password = self.told("--requirepass").unwrap_or_default();
        let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{}", self.port))?;
        let mut client = client.get_connection_with_timeout(Duration::from_secs(2))?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut query = redis::cmd(command[0]);
        query.arg(&command[1..]).query(&mut client)
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, command: &[&str]) -> redis::Value {
        self.try_ask(command).expect("the server answers")
    }

    pub(crate) fn text(&self, command: &[&str]) -> String {
        self.try_text(command).expect("the server answers with text")
    }

    /// Nothing while it does not answer: it ends connections when it is promoted.
    pub(crate) fn try_text(&self, command: &[&str]) -> Option<String> {
        redis::from_redis_value(self.try_ask(command).ok()?).ok()
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it was started here");
        }
    }

    /// More arguments for the next start.
    pub(crate) fn tell(&mut self, arguments: &[&str]) {
        self.setup = self.setup.clone().tell(arguments);
    }

    /// Starts it again after [`Self::kill`], on the same ports.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.launch();
        assert!(self.child.is_some(), "port {} was taken meanwhile", self.port);
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the server runs").id();
        let kill = format!("kill {signal} {pid}");
        assert!(
            Command::new("sh").args(["-c", &kill]).status().expect("there is a shell").success()
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One whose bus port is legal, too: it is this one and 10,000.
fn free_port() -> u16 {
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("it is bound").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
