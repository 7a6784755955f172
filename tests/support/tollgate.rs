//! The `tollgate` binary, started as an operator would start it.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{
    http::{self, Reply},
    network,
    process::Process,
    prometheus::Metrics,
    wait::eventually,
};

/// Every instance has a loopback address of its own, so they can share ports. The kernel
/// does not use these for outgoing connections.
const GRPC_PORT: u16 = 62_081;
const HTTP_PORT: u16 = 62_080;
const DEBUG_PORT: u16 = 62_070;
const PROMETHEUS_PORT: u16 = 62_090;
const ADMIN_PORT: u16 = 62_082;

/// A running instance, with its rules in a directory of its own. It is killed when
/// dropped.
#[derive(Debug)]
pub struct Tollgate {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub debug: SocketAddr,
    /// Nothing listens here unless somebody can have a token.
    pub admin: SocketAddr,
    /// Nothing listens here unless `USE_PROMETHEUS` is set.
    pub prometheus: SocketAddr,
    process: Process,
}

impl Tollgate {
    /// Starts an instance with these rules and settings on a loopback address of its own,
    /// and waits until it serves.
    pub fn start(rules: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_at(network::unused_host(), rules, settings)
    }

    /// [`Self::start`], and then waits until the instance is ready to decide.
    pub fn start_ready(rules: &str, settings: &[(&str, &str)]) -> Self {
        let service = Self::start(rules, settings);
        service.wait_until_ready();
        service
    }

    /// [`Self::start`] on the address of an instance that has ended.
    pub fn start_at(host: Ipv4Addr, rules: &str, settings: &[(&str, &str)]) -> Self {
        let environment = environment(host, settings);
        let mut process = spawn(rules, &environment);
        let address = |host: &str, port: &str| {
            let host: IpAddr = environment[host].parse().unwrap();
            let host = if host.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { host };
            SocketAddr::new(host, environment[port].parse().unwrap())
        };
        let debug = address("DEBUG_HOST", "DEBUG_PORT");
        // All listeners are open before any of them is served.
        process.wait_until("serves", || http::try_send(debug, "GET", "/", &[], b""));
        Self {
            grpc: address("GRPC_HOST", "GRPC_PORT"),
            http: address("HOST", "PORT"),
            debug,
            admin: address("ADMIN_HOST", "ADMIN_PORT"),
            prometheus: SocketAddr::new(host.into(), PROMETHEUS_PORT),
            process,
        }
    }

    /// Starts the binary without waiting, for tests in which it ends by itself.
    pub fn launch(rules: &str, settings: &[(&str, &str)]) -> Process {
        spawn(rules, &environment(network::unused_host(), settings))
    }

    /// [`Self::launch`], with the limit on open files that these arguments of `ulimit` set.
    pub fn launch_with_open_files(limit: &str, rules: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" serve")]).arg(Self::binary());
        spawn_command(command, rules, &environment(network::unused_host(), settings))
    }

    /// The path of the binary.
    pub fn binary() -> PathBuf {
        match env::var_os("CARGO_BIN_EXE_tollgate") {
            Some(path) => path.into(),
            // Tests are in `target/debug/deps`, the binary in `target/debug`.
            None => env::current_exe().unwrap().ancestors().nth(2).unwrap().join("tollgate"),
        }
    }

    /// The loopback address of this instance.
    pub fn host(&self) -> Ipv4Addr {
        match self.grpc.ip() {
            IpAddr::V4(host) => host,
            IpAddr::V6(host) => panic!("{host} is not an IPv4 address"),
        }
    }

    /// Writes a rule file with a single rename, so that it is never seen half written.
    pub fn replace_rules(&self, file: &str, rules: &str) {
        let new = self.process.file("new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.rules_directory().join(file)).unwrap();
    }

    pub fn rules_directory(&self) -> PathBuf {
        self.process.file("rules")
    }

    /// The output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log contains `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// Whether `/ready` reports that the instance can decide.
    pub fn is_ready(&self) -> bool {
        http::get(self.http, "/ready", &[]).status == 200
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        eventually("readiness", || {
            let reply = http::get(self.http, "/ready", &[]);
            if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
        });
    }

    /// Whether `/healthcheck` reports that the instance is healthy.
    pub fn is_healthy(&self) -> bool {
        http::get(self.http, "/healthcheck", &[]).status == 200
    }

    #[track_caller]
    pub fn wait_until_healthy(&self) {
        eventually("health", || self.is_healthy());
    }

    /// The active rules, as `/rlconfig` lists them.
    pub fn rules_page(&self) -> String {
        http::get(self.http, "/rlconfig", &[]).text()
    }

    /// Sends a request for a decision over HTTP.
    pub fn post_json(&self, body: &str) -> Reply {
        let json = ("content-type", &b"application/json"[..]);
        http::send(self.http, "POST", "/json", &[json], body.as_bytes())
    }

    /// The metrics of the HTTP listener.
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.http, "/metrics")
    }

    /// The value of a metric without labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.metrics().value(name, &[])
    }

    /// Waits until the listener for Prometheus accepts connections.
    pub fn wait_for_prometheus(&self) {
        eventually("the Prometheus listener", || TcpStream::connect(self.prometheus));
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.send_signal("TERM");
    }

    /// Sends SIGHUP, which reads the rules again.
    pub fn reload(&self) {
        self.process.send_signal("HUP");
    }

    /// Suspends the process for `time`, as a container without CPU time would be.
    pub fn suspend_for(&self, time: Duration) {
        self.process.send_signal("STOP");
        thread::sleep(time);
        self.process.send_signal("CONT");
    }

    /// Peak resident memory so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.process.peak_memory()
    }

    /// Resident memory, in bytes.
    pub fn resident_memory(&self) -> usize {
        self.process.resident_memory()
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        self.process.wait_for_exit()
    }

    /// Sends SIGTERM and waits until the process has ended without an error.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait_for_exit();
        assert!(status.success(), "{status}");
    }
}

/// Defaults for tests, overridden by `settings`.
fn environment(host: Ipv4Addr, settings: &[(&str, &str)]) -> HashMap<String, String> {
    let prometheus = format!("{host}:{PROMETHEUS_PORT}");
    let (host, http) = (host.to_string(), HTTP_PORT.to_string());
    let (grpc, debug) = (GRPC_PORT.to_string(), DEBUG_PORT.to_string());
    let admin = ADMIN_PORT.to_string();
    let defaults = [
        ("HOST", host.as_str()),
        ("GRPC_HOST", &host),
        ("DEBUG_HOST", &host),
        ("ADMIN_HOST", &host),
        ("PORT", &http),
        ("GRPC_PORT", &grpc),
        ("DEBUG_PORT", &debug),
        ("ADMIN_PORT", &admin),
        ("PROMETHEUS_ADDR", &prometheus),
        ("LOG_FORMAT", "json"),
        // Longer than Redis ever takes on a machine with other work.
        ("REDIS_TIMEOUT", "10s"),
    ];
    let mut environment = HashMap::new();
    for (name, value) in defaults.iter().chain(settings) {
        environment.insert((*name).to_owned(), (*value).to_owned());
    }
    environment
}

/// Writes a file with the modification time of one that nobody is writing any more.
pub fn write_old(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH).unwrap();
}

fn spawn(rules: &str, environment: &HashMap<String, String>) -> Process {
    let mut command = Command::new(Tollgate::binary());
    command.arg("serve");
    spawn_command(command, rules, environment)
}

fn spawn_command(
    mut command: Command,
    rules: &str,
    environment: &HashMap<String, String>,
) -> Process {
    let files = TempDir::new().unwrap();
    let directory = files.path().join("rules");
    fs::create_dir(&directory).unwrap();
    write_old(&directory.join("rules.yaml"), rules);
    command.env_clear().env("TOLLGATE_CONFIG", directory).envs(environment);
    Process::start("tollgate", &mut command, files)
}
