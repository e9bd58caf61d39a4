//! Several redis-servers that belong together: a master with a replica and sentinels, or a Redis Cluster.
//!
//! They listen on loopback, because sentinels and nodes tell each other ports and not sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::process::Member;
use super::wait::wait_until;

/// What sentinels call the master.
pub const MASTER: &str = "the-master";
/// The password of the servers.
const PASSWORD: &str = "open sesame";
/// Until servers agree on what they are.
const AGREE_WITHIN: Duration = Duration::from_secs(20);

/// Servers in a folder of their own, by name; they go with the value.
pub struct RedisGroup {
    servers: BTreeMap<String, (u16, Member)>,
    /// Whether the servers want a password; sentinels never do.
    guarded: bool,
    folder: tempfile::TempDir,
}

impl RedisGroup {
    fn empty(guarded: bool) -> RedisGroup {
        let folder = tempfile::Builder::new().prefix("maestro-redis-").tempdir().expect("a folder");
        RedisGroup { servers: BTreeMap::new(), guarded, folder }
    }

    /// A master `a`, its replica `b`, and three sentinels that act within a second or two. Whoever wants to
    /// speak to the servers needs the password.
    pub fn with_sentinels() -> RedisGroup {
        let mut group = RedisGroup::empty(true);
        let master = free_port();
        let guarded = ["--requirepass", PASSWORD, "--masterauth", PASSWORD];
        group.start("a", master, &guarded);
        let replica_of = ["--replicaof", "127.0.0.1", &master.to_string()];
        let quick = ["--repl-diskless-sync-delay", "0"];
        group.raw("a", &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        group.start("b", free_port(), &[&guarded[..], &replica_of[..], &quick[..]].concat());
        for number in 0..3 {
            group.start_sentinel(&format!("s{number}"), master);
        }
        group.wait("replica", |group| group.info("b", "master_link_status") == "up");
        for number in 0..3 {
            let name = format!("s{number}");
            group.wait("sentinels to know each other", |group| {
                group.sentinel_view(&name).contains("slaves=1,sentinels=3")
            });
        }
        group
    }

    /// Three nodes `a`, `b`, `c` that share all slots, and a replica `d` of each node's place to take: it
    /// follows the one that serves `key`.
    pub fn cluster(key: &str) -> RedisGroup {
        let mut group = RedisGroup::empty(false);
        let ranges = [("a", 0, 5460), ("b", 5461, 10922), ("c", 10923, 16383)];
        for name in ["a", "b", "c", "d"] {
            let bus = free_port().to_string();
            let words =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            group.start(name, free_port(), &words);
            fs::write(group.folder.path().join(format!("{name}.bus")), &bus).expect("a file");
        }
        for (name, from, to) in ranges {
            group.raw(name, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
        }
        for name in ["b", "c", "d"] {
            let bus = fs::read_to_string(group.folder.path().join(format!("{name}.bus"))).expect("written");
            let port = group.port(name).to_string();
            group.raw("a", &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for name in ["a", "b", "c", "d"] {
            group.wait("the nodes to agree", |group| {
                let state: String = group.ask(name, &["CLUSTER", "INFO"]).unwrap_or_default();
                state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:4")
            });
        }
        let owner = group.owner_of(key);
        let id: String = group.ask(&owner, &["CLUSTER", "MYID"]).expect("a node");
        group.wait("the replica to know its master", |group| {
            group.ask::<String>("d", &["CLUSTER", "REPLICATE", &id]).is_ok()
        });
        group.wait("the replica to follow", |group| group.info("d", "master_link_status") == "up");
        group
    }

    /// The node that serves a key now.
    pub fn owner_of(&self, key: &str) -> String {
        let slot: u16 = self.ask("a", &["CLUSTER", "KEYSLOT", key]).expect("a node");
        let ranges: Vec<redis::Value> = self.ask("a", &["CLUSTER", "SLOTS"]).expect("a node");
        for range in ranges {
            let (from, to, (_, port)): (u16, u16, (String, u16)) = {
                let redis::Value::Array(fields) = range else { panic!("no range") };
                let redis::Value::Array(node) = fields[2].clone() else { panic!("no node") };
                let read = |value: &redis::Value| redis::from_redis_value(value.clone()).expect("a number");
                let host = redis::from_redis_value(node[0].clone()).expect("a host");
                (read(&fields[0]), read(&fields[1]), (host, read(&node[1])))
            };
            if (from..=to).contains(&slot) {
                let found = self.servers.iter().find(|(_, (known, _))| *known == port);
                return found.expect("one of ours").0.clone();
            }
        }
        panic!("nobody serves {key}");
    }

    /// The address of the sentinels, as a user would write it.
    pub fn sentinel_url(&self) -> String {
        let hosts: Vec<String> =
            (0..3).map(|number| format!("127.0.0.1:{}", self.port(&format!("s{number}")))).collect();
        format!("redis-sentinel://:{}@{}/{MASTER}", PASSWORD.replace(' ', "%20"), hosts.join(","))
    }

    /// The address of one node; the others are found through it.
    pub fn cluster_url(&self, node: &str) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.port(node))
    }

    pub fn port(&self, name: &str) -> u16 {
        self.servers[name].0
    }

    pub fn member(&mut self, name: &str) -> &mut Member {
        &mut self.servers.get_mut(name).expect("it was started").1
    }

    /// The ends of all logs.
    pub fn tails(&self) -> String {
        self.servers.values().map(|(_, member)| member.tail()).collect()
    }

    fn start(&mut self, name: &str, port: u16, further: &[&str]) {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "notice",
        ]);
        command.args(["--maxmemory-policy", "noeviction"]).arg("--dir").arg(&folder).args(further);
        let member = Member::start(name, self.folder.path(), command);
        self.servers.insert(name.to_owned(), (port, member));
        self.wait_for_port(name);
    }

    fn start_sentinel(&mut self, name: &str, master: u16) {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let port = free_port();
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel auth-pass {MASTER} \"{PASSWORD}\"\nsentinel down-after-milliseconds {MASTER} 1000\n\
             sentinel failover-timeout {MASTER} 5000\n",
            folder.display()
        );
        let file = folder.join("sentinel.conf");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        let member = Member::start(name, self.folder.path(), command);
        self.servers.insert(name.to_owned(), (port, member));
        self.wait_for_port(name);
    }

    fn wait_for_port(&self, name: &str) {
        let port = self.port(name);
        self.wait(&format!("`{name}` to listen"), |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    fn sentinel_view(&self, name: &str) -> String {
        let info: String = self.ask(name, &["INFO", "sentinel"]).unwrap_or_default();
        info.lines().find(|line| line.starts_with("master0:")).unwrap_or_default().to_owned()
    }

    /// One field of INFO.
    pub fn info(&self, name: &str, field: &str) -> String {
        let info: String = self.ask(name, &["INFO"]).unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    /// Asks one server directly.
    pub fn ask<T: redis::FromRedisValue>(&self, name: &str, words: &[&str]) -> redis::RedisResult<T> {
        let password = if self.guarded && !name.starts_with('s') {
            format!(":{}@", PASSWORD.replace(' ', "%20"))
        } else {
            String::new()
        };
        let client = redis::Client::open(format!("redis://{password}127.0.0.1:{}", self.port(name)))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    /// Asks one server for something that has to succeed.
    pub fn raw(&self, name: &str, words: &[&str]) {
        self.ask::<redis::Value>(name, words).unwrap_or_else(|error| panic!("{name}: {words:?}: {error}"));
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&RedisGroup) -> bool) {
        let waited =
            wait_until(what, AGREE_WITHIN, || if holds(self) { Ok(()) } else { Err("not yet".to_owned()) });
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.tails()));
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
