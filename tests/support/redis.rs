//! Real Redis servers for tests.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A server of one test: on a free port of 127.0.0.1 and on a Unix socket,
/// without persistence. It ends with this.
#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Option<Child>,
    program: PathBuf,
    port: u16,
    password: String,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server that anybody may use.
    pub(crate) fn start() -> Self {
        Self::with_password("")
    }

    /// Starts a server that demands `password`.
    pub(crate) fn with_password(password: &str) -> Self {
        Self::of(Path::new("redis-server"), password)
    }

    /// Starts `program` as a server that demands `password`.
    pub(crate) fn of(program: &Path, password: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (program, password) = (program.to_owned(), password.to_owned());
        let mut server = Self { process: None, program, port: 0, password, directory };
        // Another process may be faster to take the free port.
        while server.process.is_none() {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            server.port = socket.local_addr().expect("it is bound").port();
            drop(socket);
            server.launch();
        }
        server
    }

    /// The port it listens on, also while it is stopped.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Its URL, with the password.
    pub(crate) fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// A connection of another client.
    pub(crate) fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the URL is valid");
        client.get_connection().expect("the server runs")
    }

    /// Kills it. What it held is lost.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("it was started here");
        }
    }

    /// Starts it again, on the same port, after [`Self::stop`].
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        self.launch();
        assert!(self.process.is_some(), "port {} was taken meanwhile", self.port);
    }

    /// Suspends it: connections stay, answers do not come.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("the server runs").id().to_string();
        // The shell has `kill` built in; a program of that name may be missing.
        let kill = format!("kill {signal} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(sent.success(), "cannot send {signal} to the server");
    }

    /// Leaves no process if the port is taken.
    fn launch(&mut self) {
        let mut process = self.spawn();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            if process.try_wait().expect("it was started here").is_some() {
                return;
            }
            // Nobody else listens here, while the port may be another server's.
            let mut url = format!("unix://{}", self.socket().display());
            if !self.password.is_empty() {
                url += &format!("?pass={}", self.password);
            }
            let client = redis::Client::open(url).expect("the URL is valid");
            let answer =
                client.get_connection().and_then(|mut it| redis::cmd("PING").exec(&mut it));
            if answer.is_ok() {
                self.process = Some(process);
                return;
            }
            sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
        unreachable!("redis-server did not answer within 20 s");
    }

    fn spawn(&self) -> Child {
        let (port, directory) = (self.port.to_string(), self.directory.path());
        let _ = std::fs::remove_file(self.socket());
        Command::new(&self.program)
            .args(["--bind", "127.0.0.1", "--port", &port, "--unixsocket", "redis.sock"])
            .args(["--save", "", "--appendonly", "no", "--requirepass", &self.password])
            .arg("--dir")
            .arg(directory)
            .current_dir(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs redis-server, and those that tests/setup.sh gets")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
