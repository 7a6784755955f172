//! The connection to a server, kept up by a task.
//!
//! Callers never connect themselves. So nobody waits for a server that is known
//! to be down, nobody who gives up takes the connection along, and a server that
//! comes back is not greeted by every caller at once.
//!
//! The task also asks the server each second whether it is still there: the
//! kernel takes many minutes to give up a peer that fell silent.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
    aio::MultiplexedConnection, cmd,
};
use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    complaints::{Complaints, is_refusal, words},
    probe::Unfit,
    pulse::Pulse,
    target::{Access, Target},
    traffic::Traffic,
};
use crate::{
    backoff::{Backoff, BackoffSettings},
    store::{StoreError, redis::RedisAddress},
};

/// Delays between attempts to connect. A server that comes back is found within the
/// longest of them.
const BACKOFF: BackoffSettings = BackoffSettings {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(1),
    jitter: 0.5,
};
/// How long another reason why connecting fails is not told of.
const SAID_AGAIN: Duration = Duration::from_secs(5);
/// How often an idle connection is tried.
const IDLE: Duration = Duration::from_secs(1);
/// After how many of these tries it is made sure that all keys are still on one server:
/// a proxy may have got more of them.
const TRIES: u32 = 10;
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
    pulse: Pulse,
    /// Ends with this.
    _task: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum State {
    /// It will soon be known.
    Connecting,
    Up(Arc<Link>),
    /// Why not.
    Down(StoreError),
}

/// Why there is no connection.
struct Refusal {
    why: String,
    /// Whether it is as [`StoreError::Misconfigured`] says.
    unfit: bool,
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self { why, unfit: false }
    }
}

/// One connection, until it is lost.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    lost: Notify,
    /// Why the server is of no use, if it says so.
    refusal: OnceLock<String>,
    complaints: Complaints,
}

impl Connection {
    /// Begins to connect. Needs a Tokio runtime.
    pub(super) fn new(target: Target, timeout: Duration, traffic: Traffic) -> Self {
        let pulse = traffic.pulse().clone();
        let server = Server { target, patience: timeout.max(PATIENCE), traffic };
        let (sender, state) = watch::channel(State::Connecting);
        let mut task = JoinSet::new();
        task.spawn(server.keep_up(sender));
        Self { state, pulse, _task: task }
    }

    /// How long this process has run.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether there is no connection, and calls fail at once.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), State::Down(_))
    }

    /// Whether nothing connects any more.
    pub(super) fn is_dead(&self) -> bool {
        self.state.has_changed().is_err()
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
            State::Down(error) => Err(error),
            State::Connecting => Err(StoreError::Failed("nothing connects any more".into())),
        }
    }
}

impl Link {
    /// Where the server is.
    pub(super) fn address(&self) -> &RedisAddress {
        &self.complaints.address
    }

    /// Sends `command` once, and waits for the answer as long as it takes.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = command.query_async(&mut self.connection.clone()).await;
        if let Err(error) = &answer {
            self.failed(error);
        }
        answer
    }

    /// Waits until the server has answered everything so far.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.send(&cmd("PING")).await;
        answer.map(drop).map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Sends commands once, together, and waits for all answers as long as it
    /// takes. Each of them may be an error of the server.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
        match &answers {
            Err(error) => self.failed(error),
            Ok(answers) => answers.iter().for_each(|it| {
                if let Value::ServerError(error) = it {
                    self.failed(&error.clone().into());
                }
            }),
        }
        answers
    }

    /// The same for commands that may fail without consequence.
    pub(super) async fn send_quietly(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.connection.clone().send_packed_commands(commands, 0, commands.len()).await
    }

    /// Sees to it that there is another connection, if `error` calls for one.
    fn failed(&self, error: &RedisError) {
        self.complaints.of(error);
        if is_refusal(error) {
            // The first one is enough.
            let _ = self.refusal.set(words(error));
        }
        if is_refusal(error) || error.is_unrecoverable_error() {
            self.lost.notify_one();
        }
    }
}

/// What the task knows.
struct Server {
    target: Target,
    patience: Duration,
    traffic: Traffic,
}

/// Why there is no connection any more.
enum Lost {
    /// It has ended, or is of no use.
    Closed,
    /// The server does not answer.
    Silent,
    /// Another server takes its place.
    Replaced,
    /// The server answers, and is of no use. Why.
    Refused(String),
}

impl Server {
    /// Connects whenever there is no connection, and says so in `state`. Never ends.
    async fn keep_up(mut self, state: watch::Sender<State>) {
        let mut backoff = Backoff::new(BACKOFF);
        // Why it failed the last time, as the log has it, and since when.
        let mut told: Option<(String, Instant)> = None;
        // Who has refused, as long as nothing shows that it will not do so again.
        let mut refused = None;
        loop {
            match self.connect().await {
                Ok((link, address)) => {
                    let open = self.traffic.open();
                    if refused.as_ref() != Some(&address) {
                        info!("connected to {address}");
                        (told, refused) = (None, None);
                        backoff.reset();
                    }
                    let link = Arc::new(link);
                    state.send_replace(State::Up(Arc::clone(&link)));
                    let next = match self.until_lost(&link, &address, &mut refused).await {
                        Lost::Closed => {
                            warn!("the connection to {address} is lost");
                            State::Connecting
                        }
                        Lost::Silent => {
                            warn!("{address} does not answer");
                            State::Down(StoreError::Failed(format!("{address} does not answer")))
                        }
                        Lost::Replaced => {
                            info!("another server takes the place of {address}");
                            State::Connecting
                        }
                        Lost::Refused(why) => {
                            let why = format!("{address} refuses: {why}");
                            if refused.replace(address).is_none() {
                                warn!("{why}; trying again until it does not");
                                backoff.reset();
                            }
                            State::Down(StoreError::Failed(why))
                        }
                    };
                    state.send_replace(next);
                    drop(open);
                }
                Err(Refusal { why, unfit }) => {
                    let why = format!("cannot connect to {}: {why}", self.target);
                    let said = told.as_ref().is_some_and(|(before, since)| {
                        *before == why || since.elapsed() < SAID_AGAIN
                    });
                    if !said {
                        warn!("{why}; trying again until it works");
                        told = Some((why.clone(), Instant::now()));
                    }
                    let error = if unfit { StoreError::Misconfigured } else { StoreError::Failed };
                    state.send_replace(State::Down(error(why)));
                }
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// A connection to a server that answers, and where that is.
    async fn connect(&mut self) -> Result<(Link, RedisAddress), Refusal> {
        let patience = self.patience;
        let mut asked = None;
        let connect = async {
            let address = self.target.find(patience).await?;
            asked = Some(address.clone());
            let link = Link::to(&self.target.access, &address).await?;
            if self.target.guarded() {
                let role = link.send(&cmd("ROLE")).await.map_err(|it| it.to_string())?;
                if !is_master(&role) {
                    return Err(format!("{address} is not a master").into());
                }
            }
            if let Some(routing) = &self.target.routing {
                match routing.check(&link).await {
                    Ok(()) | Err(Unfit::ForNow) => {}
                    Err(Unfit::Silent(why)) => return Err(why.into()),
                    Err(Unfit::Always(why)) => return Err(Refusal { why, unfit: true }),
                }
            }
            Ok((link, address))
        };
        let pulse = self.traffic.pulse().clone();
        let late = || Err(format!("no answer within {patience:?}").into());
        let result = pulse.within(patience, connect).await;
        let late_to_encrypt = result.is_none() && self.target.access.is_encrypted();
        result.unwrap_or_else(late).map_err(|Refusal { why, unfit }| {
            let hint = if late_to_encrypt { "; maybe it speaks no TLS" } else { "" };
            let why = match asked.filter(|_| self.target.guarded()) {
                Some(address) if !why.contains(&address.to_string()) => {
                    format!("{address}: {why}{hint}")
                }
                _ => format!("{why}{hint}"),
            };
            Refusal { why, unfit }
        })
    }

    /// Waits until `link` is lost. If the server has `refused` and does so no more,
    /// says so.
    async fn until_lost(
        &mut self,
        link: &Link,
        address: &RedisAddress,
        refused: &mut Option<RedisAddress>,
    ) -> Lost {
        let closed = || link.refusal.get().cloned().map_or(Lost::Closed, Lost::Refused);
        let (patience, routing) = (self.patience, self.target.routing.clone());
        let (guarded, pulse) = (self.target.guarded(), self.traffic.pulse().clone());
        // One that has become a replica still answers.
        let question = cmd(if guarded { "ROLE" } else { "PING" });
        let pings = async {
            for number in 1_u32.. {
                sleep(IDLE).await;
                if let Some(routing) = &routing
                    && (number % TRIES == 0 || !routing.is_proven())
                    && let Some(Err(Unfit::Always(why))) =
                        pulse.within(patience, routing.check(link)).await
                {
                    return Lost::Refused(why);
                }
                match pulse.within(patience, link.send(&question)).await {
                    Some(Ok(role)) if guarded && !is_master(&role) => return Lost::Replaced,
                    Some(Ok(_)) => {
                        if refused.take().is_some() {
                            info!("{address} is used again");
                        }
                    }
                    Some(Err(_)) => return closed(),
                    None => return Lost::Silent,
                }
            }
            Lost::Closed
        };
        tokio::select! {
            () = link.lost.notified() => closed(),
            () = self.target.replaced(address, patience) => Lost::Replaced,
            lost = pings => lost,
        }
    }
}

/// Whether the server does not let us in.
fn is_about_password(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// Whether the answer to ROLE is that of a master.
fn is_master(role: &Value) -> bool {
    matches!(role, Value::Array(it) if it.first() == Some(&Value::BulkString(b"master".into())))
}

impl Link {
    /// Connects, and makes sure that the server answers.
    pub(super) async fn to(access: &Access, address: &RedisAddress) -> Result<Self, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let (hint, setting) = (access.hint(), access.setting().to_owned());
        let (access, at) = (access.clone(), address.clone());
        let connect = async {
            let client = spawn_blocking(move || access.client(&at)).await;
            let client = client.map_err(io::Error::other)??;
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            let connection = connection.await?;
            let complaints = Complaints::new(address.clone());
            let (lost, refusal) = (Notify::new(), OnceLock::new());
            let link = Self { connection, lost, refusal, complaints };
            link.send(&cmd("PING")).await?;
            Ok(link)
        };
        connect.await.map_err(|error: RedisError| match hint {
            Some(hint) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                format!("it hung up ({error}); {hint}")
            }
            _ if is_about_password(&error) => format!("{}; see {setting}", words(&error)),
            _ => words(&error),
        })
    }
}
