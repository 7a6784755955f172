//! The service: the binary, started as an operator would.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;

#[derive(Debug)]
pub struct Tollgate {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub debug: SocketAddr,
    /// Unless it was told to, it has no such port.
    pub prometheus: Option<SocketAddr>,
    process: Process,
    files: TempDir,
}

impl Tollgate {
    /// Serves `rules` on ports that the system picks, unless `settings` say
    /// otherwise.
    pub fn start(rules: &str, settings: &[(&str, &str)]) -> Self {
        let (files, mut process) = Self::launch(rules, settings);
        let [grpc, http, debug] = ["grpc", "http", "debug"].map(|listener| {
            process.until(&format!("listens for {listener}"), |log| Self::address(log, listener))
        });
        // If there is one, it has been opened before the others were told of.
        let prometheus = Self::address(&process.log(), "prometheus");
        Self { grpc, http, debug, prometheus, process, files }
    }

    /// Starts the binary and waits for nothing.
    pub fn launch(rules: &str, settings: &[(&str, &str)]) -> (TempDir, Process) {
        let files = TempDir::new().unwrap();
        fs::create_dir(files.path().join("rules")).unwrap();
        fs::write(files.path().join("rules/rules.yaml"), rules).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("serve").env_clear();
        command.env("TOLLGATE_CONFIG", files.path().join("rules"));
        for host in ["HOST", "GRPC_HOST", "DEBUG_HOST"] {
            command.env(host, "127.0.0.1");
        }
        for port in ["PORT", "GRPC_PORT", "DEBUG_PORT"] {
            command.env(port, "0");
        }
        // Longer than Redis ever takes on a machine that has other work.
        command.env("REDIS_TIMEOUT", "10s");
        command.env("LOG_FORMAT", "json").envs(settings.iter().copied());
        let process = Process::start("tollgate", &mut command, files.path().join("log"));
        (files, process)
    }

    /// Makes or replaces a file of rules as a careful editor would: by renaming
    /// a complete one.
    pub fn edit(&self, file: &str, rules: &str) {
        let new = self.files.path().join("new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.rules().join(file)).unwrap();
    }

    /// Where its rules are.
    pub fn rules(&self) -> PathBuf {
        self.files.path().join("rules")
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Lets it stand still for so long.
    pub fn stand_still(&self, time: Duration) {
        self.process.signal("STOP");
        std::thread::sleep(time);
        self.process.signal("CONT");
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.process.peak_memory()
    }

    /// Waits for the end, for a bounded time.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        self.process.ended(within)
    }

    /// Where the log says that a listener is.
    pub fn address(log: &str, listener: &str) -> Option<SocketAddr> {
        log.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let said = |key| line[key].as_str().or_else(|| line["fields"][key].as_str());
            let found = said("@message") == Some("listening") && said("listener") == Some(listener);
            found.then(|| said("address")?.parse().ok())?
        })
    }
}
