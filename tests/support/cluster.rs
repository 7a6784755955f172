//! Real Redis Clusters and Sentinels for tests.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a node may be silent before the others give it up, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

/// A redis-server of any kind. It ends with this.
#[derive(Debug)]
pub(crate) struct Node {
    child: Option<Child>,
    pub(crate) port: u16,
    arguments: Vec<String>,
    directory: TempDir,
}

impl Node {
    /// Starts a server on a free port, with these arguments besides.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        let mut node = Self { child: None, port: 0, arguments, directory };
        while node.child.is_none() {
            node.port = free_port();
            node.launch();
        }
        node
    }

    fn launch(&mut self) {
        let port = self.port.to_string();
        let mut child = Command::new("redis-server")
            .args(&self.arguments)
            .args(["--bind", "127.0.0.1", "--port", &port])
            .current_dir(&self.directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs redis-server: install it, or put it on the PATH");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if child.try_wait().expect("it was started here").is_some() {
                return;
            }
            if self.try_ask(&["PING"]).is_ok() {
                self.child = Some(child);
                return;
            }
            assert!(Instant::now() < deadline, "redis-server on port {port} does not answer");
            sleep(Duration::from_millis(5));
        }
    }

    fn try_ask(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut client = client.get_connection_with_timeout(Duration::from_secs(2))?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut query = redis::cmd(command[0]);
        query.arg(&command[1..]).query(&mut client)
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, command: &[&str]) -> redis::Value {
        self.try_ask(command).expect("the server answers")
    }

    pub(crate) fn text(&self, command: &[&str]) -> String {
        self.try_text(command).expect("the server answers with text")
    }

    /// Nothing while it does not answer: it ends connections when it is promoted.
    pub(crate) fn try_text(&self, command: &[&str]) -> Option<String> {
        redis::from_redis_value(self.try_ask(command).ok()?).ok()
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it was started here");
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the server runs").id();
        let kill = format!("kill {signal} {pid}");
        assert!(
            Command::new("sh").args(["-c", &kill]).status().expect("there is a shell").success()
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One whose bus port is legal, too: it is this one and 10,000.
fn free_port() -> u16 {
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("it is bound").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ask() {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A cluster: primaries, which have the slots in equal parts, and as many replicas,
/// in the same order.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) primaries: Vec<Node>,
    pub(crate) replicas: Vec<Node>,
}

impl Cluster {
    pub(crate) fn start(primaries: usize, replicated: bool) -> Self {
        let node = || {
            Node::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                NODE_TIMEOUT,
                "--cluster-require-full-coverage",
                "no",
                "--cluster-replica-validity-factor",
                "0",
                "--repl-diskless-sync-delay",
                "0",
                "--save",
                "",
            ])
        };
        let replicas = (0..if replicated { primaries } else { 0 }).map(|_| node()).collect();
        let primaries: Vec<_> = (0..primaries).map(|_| node()).collect();
        let cluster = Self { primaries, replicas };
        cluster.meet();
        cluster
    }

    fn meet(&self) {
        let count = self.primaries.len();
        for (place, node) in self.primaries.iter().enumerate() {
            let part = |place: usize| (place * 16_384 / count).to_string();
            let last = ((place + 1) * 16_384 / count - 1).to_string();
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &part(place), &last]);
        }
        let first = &self.primaries[0];
        for node in self.nodes().skip(1) {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string()]);
        }
        let all = self.primaries.len() + self.replicas.len();
        let known = format!("cluster_known_nodes:{all}");
        let knows = |it: &Node| it.text(&["CLUSTER", "INFO"]).contains(&known);
        eventually("all nodes know each other", || self.nodes().all(knows));
        for (replica, primary) in self.replicas.iter().zip(&self.primaries) {
            let id = primary.text(&["CLUSTER", "MYID"]);
            eventually("a replica takes its place", || {
                replica.try_ask(&["CLUSTER", "REPLICATE", &id]).is_ok()
            });
        }
        self.settled();
        for replica in &self.replicas {
            eventually("replicas are in step", || {
                replica.text(&["INFO", "replication"]).contains("master_link_status:up")
            });
        }
    }

    /// Waits until all nodes think that all is well.
    pub(crate) fn settled(&self) {
        let ok = |it: &Node| it.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        eventually("the cluster is well", || self.nodes().all(ok));
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.primaries.iter().chain(&self.replicas)
    }

    /// Seeds, with commas.
    pub(crate) fn url(&self) -> String {
        let seeds: Vec<_> =
            self.primaries.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        seeds.join(",")
    }

    /// Moves a slot with its keys from one primary to another, while it is used.
    pub(crate) fn migrate(&self, slot: u16, from: usize, to: usize) {
        let (from, to) = (&self.primaries[from], &self.primaries[to]);
        let ids = [from, to].map(|it| it.text(&["CLUSTER", "MYID"]));
        let (slot, port) = (slot.to_string(), to.port.to_string());
        to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
        // Calls meet the slot in between.
        sleep(Duration::from_millis(20));
        loop {
            let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            let keys: Vec<String> = redis::from_redis_value(keys).expect("they are text");
            let Some(key) = keys.first() else { break };
            from.ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for node in [to, from] {
            node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]);
        }
    }
}

/// A server, one to take its place, and three Sentinels.
#[derive(Debug)]
pub(crate) struct Sentinels {
    pub(crate) servers: [Node; 2],
    pub(crate) sentinels: [Node; 3],
    /// Their files, which they write to.
    _files: TempDir,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let quick = ["--save", "", "--repl-diskless-sync-delay", "0"];
        let master = Node::start(&quick);
        let port = master.port.to_string();
        let replica = Node::start(&[&quick[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        let sentinels = [0, 1, 2].map(|it| {
            let file = files.path().join(format!("sentinel{it}.conf"));
            let rules = format!(
                "sentinel monitor main 127.0.0.1 {port} 2\nsentinel down-after-milliseconds main \
                 600\nsentinel failover-timeout main 3000\n"
            );
            std::fs::write(&file, rules).expect("a file can be made");
            Node::start(&[file.to_str().expect("it is text"), "--sentinel"])
        });
        let all = Self { servers: [master, replica], sentinels, _files: files };
        for sentinel in &all.sentinels {
            let about = |name| -> String {
                let answer = sentinel.ask(&["SENTINEL", "MASTER", "main"]);
                let about: std::collections::HashMap<String, String> =
                    redis::from_redis_value(answer).expect("it is a map");
                about.get(name).cloned().unwrap_or_default()
            };
            eventually("the Sentinels know each other and the replica", || {
                about("num-other-sentinels") == "2" && about("num-slaves") == "1"
            });
        }
        all
    }

    /// The port of the master, as a Sentinel says.
    pub(crate) fn master(&self) -> u16 {
        let answer = self.sentinels[1].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
        let (_, port): (String, String) = redis::from_redis_value(answer).expect("it is known");
        port.parse().expect("it is a port")
    }

    /// The Sentinels, as in REDIS_URL.
    pub(crate) fn url(&self) -> String {
        let places: Vec<_> =
            self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("main,{}", places.join(","))
    }
}
