//! Processes that hold work: attach, beat, detach, and who is there.

use std::collections::BTreeMap;
use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::QueueName;
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};
use crate::step::CellMode;

pub use crate::process_status::{
    DiskRoom, KilledAgent, ProcessCondition, ProcessStatus, TASKS_SAMPLED_MAX, TaskUsage,
};

/// What kind of process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessRole {
    /// Runs tasks.
    Worker,
    /// Sweeps, leads, expands.
    Coordinator,
}

/// What a process says of itself when it attaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AboutProcess {
    /// What it does.
    pub role: ProcessRole,
    /// The host's name.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Tasks it runs at one time.
    pub slots: u32,
    /// Maestro's version.
    pub version: String,
    /// Labels given on its command line.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What confines its agents, a word or two each, for people.
    #[serde(default)]
    pub confinement: Vec<String>,
    /// The same for programs; none from a coordinator, and from a worker that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationRecord>,
}

/// What a worker can do to keep agents apart and within limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolationRecord {
    /// Of this record: [`IsolationRecord::VERSION`]. Fields may be added, none changes its meaning.
    pub version: u32,
    /// Namespaces of confined processes: `own`, `user` (within a user namespace) or `none`.
    pub namespaces: String,
    /// Landlock's version; 0 = the kernel has none.
    pub landlock: u32,
    /// What limits `memory`, `pids` and `cpus`: `cgroup v2`, `cgroup v1`, `rlimit`; what is missing is not limited.
    pub limits: BTreeMap<String, String>,
    /// What a confined process can still reach of others', in words.
    pub gaps: Vec<String>,
    /// What is known of a container engine; none = there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<serde_json::Value>,
}

impl IsolationRecord {
    /// The version written by this program.
    pub const VERSION: u32 = 1;
}

/// A process that has attached.
#[derive(Debug, Clone, PartialEq)]
pub struct AttachedProcess {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Agent types it serves.
    pub types: Vec<String>,
    /// What it said when it attached.
    pub about: AboutProcess,
    /// What it said last.
    pub status: ProcessStatus,
    /// When it attached, ms since 1970.
    pub since_ms: u64,
    /// When it was last heard, ms since 1970.
    pub beat_ms: u64,
    /// Whether its lease still holds.
    pub alive: bool,
    /// Attempts it holds.
    pub holds: u32,
}

/// What the cluster thinks of an attempt that a worker says it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatVerdict {
    /// It is yours.
    Yours,
    /// End it: the task is being cancelled, or its agent starts again.
    Cancel,
    /// End it without grace.
    Kill,
    /// End it and forget it: another attempt, or an end, speaks for the task.
    Stale,
}

/// The answer to a beat.
#[derive(Debug, Clone, PartialEq)]
pub struct BeatReply {
    /// What the cell does with work.
    pub mode: CellMode,
    /// One for each attempt listed.
    pub verdicts: Vec<BeatVerdict>,
    /// Held by this process but not listed: a grant whose answer was lost.
    pub unknown: Vec<(TaskId, Attempt)>,
    /// Grows with every change of the registered agent types.
    pub registry: u64,
}

/// `+a+b+`: the form in which scripts look a type up.
pub(crate) fn joined(types: &[String]) -> String {
    if types.is_empty() { String::new() } else { format!("+{}+", types.join("+")) }
}

impl Store {
    /// Makes a process known under a name and gives it a lease. Sent again, it renews.
    ///
    /// # Errors
    /// `Refusal::NameTaken` if another live process has the name and `takeover` is false.
    pub async fn attach(
        &self,
        incarnation: &Incarnation,
        name: &str,
        types: &[String],
        lease: Duration,
        takeover: bool,
        about: &AboutProcess,
    ) -> Result<(), StoreError> {
        let about_json = serde_json::to_string(about).expect("plain data");
        let value = self.eval("attach", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str()).arg(name).arg(joined(types));
            command.arg(lease.as_millis() as u64).arg(u8::from(takeover)).arg(about_json);
        });
        let reply = Reply::read("attach", value.await?)?;
        match reply.word.as_str() {
            "OK" => Ok(()),
            "GONE" => Err(Refusal::ClusterGone.into()),
            "DUPNAME" => {
                let holder: Option<AboutProcess> = serde_json::from_str(&reply.text(1)?).ok();
                let about = holder
                    .map_or("unknown".to_owned(), |about| format!("pid {} on {}", about.pid, about.host));
                let age = Duration::from_millis(reply.get::<i64>(2)?.max(0) as u64);
                Err(Refusal::NameTaken { name: name.to_owned(), about, age }.into())
            }
            _ => Err(reply.unexpected()),
        }
    }

    /// Renews the lease and compares notes.
    ///
    /// # Errors
    /// `Refusal::Fenced` if the lease ran out before: nothing this process holds is its own any more.
    pub async fn beat(
        &self,
        incarnation: &Incarnation,
        lease: Duration,
        types: &[String],
        status: &ProcessStatus,
        running: &[(TaskId, Attempt)],
    ) -> Result<BeatReply, StoreError> {
        let status_json = serde_json::to_string(status).expect("plain data");
        let value = self.eval("beat", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str()).arg(lease.as_millis() as u64);
            command.arg(status_json).arg(joined(types)).arg(running.len());
            for (task, attempt) in running {
                command.arg(task.run.as_str()).arg(task.index).arg(attempt.0);
            }
        });
        let reply = Reply::read("beat", value.await?)?;
        match reply.word.as_str() {
            "OK" => {}
            "GONE" => return Err(Refusal::ClusterGone.into()),
            _ => return Err(reply.unexpected()),
        }
        let words: Vec<String> = reply.get(1)?;
        let verdicts = words.iter().map(|word| match word.as_str() {
            "OK" => Ok(BeatVerdict::Yours),
            "CANCEL" => Ok(BeatVerdict::Cancel),
            "KILL" => Ok(BeatVerdict::Kill),
            "STALE" => Ok(BeatVerdict::Stale),
            _ => Err(StoreError::unreadable("the verdict of a beat", word)),
        });
        let unknown: Vec<(String, u32, u32)> = reply.get(2)?;
        let unknown = unknown.into_iter().map(|(run, index, attempt)| {
            let run: RunId = run.parse().map_err(|_| StoreError::unreadable("a run id", &run))?;
            Ok((TaskId { run, index }, Attempt(attempt)))
        });
        Ok(BeatReply {
            mode: CellMode::read(&reply.text(0)?),
            verdicts: verdicts.collect::<Result<_, _>>()?,
            unknown: unknown.collect::<Result<_, StoreError>>()?,
            registry: reply.get(3)?,
        })
    }

    /// Takes leave. What is still held counts as lost.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn detach(&self, incarnation: &Incarnation) -> Result<(), StoreError> {
        let value = self.eval("detach", |command| {
            command.arg(self.epoch()).arg(incarnation.as_str());
        });
        let reply = Reply::read("detach", value.await?)?;
        // A cluster that is gone has nothing left of it.
        if matches!(reply.word.as_str(), "OK" | "GONE") { Ok(()) } else { Err(reply.unexpected()) }
    }

    /// Who has attached, by name; coordinators too.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn processes(&self) -> Result<Vec<AttachedProcess>, StoreError> {
        let command =
            redis::cmd("ZRANGE").arg(self.keys().leases()).arg(0).arg(-1).arg("WITHSCORES").to_owned();
        let leases: Vec<(String, f64)> = decode("the leases", self.ask(&command).await?)?;
        let clock = redis::cmd("HGET").arg(self.keys().ctl()).arg("clk").to_owned();
        let clock: f64 = decode("the clock", self.ask(&clock).await?)?;
        let mut pipeline = redis::pipe();
        for (incarnation, _) in &leases {
            let fields = ["name", "types", "about", "status", "since", "beat"];
            pipeline.cmd("HMGET").arg(self.keys().worker(incarnation)).arg(&fields);
            pipeline.cmd("SCARD").arg(self.keys().own(incarnation));
        }
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut processes = Vec::new();
        for (incarnation, until) in leases {
            let fields: Vec<Option<String>> = decode("a worker", values.next().unwrap_or(Value::Nil))?;
            let holds: u32 = decode("what a worker holds", values.next().unwrap_or(Value::Int(0)))?;
            // A process may leave between the two reads.
            if fields.first().is_none_or(Option::is_none) {
                continue;
            }
            processes.push(read_process(incarnation, fields, holds, until >= clock)?);
        }
        processes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(processes)
    }

    /// Tasks that these processes hold, in the same order.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn held_tasks(&self, processes: &[Incarnation]) -> Result<Vec<Vec<TaskId>>, StoreError> {
        let mut pipeline = redis::pipe();
        for incarnation in processes {
            pipeline.cmd("SMEMBERS").arg(self.keys().own(incarnation.as_str()));
        }
        let mut held = Vec::with_capacity(processes.len());
        for value in self.ask_all(&pipeline).await? {
            let ids: Vec<String> = decode("what a worker holds", value)?;
            let read = |id: String| id.parse().map_err(|_| StoreError::unreadable("a task id", &id));
            let mut tasks = ids.into_iter().map(read).collect::<Result<Vec<TaskId>, StoreError>>()?;
            tasks.sort();
            held.push(tasks);
        }
        Ok(held)
    }

    /// How many runs that have not ended are bound to the worker of this name: steps that share a folder
    /// which is there.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn bound_runs(&self, name: &str) -> Result<usize, StoreError> {
        let command = redis::cmd("SCARD").arg(self.keys().pins(name)).to_owned();
        decode("the runs bound to a worker", self.ask(&command).await?)
    }

    /// Blocks until one of the bells rings, at most `longest`. Uses a connection of its own, made by
    /// `bells`.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub async fn bells(&self, longest: Duration) -> Result<Bells, StoreError> {
        Ok(Bells { connection: self.link().dedicated(longest).await?, store: self.clone(), longest })
    }
}

fn read_process(
    incarnation: String,
    fields: Vec<Option<String>>,
    holds: u32,
    alive: bool,
) -> Result<AttachedProcess, StoreError> {
    let field = |place: usize| fields.get(place).cloned().flatten().unwrap_or_default();
    let about = field(2);
    Ok(AttachedProcess {
        incarnation: Incarnation::from_stored(incarnation),
        name: field(0),
        types: field(1).split('+').filter(|slug| !slug.is_empty()).map(str::to_owned).collect(),
        about: serde_json::from_str(&about)
            .map_err(|_| StoreError::unreadable("what a worker says", &about))?,
        status: serde_json::from_str(&field(3)).unwrap_or_default(),
        since_ms: field(4).parse().unwrap_or(0),
        beat_ms: field(5).parse().unwrap_or(0),
        alive,
        holds,
    })
}

/// A connection that waits for bells.
#[derive(Debug)]
pub struct Bells {
    connection: redis::aio::MultiplexedConnection,
    store: Store,
    longest: Duration,
}

/// What a wait for bells came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BellRing {
    /// None rang.
    Nothing,
    /// The process' own.
    Own,
    /// A queue's; its token has been taken.
    Queue(QueueName),
}

/// A worker's own bell, beside those of queues.
pub fn own_bell(incarnation: &Incarnation) -> String {
    format!("w:{incarnation}")
}

impl Bells {
    /// Waits for one of the bells; true if one rang. Dropping the future leaves the wait in Redis to
    /// end by itself, at most after `longest`.
    ///
    /// # Errors
    /// `Unreachable`: make new `bells`, and claim once before waiting again.
    pub async fn wait(
        &mut self,
        incarnation: &Incarnation,
        queues: &[QueueName],
    ) -> Result<bool, StoreError> {
        Ok(self.wait_ring(incarnation, queues).await? != BellRing::Nothing)
    }

    /// As `wait`, and says which one rang.
    ///
    /// # Errors
    /// As `wait`.
    pub async fn wait_ring(
        &mut self,
        incarnation: &Incarnation,
        queues: &[QueueName],
    ) -> Result<BellRing, StoreError> {
        let mut command = redis::cmd("BLPOP");
        command.arg(self.store.keys().bell(&own_bell(incarnation)));
        for queue in queues {
            command.arg(self.store.keys().bell(queue.as_str()));
        }
        command.arg(self.longest.as_secs_f64());
        let answer = self.connection.send_packed_command(&command).await;
        let value = answer.map_err(|error| self.store.link().sort(error))?;
        let rung: Option<(String, String)> = decode("a bell", value)?;
        let Some((key, _)) = rung else { return Ok(BellRing::Nothing) };
        let of_queue = |queue: &&QueueName| self.store.keys().bell(queue.as_str()) == key;
        Ok(queues.iter().find(of_queue).map_or(BellRing::Own, |queue| BellRing::Queue(queue.clone())))
    }

    /// Puts a token back that this process cannot use, for another one.
    ///
    /// # Errors
    /// As `wait`.
    pub async fn pass_on(&mut self, queue: &QueueName) -> Result<(), StoreError> {
        let command = redis::cmd("RPUSH").arg(self.store.keys().bell(queue.as_str())).arg("1").to_owned();
        let answer = self.connection.send_packed_command(&command).await;
        answer.map(drop).map_err(|error| self.store.link().sort(error))
    }
}
