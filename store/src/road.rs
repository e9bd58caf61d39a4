//! The way to the server that holds certain keys, found anew for each connection.
//!
//! One server has one place. Sentinels are asked each time who the master is, and the one they name must
//! say so of itself. In a Redis Cluster the nodes are asked who serves the keys' slot. All keys of a cell
//! lie in one slot, so a connection to one node is all a cell needs, and a request goes out as fast as to
//! a single server; that is why the client's own cluster connection, which routes each request among all
//! nodes and sends some of them again by itself, is not used here (decision 0009).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo,
    RedisError, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::mpsc;

use crate::address::{AddressError, CertificateFiles, HostPort, RedisAddress, RedisSite, moved_to};

/// Longest wait for a connection to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a sentinel or a node that is only asked for the way: there are others.
const GUIDE_TIMEOUT: Duration = Duration::from_secs(1);
/// Nodes of a Redis Cluster that are remembered beside those of the address.
const KNOWN_NODES_MAX: usize = 32;
/// Slots of a Redis Cluster.
const SLOTS: u16 = 16384;

/// The way to the server of one slot.
#[derive(Debug)]
pub struct Road {
    address: RedisAddress,
    certificates: Option<TlsCertificates>,
    slot: u16,
    /// Of a Redis Cluster: nodes that were heard of, the one that serves the slot first.
    heard_of: Mutex<VecDeque<HostPort>>,
}

/// How a connection is to be.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Longest wait for an answer; none = as long as it takes.
    response_timeout: Option<Duration>,
    /// Where what is published goes.
    pushes: Option<mpsc::UnboundedSender<PushInfo>>,
}

impl Manner {
    /// For questions and answers.
    pub fn answering_within(longest: Duration) -> Manner {
        Manner { response_timeout: Some(longest), pushes: None }
    }

    /// For what is published as well.
    #[must_use]
    pub fn with_pushes(self, pushes: mpsc::UnboundedSender<PushInfo>) -> Manner {
        Manner { pushes: Some(pushes), ..self }
    }
}

impl Road {
    /// The way to where `key` is.
    ///
    /// # Errors
    /// If a file that the address names cannot be read.
    pub fn new(address: &RedisAddress, key: &str) -> Result<Road, AddressError> {
        Ok(Road {
            address: address.clone(),
            certificates: read_certificates(address)?,
            slot: slot_of(key),
            heard_of: Mutex::default(),
        })
    }

    /// Whether `key` may be at another server than what this way leads to.
    pub fn leads_past(&self, key: &str) -> bool {
        matches!(self.address.site, RedisSite::Cluster { .. }) && slot_of(key) != self.slot
    }

    /// A new connection to the server that is the right one now.
    pub async fn open(&self, manner: &Manner) -> Result<MultiplexedConnection, RedisError> {
        match &self.address.site {
            RedisSite::Server(server) => self.connect(server, CONNECT_TIMEOUT, manner).await,
            RedisSite::Sentinels { sentinels, master, server } => {
                let place = self.ask_sentinels(sentinels, master).await?;
                let mut connection = self.connect(&moved_to(server, &place), CONNECT_TIMEOUT, manner).await?;
                check_master(&mut connection, &place).await?;
                Ok(connection)
            }
            RedisSite::Cluster { seeds } => self.open_node(seeds, manner).await,
        }
    }

    async fn connect(
        &self,
        server: &ConnectionInfo,
        connect_timeout: Duration,
        manner: &Manner,
    ) -> Result<MultiplexedConnection, RedisError> {
        let mut server = server.clone();
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(manner.response_timeout);
        if let Some(pushes) = &manner.pushes {
            // What is published comes between answers, which only the newer protocol can tell apart.
            let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            server = server.set_redis_settings(settings);
            config = config.set_push_sender(pushes.clone());
        }
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(server, certificates.clone())?,
            None => Client::open(server)?,
        };
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Where the master is, by the first sentinel that knows.
    async fn ask_sentinels(
        &self,
        sentinels: &[ConnectionInfo],
        master: &str,
    ) -> Result<HostPort, RedisError> {
        let mut last = None;
        let mut unknown = 0;
        for sentinel in sentinels {
            match self.ask_sentinel(sentinel, master).await {
                Ok(Some(place)) => return Ok(place),
                Ok(None) => unknown += 1,
                Err(error) => last = Some((sentinel.addr().to_string(), error)),
            }
        }
        match last {
            // Those that answer are few: the others may know.
            Some((_, error)) if error.kind() == ErrorKind::AuthenticationFailed => Err(error),
            Some((place, error)) if unknown == 0 => Err(RedisError::from((
                ErrorKind::Io,
                "no sentinel answers",
                format!("the last one asked, {place}: {error}"),
            ))),
            _ => Err(RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "no sentinel knows a master of that name",
                master.to_owned(),
            ))),
        }
    }

    async fn ask_sentinel(
        &self,
        sentinel: &ConnectionInfo,
        master: &str,
    ) -> Result<Option<HostPort>, RedisError> {
        let mut connection =
            self.connect(sentinel, GUIDE_TIMEOUT, &Manner::answering_within(GUIDE_TIMEOUT)).await?;
        let place: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master)
            .query_async(&mut connection)
            .await?;
        Ok(place.map(|(host, port)| HostPort { host, port }))
    }

    /// Connects to the node that serves the slot.
    async fn open_node(
        &self,
        seeds: &[ConnectionInfo],
        manner: &Manner,
    ) -> Result<MultiplexedConnection, RedisError> {
        let known: Vec<HostPort> = self.heard_of.lock().expect("no holder panics").iter().cloned().collect();
        // The node that served the slot last is taken at its word: if it does so no more, it says where to go.
        if let Some(first) = known.first() {
            match self.connect(&moved_to(&seeds[0], first), CONNECT_TIMEOUT, manner).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!("the node at {first} cannot be reached: {error}");
                    self.heard_of.lock().expect("no holder panics").retain(|node| node != first);
                }
            }
        }
        let others = known.iter().skip(1).map(|node| moved_to(&seeds[0], node));
        let mut last = None;
        for guide in others.chain(seeds.iter().cloned()) {
            match self.ask_node(&guide).await {
                Ok(nodes) => {
                    let server = moved_to(&seeds[0], &nodes[0]);
                    self.learn(nodes);
                    return self.connect(&server, CONNECT_TIMEOUT, manner).await;
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("an address names at least one node"))
    }

    /// All nodes one of them knows of, the one that serves the slot first.
    async fn ask_node(&self, guide: &ConnectionInfo) -> Result<Vec<HostPort>, RedisError> {
        let mut connection =
            self.connect(guide, GUIDE_TIMEOUT, &Manner::answering_within(GUIDE_TIMEOUT)).await?;
        let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        let asked = guide.addr().to_string();
        let mut nodes = Vec::new();
        let mut is_served = false;
        for range in ranges {
            let [from, to, rest @ ..] = range.as_slice() else { continue };
            let (from, to): (u16, u16) =
                (redis::from_redis_value(from.clone())?, redis::from_redis_value(to.clone())?);
            let mut servers = rest.iter().filter_map(|node| read_node(node, &asked));
            if (from..=to).contains(&self.slot) {
                let Some(server) = servers.next() else { continue };
                nodes.insert(0, server);
                is_served = true;
            }
            nodes.extend(servers);
        }
        if !is_served {
            return Err(RedisError::from((
                ErrorKind::ClusterConnectionNotFound,
                "no node of the redis cluster serves the slot",
                format!("{} (asked {asked})", self.slot),
            )));
        }
        Ok(nodes)
    }

    fn learn(&self, nodes: Vec<HostPort>) {
        let mut known = self.heard_of.lock().expect("no holder panics");
        for node in nodes.into_iter().rev() {
            known.retain(|other| *other != node);
            known.push_front(node);
        }
        known.truncate(KNOWN_NODES_MAX);
    }

    /// Whether an error says that the keys are somewhere else now; it is remembered where.
    ///
    /// ASK is no such word: it means that keys are being moved one by one, and a script that found some of
    /// them here and some there would be wrong twice. What is asked waits until the move is over.
    pub fn is_redirected(&self, error: &RedisError) -> bool {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => {
                let place = error.redirect_node().and_then(|(place, _)| {
                    let (host, port) = place.rsplit_once(':')?;
                    Some(HostPort { host: host.to_owned(), port: port.parse().ok()? })
                });
                match place {
                    Some(place) if !place.host.is_empty() => self.learn(vec![place]),
                    // The server does not say by what name: all are asked again.
                    _ => drop(self.heard_of.lock().expect("no holder panics").pop_front()),
                }
                true
            }
            // Such a server was a master once.
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                drop(self.heard_of.lock().expect("no holder panics").pop_front());
                true
            }
            _ => false,
        }
    }
}

async fn check_master(connection: &mut MultiplexedConnection, place: &HostPort) -> Result<(), RedisError> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    let role: String = redis::from_redis_value(role.into_iter().next().unwrap_or(Value::Nil))?;
    if role == "master" {
        return Ok(());
    }
    Err(RedisError::from((
        ErrorKind::Server(ServerErrorKind::MasterDown),
        "sentinels name a server that is no master (a failover is under way)",
        format!("{place} says it is a {role}"),
    )))
}

/// One node of CLUSTER SLOTS; an empty name is that of the node that was asked.
fn read_node(node: &Value, asked: &str) -> Option<HostPort> {
    let Value::Array(fields) = node else { return None };
    let host: Option<String> = redis::from_redis_value(fields.first()?.clone()).ok()?;
    let port: u16 = redis::from_redis_value(fields.get(1)?.clone()).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?");
    let host = host.or_else(|| asked.rsplit_once(':').map(|(host, _)| host.to_owned()))?;
    Some(HostPort { host, port })
}

fn read_certificates(address: &RedisAddress) -> Result<Option<TlsCertificates>, AddressError> {
    let CertificateFiles { authority, client } = &address.files;
    if authority.is_none() && client.is_none() {
        return Ok(None);
    }
    let read = |path: &String| {
        std::fs::read(path).map_err(|error| AddressError::Part {
            shown: address.shown.clone(),
            why: format!("cannot read `{path}`: {error}"),
        })
    };
    let client_tls = match client {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        None => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert: authority.as_ref().map(read).transpose()? }))
}

/// The slot of a key: CRC16 (XMODEM) of what stands between the first braces, or of all of it.
fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let mut crc: u16 = 0;
    for byte in tag.unwrap_or(key).bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` says.
        let table = [("123456789", 12739), ("foo", 12182), ("a{foo}b", 12182), ("foo{}{bar}", 8363), ("", 0)];
        for (key, slot) in table {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn the_pointer_and_the_cell_may_be_apart_in_a_cluster_only() {
        let cell = "maestro:{1.0}:ctl";
        let road = |url: &str| Road::new(&RedisAddress::read(url).expect("lawful"), cell).expect("no files");
        assert!(road("redis-cluster://h").leads_past("maestro:ctl"));
        assert!(!road("redis-cluster://h").leads_past("maestro:{1.0}:events"));
        assert!(!road("redis://h").leads_past("maestro:ctl"));
    }

    #[test]
    fn a_node_without_a_name_is_at_the_host_that_was_asked() {
        let node = |host: &str| Value::Array(vec![Value::BulkString(host.into()), Value::Int(7)]);
        let place = |host: &str| read_node(&node(host), "asked:1").expect("a node").to_string();
        assert_eq!((place(""), place("there")), ("asked:7".to_owned(), "there:7".to_owned()));
    }
}
