//! Sentinels that disagree or do not reply, while all servers are alive.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};
use tollgate::store::{StoreStats, redis::RedisType};

use super::*;
use crate::cluster::{connect, count, ready};
use testkit::{
    redis::RedisServer, redis_cluster::Sentinels, redis_node::ServerSetup, wait::eventually_async,
};

/// The replies of a Sentinel.
#[derive(Clone, Copy, Default)]
struct Replies {
    /// The configuration epoch: the number of the latest failover that it knows.
    epoch: u64,
    /// The port of the master. With 0 the Sentinel does not reply at all.
    port: u16,
    /// Set while the Sentinel leads a failover that has not ended: then only the address of
    /// the master is new, and its description is still that of the server on this port.
    old_port: Option<u16>,
    /// It refuses to return the address of a master, and only describes it.
    address_refused: bool,
    delay: Duration,
}

/// A Sentinel whose replies are set by the test.
#[derive(Default)]
struct FakeSentinel {
    replies: Mutex<Replies>,
    /// The number of queries so far.
    queries: AtomicUsize,
}

impl FakeSentinel {
    fn set(&self, replies: Replies) {
        *self.replies.lock().unwrap() = replies;
    }

    fn queries(&self) -> usize {
        self.queries.load(Relaxed)
    }

    /// Serves the Sentinel and returns its port.
    async fn serve(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sentinel = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_connection(BufStream::new(stream), Arc::clone(&sentinel)));
            }
        });
        port
    }
}

fn master(epoch: u64, server: &RedisServer) -> Replies {
    Replies { epoch, port: server.port(), ..Replies::default() }
}

/// Three Sentinels, and the value of `REDIS_URL`.
async fn start_sentinels(replies: [Replies; 3]) -> ([Arc<FakeSentinel>; 3], String) {
    let sentinels: [Arc<FakeSentinel>; 3] = Default::default();
    let mut url = "main".to_owned();
    for (sentinel, replies) in sentinels.iter().zip(replies) {
        sentinel.set(replies);
        url += &format!(",127.0.0.1:{}", sentinel.serve().await);
    }
    (sentinels, url)
}

/// Answers queries until the client closes the connection.
async fn serve_connection(
    mut stream: BufStream<TcpStream>,
    sentinel: Arc<FakeSentinel>,
) -> Option<()> {
    loop {
        let words = number(&mut stream).await?;
        let mut command = Vec::new();
        for _ in 0..words {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await.ok()?;
            command.push(String::from_utf8_lossy(&word).trim_end().to_owned());
        }
        let replies = *sentinel.replies.lock().unwrap();
        tokio::time::sleep(replies.delay).await;
        let subcommand = command.get(1).map(String::as_str);
        let reply = encode_reply(subcommand, replies);
        sentinel.queries.fetch_add(usize::from(subcommand.is_some()), Relaxed);
        stream.write_all(reply.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn encode_reply(subcommand: Option<&str>, replies: Replies) -> String {
    if replies.port == 0 {
        return String::new();
    }
    let (epoch, port) = (replies.epoch.to_string(), replies.port.to_string());
    match subcommand {
        None => "+PONG\r\n".to_owned(),
        Some("MASTER") => {
            let described = replies.old_port.unwrap_or(replies.port).to_string();
            let flags = match replies.old_port {
                Some(_) => "master,failover_in_progress",
                None => "master",
            };
            let address = ["ip", "127.0.0.1", "port", described.as_str()];
            let state = ["flags", flags, "config-epoch", epoch.as_str()];
            encode_list(&[address, state].concat())
        }
        Some(_) if replies.address_refused => "-NOPERM not allowed\r\n".to_owned(),
        Some(_) => encode_list(&["127.0.0.1", &port]),
    }
}

fn encode_list(words: &[&str]) -> String {
    let mut list = format!("*{}\r\n", words.len());
    for word in words {
        list += &format!("${}\r\n{word}\r\n", word.len());
    }
    list
}

/// The number of a line such as `*3` or `$5`.
async fn number(stream: &mut BufStream<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// As in a network partition: the old master is still alive, and so are its clients.
#[tokio::test]
async fn a_silent_sentinel_does_not_hide_the_epoch_of_the_others() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let first = master(1, &old);
    let (sentinels, url) = start_sentinels([Replies::default(), first, first]).await;
    // Longer than the whole test.
    let store = connect(RedisType::Sentinel, &url, Duration::from_secs(600));
    ready(&store).await;
    assert_eq!(count(&store, "a").await.unwrap(), 1);
    assert_eq!(count(&store, "a").await.unwrap(), 2);
    for sentinel in &sentinels[1..] {
        sentinel.set(master(2, &new));
    }
    wait_until_used(&store, "b", &new).await;
    // The Sentinel that was silent may know a later failover, with one other.
    for sentinel in &sentinels[..2] {
        sentinel.set(master(3, &old));
    }
    wait_until_used(&store, "c", &old).await;
}

/// Waits until calls are counted on `server`, and checks that they stay there while each
/// Sentinel that replies is queried several times.
async fn check_stays(store: &Redis, name: &str, server: &RedisServer, replying: &[&FakeSentinel]) {
    wait_until_used(store, name, server).await;
    let mut enough_queries = Vec::new();
    for sentinel in replying {
        enough_queries.push(sentinel.queries() + 3);
    }
    let mut last = count(store, name).await.expect("no call fails");
    eventually_async("more queries", async || {
        let next = count(store, name).await.expect("no call fails");
        assert_eq!(next, last + 1, "{name} is counted on another server");
        last = next;
        for (sentinel, enough) in replying.iter().zip(&enough_queries) {
            if sentinel.queries() < *enough {
                return false;
            }
        }
        true
    })
    .await;
}

const SLOW: Duration = Duration::from_millis(20);

/// The leader of a failover describes the old master until the other replicas follow the
/// new one.
#[tokio::test]
async fn the_old_master_is_not_used_again_before_a_failover_ends() {
    for address_refused in [false, true] {
        let (old, new) = (RedisServer::start(), RedisServer::start());
        let before = Replies { address_refused, ..master(1, &old) };
        let (sentinels, url) = start_sentinels([before; 3]).await;
        let store = connect(RedisType::Sentinel, &url, PATIENT);
        wait_until_used(&store, "a", &old).await;
        let after = Replies { address_refused, ..master(2, &new) };
        let leader = Replies { old_port: Some(old.port()), ..after };
        // The leader replies first.
        sentinels[0].set(leader);
        sentinels[1].set(Replies { delay: SLOW, ..after });
        sentinels[2].set(Replies { delay: SLOW, ..after });
        check_stays(&store, "b", &new, &[&sentinels[0]]).await;
        // Another one replies first.
        sentinels[0].set(Replies { delay: SLOW, ..leader });
        sentinels[1].set(after);
        check_stays(&store, "c", &new, &[&sentinels[1]]).await;
        // Only the leader and one that missed the failover reply.
        sentinels[1].set(before);
        sentinels[2].set(Replies::default());
        check_stays(&store, "d", &new, &[&sentinels[0]]).await;
    }
}

#[tokio::test]
async fn a_sentinel_with_another_master_loses_against_the_majority() {
    let (ours, other) = (RedisServer::start(), RedisServer::start());
    let right = Replies { delay: SLOW, ..master(2, &ours) };
    let (sentinels, url) = start_sentinels([master(9, &other), right, right]).await;
    let store = connect(RedisType::Sentinel, &url, PATIENT);
    check_stays(&store, "a", &ours, &[&sentinels[0]]).await;
    sentinels[1].set(Replies::default());
    sentinels[0].set(master(1, &other));
    check_stays(&store, "b", &ours, &[&sentinels[0]]).await;
}

/// Waits until the counter `name` is on `server`.
async fn wait_until_used(store: &Redis, name: &str, server: &RedisServer) {
    eventually_async("the server to be used", async || {
        count(store, name).await.map_err(|error| error.to_string())?;
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("*_{name}_*"));
        let keys: Vec<String> = keys.query(&mut server.client()).unwrap();
        if keys.len() == 1 { Ok(()) } else { Err("another server is used".to_owned()) }
    })
    .await;
}

/// Whether all replicas are in sync with the master that the Sentinels name.
fn follow_the_master(sentinels: &Sentinels) -> bool {
    let master = sentinels.master_port();
    for server in &sentinels.servers {
        let info = server.try_query_text(&["INFO", "replication"]).unwrap_or_default();
        let follows = info.contains(&format!("master_port:{master}\r\n"))
            && info.contains("master_link_status:up");
        if server.client_port != master && !follows {
            return false;
        }
    }
    true
}

/// With the defaults of Redis, the second replica needs a full copy, which begins after 5 s.
/// The failover does not end before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_instance_switches_once_in_a_failover_with_several_replicas() {
    let sentinels = Sentinels::with_replicas(&ServerSetup::default(), 2);
    let url = sentinels.url();
    let settings =
        RedisSettings::from_url(RedisType::Sentinel, &url, None, Duration::from_secs(1)).unwrap();
    let stats = [StoreStats::default(), StoreStats::default()];
    let stop = Arc::new(AtomicBool::new(false));
    let (mut stores, mut callers) = (Vec::new(), Vec::new());
    for (number, stats) in stats.iter().enumerate() {
        let store = Arc::new(Redis::with_per_second(&settings, None, stats));
        ready(&store).await;
        stores.push(Arc::clone(&store));
        let stop = Arc::clone(&stop);
        callers.push(tokio::spawn(async move {
            let (name, mut values) = (format!("s{number}"), Vec::new());
            while !stop.load(Relaxed) {
                values.extend(count(&store, &name).await);
                tokio::task::yield_now().await;
            }
            values
        }));
    }
    sentinels.fail_over();
    let old = &sentinels.servers[0];
    eventually_async("the failover", async || sentinels.master_port() != old.client_port).await;
    let all_follow = async || follow_the_master(&sentinels);
    eventually_async("all replicas to follow the new master", all_follow).await;
    // Several more queries of the Sentinels.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Relaxed);
    for (caller, stats) in callers.into_iter().zip(&stats) {
        let values = caller.await.unwrap();
        // Each server has a count of its own.
        let switches = values.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
        let opened = stats.pools().main.unwrap().opened;
        assert!(100 < values.len() && switches <= 1, "{} calls: {switches}", values.len());
        assert_eq!(opened, 2);
    }
}
