//! Sentinels that do not agree, or say nothing, while all servers go on.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};
use tollgate::store::redis::RedisType;

use super::*;
use crate::{
    cluster::{count, of, ready},
    faults::eventually,
    redis_server::RedisServer,
};

/// Serves a Sentinel that knows of a failover with the number, to the server on the
/// port, that `says` holds: `epoch << 16 | port`; 0 is silence. Where it is.
async fn sentinel(says: Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(BufStream::new(stream), Arc::clone(&says)));
        }
    });
    port
}

/// Answers until the client goes.
async fn answer(mut stream: BufStream<TcpStream>, says: Arc<AtomicU64>) -> Option<()> {
    loop {
        let words = number(&mut stream).await?;
        let mut command = Vec::new();
        for place in 0..words {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await.ok()?;
            if place == 0 {
                command = word;
            }
        }
        let says = says.load(Relaxed);
        let (epoch, port) = ((says >> 16).to_string(), (says & 0xffff).to_string());
        let about = ["ip", "127.0.0.1", "port", &port, "config-epoch", &epoch];
        let about = about.map(|it| format!("${}\r\n{it}\r\n", it.len())).concat();
        match command.as_slice() {
            _ if says == 0 => {}
            b"SENTINEL\r\n" => stream.write_all(format!("*6\r\n{about}").as_bytes()).await.ok()?,
            _ => stream.write_all(b"+PONG\r\n").await.ok()?,
        }
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
    let about = |epoch: u64, server: &RedisServer| epoch << 16 | u64::from(server.port());
    let (silent, others) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(about(1, &old))));
    let ports = [
        sentinel(Arc::clone(&silent)).await,
        sentinel(Arc::clone(&others)).await,
        sentinel(Arc::clone(&others)).await,
    ];
    let places = ports.map(|it| format!("127.0.0.1:{it}")).join(",");
    // Longer than anybody may be left with the old master.
    let store = of(RedisType::Sentinel, &format!("main,{places}"), Duration::from_secs(600));
    ready(&store).await;
    assert_eq!([count(&store, "a").await.unwrap(), count(&store, "a").await.unwrap()], [1, 2]);
    others.store(about(2, &new), Relaxed);
    used(&store, "b", &new).await;
    // One that was silent may know more than the others.
    silent.store(about(3, &old), Relaxed);
    used(&store, "c", &old).await;
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
