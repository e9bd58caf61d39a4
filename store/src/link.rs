//! The connection: made on demand, made again after a failure, and what its errors mean.
//!
//! One connection carries all short commands of a process, pipelined by the client. Blocking reads have
//! a connection of their own (`Link::dedicated`), because they would hold up everything else on it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use crate::error::{Refusal, StoreError};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the answer to a short command. A script never takes so long; a fork of Redis may.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest wait between two tries.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(1000));

/// A connection to Redis that heals.
#[derive(Debug)]
pub struct Link {
    client: Client,
    address: String,
    patience: Duration,
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
        ErrorKind::InvalidClientConfig => Meaning::Refused(Refusal::Server { message: message() }),
        _ => Meaning::Unknown,
    }
}

impl Link {
    /// Prepares a link; nothing is connected yet. `patience` is how long a request is tried again
    /// while Redis cannot be reached.
    ///
    /// # Errors
    /// If the address cannot be understood.
    pub fn new(url: &str, patience: Duration) -> Result<Link, StoreError> {
        let client = Client::open(url).map_err(|error| Refusal::Server { message: error.to_string() })?;
        Ok(Link { client, address: without_password(url), patience, current: Mutex::new(None) })
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
        let fresh = self.open(Some(RESPONSE_TIMEOUT)).await?;
        *self.current.lock().expect("no holder panics") = Some(fresh.clone());
        Ok(fresh)
    }

    async fn open(&self, response_timeout: Option<Duration>) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(response_timeout);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection of one's own for reads that block up to `longest`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn dedicated(&self, longest: Duration) -> Result<MultiplexedConnection, StoreError> {
        let opened = self.open(Some(longest + RESPONSE_TIMEOUT)).await;
        opened.map_err(|error| self.sort(error))
    }

    fn drop_connection(&self) {
        *self.current.lock().expect("no holder panics") = None;
    }

    /// Sorts an error of the client into what the caller can do.
    pub fn sort(&self, error: RedisError) -> StoreError {
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
                Ok(mut connection) => match outgoing.send(&mut connection).await {
                    Ok(value) => return Ok(Ok(value)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
                return Ok(Err(NoScript));
            }
            match meaning(&error) {
                Meaning::Refused(refusal) => return Err(refusal.into()),
                Meaning::Unknown => self.drop_connection(),
                Meaning::Later => {
                    // A replica that answers READONLY stays one: ask again who the primary is.
                    if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly)) {
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

/// An address as it may be shown: the password replaced by `***`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let hidden = match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
            format!("{scheme}://{user}:***@{host}")
        }
        None => url.to_owned(),
    };
    match hidden.split_once('?') {
        Some((path, query)) if query.contains("pass=") => {
            let shown =
                query.split('&').map(|pair| if pair.starts_with("pass=") { "pass=***" } else { pair });
            format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
        }
        _ => hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let shown = [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("redis://:secret@host:1/2", "redis://:***@host:1/2"),
            ("rediss://me:s@cret@host", "rediss://me:***@host"),
            ("unix:///run/x.sock?pass=secret&db=1", "unix:///run/x.sock?pass=***&db=1"),
        ];
        for (url, expected) in shown {
            assert_eq!(without_password(url), expected);
        }
    }
}
