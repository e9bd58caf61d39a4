//! Reading runs and their tasks, and stopping them.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::attempt::TaskOutputs;
use maestro_model::ids::{AgentSlug, RunId, TaskId};
use maestro_model::model_use::ModelUse;
use maestro_model::plan::{RunContext, SharedSpec};
use maestro_model::task::TaskStatus;
use redis::Value;

use crate::cell::{Reply, Store, decode};
use crate::encode::OwnSpec;
use crate::error::{Refusal, StoreError};
use crate::record::TaskRecord;

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Being submitted.
    Loading,
    /// Going on.
    Running,
    /// Being stopped.
    Cancelling,
    /// No step failed unhandled.
    Completed,
    /// A step failed unhandled, it timed out, or its worker was lost.
    Failed,
    /// Somebody stopped it, or a part of it.
    Cancelled,
}

impl RunStatus {
    fn read(word: &str) -> Option<RunStatus> {
        Some(match word {
            "loading" => RunStatus::Loading,
            "running" => RunStatus::Running,
            "cancelling" => RunStatus::Cancelling,
            "completed" => RunStatus::Completed,
            "failed" => RunStatus::Failed,
            "cancelled" => RunStatus::Cancelled,
            _ => return None,
        })
    }

    /// The word users read.
    pub fn word(self) -> &'static str {
        match self {
            RunStatus::Loading => "loading",
            RunStatus::Running => "running",
            RunStatus::Cancelling => "cancelling",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled)
    }
}

/// A run as Redis counts it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// Where it is in its life.
    pub status: RunStatus,
    /// Why it failed as a whole: `timeout`, `lost`, or empty.
    pub reason: String,
    /// Why somebody stopped it, in their words.
    pub note: String,
    /// Tasks by index run up to here; some numbers may be unused.
    pub tasks: u32,
    /// Steps of the workflow: tasks `0 .. steps`.
    pub steps: u32,
    /// Not final yet.
    pub open: u32,
    /// Final, by how they ended.
    pub completed: u32,
    /// See `completed`.
    pub failed: u32,
    /// See `completed`.
    pub skipped: u32,
    /// See `completed`.
    pub cancelled: u32,
    /// Unhandled failures.
    pub unhandled: u32,
    /// The worker it is bound to.
    pub bound_to: Option<String>,
    /// Most tasks at one time; 0 = no limit.
    pub concurrency: u32,
    /// Tasks in queues or running.
    pub inflight: i64,
    /// Whether a trace is kept.
    pub trace: bool,
    /// Submission, ms since 1970.
    pub created_at_ms: u64,
    /// End, ms since 1970.
    pub finished_at_ms: Option<u64>,
    /// Bytes it takes up, about.
    pub bytes: u64,
}

/// A task with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its own part of the plan.
    pub own: OwnSpec,
    /// `a` agent, `i` item, `g` group, `x` to be expanded, `s` snapshot.
    pub kind: char,
    /// Which shared part it builds on.
    pub shared: u32,
    /// Of an item: the task of its `foreach`.
    pub group: Option<u32>,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// Its record; none while it was never ready.
    pub record: Option<TaskRecord>,
}

/// What all tasks of a run have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct RunParts {
    /// What templates read.
    pub context: RunContext,
    /// Agent types as at submission.
    pub agents: IndexMap<AgentSlug, AgentType>,
    /// Shared parts, by number.
    pub shared: HashMap<u32, SharedSpec>,
}

/// Output of a step, or the message of a failed one.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StoredOutput {
    /// `result` and `outputs`, of a completed task.
    #[serde(flatten)]
    pub outputs: Option<TaskOutputs>,
    /// One line for people, of a failed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What its attempts used, of either, as far as their program said.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub model_use: Option<ModelUse>,
}

impl StoredOutput {
    /// A message and nothing else.
    pub fn of_message(message: String) -> StoredOutput {
        StoredOutput { message: Some(message), ..StoredOutput::default() }
    }
}

/// What became of a request to end something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAnswer {
    /// It has ended.
    Ended,
    /// It has been told to end.
    Ending,
    /// It was being ended already.
    Repeated,
}

/// Records and specs read at one time.
const TASKS_PER_READ: u32 = 500;

impl Store {
    /// A run, if it is there.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn run(&self, run: &RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.read_runs(std::slice::from_ref(run)).await?.pop())
    }

    /// The newest runs, newest first.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn newest_runs(&self, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let ids = self.run_ids(limit).await?;
        self.read_runs(&ids).await
    }

    /// Ids of the newest runs, newest first.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn run_ids(&self, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let mut command = redis::cmd("ZREVRANGE");
        command.arg(self.keys().runs()).arg(0).arg(limit.saturating_sub(1));
        let ids: Vec<String> = decode("the runs", self.ask(&command).await?)?;
        ids.iter().map(|id| id.parse().map_err(|_| StoreError::unreadable("a run id", id))).collect()
    }

    pub(crate) async fn read_runs(&self, ids: &[RunId]) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs = Vec::with_capacity(ids.len());
        for portion in ids.chunks(200) {
            let mut pipeline = redis::pipe();
            for id in portion {
                pipeline.cmd("HGETALL").arg(self.keys().run(id));
            }
            for (id, value) in portion.iter().zip(self.ask_all(&pipeline).await?) {
                let fields: HashMap<String, String> = decode("a run", value)?;
                if !fields.is_empty() {
                    runs.push(read_run(id, &fields)?);
                }
            }
        }
        Ok(runs)
    }

    /// The text of the workflow that a run was made from; none of a dispatch.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn run_definition(&self, run: &RunId) -> Result<Option<String>, StoreError> {
        let command = redis::cmd("HGET").arg(self.keys().run_spec(run)).arg("def").to_owned();
        decode("a run's definition", self.ask(&command).await?)
    }

    /// What the tasks of a run have in common.
    ///
    /// # Errors
    /// `NotFound` if there is no such run.
    pub async fn run_parts(
        &self,
        run: &RunId,
        shared: &[u32],
        agents: &[AgentSlug],
    ) -> Result<RunParts, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys().run_spec(run)).arg("run");
        for slug in agents {
            command.arg(format!("a:{slug}"));
        }
        for number in shared {
            command.arg(format!("s{number}"));
        }
        let values: Vec<Option<String>> = decode("a run's parts", self.ask(&command).await?)?;
        let mut values = values.into_iter();
        let context = values.next().flatten().ok_or_else(|| StoreError::not_found(format!("run `{run}`")))?;
        let mut parts = RunParts {
            context: read_json("a run's context", &context)?,
            agents: IndexMap::new(),
            shared: HashMap::new(),
        };
        for slug in agents {
            if let Some(json) = values.next().flatten() {
                parts.agents.insert(slug.clone(), read_json("an agent type", &json)?);
            }
        }
        for number in shared {
            if let Some(text) = values.next().flatten() {
                let (_, json) = text.split_once('\n').unwrap_or_default();
                parts.shared.insert(*number, read_json("a shared part", json)?);
            }
        }
        Ok(parts)
    }

    /// Tasks of a run by index. Unused numbers are left out.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn tasks(
        &self,
        run: &RunId,
        indexes: std::ops::Range<u32>,
    ) -> Result<Vec<TaskView>, StoreError> {
        let mut tasks = Vec::new();
        let mut from = indexes.start;
        while from < indexes.end {
            let to = (from + TASKS_PER_READ).min(indexes.end);
            let numbers: Vec<u32> = (from..to).collect();
            tasks.extend(self.tasks_at(run, &numbers).await?);
            from = to;
        }
        Ok(tasks)
    }

    /// Some tasks of a run, in the order asked for. Unused numbers are left out.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn tasks_at(&self, run: &RunId, indexes: &[u32]) -> Result<Vec<TaskView>, StoreError> {
        let mut tasks = Vec::new();
        for numbers in indexes.chunks(TASKS_PER_READ as usize) {
            let mut pipeline = redis::pipe();
            for key in [self.keys().run_spec(run), self.keys().run_task(run), self.keys().run_left(run)] {
                pipeline.cmd("HMGET").arg(key).arg(numbers);
            }
            let mut values = self.ask_all(&pipeline).await?.into_iter();
            let mut column = || -> Result<Vec<Option<String>>, StoreError> {
                decode("tasks", values.next().unwrap_or(Value::Nil))
            };
            let (specs, records, left) = (column()?, column()?, column()?);
            for (place, number) in numbers.iter().enumerate() {
                let Some(spec) = &specs[place] else { continue };
                let id = TaskId { run: run.clone(), index: *number };
                tasks.push(read_task(id, spec, records[place].as_deref(), left[place].is_some())?);
            }
        }
        self.end_with_their_groups(run, &mut tasks).await?;
        Ok(tasks)
    }

    /// Items that were never let into a queue end with their `foreach`, and nobody writes that down for each.
    async fn end_with_their_groups(&self, run: &RunId, tasks: &mut [TaskView]) -> Result<(), StoreError> {
        let waits = |task: &TaskView| if task.record.is_none() { task.group } else { None };
        let groups: Vec<u32> =
            tasks.iter().filter_map(waits).collect::<BTreeSet<u32>>().into_iter().collect();
        let mut ends = HashMap::new();
        for portion in groups.chunks(TASKS_PER_READ as usize) {
            let command = redis::cmd("HMGET").arg(self.keys().run_task(run)).arg(portion).to_owned();
            let records: Vec<Option<String>> = decode("records", self.ask(&command).await?)?;
            for (group, line) in portion.iter().zip(records) {
                let record = line.map(|line| TaskRecord::read(&line)).transpose()?;
                ends.extend(record.filter(|one| one.status.is_final()).map(|one| (*group, one.status)));
            }
        }
        for task in tasks {
            if let Some(status) = waits(task).and_then(|group| ends.get(&group)) {
                task.status = *status;
            }
        }
        Ok(())
    }

    /// One task.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn task(&self, id: &TaskId) -> Result<TaskView, StoreError> {
        let found = self.tasks(&id.run, id.index..id.index + 1).await?.pop();
        found.ok_or_else(|| StoreError::not_found(format!("task `{id}`")))
    }

    /// Outputs of tasks, none where there is none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn outputs(
        &self,
        run: &RunId,
        indexes: &[u32],
    ) -> Result<Vec<Option<StoredOutput>>, StoreError> {
        let mut outputs = Vec::with_capacity(indexes.len());
        for portion in indexes.chunks(64) {
            let command = redis::cmd("HMGET").arg(self.keys().run_out(run)).arg(portion).to_owned();
            let values: Vec<Option<String>> = decode("outputs", self.ask(&command).await?)?;
            for value in values {
                outputs.push(value.map(|json| read_json("an output", &json)).transpose()?);
            }
        }
        Ok(outputs)
    }

    /// Outputs of tasks as they are stored, none where there is none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn stored_outputs(
        &self,
        run: &RunId,
        indexes: &[u32],
    ) -> Result<Vec<Option<String>>, StoreError> {
        let mut outputs = Vec::with_capacity(indexes.len());
        for portion in indexes.chunks(64) {
            let command = redis::cmd("HMGET").arg(self.keys().run_out(run)).arg(portion).to_owned();
            let values: Vec<Option<String>> = decode("outputs", self.ask(&command).await?)?;
            outputs.extend(values);
        }
        Ok(outputs)
    }

    /// Cancels all that is not final in a run.
    ///
    /// # Errors
    /// `NotFound`; `Refusal::Server` with the status if the run has ended.
    pub async fn stop_run(&self, run: &RunId, note: &str) -> Result<StopAnswer, StoreError> {
        let value = self.eval("stop", |command| {
            command.arg(self.epoch()).arg(run.as_str()).arg(note);
        });
        let reply = Reply::read("stop", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(StopAnswer::Ending),
            "DUP" => Ok(StopAnswer::Repeated),
            "FINAL" | "LOADING" => Ok(StopAnswer::Ended),
            "GONE" => Err(StoreError::not_found(format!("run `{run}`"))),
            _ => Err(reply.unexpected()),
        }
    }

    /// Cancels one task. `note` says why, for people; empty = nobody said.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cancel_task(&self, task: &TaskId, note: &str) -> Result<StopAnswer, StoreError> {
        let message = StoredOutput::of_message(note.to_owned());
        let kept = if note.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&message).expect("a message is plain data")
        };
        let value = self.eval("cancel", |command| {
            command.arg(self.epoch()).arg(task.run.as_str()).arg(task.index).arg(kept);
        });
        let reply = Reply::read("cancel", value.await?)?;
        match reply.word.as_str() {
            "OK" | "FINAL" => Ok(StopAnswer::Ended),
            "CANCELLING" => Ok(StopAnswer::Ending),
            "DUP" => Ok(StopAnswer::Repeated),
            "GONE" | "NONE" => Err(Refusal::NotFound { what: format!("task `{task}`") }.into()),
            _ => Err(reply.unexpected()),
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::unreadable(what, error.to_string()))
}

fn read_run(id: &RunId, fields: &HashMap<String, String>) -> Result<RunRecord, StoreError> {
    let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let number = |name: &str| -> u64 { fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0) };
    let status = text("status");
    Ok(RunRecord {
        id: id.clone(),
        workflow: text("name"),
        status: RunStatus::read(&status)
            .ok_or_else(|| StoreError::unreadable(format!("run `{id}`"), &status))?,
        reason: text("reason"),
        note: text("note"),
        tasks: number("n") as u32,
        steps: number("steps") as u32,
        open: number("open") as u32,
        completed: number("C") as u32,
        failed: number("F") as u32,
        skipped: number("K") as u32,
        cancelled: number("N") as u32,
        unhandled: number("bad") as u32,
        bound_to: fields.get("pin").filter(|name| !name.is_empty()).cloned(),
        concurrency: number("conc") as u32,
        inflight: fields.get("inflight").and_then(|text| text.parse().ok()).unwrap_or(0),
        trace: text("trace") == "1",
        created_at_ms: number("created"),
        finished_at_ms: fields.get("finished").and_then(|text| text.parse().ok()),
        bytes: number("bytes"),
    })
}

fn read_task(id: TaskId, spec: &str, record: Option<&str>, waits: bool) -> Result<TaskView, StoreError> {
    let unreadable = || StoreError::unreadable(format!("task `{id}`"), spec);
    let (head, own) = spec.split_once('\n').ok_or_else(unreadable)?;
    let mut words = head.split(' ');
    let kind = words.next().and_then(|word| word.chars().next()).ok_or_else(unreadable)?;
    let shared = words.next().and_then(|word| word.parse().ok()).ok_or_else(unreadable)?;
    let window = words.next().ok_or_else(unreadable)?;
    let group = window.strip_prefix('g').and_then(|group| group.parse().ok());
    let own = serde_json::from_str(own).map_err(|_| unreadable())?;
    let record = record.map(TaskRecord::read).transpose()?;
    // No record: it waits for others, or stands behind its range's cursor, ready.
    let status = match &record {
        Some(record) => record.status,
        None if waits || kind == 'i' => TaskStatus::Blocked,
        None => TaskStatus::Queued,
    };
    Ok(TaskView { id, own, kind, shared, group, status, record })
}
