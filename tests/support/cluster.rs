//! Real Redis Clusters and Sentinels for tests.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

mod node;

pub(crate) use self::node::{Node, Setup};

/// How long a node may be silent before the others give it up, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

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
        Self::of(&Setup::default(), primaries, replicated)
    }

    pub(crate) fn of(setup: &Setup, primaries: usize, replicated: bool) -> Self {
        let mut setup = setup.clone();
        let given = std::mem::take(&mut setup.arguments);
        let mut setup = setup.tell(&[
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
        ]);
        // The last one counts.
        setup.arguments.extend(given);
        if let Some(tls) = &mut setup.tls {
            let within = ["--tls-cluster", "yes", "--tls-replication", "yes"];
            tls.extend(within.map(Into::into));
        }
        let node = || Node::of(setup.clone());
        let replicas = (0..if replicated { primaries } else { 0 }).map(|_| node()).collect();
        let primaries: Vec<_> = (0..primaries).map(|_| node()).collect();
        let cluster = Self { primaries, replicas };
        cluster.meet();
        cluster
    }

    fn meet(&self) {
        let count = self.primaries.len();
        for (place, node) in self.primaries.iter().enumerate() {
            let part = |place: usize| place * 16_384 / count;
            let slots: Vec<_> = (part(place)..part(place + 1)).map(|it| it.to_string()).collect();
            let command = ["CLUSTER", "ADDSLOTS"].into_iter();
            node.ask(&command.chain(slots.iter().map(String::as_str)).collect::<Vec<_>>());
        }
        let introduce = || {
            for node in self.nodes().skip(1) {
                let port = node.service.to_string();
                self.primaries[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
            }
            Instant::now()
        };
        let all = self.primaries.len() + self.replicas.len();
        let known = format!("cluster_known_nodes:{all}");
        let knows = |it: &Node| it.text(&["CLUSTER", "INFO"]).contains(&known);
        let mut introduced = introduce();
        eventually("all nodes know each other", || {
            // On a busy machine a node may not answer within the time that it has to.
            if Duration::from_secs(3) < introduced.elapsed() {
                introduced = introduce();
            }
            self.nodes().all(knows)
        });
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

    /// Seeds, with commas, at `host`.
    pub(crate) fn url_at(&self, host: &str) -> String {
        let seeds: Vec<_> =
            self.primaries.iter().map(|it| format!("{host}:{}", it.service)).collect();
        seeds.join(",")
    }

    /// Seeds, with commas.
    pub(crate) fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Moves a slot with its keys from one primary to another, while it is used.
    pub(crate) fn migrate(&self, slot: u16, from: usize, to: usize) {
        let (from, to) = (&self.primaries[from], &self.primaries[to]);
        let ids = [from, to].map(|it| it.text(&["CLUSTER", "MYID"]));
        let (slot, port) = (slot.to_string(), to.service.to_string());
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

/// A server, some to take its place, and three Sentinels.
#[derive(Debug)]
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Node>,
    pub(crate) sentinels: [Node; 3],
    /// Their files, which they write to.
    _files: TempDir,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        Self::of(&Setup::default())
    }

    pub(crate) fn of(setup: &Setup) -> Self {
        Self::with(&setup.clone().tell(&["--repl-diskless-sync-delay", "0"]), 1)
    }

    /// With so many replicas, and all else as Redis has it.
    pub(crate) fn with(setup: &Setup, replicas: usize) -> Self {
        let mut setup = setup.clone().tell(&["--save", ""]);
        if let Some(tls) = &mut setup.tls {
            tls.extend(["--tls-replication", "yes"].map(Into::into));
        }
        let master = Node::of(setup.clone());
        let port = master.service.to_string();
        let replica = |_| Node::of(setup.clone().tell(&["--replicaof", "127.0.0.1", &port]));
        let servers: Vec<_> = std::iter::once(master).chain((0..replicas).map(replica)).collect();
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        let sentinels = [0, 1, 2].map(|it| {
            let file = files.path().join(format!("sentinel{it}.conf"));
            let rules = format!(
                "sentinel monitor main 127.0.0.1 {port} 2\nsentinel down-after-milliseconds main \
                 600\nsentinel failover-timeout main 3000\n{}",
                setup.sentinel
            );
            std::fs::write(&file, rules).expect("a file can be made");
            let file = file.to_str().expect("it is text").to_owned();
            let sentinel = Setup { arguments: vec![file, "--sentinel".into()], ..setup.clone() };
            Node::of(sentinel.tell(&["--requirepass", &setup.sentinel_password]))
        });
        let all = Self { servers, sentinels, _files: files };
        for sentinel in &all.sentinels {
            let about = |name| -> String {
                let answer = sentinel.ask(&["SENTINEL", "MASTER", "main"]);
                let about: std::collections::HashMap<String, String> =
                    redis::from_redis_value(answer).expect("it is a map");
                about.get(name).cloned().unwrap_or_default()
            };
            eventually("the Sentinels know each other and the replica", || {
                about("num-other-sentinels") == "2" && about("num-slaves") == replicas.to_string()
            });
        }
        all
    }

    /// Lets the other server take the place of the master, once it can.
    pub(crate) fn fail_over(&self) {
        eventually("replicas are in step", || {
            let reports =
                self.servers.iter().skip(1).map(|it| it.try_text(&["INFO", "replication"]));
            reports.flatten().all(|it| !it.contains("master_link_status:down"))
        });
        eventually("there is a replica to promote", || {
            self.sentinels[0].try_ask(&["SENTINEL", "FAILOVER", "main"]).is_ok()
        });
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
            self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.service)).collect();
        format!("main,{}", places.join(","))
    }
}
