//! Keepalives of a connection, which notice that its server cannot be used any more.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::sleep;
use tracing::info;

use super::{
    connection::ServerConnection,
    routing::{RoutingCheck, RoutingError},
    run_clock::RunClock,
    settings::RedisAddress,
};

const INTERVAL: Duration = Duration::from_secs(1);
/// The number of keepalives between two routing checks: a proxy may have been given another
/// server.
const KEEPALIVES_PER_ROUTING_CHECK: u32 = 10;

/// The reason for the end of a connection.
pub(super) enum Disconnect {
    Closed,
    /// The server does not reply.
    Unresponsive,
    /// The server is not the master any more.
    Replaced,
    /// The server replies with this error.
    Refused(String),
    /// The replies of the server exceed a bound.
    Cut(String),
}

impl Disconnect {
    pub(super) fn of(connection: &ServerConnection) -> Self {
        match (connection.violation(), connection.refusal()) {
            (Some(violation), _) => Self::Cut(violation.clone()),
            (None, Some(error)) => Self::Refused(error.clone()),
            (None, None) => Self::Closed,
        }
    }
}

/// Sends `command` each second.
pub(super) struct Keepalive<'a> {
    pub(super) connection: &'a ServerConnection,
    pub(super) routing_check: Option<&'a RoutingCheck>,
    pub(super) command: Cmd,
    pub(super) is_via_sentinels: bool,
    pub(super) run_clock: &'a RunClock,
    pub(super) timeout: Duration,
}

impl Keepalive<'_> {
    pub(super) async fn run(&self, refusing: &mut Option<RedisAddress>) -> Disconnect {
        let mut count = 0_u32;
        loop {
            sleep(INTERVAL).await;
            count = count.wrapping_add(1);
            if let Some(reason) = self.check_routing(count).await {
                return Disconnect::Refused(reason);
            }
            let reply = self.connection.send(&self.command);
            match self.run_clock.within(self.timeout, reply).await {
                Some(Ok(role)) if self.is_via_sentinels && !is_master(&role) => {
                    return Disconnect::Replaced;
                }
                Some(Ok(_)) => {
                    if refusing.take().is_some() {
                        info!("{} accepts calls again", self.connection.address());
                    }
                }
                Some(Err(_)) => return Disconnect::of(self.connection),
                None => return Disconnect::Unresponsive,
            }
        }
    }

    /// Returns an error text if one script cannot reach all keys any more.
    async fn check_routing(&self, count: u32) -> Option<String> {
        let check = self.routing_check?;
        if check.is_passed() && !count.is_multiple_of(KEEPALIVES_PER_ROUTING_CHECK) {
            return None;
        }
        match self.run_clock.within(self.timeout, check.run(self.connection)).await {
            Some(Err(RoutingError::Misrouted(reason))) => Some(reason),
            _ => None,
        }
    }
}

/// Returns whether `role`, a reply to ROLE, is the reply of a master.
pub(super) fn is_master(role: &Value) -> bool {
    match role {
        Value::Array(fields) => fields.first() == Some(&Value::BulkString(b"master".into())),
        _ => false,
    }
}
