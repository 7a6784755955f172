//! Finds the master by asking all Sentinels: see [`master_vote`](super::master_vote).

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{Pipeline, Value, from_redis_value};
use tokio::time::timeout;

use super::{
    connect_options::ConnectOptions,
    connection::ServerConnection,
    master_vote::{Current, MasterReport, elect, has_majority},
    server_error::error_text,
    settings::RedisAddress,
};

/// The time that the other Sentinels have after the first reply, unless their replies cannot
/// change the result.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(500);

/// The number of queries without a reply after which a connection is replaced.
const MAX_UNANSWERED: u32 = 10;

#[derive(Debug)]
pub(super) struct Sentinels {
    master: String,
    options: Arc<ConnectOptions>,
    sentinels: Vec<Sentinel>,
    /// The result of the last vote.
    current: Option<MasterReport>,
}

#[derive(Debug)]
struct Sentinel {
    address: RedisAddress,
    connection: Option<Arc<ServerConnection>>,
    /// The number of queries since the last reply.
    unanswered: u32,
}

impl Sentinels {
    pub(super) fn new(
        master: String,
        options: Arc<ConnectOptions>,
        addresses: &[RedisAddress],
    ) -> Self {
        let mut sentinels = Vec::with_capacity(addresses.len());
        for address in addresses {
            let address = address.clone();
            sentinels.push(Sentinel { address, connection: None, unanswered: 0 });
        }
        Self { master, options, sentinels, current: None }
    }

    /// Returns the name of the master.
    pub(super) fn master(&self) -> &str {
        &self.master
    }

    /// Returns the address of the master. All Sentinels are asked at the same time, as each of
    /// them may be partitioned from the others. Sentinels that do not reply delay the result
    /// only while their replies could change it. `is_connected` is whether there is a working
    /// connection to the current master.
    pub(super) async fn find_master(
        &mut self,
        query_timeout: Duration,
        is_connected: bool,
    ) -> Result<RedisAddress, String> {
        let count = self.sentinels.len();
        // Less than the timeout of the whole attempt to connect.
        let query_timeout = query_timeout / 2;
        let mut queries = FuturesUnordered::new();
        for (index, sentinel) in self.sentinels.iter_mut().enumerate() {
            let (options, master) = (&self.options, &self.master);
            queries.push(async move {
                (index, sentinel.query_within(query_timeout, options, master).await)
            });
        }
        let (mut replies, mut errors) = (Vec::new(), Vec::new());
        while !has_majority(&replies, count) {
            let next = if replies.is_empty() {
                queries.next().await
            } else {
                timeout(OTHERS_TIMEOUT, queries.next()).await.unwrap_or_default()
            };
            match next {
                Some((index, Ok(report))) => replies.push((index, report)),
                Some((_, Err(error))) => errors.push(error),
                None => break,
            }
        }
        drop(queries);
        // The order of the replies must not matter.
        replies.sort_by_key(|(index, _)| *index);
        let reports: Vec<MasterReport> = replies.into_iter().map(|(_, report)| report).collect();
        let current = Current { report: self.current.as_ref(), is_connected };
        let Some(elected) = elect(&reports, count, current) else {
            return Err(format!("no Sentinel knows it ({})", errors.join("; ")));
        };
        let address = elected.address.clone();
        self.current = Some(elected);
        Ok(address)
    }
}

impl Sentinel {
    async fn query_within(
        &mut self,
        limit: Duration,
        options: &Arc<ConnectOptions>,
        master: &str,
    ) -> Result<MasterReport, String> {
        let result = match timeout(limit, self.query(options, master)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no reply within {limit:?}")),
        };
        result.map_err(|error| format!("{}: {error}", self.address))
    }

    /// If the query is cancelled, the connection is kept for the next one.
    async fn query(
        &mut self,
        options: &Arc<ConnectOptions>,
        master: &str,
    ) -> Result<MasterReport, String> {
        self.unanswered += 1;
        let connection = match self.connection.take() {
            Some(connection) if self.unanswered <= MAX_UNANSWERED => connection,
            _ => {
                self.unanswered = 0;
                Arc::new(ServerConnection::open(options, &self.address).await?)
            }
        };
        self.connection = Some(Arc::clone(&connection));
        let report = query_master(&connection, master).await;
        match &report {
            Ok(_) => self.unanswered = 0,
            Err(_) => self.connection = None,
        }
        report
    }
}

async fn query_master(connection: &ServerConnection, master: &str) -> Result<MasterReport, String> {
    let mut commands = Pipeline::new();
    commands.cmd("SENTINEL").arg("MASTER").arg(master);
    commands.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let replies =
        connection.send_all_quietly(&commands).await.map_err(|error| error_text(&error))?;
    let mut replies = replies.into_iter();
    let fields = replies.next().unwrap_or(Value::Nil);
    parse_report(fields, replies.next().unwrap_or(Value::Nil))
}

/// Combines the replies to SENTINEL MASTER and SENTINEL GET-MASTER-ADDR-BY-NAME. During a
/// failover, the first has the epoch of the new master but the address of the old one, and the
/// second is right. The second may be an error: the ACL for older versions of tollgate did not
/// need it.
pub(super) fn parse_report(fields: Value, address: Value) -> Result<MasterReport, String> {
    const MALFORMED: &str = "the reply lacks the address or the epoch of the master";
    let fields: HashMap<String, String> = match fields {
        Value::ServerError(error) => return Err(error_text(&error.into())),
        fields => from_redis_value(fields).map_err(|error| error.to_string())?,
    };
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let epoch = field("config-epoch").parse().map_err(|_| MALFORMED)?;
    if let Value::Array(pair) = address
        && pair.len() == 2
        && let Ok((host, port)) = from_redis_value::<(String, String)>(Value::Array(pair))
        && let Ok(port) = port.parse()
    {
        let address = RedisAddress::Tcp { host, port };
        return Ok(MasterReport { epoch, address, is_outdated: false });
    }
    let host = fields.get("ip").ok_or(MALFORMED)?.clone();
    let port = field("port").parse().map_err(|_| MALFORMED)?;
    let is_outdated = field("flags").contains("failover_in_progress");
    Ok(MasterReport { epoch, address: RedisAddress::Tcp { host, port }, is_outdated })
}
