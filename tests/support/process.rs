//! A child process with a log file.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::wait::{Attempt, eventually};

/// A child process. It is killed when dropped; if the test fails, its log is printed.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    files: TempDir,
}

impl Process {
    /// Starts `command` and writes its output to a log in `files`.
    pub fn start(name: &'static str, command: &mut Command, files: TempDir) -> Self {
        let log = files.path().join("log");
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log, files }
    }

    /// A file in the directory of this process.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Repeats `attempt` until it succeeds. Panics if the process ends before.
    pub fn wait_until<A: Attempt>(
        &mut self,
        event: &str,
        mut attempt: impl FnMut() -> A,
    ) -> A::Value {
        let event = format!("{}: {event}", self.name);
        eventually(&event, || {
            let exit = self.child.try_wait().unwrap();
            let result = attempt().into_result();
            assert!(result.is_ok() || exit.is_none(), "{event}: the process ended: {exit:?}");
            result
        })
    }

    /// Sends a signal, for example `TERM`.
    pub fn send_signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// A file of the process in `/proc`.
    pub fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// Peak resident memory so far, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.memory("VmHWM:")
    }

    /// Resident memory, in bytes.
    pub fn resident_memory(&self) -> usize {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let (_, rest) = status.split_once(field).unwrap();
        let (kibibytes, _) = rest.trim_start().split_once(" kB").unwrap();
        kibibytes.parse::<usize>().unwrap() << 10
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        eventually(&format!("{} to end", self.name), || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(8000).map_or(0, |(index, _)| index);
            eprintln!("--- log of {} ---\n{}", self.name, &log[start..]);
        }
    }
}

/// Sends a signal to a child process.
pub(crate) fn send_signal(child: &Child, signal: &str) {
    // The shell has `kill` built in; a program of that name may be missing.
    let kill = format!("kill -{signal} {}", child.id());
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "cannot send SIG{signal}");
}
