//! The connection: made on demand, made again after a failure, and what its errors mean.
//!
//! One connection carries all short commands of a process, pipelined by the client. Blocking reads have
//! a connection of their own (`Link::dedicated`), because they would hold up everything else on it.
//! Which server it leads to is not known here (`road`).

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use maestro_vitals::tally::tally;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, PushInfo, RedisError, ServerErrorKind, Value};

use tokio::sync::mpsc;

use crate::address::RedisAddress;
use crate::error::{Refusal, StoreError};
use crate::road::{Manner, Road};

/// Longest wait for the answer to a short command. A script never takes so long; a fork of Redis may.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest wait between two tries.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(1000));

/// A connection to Redis that heals.
#[derive(Debug)]
pub struct Link {
    road: Road,
    address: String,
    patience: Duration,
    /// What is asked on each new connection before anything else.
    greeting: OnceLock<Cmd>,
    current: Mutex<Option<MultiplexedConnection>>,
}

/// What an error of the client means for the request.
enum Meaning {
    /// Not executed, and it may be soon: ask again.
    Later,
    /// Unknown: ask again with the same words.
    Unknown,
    /// Not executed, and asking again is useless.
    Refused(Refusal),
}

fn meaning(error: &RedisError) -> Meaning {
    let message = || error.to_string();
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ReadOnly => Meaning::Later,
            ServerErrorKind::NoPerm => Meaning::Refused(Refusal::Credentials { message: message() }),
            _ => Meaning::Refused(Refusal::Server { message: message() }),
        },
        ErrorKind::Extension => match error.code() {
            Some("OOM") => Meaning::Refused(Refusal::OutOfMemory),
            Some("NOAUTH" | "WRONGPASS") => Meaning::Refused(Refusal::Credentials { message: message() }),
            Some("BUSY" | "UNBLOCKED" | "MISCONF" | "NOREPLICAS") => Meaning::Later,
            _ => Meaning::Refused(Refusal::Server { message: message() }),
        },
        ErrorKind::AuthenticationFailed => Meaning::Refused(Refusal::Credentials { message: message() }),
        ErrorKind::MasterNameNotFoundBySentinel => {
            Meaning::Refused(Refusal::UnknownMaster { name: error.detail().unwrap_or_default().to_owned() })
        }
        ErrorKind::InvalidClientConfig => Meaning::Refused(Refusal::Server { message: message() }),
        _ => Meaning::Unknown,
    }
}

impl Link {
    /// Prepares a link to where `key` is; nothing is connected yet. `patience` is how long a request is
    /// tried again while Redis cannot be reached.
    ///
    /// # Errors
    /// If a file that the address names cannot be read.
    pub fn new(address: &RedisAddress, key: &str, patience: Duration) -> Result<Link, StoreError> {
        Ok(Link {
            road: Road::new(address, key).map_err(Refusal::Address)?,
            address: address.shown.clone(),
            patience,
            greeting: OnceLock::new(),
            current: Mutex::new(None),
        })
    }

    /// Whether `key` may be at another server than this link leads to.
    pub fn leads_past(&self, key: &str) -> bool {
        self.road.leads_past(key)
    }

    /// From now on this is asked on each new connection, before anything else is. It may be sent twice;
    /// its answer is of no interest here.
    pub fn greet_with(&self, greeting: Cmd) {
        // The first one stays: it is the same for the life of a store.
        let _ = self.greeting.set(greeting);
    }

    /// Where Redis is looked for, without the password.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn unreachable(&self, source: RedisError) -> StoreError {
        StoreError::Unreachable { address: self.address.clone(), source }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = self.current.lock().expect("no holder panics").clone() {
            return Ok(connection);
        }
        let mut fresh = self.road.open(&Manner::answering_within(RESPONSE_TIMEOUT)).await?;
        if let Some(greeting) = self.greeting.get() {
            fresh.send_packed_command(greeting).await?.extract_error()?;
        }
        *self.current.lock().expect("no holder panics") = Some(fresh.clone());
        Ok(fresh)
    }

    /// A connection of one's own for reads that block up to `longest`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn dedicated(&self, longest: Duration) -> Result<MultiplexedConnection, StoreError> {
        let opened = self.road.open(&Manner::answering_within(longest + RESPONSE_TIMEOUT)).await;
        opened.map_err(|error| self.sort(error))
    }

    /// A connection of one's own on which what is published on a channel comes in.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn subscribed(
        &self,
        channel: &str,
    ) -> Result<(MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>), StoreError> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let manner = Manner::answering_within(RESPONSE_TIMEOUT).with_pushes(sender);
        let mut connection = self.road.open(&manner).await.map_err(|error| self.sort(error))?;
        connection.subscribe(channel).await.map_err(|error| self.sort(error))?;
        Ok((connection, pushes))
    }

    fn drop_connection(&self) {
        *self.current.lock().expect("no holder panics") = None;
    }

    /// Sorts an error of the client into what the caller can do.
    pub fn sort(&self, error: RedisError) -> StoreError {
        self.road.is_redirected(&error);
        match meaning(&error) {
            Meaning::Refused(refusal) => StoreError::Refused(refusal),
            Meaning::Later | Meaning::Unknown => self.unreachable(error),
        }
    }

    /// Sends a command that may be sent twice, again and again until it is answered or patience ends.
    ///
    /// # Errors
    /// `Unreachable` when patience ended, `Refused` with Redis' reason. `Ok(Err)` is NOSCRIPT, which
    /// only `Cell` can mend.
    pub async fn ask(&self, command: &Cmd) -> Result<Result<Value, NoScript>, StoreError> {
        let answers = self.persist(Outgoing::One(command)).await?;
        Ok(answers.map(|values| values.into_iter().next().unwrap_or(Value::Nil)))
    }

    /// Sends several commands at once; each may be sent twice.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn ask_all(&self, pipeline: &Pipeline) -> Result<Result<Vec<Value>, NoScript>, StoreError> {
        // Nothing to ask is answered here: the client takes it for an error.
        if pipeline.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        self.persist(Outgoing::Many(pipeline)).await
    }

    async fn persist(&self, outgoing: Outgoing<'_>) -> Result<Result<Vec<Value>, NoScript>, StoreError> {
        let begun = Instant::now();
        let mut wait = RETRY_WAIT.0;
        loop {
            let error = match self.connection().await {
                Ok(mut connection) => {
                    let sent = Instant::now();
                    match outgoing.send(&mut connection).await {
                        Ok(value) => {
                            tally().redis_answered(sent.elapsed());
                            return Ok(Ok(value));
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
                return Ok(Err(NoScript));
            }
            match meaning(&error) {
                Meaning::Refused(refusal) => return Err(refusal.into()),
                Meaning::Unknown => self.drop_connection(),
                Meaning::Later => {
                    // What this server does not serve it never will: ask again who does.
                    if self.road.is_redirected(&error) {
                        self.drop_connection();
                    }
                }
            }
            if begun.elapsed() + wait > self.patience {
                return Err(self.unreachable(error));
            }
            let jitter = rand::random_range(0.5..1.0);
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(RETRY_WAIT.1);
        }
    }
}

/// What is sent, and perhaps sent again.
#[derive(Clone, Copy)]
enum Outgoing<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Outgoing<'_> {
    async fn send(self, connection: &mut MultiplexedConnection) -> Result<Vec<Value>, RedisError> {
        match self {
            Outgoing::One(command) => {
                let value = connection.send_packed_command(command).await?;
                Ok(vec![value.extract_error()?])
            }
            Outgoing::Many(pipeline) => {
                // A refusal of one command stands among the answers of the others.
                let values = connection.send_packed_commands(pipeline, 0, pipeline.len()).await?;
                values.into_iter().map(Value::extract_error).collect()
            }
        }
    }
}

/// Redis does not know the script (it was restarted, or its scripts were flushed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoScript;
