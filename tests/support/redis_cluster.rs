//! Redis Clusters, and Redis with Sentinels.

use std::{collections::HashMap, fs};

use tempfile::TempDir;

use crate::{
    redis_node::{Node, ServerSetup},
    wait::eventually,
};

/// How long a node may be silent before the others take it for dead, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

const SLOTS: usize = 16_384;

/// A cluster. The slots are divided evenly between the primaries.
#[derive(Debug)]
pub struct Cluster {
    pub primaries: Vec<Node>,
    /// Either empty, or one replica for each primary, in the same order.
    pub replicas: Vec<Node>,
}

impl Cluster {
    /// Starts a cluster without replicas.
    pub fn start(primaries: usize) -> Self {
        Self::with_setup(&ServerSetup::default(), primaries)
    }

    /// Starts a cluster in which each primary has a replica.
    pub fn with_replicas(primaries: usize) -> Self {
        Self::launch(&ServerSetup::default(), primaries, primaries)
    }

    /// [`Self::start`] with another setup of the servers.
    pub fn with_setup(setup: &ServerSetup, primaries: usize) -> Self {
        Self::launch(setup, primaries, 0)
    }

    fn launch(setup: &ServerSetup, primaries: usize, replicas: usize) -> Self {
        let mut setup = setup.clone();
        let given = std::mem::take(&mut setup.arguments);
        let mut setup = setup.with_arguments(&[
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
        // The last of several values of one argument is used.
        setup.arguments.extend(given);
        if let Some(tls) = &mut setup.tls {
            let internal = ["--tls-cluster", "yes", "--tls-replication", "yes"];
            tls.extend(internal.map(Into::into));
        }
        let mut cluster = Self { primaries: Vec::new(), replicas: Vec::new() };
        for _ in 0..primaries {
            cluster.primaries.push(Node::with_setup(setup.clone()));
        }
        for _ in 0..replicas {
            cluster.replicas.push(Node::with_setup(setup.clone()));
        }
        cluster.assign_slots();
        cluster.introduce_nodes();
        cluster.attach_replicas();
        cluster
    }

    fn assign_slots(&self) {
        let count = self.primaries.len();
        for (index, node) in self.primaries.iter().enumerate() {
            // Redis 6 has no command for a range.
            let mut command = vec!["CLUSTER".to_owned(), "ADDSLOTS".to_owned()];
            for slot in index * SLOTS / count..(index + 1) * SLOTS / count {
                command.push(slot.to_string());
            }
            let command: Vec<_> = command.iter().map(String::as_str).collect();
            node.query::<()>(&command);
        }
    }

    fn introduce_nodes(&self) {
        let count = self.primaries.len() + self.replicas.len();
        let expected = format!("cluster_known_nodes:{count}");
        let mut attempts = 0;
        eventually("all nodes to know each other", || {
            // On a busy machine a handshake between nodes may time out.
            if attempts % 300 == 0 {
                for node in self.nodes().skip(1) {
                    let port = node.client_port.to_string();
                    self.primaries[0].query::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port]);
                }
            }
            attempts += 1;
            self.nodes().all(|node| {
                let info = node.try_query_text(&["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains(&expected)
            })
        });
    }

    fn attach_replicas(&self) {
        for (replica, primary) in self.replicas.iter().zip(&self.primaries) {
            let id: String = primary.query(&["CLUSTER", "MYID"]);
            eventually("a replica to follow its primary", || {
                replica.try_query(&["CLUSTER", "REPLICATE", &id])
            });
        }
        self.wait_until_ok();
        for replica in &self.replicas {
            eventually("replicas to be in sync", || {
                let info: String = replica.query(&["INFO", "replication"]);
                info.contains("master_link_status:up")
            });
        }
    }

    /// Waits until all nodes report `cluster_state:ok`.
    pub fn wait_until_ok(&self) {
        eventually("the cluster to be ok", || self.nodes().all(is_cluster_ok));
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.primaries.iter().chain(&self.replicas)
    }

    /// The seeds for `REDIS_URL`, under another name of this host.
    pub fn url_at(&self, host: &str) -> String {
        join_addresses(host, &self.primaries)
    }

    /// The seeds for `REDIS_URL`.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Marks a slot as moving between two primaries. Its keys stay where they are.
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        let (from, to) = (&self.primaries[from], &self.primaries[to]);
        let (source, target): (String, String) =
            (from.query(&["CLUSTER", "MYID"]), to.query(&["CLUSTER", "MYID"]));
        let slot = slot.to_string();
        to.query::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        from.query::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves a slot and its keys between two primaries, while both serve calls.
    pub fn migrate(&self, slot: u16, from: usize, to: usize) {
        self.begin_migration(slot, from, to);
        let (from, to) = (&self.primaries[from], &self.primaries[to]);
        let target: String = to.query(&["CLUSTER", "MYID"]);
        let (slot, port) = (slot.to_string(), to.client_port.to_string());
        loop {
            let keys: Vec<String> = from.query(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            let Some(key) = keys.first() else { break };
            from.query::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for node in [to, from] {
            node.query::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
        }
    }

    /// Removes all keys of all primaries.
    pub fn flush(&self) {
        for node in &self.primaries {
            node.query::<()>(&["FLUSHALL"]);
        }
    }
}

/// Whether a node reports that its cluster serves all calls. A node that does not answer
/// is not ok.
pub fn is_cluster_ok(node: &Node) -> bool {
    let info = node.try_query_text(&["CLUSTER", "INFO"]);
    info.is_some_and(|info| info.contains("cluster_state:ok"))
}

fn join_addresses(host: &str, nodes: &[Node]) -> String {
    let mut addresses = Vec::new();
    for node in nodes {
        addresses.push(format!("{host}:{}", node.client_port));
    }
    addresses.join(",")
}

/// A master named `main`, its replicas, and three Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// The first one is the master at the beginning.
    pub servers: Vec<Node>,
    pub sentinels: Vec<Node>,
    /// The configuration files, to which Sentinels write.
    _files: TempDir,
}

impl Sentinels {
    /// Starts a master with one replica.
    pub fn start() -> Self {
        Self::with_setup(&ServerSetup::default())
    }

    /// [`Self::start`] with another setup of the servers.
    pub fn with_setup(setup: &ServerSetup) -> Self {
        let setup = setup.clone().with_arguments(&["--repl-diskless-sync-delay", "0"]);
        Self::with_replicas(&setup, 1)
    }

    /// Starts a master with `replicas` replicas.
    pub fn with_replicas(setup: &ServerSetup, replicas: usize) -> Self {
        let mut setup = setup.clone().with_arguments(&["--save", ""]);
        if let Some(tls) = &mut setup.tls {
            tls.extend(["--tls-replication", "yes"].map(Into::into));
        }
        let mut servers = vec![Node::with_setup(setup.clone())];
        let port = servers[0].client_port.to_string();
        for _ in 0..replicas {
            let replica = setup.clone().with_arguments(&["--replicaof", "127.0.0.1", &port]);
            servers.push(Node::with_setup(replica));
        }
        let files = tempfile::tempdir().unwrap();
        let mut sentinels = Vec::new();
        for index in 0..3 {
            let file = files.path().join(format!("sentinel{index}.conf"));
            fs::write(&file, sentinel_config(&port, &setup.sentinel_config)).unwrap();
            let arguments = vec![file.to_str().unwrap().to_owned(), "--sentinel".into()];
            let sentinel = ServerSetup { arguments, ..setup.clone() };
            let password = ["--requirepass", &setup.sentinel_password];
            sentinels.push(Node::with_setup(sentinel.with_arguments(&password)));
        }
        for sentinel in &sentinels {
            eventually("the Sentinels to know each other and the replicas", || {
                let master: HashMap<String, String> =
                    sentinel.query(&["SENTINEL", "MASTER", "main"]);
                master["num-other-sentinels"] == "2" && master["num-slaves"] == replicas.to_string()
            });
        }
        Self { servers, sentinels, _files: files }
    }

    /// Starts a planned failover. The master is kept as a replica.
    pub fn fail_over(&self) {
        eventually("replicas to be in sync", || {
            self.servers[1..].iter().all(|server| {
                let info = server.try_query_text(&["INFO", "replication"]).unwrap_or_default();
                !info.contains("master_link_status:down")
            })
        });
        eventually("a replica that can be promoted", || {
            self.sentinels[0].try_query(&["SENTINEL", "FAILOVER", "main"])
        });
    }

    /// The port of the master, according to a Sentinel.
    pub fn master_port(&self) -> u16 {
        let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"];
        let (_, port): (String, String) = self.sentinels[1].query(&command);
        port.parse().unwrap()
    }

    /// The name of the master and the Sentinels, as in `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("main,{}", join_addresses("127.0.0.1", &self.sentinels))
    }
}

fn sentinel_config(master_port: &str, more: &str) -> String {
    format!(
        "sentinel monitor main 127.0.0.1 {master_port} 2\n\
         sentinel down-after-milliseconds main 600\n\
         sentinel failover-timeout main 3000\n{more}"
    )
}
