//! The service in the process of the test, without sockets. Its clock follows Tokio's
//! time, which tests can pause.

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

/// A clock that follows Tokio's time.
#[derive(Debug)]
pub struct TokioClock {
    start: Timestamp,
    since: Instant,
}

impl TokioClock {
    /// Starts at `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, since: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.since.elapsed())
    }
}

/// 2026-01-01 00:00 UTC.
pub const START: Timestamp = Timestamp::from_secs(1_767_225_600);

#[derive(Debug)]
pub struct InProcess {
    dialers: Dialers,
    remote: Remote,
    running: JoinHandle<Result<(), AppError>>,
    files: TempDir,
}

impl InProcess {
    /// Starts the service with these rules and settings, at the time [`START`].
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

    /// Sends an HTTP request over a new connection.
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

    /// Sends a GET request to the debug listener.
    pub async fn debug(&self, path: &str) -> Reply {
        let connection = self.dialers.debug.connect().await.unwrap();
        exchange(connection, &http::request("GET", path, &[], b"")).await
    }

    /// A gRPC client on a new connection.
    pub async fn grpc(&self) -> Client {
        Client::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// A new gRPC connection.
    pub async fn channel(&self) -> Channel {
        let dialer = self.dialers.grpc.clone();
        let connector = tower::service_fn(move |_: Uri| connect(dialer.clone()));
        Endpoint::from_static("http://in.process").connect_with_connector(connector).await.unwrap()
    }

    /// The directory of the rule files.
    pub fn rules(&self) -> PathBuf {
        self.files.path().join("rules")
    }

    /// Writes a rule file with a single rename, so that it is never seen half written.
    pub fn edit(&self, file: &str, rules: &str) {
        let new = self.files.path().join("new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.rules().join(file)).unwrap();
    }

    /// Sends signals to the service.
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

/// Lets the paused time of Tokio pass.
pub async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}
