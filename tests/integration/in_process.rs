//! The service in the process of the test, without sockets. Its clock follows Tokio's
//! time, which tests can pause, or is moved by the test.

use std::{
    fs, future, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use testkit::{
    grpc::Client,
    http::{self, Reply},
    prometheus::Metrics,
    raw_grpc::RawGrpc,
    tollgate::write_old,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
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

/// A clock that only the test moves. It starts at [`START`].
#[derive(Debug, Default)]
pub struct ManualClock {
    passed: AtomicU64,
}

impl ManualClock {
    pub fn advance(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        START.plus(Duration::from_secs(self.passed.load(Ordering::Relaxed)))
    }
}

/// 2026-01-01 00:00 UTC, a Thursday.
pub const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// A running service, with its rules in a directory of its own. It is aborted when
/// dropped.
#[derive(Debug)]
pub struct InProcess {
    pub dialers: Dialers,
    pub remote: Remote,
    running: JoinSet<Result<(), AppError>>,
    files: TempDir,
}

impl InProcess {
    /// Starts the service with these rules and settings, at the time [`START`].
    pub async fn start(rules: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with(Arc::new(TokioClock::starting_at(START)), rules, settings).await
    }

    /// Starts the service with this clock.
    pub async fn start_with(clock: Arc<dyn Clock>, rules: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with_files(clock, &[("rules.yaml", rules)], settings).await
    }

    /// Starts the service with this clock and these rule files.
    pub async fn start_with_files(
        clock: Arc<dyn Clock>,
        rules: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        let files = TempDir::new().unwrap();
        fs::create_dir(files.path().join("rules")).unwrap();
        for (name, text) in rules {
            write_old(&files.path().join("rules").join(name), text);
        }
        let settings = read_settings(&files.path().join("rules"), settings);
        let (listeners, dialers) = Listeners::in_process(&settings.listeners, &settings.admin);
        let (remote, signals) = Signals::from_remote();
        let app = App::build(settings, clock, future::ready(Ok(listeners))).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(app.run(signals));
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

    /// Sends an HTTP request to the admin API, to `localhost` unless there is another host.
    pub async fn admin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Reply {
        let connection = self.dialers.admin.as_ref().unwrap().connect().await.unwrap();
        let has_host = headers.iter().any(|(name, _)| *name == "host");
        let line = if has_host { "" } else { "host: localhost\r\n" };
        let request = http::request(method, path, headers, body);
        let request = String::from_utf8(request).unwrap().replacen("host: test\r\n", line, 1);
        exchange(connection, request.as_bytes()).await
    }

    /// Sends a GET request to the HTTP listener.
    pub async fn get(&self, path: &str) -> Reply {
        self.http("GET", path, &[], b"").await
    }

    /// Sends a GET request to the debug listener.
    pub async fn debug(&self, path: &str) -> Reply {
        let connection = self.dialers.debug.connect().await.unwrap();
        exchange(connection, &http::request("GET", path, &[], b"")).await
    }

    /// Sends a request for a decision over HTTP.
    pub async fn post_json(&self, body: &str) -> Reply {
        let json = ("content-type", &b"application/json"[..]);
        self.http("POST", "/json", &[json], body.as_bytes()).await
    }

    /// The active rules, as `/rlconfig` lists them.
    pub async fn rules_page(&self) -> String {
        self.get("/rlconfig").await.text()
    }

    /// The metrics of the HTTP listener.
    pub async fn metrics(&self) -> Metrics {
        Metrics::from_reply(&self.get("/metrics").await)
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.value(name, &[])
    }

    /// The number of answers that are errors, except errors of the counter store.
    pub async fn service_errors(&self) -> f64 {
        let labels = [("err_type", "service_error")];
        let name = "ratelimit_service_should_rate_limit_error";
        self.metrics().await.value(name, &labels)
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

    /// A client on the level of HTTP/2, on a new connection.
    pub async fn raw_grpc(&self) -> RawGrpc {
        RawGrpc::over(self.dialers.grpc.connect().await.unwrap()).await.unwrap()
    }

    /// [`Self::raw_grpc`], with room for so many bytes of each answer until they are read.
    pub async fn raw_grpc_with_window(&self, window: u32) -> RawGrpc {
        RawGrpc::with_window(self.dialers.grpc.connect().await.unwrap(), window).await.unwrap()
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

    /// Waits until the service has ended without an error.
    pub async fn ended(mut self) {
        self.running.join_next().await.unwrap().unwrap().unwrap();
    }
}

fn read_settings(rules: &Path, settings: &[(&str, &str)]) -> Settings {
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

/// Sends the request and reads the reply at the same time: the service may reply before it
/// has read the whole request.
async fn exchange(connection: DuplexStream, request: &[u8]) -> Reply {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut reply = Vec::new();
    let (_, read) = tokio::join!(writer.write_all(request), reader.read_to_end(&mut reply));
    read.unwrap();
    http::parse(&reply).expect("a complete reply")
}

/// Lets paused time pass, with everything that happens meanwhile.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
