//! Sentinels that do not agree, or say nothing, while all servers go on.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};
use tollgate::store::{StoreStats, redis::RedisType};

use super::*;
use crate::{
    cluster::{count, of, ready},
    faults::eventually,
};
use testkit::{redis::RedisServer, redis_cluster::Sentinels, redis_node::ServerSetup};

/// What a Sentinel says, or nothing; and how long it takes.
#[derive(Clone, Copy, Default)]
struct Said {
    /// The number of the latest failover that it knows.
    epoch: u64,
    /// Where the master is; 0 is silence.
    port: u16,
    /// Whether it leads a failover that has not ended, of which only `port` is new:
    /// what it knows about the master is still that of this port.
    old: Option<u16>,
    /// Whether it only answers what is known about a master.
    reserved: bool,
    slow: Duration,
}

type Says = Arc<Mutex<Said>>;

fn says(epoch: u64, server: &RedisServer) -> Said {
    Said { epoch, port: server.port(), ..Said::default() }
}

/// Serves a Sentinel that says what is in there. Where it is.
async fn sentinel(says: &Says) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let says = Arc::clone(says);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(BufStream::new(stream), Arc::clone(&says)));
        }
    });
    port
}

/// Three that say this. Where they are, as in REDIS_URL.
async fn three(said: [Said; 3]) -> ([Says; 3], String) {
    let all = said.map(|it| Arc::new(Mutex::new(it)));
    let mut url = "main".to_owned();
    for it in &all {
        url += &format!(",127.0.0.1:{}", sentinel(it).await);
    }
    (all, url)
}

/// Answers until the client goes.
async fn answer(mut stream: BufStream<TcpStream>, says: Says) -> Option<()> {
    loop {
        let words = number(&mut stream).await?;
        let mut command = Vec::new();
        for _ in 0..words {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await.ok()?;
            command.push(String::from_utf8_lossy(&word).trim_end().to_owned());
        }
        let said = *says.lock().expect("nobody panics with it");
        tokio::time::sleep(said.slow).await;
        let (epoch, port) = (said.epoch.to_string(), said.port.to_string());
        let about = said.old.unwrap_or(said.port).to_string();
        let flags = if said.old.is_some() { "master,failover_in_progress" } else { "master" };
        let list = |words: &[&str]| {
            let words: String =
                words.iter().map(|it| format!("${}\r\n{it}\r\n", it.len())).collect();
            words
        };
        let answer = match command.get(1).map(String::as_str) {
            _ if said.port == 0 => String::new(),
            None => "+PONG\r\n".to_owned(),
            Some("MASTER") => {
                let ip = ["ip", "127.0.0.1", "port", &about];
                let more = ["flags", flags, "config-epoch", &epoch];
                format!("*8\r\n{}{}", list(&ip), list(&more))
            }
            Some(_) if said.reserved => "-NOPERM not you\r\n".to_owned(),
            Some(_) => format!("*2\r\n{}", list(&["127.0.0.1", &port])),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

/// The number of a line such as `*3` or `$5`.
async fn number(stream: &mut BufStream<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// As where a network is cut in two: the old master goes on, and so do its clients.
#[tokio::test]
async fn a_sentinel_that_is_silent_does_not_hide_what_the_others_know() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let first = says(1, &old);
    let (all, places) = three([Said::default(), first, first]).await;
    // Longer than anybody may be left with the old master.
    let store = of(RedisType::Sentinel, &places, Duration::from_secs(600));
    ready(&store).await;
    assert_eq!([count(&store, "a").await.unwrap(), count(&store, "a").await.unwrap()], [1, 2]);
    for it in &all[1..] {
        *it.lock().unwrap() = says(2, &new);
    }
    used(&store, "b", &new).await;
    // One that was silent may know more than the others, and says so to one of them.
    for it in &all[..2] {
        *it.lock().unwrap() = says(3, &old);
    }
    used(&store, "c", &old).await;
}

/// All calls for `time` are counted on `server`.
async fn stays(store: &Redis, name: &str, server: &RedisServer, time: Duration) {
    used(store, name, server).await;
    let (begin, mut calls) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        calls.push(count(store, name).await.expect("no call fails"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(calls.is_sorted_by(|one, next| one + 1 == *next), "{calls:?}");
}

/// The leader of a failover names the old master for as long as other replicas have not
/// followed, whether it may be asked for the address itself or not.
#[tokio::test]
async fn a_master_that_was_left_is_not_gone_back_to_while_a_failover_ends() {
    for reserved in [false, true] {
        let (old, new) = (RedisServer::start(), RedisServer::start());
        let first = Said { reserved, ..says(1, &old) };
        let (all, places) = three([first; 3]).await;
        let store = of(RedisType::Sentinel, &places, PATIENT);
        used(&store, "a", &old).await;
        let after = Said { reserved, ..says(2, &new) };
        let leader = Said { old: Some(old.port()), ..after };
        let slow = Duration::from_millis(20);
        // Each of them may be the one that answers first.
        *all[0].lock().unwrap() = leader;
        *all[1].lock().unwrap() = Said { slow, ..after };
        *all[2].lock().unwrap() = Said { slow, ..after };
        stays(&store, "b", &new, Duration::from_millis(1_500)).await;
        *all[0].lock().unwrap() = Said { slow, ..leader };
        *all[1].lock().unwrap() = after;
        stays(&store, "c", &new, Duration::from_millis(1_500)).await;
        // Only the leader, and one that knows nothing of it, are left.
        *all[1].lock().unwrap() = first;
        *all[2].lock().unwrap() = Said::default();
        stays(&store, "d", &new, Duration::from_millis(1_500)).await;
    }
}

#[tokio::test]
async fn a_sentinel_of_another_master_does_not_win_against_most() {
    let (ours, other) = (RedisServer::start(), RedisServer::start());
    let slow = Duration::from_millis(20);
    let right = Said { slow, ..says(2, &ours) };
    let (all, places) = three([says(9, &other), right, right]).await;
    let store = of(RedisType::Sentinel, &places, PATIENT);
    stays(&store, "a", &ours, Duration::from_millis(1_500)).await;
    *all[1].lock().unwrap() = Said::default();
    *all[0].lock().unwrap() = says(1, &other);
    stays(&store, "b", &ours, Duration::from_millis(1_500)).await;
}

/// Waits until the counter called `name` is on `server`.
async fn used(store: &Redis, name: &str, server: &RedisServer) {
    eventually(async || {
        count(store, name).await?;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("*_{name}_*"))
            .query(&mut server.client())
            .expect("it answers");
        match keys.len() {
            1 => Ok(()),
            _ => Err(StoreError::Failed("another server is used".into())),
        }
    })
    .await;
}

/// Redis' defaults: the second replica needs a full copy, which begins after 5 s, and the
/// failover does not end before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_with_several_replicas_is_one_switch_of_each_instance() {
    let all = Sentinels::with_replicas(&ServerSetup::default(), 2);
    let settings =
        RedisSettings::from_url(RedisType::Sentinel, &all.url(), None, Duration::from_secs(1))
            .unwrap();
    let readings = [(); 2].map(|()| StoreStats::default());
    let stores =
        readings.each_ref().map(|it| Arc::new(Redis::with_per_second(&settings, None, it)));
    let old = all.servers[0].client_port;
    for store in &stores {
        ready(store).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(number, store)| {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            tokio::spawn(async move {
                let (name, mut found) = (format!("s{number}"), Vec::new());
                while !stop.load(Relaxed) {
                    found.extend(count(&store, &name).await);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                found
            })
        })
        .collect();
    all.fail_over();
    let begin = Instant::now();
    // Longer than it takes until all replicas have followed.
    while begin.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Relaxed);
    assert_ne!(all.master_port(), old);
    for (caller, readings) in callers.into_iter().zip(&readings) {
        let found = caller.await.unwrap();
        // Each server goes on with its own count.
        let switches = found.windows(2).filter(|it| it[0] + 1 != it[1]).count();
        let opened = readings.pools().main.unwrap().opened;
        println!("{} calls, {switches} switches, {opened} connections", found.len());
        assert!(500 < found.len() && switches <= 1, "{switches} switches");
        assert_eq!(opened, 2);
    }
}
