//! A child process with a log, killed when it is no longer needed.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::eventually;

#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both its outputs in the file `log`.
    pub fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Self {
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Asks until there is an answer, as long as the process runs.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&str) -> Option<T>) -> T {
        let what = format!("{} {what}", self.name);
        eventually(&what, || {
            let ended = self.child.try_wait().unwrap();
            let answer = ask(&self.log());
            assert!(answer.is_some() || ended.is_none(), "{what}: it ended, {ended:?}");
            answer
        })
    }

    /// Sends the signal of this name, `TERM` for example.
    pub fn signal(&self, name: &str) {
        // The shell has `kill` built in; a program of that name may be missing.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// Waits for the end, for a bounded time.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {within:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(8000).map_or(0, |(at, _)| at);
            eprintln!("--- log of {} ---\n{}", self.name, &log[start..]);
        }
    }
}
