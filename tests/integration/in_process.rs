//! The service within the test: no process, no socket, and a clock that follows
//! the time of Tokio, which a test may pause.

#![allow(dead_code, reason = "not all of it is used yet")]

use std::{fs, future, io, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use testkit::{
    grpc::Client,
    http::{self, Reply},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::Instant,
};
use tollgate::{
    app::{App, AppError, Dialers, Listeners, Remote, Signals},
    cli::{self, Command},
    listen::Dialer,
    settings::Settings,
    time::{Clock, Timestamp},
};
use tonic::transport::{Channel, Endpoint, Uri};

/// The time of Tokio, as the time of day.
#[derive(Debug)]
pub struct TokioClock {
    start: Timestamp,
    since: Instant,
}

impl TokioClock {
    /// Shows `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, since: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.since.elapsed())
    }
}

/// 2026-01-01, at midnight.
pub const START: Timestamp = Timestamp::from_secs(1_767_225_600);

#[derive(Debug)]
pub struct InProcess {
    dialers: Dialers,
    remote: Remote,
    running: JoinHandle<Result<(), AppError>>,
    files: TempDir,
}

impl InProcess {
    /// Serves `rules` with these settings; the time of day is [`START`].
    pub fn start(rules: &str, settings: &[(&str, &str)]) -> Self {
        let files = TempDir::new().unwrap();
        fs::create_dir(files.path().join("rules")).unwrap();
        fs::write(files.path().join("rules/rules.yaml"), rules).unwrap();
        let settings = read_settings(&files.path().join("rules"), settings);
        let (listeners, dialers) = Listeners::in_process(&settings.listeners);
        let (remote, signals) = Signals::from_remote();
        let clock = Arc::new(TokioClock::starting_at(START));
        let running = tokio::spawn(async move {
            let app = App::build(settings, clock, future::ready(Ok(listeners))).await?;
            app.run(signals).await
        });
        Self { dialers, remote, running, files }
    }

    /// Sends one HTTP request over a connection of its own.
    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Reply {
        let connection = self.dialers.http.connect().await.unwrap();
        exchange(connection, &http::request(method, path, headers, body)).await
    }

    /// Gets a page of the debug port.
    pub async fn debug(&self, path: &str) -> Reply {
        let connection = self.dialers.debug.connect().await.unwrap();
        exchange(connection, &http::request("GET", path, &[], b"")).await
    }

    /// A gRPC client on a connection of its own.
    pub async fn grpc(&self) -> Client {
        Client::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// A gRPC connection of its own.
    pub async fn channel(&self) -> Channel {
        let dialer = self.dialers.grpc.clone();
        let connector = tower::service_fn(move |_: Uri| connect(dialer.clone()));
        Endpoint::from_static("http://in.process").connect_with_connector(connector).await.unwrap()
    }

    /// The directory of the rules.
    pub fn rules(&self) -> PathBuf {
        self.files.path().join("rules")
    }

    /// Creates or replaces a file of rules by renaming a complete one.
    pub fn edit(&self, file: &str, rules: &str) {
        let new = self.files.path().join("new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.rules().join(file)).unwrap();
    }

    /// Sends signals.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Waits until the service has ended.
    pub async fn ended(self) -> Result<(), AppError> {
        self.running.await.unwrap()
    }
}

fn read_settings(rules: &std::path::Path, settings: &[(&str, &str)]) -> Settings {
    let env = |name: &str| {
        if let Some((_, value)) = settings.iter().find(|(key, _)| *key == name) {
            return Some((*value).to_owned());
        }
        if name == "TOLLGATE_CONFIG" { Some(rules.to_str().unwrap().to_owned()) } else { None }
    };
    match cli::parse(["tollgate", "serve"].map(Into::into), env) {
        Ok(Command::Serve(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

async fn connect(dialer: Dialer) -> io::Result<hyper_util::rt::TokioIo<DuplexStream>> {
    Ok(hyper_util::rt::TokioIo::new(dialer.connect().await?))
}

async fn exchange(mut connection: DuplexStream, request: &[u8]) -> Reply {
    connection.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    connection.read_to_end(&mut reply).await.unwrap();
    http::parse(&reply).expect("a complete reply")
}

/// Lets the time of Tokio pass; the test must have paused it.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
