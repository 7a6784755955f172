//! The connection to a server, kept up by a task.
//!
//! Callers never connect themselves. So nobody waits for a server that is known
//! to be down, nobody who gives up takes the connection along, and a server that
//! comes back is not greeted by every caller at once.
//!
//! The task also asks the server each second whether it is still there: the
//! kernel takes many minutes to give up a peer that fell silent.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection, cmd, io::tcp::TcpSettings,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use tracing::{info, warn};

use crate::store::{
    StoreError,
    redis::{RedisAddress, RedisSettings},
};

/// How long after the beginning of an attempt to connect the next may begin.
const PAUSE: Duration = Duration::from_millis(200);
/// How often an idle connection is tried.
const IDLE: Duration = Duration::from_secs(1);
/// How long the task waits for an answer, if callers do not wait even longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many calls may wait to be sent; more wait for a place in turn. One whose
/// caller has given up is not sent. The library could also limit how many calls
/// wait for an answer, but that has halved the throughput when it took hold.
const QUEUE: usize = 1_024;

/// A connection that is made again whenever it is lost.
#[derive(Debug)]
pub(super) struct Connection {
    state: watch::Receiver<State>,
    /// Ends with this.
    _task: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum State {
    /// It will soon be known.
    Connecting,
    Up(Arc<Link>),
    /// Why not.
    Down(Arc<str>),
}

/// One connection, until it is lost.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    lost: Notify,
}

impl Connection {
    /// Begins to connect. Needs a Tokio runtime.
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        let server = Server { target, patience: timeout.max(PATIENCE) };
        let (sender, state) = watch::channel(State::Connecting);
        let mut task = JoinSet::new();
        task.spawn(server.keep_up(sender));
        Self { state, _task: task }
    }

    /// Ends when nothing connects any more.
    pub(super) async fn abandoned(&self) {
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }

    /// The connection. Waits while it is being made for the first time, or for
    /// the first time since it was lost; fails at once if that failed.
    pub(super) async fn link(&self) -> Result<Arc<Link>, StoreError> {
        let mut state = self.state.borrow().clone();
        if matches!(state, State::Connecting) {
            let mut changes = self.state.clone();
            let settled = changes.wait_for(|it| !matches!(it, State::Connecting)).await;
            state = settled.map_or(State::Connecting, |it| it.clone());
        }
        match state {
            State::Up(link) => Ok(link),
            State::Down(why) => Err(StoreError::Failed(why.to_string())),
            State::Connecting => Err(StoreError::Failed("nothing connects any more".into())),
        }
    }
}

impl Link {
    /// Sends `command` once, and waits for the answer as long as it takes.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = command.query_async(&mut self.connection.clone()).await;
        if answer.as_ref().is_err_and(is_lost) {
            self.lost.notify_one();
        }
        answer
    }

    /// Sends commands once, together, and waits for all answers as long as it
    /// takes. Each of them may be an error of the server.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
        let lost = match &answers {
            Err(error) => is_lost(error),
            Ok(answers) => answers.iter().any(|it| match it {
                Value::ServerError(error) => is_lost(&error.clone().into()),
                _ => false,
            }),
        };
        if lost {
            self.lost.notify_one();
        }
        answers
    }
}

/// Whether `error` calls for another connection. A server that has become a
/// replica still answers, but does not count; its name may stand for another
/// one now.
fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// What to connect to.
#[derive(Debug)]
pub(super) struct Target {
    client: Client,
    address: RedisAddress,
}

impl Target {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let client = client(settings).map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { client, address: settings.address.clone() })
    }
}

/// What the task knows.
struct Server {
    target: Target,
    patience: Duration,
}

impl Server {
    /// Connects whenever there is no connection, and says so in `state`. Never ends.
    async fn keep_up(self, state: watch::Sender<State>) {
        let mut told = false;
        loop {
            let pause = sleep(PAUSE);
            match self.connect().await {
                Ok(link) => {
                    info!("connected to {}", self.target.address);
                    told = false;
                    let link = Arc::new(link);
                    state.send_replace(State::Up(Arc::clone(&link)));
                    self.until_lost(&link).await;
                    warn!("the connection to {} is lost", self.target.address);
                    state.send_replace(State::Connecting);
                }
                Err(why) => {
                    let why = format!("cannot connect to {}: {why}", self.target.address);
                    if !told {
                        warn!("{why}; trying again until it works");
                        told = true;
                    }
                    state.send_replace(State::Down(why.into()));
                }
            }
            pause.await;
        }
    }

    /// A connection to a server that answers.
    async fn connect(&self) -> Result<Link, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let connect = async {
            let connection =
                self.target.client.get_multiplexed_async_connection_with_config(&config);
            let link = Link { connection: connection.await?, lost: Notify::new() };
            link.send(&cmd("PING")).await?;
            Ok(link)
        };
        match timeout(self.patience, connect).await {
            Ok(result) => result.map_err(|error: RedisError| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.patience)),
        }
    }

    async fn until_lost(&self, link: &Link) {
        loop {
            tokio::select! {
                () = link.lost.notified() => return,
                () = sleep(IDLE) => {}
            }
            let answer = timeout(self.patience, link.send(&cmd("PING"))).await;
            if !matches!(answer, Ok(Ok(_))) {
                return;
            }
        }
    }
}

fn client(settings: &RedisSettings) -> RedisResult<Client> {
    let address = match &settings.address {
        RedisAddress::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut redis = RedisConnectionInfo::default().set_db(settings.database);
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password);
    }
    let info = address.into_connection_info()?.set_redis_settings(redis);
    Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
