//! A workflow made ready to run: numbered tasks, counted edges, nothing left to look up.
//!
//! `compile` (in `compile.rs`) makes a plan from a checked workflow; `store` writes it to Redis in
//! chunks. A plan is data: whether a task may start is decided by the scripts, from the counts here.
//!
//! Numbering: tasks without incoming edges come first, grouped by queue and ordered by priority within
//! it, so that what has not been released yet is one number per queue and not a list.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent_type::AgentType;
use crate::ids::{AgentId, AgentSlug, Attempt, Incarnation, RunId, StepId, TaskId};
use crate::retry::RetryPolicy;
use crate::task::{Reason, TaskStatus};

/// Most tasks in one run, items of `foreach` included.
pub const TASKS_PER_RUN_MAX: u32 = 100_000;

/// Where a ready task waits.
///
/// Stored as `a:<slug>`, `i:<agent>`, `s:<slug>+<slug>`, `w:<worker>` or `c:expand`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueName(String);

impl QueueName {
    /// Any worker that serves the type.
    pub fn agent(slug: &AgentSlug) -> QueueName {
        QueueName(format!("a:{slug}"))
    }

    /// The one worker that holds the agent's folder, one task at a time.
    pub fn assigned(id: &AgentId) -> QueueName {
        QueueName(format!("i:{id}"))
    }

    /// Any worker that serves all of these types: first tasks of a run that stays on one worker.
    /// One type alone is that type's own queue.
    pub fn agents<'a>(slugs: impl IntoIterator<Item = &'a AgentSlug>) -> QueueName {
        let mut slugs: Vec<&str> = slugs.into_iter().map(AgentSlug::as_str).collect();
        slugs.sort_unstable();
        slugs.dedup();
        match slugs.as_slice() {
            [only] => QueueName(format!("a:{only}")),
            several => QueueName(format!("s:{}", several.join("+"))),
        }
    }

    /// One worker and no other, by its name.
    pub fn worker(name: &str) -> QueueName {
        QueueName(format!("w:{name}"))
    }

    /// Steps that a coordinator carries out: expansion of `foreach`, and snapshots.
    pub fn expand() -> QueueName {
        QueueName("c:expand".to_owned())
    }

    /// Takes a name as it is stored.
    pub fn from_stored(text: impl Into<String>) -> QueueName {
        QueueName(text.into())
    }

    /// The name as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A run as it is submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the whole run shares.
    pub context: RunContext,
    /// Rules of the whole run.
    pub policy: RunPolicy,
    /// The agent types it uses, as they were at submission.
    pub agents: IndexMap<AgentSlug, AgentType>,
    /// Parts that several tasks have in common.
    pub shared: Vec<SharedSpec>,
    /// The tasks, by index.
    pub tasks: Vec<PlannedTask>,
    /// Ready from the start, by queue: tasks `first .. first + count`.
    pub roots: Vec<RootRange>,
    /// Every type named by a step with `workspace: run`, sorted; empty where there is none.
    pub bound_agents: Vec<AgentSlug>,
    /// The text of the definition it was compiled from, kept with the run for `--resume-from`; a dispatch has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// `--key` of a dispatch: of several submissions with one key the first is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What its tasks wait for in other runs, beside `dependencies`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<ExternalNeed>,
    /// Tasks that have ended before the run begins, because another run did their work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seeds: BTreeMap<u32, TaskSeed>,
}

/// A task waits for something in another run, as if it were a `depends_on`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExternalNeed {
    /// The task that waits.
    pub task: u32,
    /// For what.
    pub on: NeedTarget,
}

/// What `--depends-on` names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedTarget {
    /// A task: completed, or ended as its `continue_on` lists.
    Task(TaskId),
    /// A whole run: completed.
    Run(RunId),
}

impl NeedTarget {
    /// The run it lies in.
    pub fn run(&self) -> &RunId {
        match self {
            NeedTarget::Task(task) => &task.run,
            NeedTarget::Run(run) => run,
        }
    }
}

impl std::fmt::Display for NeedTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NeedTarget::Task(task) => task.fmt(formatter),
            NeedTarget::Run(run) => run.fmt(formatter),
        }
    }
}

/// How a task ended in another run, taken over into this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSeed {
    /// Its end: completed, failed, skipped.
    pub status: TaskStatus,
    /// The last attempt; a later try of this run goes on from it.
    pub attempt: Attempt,
    /// Who worked on it.
    pub owner: Option<Incarnation>,
    /// Failures counted against the retry policy.
    pub failures: u32,
    /// Losses with a dead worker.
    pub losses: u32,
    /// When it became ready, when its last attempt started, when it ended: ms since 1970.
    pub queued_at_ms: Option<u64>,
    /// See `queued_at_ms`.
    pub started_at_ms: Option<u64>,
    /// See `queued_at_ms`.
    pub finished_at_ms: Option<u64>,
    /// The agent's exit code.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Result and outputs, or the message of a failure, as stored.
    pub output: Option<String>,
    /// The task that did the work: its log and its folder are there.
    pub origin: TaskId,
}

/// What templates read of the run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunContext {
    /// The workflow's name, and its version as written in the file.
    pub workflow: String,
    /// `version:` of the definition.
    #[serde(default)]
    pub version: Option<String>,
    /// Values for `<< vars.x >>` after all overriding.
    pub vars: IndexMap<String, Value>,
    /// Values for `<< params.x >>`: what `--param` and `--param-file` gave.
    pub params: IndexMap<String, Value>,
    /// `<< run.folder >>`: where the command that made the run was typed, so that on one machine relative
    /// paths among its parameters mean something; none if nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Whether workers keep a trace of their attempts, as `RunPolicy` says; absent = no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trace: bool,
}

/// Rules of the whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunPolicy {
    /// Most tasks of the run at one time; none = no limit.
    pub concurrency: Option<u32>,
    /// Time from submission to the end of everything, ms.
    pub timeout_ms: Option<u64>,
    /// Whether the first unhandled failure cancels the rest (handlers go on).
    pub fail_fast: bool,
    /// Whether a trace is kept.
    pub trace: bool,
}

/// Tasks ready from the start that wait in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRange {
    /// The queue they will stand in; none for groups, which start by releasing their items.
    pub queue: Option<QueueName>,
    /// The first task.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What several tasks have in common; a task names it by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedSpec {
    /// The agent type that works on it.
    pub agent: AgentSlug,
    /// The agent that works on it, if the step names one and not a type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<AgentId>,
    /// Where its tasks wait until the run is bound to a worker.
    pub queue: QueueName,
    /// 1 (first) to 5 (last).
    pub priority: u8,
    /// The role the agent plays, if the step gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The prompt of all items of a `foreach`; other tasks have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What the prompt and the other templates here read, beyond the run's context.
    #[serde(default, skip_serializing_if = "References::is_empty")]
    pub references: References,
    /// Decided just before the start; of a `foreach`, before it is expanded (items ignore it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// State keys and what is put there on success.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub publish: IndexMap<String, Value>,
    /// Further environment of the agent, with templates.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, String>,
    /// Longest time of one attempt, ms.
    pub timeout_ms: u64,
    /// Longest wait for a worker, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout_ms: Option<u64>,
    /// Longest time without output, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout_ms: Option<u64>,
    /// What happens after a failure.
    pub retry: RetryPolicy,
    /// Which folder the agent works in.
    pub workspace: WorkspaceChoice,
    /// Ends of this step, beside completion, that still satisfy a `depends_on`.
    pub continue_on: ContinueOn,
}

/// Which folder a step works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceChoice {
    /// A fresh one of its own.
    Task,
    /// One for the whole run, on one worker.
    Run,
    /// A copy of what another step left.
    Step(StepId),
    /// The folder its agent was assigned; where that is now, the claim says.
    Assigned,
}

/// Ends of a step that its dependents put up with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinueOn {
    /// `continue_on: [failed]`
    pub failed: bool,
    /// `continue_on: [skipped]`
    pub skipped: bool,
}

/// What templates of a task read beyond the run's context; the claim brings it along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct References {
    /// Steps by name, with the index of their task (of a `foreach`: of its group).
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub steps: IndexMap<StepId, u32>,
    /// Keys of shared state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
}

impl References {
    /// Whether there is nothing to bring along.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.state.is_empty()
    }
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// The step it comes from.
    pub step: StepId,
    /// Which part of `Plan::shared` it builds on.
    pub shared: u32,
    /// What it is.
    pub kind: TaskKind,
    /// Its own prompt, a template; none for a `foreach` and its items, whose prompt is shared, and for
    /// steps of `noop` without one.
    pub prompt: Option<String>,
    /// What its own prompt reads; of a `foreach` that is still to be expanded, what its list reads.
    pub references: References,
    /// How many `depends_on` it waits for, each predecessor counted once.
    pub dependencies: u32,
    /// How many `on_success` and `on_failure` edges lead to it.
    pub triggers: u32,
    /// Who waits for it.
    pub dependents: Vec<Dependent>,
    /// Whether its failure is taken care of (`on_failure`, or `continue_on: [failed]`). An item has what
    /// its group has, which answers for it.
    pub handled: bool,
    /// Whether it is a step that an `on_failure` edge leads to, or lies behind one: spared by `fail_fast`.
    pub handler: bool,
}

/// What kind of task it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// An agent works on it.
    Agent,
    /// One item of a `foreach`: its number and value, and the group that waits for it.
    Item {
        /// Index of the group's task.
        group: u32,
        /// Place in the list, from 0.
        number: u32,
        /// `<< item >>`
        item: Value,
    },
    /// A `foreach` whose items are known: tasks `first .. first + count`. It launches nothing itself.
    Group {
        /// First item.
        first: u32,
        /// Number of items; an empty list completes the step.
        count: u32,
        /// Most items at one time.
        max_parallel: Option<u32>,
    },
    /// A `foreach` whose list (or `when`) is only known when it starts: a coordinator expands it.
    Expand {
        /// The expression, without `<< >>`, or the text of a literal JSON list.
        list: String,
        /// Most items at one time.
        max_parallel: Option<u32>,
    },
    /// A snapshot of the cluster, which a coordinator takes.
    Snapshot {
        /// Its label.
        label: String,
    },
}

/// An edge, seen from the task it starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// The task that waits.
    pub index: u32,
    /// For what.
    pub edge: EdgeKind,
}

/// What an edge waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// `depends_on`: completed, or ended as its `continue_on` lists.
    Needs,
    /// `on_success`: completed, nothing else.
    OnSuccess,
    /// `on_failure`: failed for good.
    OnFailure,
    /// An item's edge to its group: any end.
    Item,
}
