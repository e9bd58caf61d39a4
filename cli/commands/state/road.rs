//! The way to shared state: the cluster's Redis, or inside a task the worker's socket.

use std::time::Duration;

use hyper::Method;
use maestro_store::state::{StateActor, WriteCondition, check_state_key};
use maestro_store::{Refusal, Store, StoreError};
use maestro_worker::side_door::{
    DoorErrorCause, KeyPattern, ListPage, STATE_PATH, ValueRecord, WrittenRecord, query_text, state_path,
};
use serde_json::Value;

use super::entry::{StateEntry, check_value_size};
use crate::cluster::open_store;
use crate::commands::CommandContext;
use crate::failure::Failure;
use crate::side_door::{DoorFailure, DoorPayload, SideDoorClient};

/// Who writes shared state from the command line, in the audit stream. A task's attempt is named by its worker.
const ACTOR: StateActor<'_> = StateActor::Named("cli");

/// One of the two ways.
#[derive(Debug)]
pub(crate) enum StateRoad {
    /// To Redis, as the settings say.
    Cluster {
        /// The cluster.
        store: Store,
        /// How long values live unless it is said.
        state_ttl: Duration,
    },
    /// To the worker of the task in which this process runs.
    Door(SideDoorClient),
}

/// Why a write did not happen.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The store refused, or cannot be reached.
    Store(StoreError),
    /// Anything else.
    Other(Failure),
}

impl StateRoad {
    /// Takes the worker's socket if there is one, else connects to Redis.
    ///
    /// # Errors
    /// 69 if Redis cannot be reached; 2 if settings or flags are wrong.
    pub(crate) async fn open(context: &CommandContext) -> Result<StateRoad, Failure> {
        if let Some(socket) = context.side_door()? {
            return Ok(StateRoad::Door(SideDoorClient::new(&socket)));
        }
        let settings = context.settings()?;
        Ok(StateRoad::Cluster { store: open_store(&settings).await?, state_ttl: settings.state_ttl() })
    }

    /// Writes a value; its version. Without a time to live the default holds.
    pub(crate) async fn set(
        &self,
        key: &str,
        value: &Value,
        ttl: Option<Duration>,
        condition: WriteCondition,
    ) -> Result<u64, WriteFailure> {
        match self {
            StateRoad::Cluster { store, state_ttl } => {
                let ttl = ttl.unwrap_or(*state_ttl);
                let ttl = (!ttl.is_zero()).then_some(ttl);
                store.set_state(key, value, ttl, condition, ACTOR).await.map_err(WriteFailure::Store)
            }
            StateRoad::Door(client) => {
                let refused = |refusal: Refusal| WriteFailure::Store(refusal.into());
                check_state_key(key).and_then(|()| check_value_size(key, value)).map_err(refused)?;
                let mut query = Vec::new();
                query.extend(ttl.map(|ttl| format!("ttl={}ms", ttl.as_millis())));
                match condition {
                    WriteCondition::Always => {}
                    WriteCondition::Absent => query.push("if_version=0".to_owned()),
                    WriteCondition::Version(version) => query.push(format!("if_version={version}")),
                }
                let target = format!("{}?{}", state_path(key), query.join("&"));
                let written = client.record(&Method::PUT, &target, &body(value)).await;
                written.map(|record: WrittenRecord| record.version).map_err(WriteFailure::of_door)
            }
        }
    }

    /// Removes a value; false if there was none.
    pub(crate) async fn delete(&self, key: &str) -> Result<bool, Failure> {
        match self {
            StateRoad::Cluster { store, .. } => Ok(store.delete_state(key, ACTOR).await?),
            StateRoad::Door(client) => {
                let deleted: Result<Value, DoorFailure> =
                    client.record(&Method::DELETE, &state_path(key), &DoorPayload::default()).await;
                Ok(deleted.map(|_| true)?)
            }
        }
    }

    /// Values that a pattern means, by key.
    pub(crate) async fn list(
        &self,
        glob: Option<&str>,
        pattern: &KeyPattern,
    ) -> Result<Vec<StateEntry>, Failure> {
        match self {
            StateRoad::Cluster { store, .. } => {
                let values = store.states(pattern.prefix()).await?;
                Ok(values
                    .into_iter()
                    .filter(|shared| pattern.means(&shared.key))
                    .map(StateEntry::from)
                    .collect())
            }
            StateRoad::Door(client) => list_by_door(client, glob).await,
        }
    }
}

async fn list_by_door(client: &SideDoorClient, glob: Option<&str>) -> Result<Vec<StateEntry>, Failure> {
    let mut entries = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = Vec::new();
        query.extend(glob.map(|glob| format!("glob={}", query_text(glob))));
        query.extend(after.take().map(|after| format!("after={}", query_text(&after))));
        let target = format!("{STATE_PATH}?{}", query.join("&"));
        let page: ListPage = client.record(&Method::GET, &target, &DoorPayload::default()).await?;
        entries.extend(page.items.into_iter().map(StateEntry::from));
        // Keys only grow on the way, so the list has an end.
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(entries),
        }
    }
}

fn body(value: &Value) -> DoorPayload {
    match value {
        Value::String(text) => DoorPayload { bytes: text.clone().into(), json: false },
        other => DoorPayload { bytes: other.to_string().into(), json: true },
    }
}

impl WriteFailure {
    /// What the store refused a worker is said in the same words as what it refuses the command.
    fn of_door(failure: DoorFailure) -> WriteFailure {
        let DoorFailure::Answered(error) = failure else { return WriteFailure::Other(failure.into()) };
        let refusal = match error.details.clone() {
            Some(DoorErrorCause::VersionConflict { key, current }) => {
                Refusal::VersionConflict { key, current }
            }
            Some(DoorErrorCause::TooLarge { what, size, limit }) => Refusal::TooLarge { what, size, limit },
            _ => return WriteFailure::Other(DoorFailure::Answered(error).into()),
        };
        WriteFailure::Store(refusal.into())
    }
}

impl From<ValueRecord> for StateEntry {
    fn from(record: ValueRecord) -> StateEntry {
        let ttl = record.ttl.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        StateEntry { key: record.key, value: record.value, version: record.version, ttl }
    }
}
