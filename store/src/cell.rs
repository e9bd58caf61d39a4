//! A cluster's cell in Redis: found or made on connecting, and the one way to run a script in it.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, Value};

use crate::address::RedisAddress;
use crate::error::{Refusal, StoreError};
use crate::keys::{self, Keys};
use crate::link::{Link, NoScript};
use crate::scripts::ScriptSet;

/// The version of everything stored. A reader refuses what it does not know.
pub const SCHEMA: &str = "1";

/// Oldest Redis that has script flags.
const REDIS_MAJOR_MIN: u32 = 7;

/// A request is held up by a freeze for so many times the patience with a Redis that cannot be reached.
const FROZEN_PATIENCE: u32 = 10;
/// Wait before it is sent again.
const FROZEN_PAUSE: Duration = Duration::from_millis(100);

/// Where the cluster is and how patient to be.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// In one of the forms of `address`.
    pub url: String,
    /// What every key begins with.
    pub namespace: String,
    /// How long a request is tried again while Redis cannot be reached.
    pub patience: Duration,
}

/// All that Maestro keeps in Redis; the only crate that speaks to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    link: Arc<Link>,
    /// The way to the pointer where a Redis Cluster keeps it apart from the cell.
    pointer_link: Option<Arc<Link>>,
    keys: Keys,
    generation: u64,
    scripts: ScriptSet,
    namespace: String,
    cluster: String,
    epoch: RwLock<String>,
    options: StoreOptions,
}

impl Store {
    /// Connects, checks that Redis can be relied on, and makes the cluster if there is none.
    ///
    /// # Errors
    /// `Unreachable`; `Refused` if Redis is too old, may evict keys, wants another password, or holds
    /// another format.
    pub async fn connect(options: &StoreOptions) -> Result<Store, StoreError> {
        Store::connect_with(options, ScriptSet::bundled()).await
    }

    /// As `connect`, with edited scripts, for tests.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_with(options: &StoreOptions, scripts: ScriptSet) -> Result<Store, StoreError> {
        let address = RedisAddress::read(&options.url).map_err(Refusal::Address)?;
        let pointer = keys::pointer(&options.namespace);
        let pointer_link = Link::new(&address, &pointer, options.patience)?;
        check_server(&pointer_link).await?;
        let found = find_cluster(&pointer_link, &options.namespace).await?;
        let keys = Keys::new(&options.namespace, found.generation, 0);
        let (link, pointer_link) = if pointer_link.leads_past(&keys.ctl()) {
            let link = Link::new(&address, &keys.ctl(), options.patience)?;
            check_server(&link).await?;
            (link, Some(pointer_link))
        } else {
            (pointer_link, None)
        };
        let inner = StoreInner {
            link: Arc::new(link),
            pointer_link: pointer_link.map(Arc::new),
            keys,
            generation: found.generation,
            scripts,
            namespace: options.namespace.clone(),
            cluster: found.cluster,
            epoch: RwLock::new(found.epoch),
            options: options.clone(),
        };
        let store = Store { inner: Arc::new(inner) };
        store.load_scripts().await?;
        let reply = store.eval("init", |command| {
            command.arg(store.epoch()).arg(store.cluster_id());
        });
        let reply = Reply::read("init", reply.await?)?;
        match reply.word.as_str() {
            "OK" => {}
            "EXISTS" => {
                let schema = reply.text(0)?;
                if schema != SCHEMA {
                    return Err(Refusal::Schema { found: schema }.into());
                }
                *store.inner.epoch.write().expect("no holder panics") = reply.text(1)?;
            }
            _ => return Err(reply.unexpected()),
        }
        store.greet().await?;
        Ok(store)
    }

    /// Finds out whether this is the Redis that was here before, now and on each connection that is made
    /// again: what comes after it is carried out by a server that knows whether it may have forgotten
    /// something (`greet.lua`).
    async fn greet(&self) -> Result<(), StoreError> {
        self.eval("greet", |_| {}).await?;
        let mut greeting = redis::cmd("EVAL");
        // A server that has changed knows no scripts: the text goes with it.
        greeting.arg(&self.inner.scripts.get("greet").text).arg(1).arg(self.inner.keys.ctl());
        self.inner.link.greet_with(greeting);
        Ok(())
    }

    /// Looks anew at what is at the same address: after a restore, or where Redis came back empty.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn reopened(&self) -> Result<Store, StoreError> {
        Store::connect_with(&self.inner.options, self.inner.scripts.clone()).await
    }

    /// The generation that this handle's keys belong to.
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Whether pointer and cell may be at different servers.
    pub(crate) fn has_far_pointer(&self) -> bool {
        self.inner.pointer_link.is_some()
    }

    /// The same cluster's cell of another generation, over the same connection. A restore fills one that is not in
    /// force yet.
    pub(crate) fn in_generation(&self, generation: u64) -> Store {
        let inner = StoreInner {
            link: self.inner.link.clone(),
            pointer_link: self.inner.pointer_link.clone(),
            keys: Keys::new(&self.inner.namespace, generation, 0),
            generation,
            scripts: self.inner.scripts.clone(),
            namespace: self.inner.namespace.clone(),
            cluster: self.inner.cluster.clone(),
            epoch: RwLock::new(self.epoch()),
            options: self.inner.options.clone(),
        };
        Store { inner: Arc::new(inner) }
    }

    /// Names of the cell's keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// The namespace it was opened with.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Where Redis is, without the password.
    pub fn address(&self) -> &str {
        self.inner.link.address()
    }

    /// The cluster's id, made with its first key.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster
    }

    /// The epoch this handle speaks in; a restore makes it refused.
    pub fn epoch(&self) -> String {
        self.inner.epoch.read().expect("no holder panics").clone()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.inner.link
    }

    async fn load_scripts(&self) -> Result<(), StoreError> {
        let mut pipeline = Pipeline::new();
        for script in self.inner.scripts.all() {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.text);
        }
        self.ask_all(&pipeline).await.map(drop)
    }

    /// Runs a script in the cell. `fill` adds its arguments after the key.
    pub(crate) async fn eval(&self, name: &str, fill: impl FnOnce(&mut Cmd)) -> Result<Value, StoreError> {
        self.eval_with_keys(name, &[], fill).await
    }

    /// As `eval`, with keys beside the cell's own, at the same server.
    pub(crate) async fn eval_with_keys(
        &self,
        name: &str,
        keys: &[String],
        fill: impl FnOnce(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let command = self.prepare_with_keys(name, keys, fill);
        let begun = Instant::now();
        loop {
            match self.inner.link.ask(&command).await? {
                Ok(value) => {
                    // A freeze ends by itself: the same words are sent until it has, or patience ends.
                    let patience = self.inner.options.patience * FROZEN_PATIENCE;
                    if !is_held_up(&value) || begun.elapsed() >= patience {
                        return Ok(value);
                    }
                    tokio::time::sleep(FROZEN_PAUSE).await;
                }
                Err(NoScript) => self.load_scripts().await?,
            }
        }
    }

    /// The command that `eval` sends, to be put into a pipeline.
    pub(crate) fn prepare(&self, name: &str, fill: impl FnOnce(&mut Cmd)) -> Cmd {
        self.prepare_with_keys(name, &[], fill)
    }

    fn prepare_with_keys(&self, name: &str, keys: &[String], fill: impl FnOnce(&mut Cmd)) -> Cmd {
        let script = self.inner.scripts.get(name);
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(1 + keys.len()).arg(self.inner.keys.ctl()).arg(keys);
        fill(&mut command);
        command
    }

    /// Sends one plain command.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        match self.inner.link.ask(command).await? {
            Ok(value) => Ok(value),
            Err(NoScript) => Err(StoreError::unreadable("the answer to a plain command", "NOSCRIPT")),
        }
    }

    /// Sends one plain command about the pointer, which may be at another node than the cell.
    pub(crate) async fn ask_pointer(&self, command: &Cmd) -> Result<Value, StoreError> {
        plain(self.inner.pointer_link.as_ref().unwrap_or(&self.inner.link), command).await
    }

    /// Sends several commands at once.
    pub(crate) async fn ask_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        loop {
            match self.inner.link.ask_all(pipeline).await? {
                Ok(values) => return Ok(values),
                Err(NoScript) => {
                    let mut load = Pipeline::new();
                    for script in self.inner.scripts.all() {
                        load.cmd("SCRIPT").arg("LOAD").arg(&script.text);
                    }
                    let _ = self.inner.link.ask_all(&load).await?;
                }
            }
        }
    }
}

/// Whether a script says that the cell stands still.
fn is_held_up(value: &Value) -> bool {
    let Value::Array(words) = value else { return false };
    matches!(words.first(), Some(Value::BulkString(word)) if word == b"FROZEN")
}

struct FoundCluster {
    generation: u64,
    epoch: String,
    cluster: String,
}

async fn plain(link: &Link, command: &Cmd) -> Result<Value, StoreError> {
    match link.ask(command).await? {
        Ok(value) => Ok(value),
        Err(NoScript) => Err(StoreError::unreadable("the answer to a plain command", "NOSCRIPT")),
    }
}

/// Reads the pointer, and makes it if nobody has: every field is set only where it is missing, so two
/// that come first at the same time agree.
async fn find_cluster(link: &Link, namespace: &str) -> Result<FoundCluster, StoreError> {
    let key = keys::pointer(namespace);
    let read = |fields: &[&str]| redis::cmd("HMGET").arg(&key).arg(fields).to_owned();
    let fields = ["schema", "generation", "epoch", "cluster"];
    let mut values: Vec<Option<String>> =
        decode("the cluster's pointer", plain(link, &read(&fields)).await?)?;
    if values.iter().any(Option::is_none) {
        let time: (u64, u64) = decode("the time", plain(link, &redis::cmd("TIME")).await?)?;
        // In ms: a Redis that came back empty within the same second must not look like the one before.
        let epoch = time.0 * 1000 + time.1 / 1000;
        let cluster = maestro_model::ids::Incarnation::random().to_string();
        let wanted = [SCHEMA.to_owned(), "1".to_owned(), epoch.to_string(), cluster];
        for (field, value) in fields.iter().zip(wanted) {
            plain(link, redis::cmd("HSETNX").arg(&key).arg(*field).arg(value)).await?;
        }
        values = decode("the cluster's pointer", plain(link, &read(&fields)).await?)?;
    }
    let mut values = values.into_iter().map(Option::unwrap_or_default);
    let mut next = || values.next().unwrap_or_default();
    let (schema, generation, epoch, cluster) = (next(), next(), next(), next());
    if schema != SCHEMA {
        return Err(Refusal::Schema { found: schema }.into());
    }
    let generation =
        generation.parse().map_err(|_| StoreError::unreadable("the cluster's generation", &generation))?;
    Ok(FoundCluster { generation, epoch, cluster })
}

/// Refuses a Redis that is too old or may evict keys.
async fn check_server(link: &Link) -> Result<(), StoreError> {
    let info: String = decode("INFO", plain(link, redis::cmd("INFO").arg("server")).await?)?;
    let version = info_field(&info, "redis_version").unwrap_or("unknown").to_owned();
    let valkey = info_field(&info, "server_name").is_some_and(|name| name == "valkey");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if !valkey && major < REDIS_MAJOR_MIN {
        return Err(Refusal::TooOld { found: version }.into());
    }
    let info: String = decode("INFO", plain(link, redis::cmd("INFO").arg("memory")).await?)?;
    let limited = info_field(&info, "maxmemory").is_some_and(|limit| limit != "0");
    let policy = info_field(&info, "maxmemory_policy").unwrap_or("noeviction");
    if limited && policy != "noeviction" {
        return Err(Refusal::Evicting { policy: policy.to_owned() }.into());
    }
    Ok(())
}

/// One line of an INFO answer.
pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Reads a value as a type, or says what it was.
pub(crate) fn decode<T: redis::FromRedisValue>(what: &str, value: Value) -> Result<T, StoreError> {
    decode_ref(what, &value)
}

fn decode_ref<T: redis::FromRedisValue>(what: &str, value: &Value) -> Result<T, StoreError> {
    redis::from_redis_value_ref(value).map_err(|_| StoreError::unreadable(what, format!("{value:?}")))
}

/// A script's answer: a word and what follows it. The words every script may give are refusals here.
#[derive(Debug)]
pub(crate) struct Reply {
    script: &'static str,
    pub(crate) word: String,
    pub(crate) rest: Vec<Value>,
}

impl Reply {
    pub(crate) fn read(script: &'static str, value: Value) -> Result<Reply, StoreError> {
        let Value::Array(mut values) = value else {
            return Err(StoreError::unreadable(format!("the answer of `{script}`"), value));
        };
        if values.is_empty() {
            return Err(StoreError::unreadable(format!("the answer of `{script}`"), values));
        }
        let word: String = decode("a script's answer", values.remove(0))?;
        let reply = Reply { script, word, rest: values };
        match reply.word.as_str() {
            "PAUSED" => Err(Refusal::Paused.into()),
            "FROZEN" => Err(Refusal::Frozen { by: reply.text(0)? }.into()),
            "FENCED" => Err(Refusal::Fenced.into()),
            "RECOVER" => Err(Refusal::Recover.into()),
            "EPOCH" => Err(Refusal::Epoch { current: reply.text(0)? }.into()),
            "SCHEMA" => Err(Refusal::Schema { found: reply.text(0)? }.into()),
            _ => Ok(reply),
        }
    }

    pub(crate) fn text(&self, place: usize) -> Result<String, StoreError> {
        self.get(place)
    }

    pub(crate) fn get<T: redis::FromRedisValue>(&self, place: usize) -> Result<T, StoreError> {
        decode_ref(self.script, self.rest.get(place).unwrap_or(&Value::Nil))
    }

    pub(crate) fn unexpected(&self) -> StoreError {
        StoreError::unreadable(format!("the answer of `{}`", self.script), (&self.word, &self.rest))
    }
}
