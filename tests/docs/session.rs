//! Runs the commands of a page as a reader would, in one directory and in order.
//!
//! `tollgate serve` starts a service in the background, at a loopback address of its
//! own. The addresses in later commands are replaced by those of the service, and
//! `localhost:6379` by that of a Redis server.

use std::{
    env, fmt::Write as _, fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Command,
    thread, time::Duration,
};

use tempfile::TempDir;

use testkit::{
    current_minute, http, network,
    process::Process,
    redis::RedisServer,
    tollgate::Tollgate,
    wait::{TIMEOUT, eventually},
};
use tokio::time::Instant;

use super::{blocks::pages, output};

const REDIS: &str = "localhost:6379";

/// A port of the service.
struct Listener {
    flag: &'static str,
    setting: &'static str,
    default: &'static str,
    /// The port in the test.
    port: u16,
}

const LISTENERS: [Listener; 3] = [
    Listener { flag: "--grpc-port", setting: "GRPC_PORT", default: "8081", port: 62_081 },
    Listener { flag: "--port", setting: "PORT", default: "8080", port: HTTP_PORT },
    Listener { flag: "--debug-port", setting: "DEBUG_PORT", default: "6070", port: 62_070 },
];

const HTTP_PORT: u16 = 62_080;

/// Programs that are called with other arguments than in the page.
const WRAPPERS: [(&str, &str); 3] = [
    (
        "tollgate",
        r#"case "$*" in
            *--address*) ;;
            hit*) shift; set -- hit --address "$GRPC" "$@" ;;
        esac
        exec "$TOLLGATE" "$@""#,
    ),
    ("curl", r#"PATH=$REAL_PATH; exec curl --silent --max-time 20 "$@""#),
    (
        "redis-cli",
        r#"case "$*" in *--scan*) format= ;; *) format=--no-raw ;; esac
        PATH=$REAL_PATH; exec redis-cli -p "$REDIS_PORT" $format "$@""#,
    ),
];

/// Runs the commands of `page`; `files` are in the directory beforehand.
///
/// A window of a minute can end between two commands. The page is run again then.
pub fn run(page: &str, files: &[(&str, &str)]) {
    let mut attempts = 5;
    loop {
        attempts -= 1;
        let before = current_minute();
        let Err(failure) = Session::new(files).run_page(page) else { return };
        assert!(0 < attempts && current_minute() != before, "{failure}");
    }
}

/// An address in the page, and the one that takes its place.
struct Replaced {
    page: String,
    actual: String,
}

struct Session {
    addresses: Vec<Replaced>,
    services: Vec<Process>,
    redis: Option<RedisServer>,
    directory: TempDir,
    bin: TempDir,
}

impl Session {
    fn new(files: &[(&str, &str)]) -> Self {
        let (directory, bin) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        for (name, script) in WRAPPERS {
            let path = bin.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { addresses: Vec::new(), services: Vec::new(), redis: None, directory, bin }
    }

    fn run_page(&mut self, name: &str) -> Result<(), String> {
        let page = pages().into_iter().find(|page| page.name == name).unwrap();
        for block in page.blocks {
            if block.no_run {
                continue;
            }
            // A path with directories is that of a printed file.
            if let Some(file) = block.file_name.as_ref().filter(|it| !it.contains('/')) {
                fs::write(self.directory.path().join(file), &block.text).unwrap();
            }
            if block.language == "console" {
                for step in steps(&block.text) {
                    self.run_step(&step).map_err(|failure| format!("{block}: {failure}"))?;
                }
            }
        }
        Ok(())
    }

    fn run_step(&mut self, step: &Step) -> Result<(), String> {
        if step.command.contains("tollgate serve ") {
            self.serve(&step.command);
            return Ok(());
        }
        let command = self.replace_addresses(&step.command);
        // A page can be read again until a change has arrived; it changes nothing.
        let reads = command.starts_with("curl ") && !command.contains(" -d ");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let actual = self.output(&command);
            if output::matches(&step.output, &actual) {
                return Ok(());
            }
            if !reads || deadline < Instant::now() {
                let Step { command, output } = step;
                return Err(format!("$ {command}\nin the page:\n{output}\nactual:\n{actual}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the service of `VARIABLE=value tollgate serve arguments`.
    fn serve(&mut self, command: &str) {
        if command.contains(REDIS) && self.redis.is_none() {
            let redis = RedisServer::start();
            let actual = redis.address();
            self.addresses.push(Replaced { page: REDIS.to_owned(), actual });
            self.redis = Some(redis);
        }
        let command = self.replace_addresses(command);
        let (variables, arguments) = command.split_once("tollgate serve ").unwrap();
        let host = network::unused_host();
        let mut service = Command::new(Tollgate::binary());
        service.arg("serve").env_clear().current_dir(self.directory.path());
        for setting in ["HOST", "GRPC_HOST", "DEBUG_HOST"] {
            service.env(setting, host.to_string());
        }
        service.env("REDIS_TIMEOUT", "10s");
        for variable in variables.split_whitespace() {
            let (name, value) = variable.split_once('=').unwrap();
            service.env(name, value);
        }
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        for Listener { flag, setting, default, port } in LISTENERS {
            service.env(setting, port.to_string());
            let mut page_port = default;
            if let Some(position) = words.iter().position(|word| *word == flag) {
                page_port = words[position + 1];
                words.drain(position..position + 2);
            }
            let page = format!("localhost:{page_port}");
            self.addresses.push(Replaced { page, actual: format!("{host}:{port}") });
        }
        service.args(words);
        let mut process = Process::start("tollgate", &mut service, TempDir::new().unwrap());
        let address = SocketAddr::new(host.into(), HTTP_PORT);
        process.wait_until("listens", || http::try_send(address, "GET", "/ready", &[], b""));
        eventually("readiness", || http::get(address, "/ready", &[]).status == 200);
        self.services.push(process);
    }

    fn replace_addresses(&self, command: &str) -> String {
        let mut command = command.to_owned();
        for Replaced { page, actual } in &self.addresses {
            command = command.replace(page, actual);
        }
        command
    }

    fn output(&self, command: &str) -> String {
        let mut grpc = String::new();
        for Replaced { page, actual } in &self.addresses {
            if page == "localhost:8081" {
                grpc.clone_from(actual);
            }
        }
        let real_path = env::var("PATH").unwrap();
        let redis_port = match &self.redis {
            Some(redis) => redis.port(),
            None => 0,
        };
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", format!("{}:{real_path}", self.bin.path().display()))
            .env("REAL_PATH", &real_path)
            .env("TOLLGATE", Tollgate::binary())
            .env("GRPC", grpc)
            .env("REDIS_PORT", redis_port.to_string())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A command and its output in the page.
struct Step {
    command: String,
    output: String,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), output: String::new() });
        } else {
            let step = steps.last_mut().expect("a console block starts with a command");
            writeln!(step.output, "{line}").unwrap();
        }
    }
    steps
}
