//! Carrying out what an attempt asks for.
//!
//! Whether the attempt may still write is asked by the store's scripts, in one go with the write. Of a failure
//! of the cluster an agent hears that there is one, and never where Redis is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use maestro_model::ids::{RunId, TaskId};
use maestro_store::state::{STATE_VALUE_BYTES_MAX, SharedValue, StateActor, TaskVoice, WriteCondition};
use maestro_store::{Refusal, Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::access::{AccessKind, DoorAccess};
use super::door::TaskCard;
use super::pattern::KeyPattern;
use super::rate::{AttemptRates, LIST_COSTS, WRITES_PER_SECOND};
use super::refusal::{failed, no_value, too_often};
use super::route::{DoorRequest, Lives};
use super::watcher::{LINES_MAX, Watcher};
use super::watching::StateChanges;
use super::wire::{
    DoorError, DoorErrorCause, DoorErrorKind, ListPage, ResultRecord, ValueRecord, WrittenRecord,
};

/// Watchers of one attempt at a time: half of its connections.
const WATCHES_MAX: usize = 8;
/// Values of one portion of a list.
const PAGE_VALUES_MAX: usize = 500;
/// Bytes of values after which a portion is long enough.
const PAGE_BYTES: usize = 256 * 1024;
/// Values read at one time for a list.
const LIST_VALUES_PER_READ: usize = 16;
/// Steps among which one is looked for by its name, and how many at one time.
const STEPS_SEARCHED: (u32, u32) = (10_000, 500);

/// A door as its connections see it.
pub(super) struct AttemptDoor {
    pub(super) card: TaskCard,
    pub(super) voice: TaskVoice,
    pub(super) store: Store,
    pub(super) state_ttl: Duration,
    pub(super) changes: StateChanges,
    pub(super) accesses: Option<mpsc::Sender<DoorAccess>>,
    pub(super) rates: AttemptRates,
    pub(super) watches: Arc<Semaphore>,
}

/// A value as it came.
pub(super) struct NewValue {
    pub(super) bytes: Bytes,
    pub(super) json: bool,
}

/// What is answered.
pub(super) enum Answered {
    /// One document.
    Record(Value),
    /// Lines, as long as they come.
    Changes(mpsc::Receiver<Bytes>),
}

impl AttemptDoor {
    pub(super) fn new(
        card: TaskCard,
        voice: TaskVoice,
        store: Store,
        state_ttl: Duration,
        changes: StateChanges,
        accesses: Option<mpsc::Sender<DoorAccess>>,
    ) -> AttemptDoor {
        let rates = AttemptRates::new(Instant::now());
        let watches = Arc::new(Semaphore::new(WATCHES_MAX));
        AttemptDoor { card, voice, store, state_ttl, changes, accesses, rates, watches }
    }

    pub(super) fn task(&self) -> &TaskId {
        &self.voice.task
    }

    /// What a process hears that does not belong to the attempt.
    pub(super) fn stranger(&self) -> DoorError {
        DoorError::new(DoorErrorKind::Refused, "this socket belongs to another attempt")
            .hint("use the one that `MAESTRO_SOCKET` names in this process' own environment")
            .because(DoorErrorCause::Fenced)
    }

    /// Takes a write from the attempt's allowance.
    pub(super) fn may_write(&self) -> Result<(), DoorError> {
        self.rates.write(Instant::now()).map_err(|wait| {
            too_often(wait, "writes", &format!("in the long run it may {WRITES_PER_SECOND} times a second"))
        })
    }

    fn may_read(&self, count: u32) -> Result<(), DoorError> {
        let rule = "wait for changes with `maestro state watch` instead of asking again and again";
        self.rates.read(count, Instant::now()).map_err(|wait| too_often(wait, "reads", rule))
    }

    /// Carries out a request; `value` is what a write brings.
    pub(super) async fn answer(
        self: &AttemptDoor,
        request: DoorRequest,
        value: Option<NewValue>,
    ) -> Result<Answered, DoorError> {
        match request {
            DoorRequest::WhoAmI => Ok(Answered::Record(record(&self.card))),
            DoorRequest::Get { key } => self.get(key).await,
            DoorRequest::Set { key, lives, condition } => {
                let value = value.expect("the server reads the body of every write");
                self.set(key, value, lives, condition).await
            }
            DoorRequest::Delete { key } => self.delete(key).await,
            DoorRequest::List { pattern, after } => self.list(&pattern, after).await,
            DoorRequest::Watch { pattern } => self.watch(pattern).await,
        }
    }

    async fn get(&self, key: String) -> Result<Answered, DoorError> {
        self.may_read(1)?;
        if let Some(shared) = self.store.state(&key).await.map_err(failed)? {
            self.tell(&key, AccessKind::Read { value: Some(shared.value.clone()) });
            return Ok(Answered::Record(record(&value_record(shared))));
        }
        let found = match task_of_result_key(&key) {
            Some(text) => Some(self.result(&key, text).await?),
            None => None,
        };
        self.tell(&key, AccessKind::Read { value: found.as_ref().map(|result| result.value.clone()) });
        found.map(|result| Answered::Record(record(&result))).ok_or_else(|| no_value(&key))
    }

    /// The result of a task, by `<run>.<index>`, `<run>/<step>`, or the run of a single task.
    async fn result(&self, key: &str, text: &str) -> Result<ResultRecord, DoorError> {
        let task = self.task_of(text).await?.ok_or_else(|| {
            DoorError::new(DoorErrorKind::NotFound, format!("there is no task `{text}`"))
                .hint("inside a task, results are read as `task:<run>.<index>:result` or `task:<run>/<step>:result`, with whole ids")
        })?;
        let found = self.store.outputs(&task.run, &[task.index]).await.map_err(failed)?.pop().flatten();
        match found.and_then(|output| output.outputs) {
            Some(outputs) => {
                Ok(ResultRecord { key: key.to_owned(), value: outputs.result, task: task.to_string() })
            }
            None => Err(DoorError::new(DoorErrorKind::NotFound, format!("task `{task}` has no result"))
                .hint("only a task that completed has one")),
        }
    }

    async fn task_of(&self, text: &str) -> Result<Option<TaskId>, DoorError> {
        if let Ok(task) = text.parse() {
            return Ok(Some(task));
        }
        let (run, step) = text.split_once('/').map_or((text, None), |(run, step)| (run, Some(step)));
        let Ok(run) = run.parse::<RunId>() else { return Ok(None) };
        let Some(known) = self.store.run(&run).await.map_err(failed)? else { return Ok(None) };
        let Some(step) = step else { return Ok((known.tasks == 1).then_some(TaskId { run, index: 0 })) };
        let steps = known.steps.min(STEPS_SEARCHED.0);
        let mut from = 0;
        while from < steps {
            let to = (from + STEPS_SEARCHED.1).min(steps);
            let tasks = self.store.tasks(&run, from..to).await.map_err(failed)?;
            if let Some(task) = tasks.into_iter().find(|task| task.own.step == step) {
                return Ok(Some(task.id));
            }
            from = to;
        }
        Ok(None)
    }

    async fn set(
        &self,
        key: String,
        value: NewValue,
        lives: Lives,
        condition: WriteCondition,
    ) -> Result<Answered, DoorError> {
        if task_of_result_key(&key).is_some() {
            return Err(DoorError::usage(format!(
                "`{key}` is the name of a task's result and cannot be set"
            ))
            .hint("choose a key of another form"));
        }
        let value = read_value(&key, &value)?;
        let ttl = match lives {
            Lives::AsSet => self.state_ttl,
            Lives::For(time) => time,
            Lives::ForEver => Duration::ZERO,
        };
        let ttl = (!ttl.is_zero()).then_some(ttl);
        let actor = StateActor::Attempt(&self.voice);
        let written = self.store.set_state(&key, &value, ttl, condition, actor).await;
        let version = written.map_err(|error| self.fenced_or(error))?;
        self.tell(&key, AccessKind::Written { value, version });
        Ok(Answered::Record(record(&WrittenRecord { key, version })))
    }

    async fn delete(&self, key: String) -> Result<Answered, DoorError> {
        self.may_write()?;
        let deleted = self.store.delete_state(&key, StateActor::Attempt(&self.voice)).await;
        if !deleted.map_err(|error| self.fenced_or(error))? {
            if task_of_result_key(&key).is_some() {
                return Err(DoorError::new(DoorErrorKind::NotFound, format!("there is no state `{key}`"))
                    .hint("a task's result is a part of its run and goes with it"));
            }
            return Err(no_value(&key));
        }
        self.tell(&key, AccessKind::Deleted);
        Ok(Answered::Record(json!({ "key": key, "deleted": true })))
    }

    async fn list(&self, pattern: &KeyPattern, after: Option<String>) -> Result<Answered, DoorError> {
        self.may_read(LIST_COSTS)?;
        let mut keys = self.store.state_keys(pattern.prefix()).await.map_err(failed)?;
        keys.retain(|key| pattern.means(key) && after.as_ref().is_none_or(|after| key > after));
        let mut page = ListPage { items: Vec::new(), next: None };
        let (mut bytes, mut read) = (0, 0);
        for portion in keys.chunks(LIST_VALUES_PER_READ) {
            for shared in self.store.states_of(portion.to_vec()).await.map_err(failed)? {
                self.tell(&shared.key, AccessKind::Read { value: Some(shared.value.clone()) });
                bytes += shared.value.as_str().map_or_else(|| shared.value.to_string().len(), str::len);
                page.items.push(value_record(shared));
            }
            read += portion.len();
            if bytes >= PAGE_BYTES || page.items.len() >= PAGE_VALUES_MAX {
                break;
            }
        }
        if read < keys.len() {
            page.next = keys.get(read - 1).cloned();
        }
        Ok(Answered::Record(record(&page)))
    }

    async fn watch(&self, pattern: KeyPattern) -> Result<Answered, DoorError> {
        self.may_read(1)?;
        let permit = self.watches.clone().try_acquire_owned().map_err(|_| {
            DoorError::new(DoorErrorKind::Refused, format!("the attempt has {WATCHES_MAX} watchers already"))
                .hint("end one of them, or watch more keys with one glob: `{a,b}*`")
                .with_status(StatusCode::TOO_MANY_REQUESTS)
        })?;
        let changes = self.changes.subscribe().await.map_err(failed)?;
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let watcher = Watcher {
            store: self.store.clone(),
            pattern,
            lines,
            voice: self.voice.clone(),
            accesses: self.accesses.clone(),
        };
        tokio::spawn(async move {
            watcher.run(changes).await;
            drop(permit);
        });
        Ok(Answered::Changes(receiver))
    }

    /// What the agent hears of a write that did not happen.
    fn fenced_or(&self, error: StoreError) -> DoorError {
        match error {
            StoreError::Refused(Refusal::Fenced | Refusal::Epoch { .. } | Refusal::ClusterGone) => {
                let TaskVoice { task, attempt, .. } = &self.voice;
                DoorError::new(
                    DoorErrorKind::Refused,
                    format!("attempt {attempt} of task `{task}` does not speak for its task any more"),
                )
                .hint("its worker lost the lease, or the task has ended; what it did is not counted")
                .because(DoorErrorCause::Fenced)
            }
            other => failed(other),
        }
    }

    fn tell(&self, key: &str, kind: AccessKind) {
        DoorAccess::tell(self.accesses.as_ref(), &self.voice, key, kind);
    }
}

fn record(record: &impl serde::Serialize) -> Value {
    serde_json::to_value(record).expect("our records have text keys and plain values")
}

fn value_record(shared: SharedValue) -> ValueRecord {
    let ttl = shared.ttl.map(|ttl| ttl.as_secs_f64());
    ValueRecord { key: shared.key, value: shared.value, version: shared.version, ttl }
}

fn read_value(key: &str, value: &NewValue) -> Result<Value, DoorError> {
    if value.json {
        return serde_json::from_slice(&value.bytes).map_err(|error| {
            DoorError::usage(format!("the value of `{key}` is not JSON: {error}"))
                .hint("send text with another `Content-Type` than `application/json`")
        });
    }
    match str::from_utf8(&value.bytes) {
        Ok(text) => Ok(Value::String(text.to_owned())),
        Err(error) => {
            let place = error.valid_up_to() + 1;
            Err(DoorError::usage(format!(
                "the value of `{key}` is not UTF-8: byte {place} does not belong there"
            ))
            .hint(format!("a value is text or JSON of up to {STATE_VALUE_BYTES_MAX} bytes; encode it first")))
        }
    }
}

/// The task's name in `task:<name>:result`.
fn task_of_result_key(key: &str) -> Option<&str> {
    key.strip_prefix("task:")?.strip_suffix(":result")
}
