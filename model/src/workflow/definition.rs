//! A workflow as it is written, read and checked.
//!
//! These types are the definition: the JSON Schema is generated from them, comments included, so
//! what stands here is what `maestro workflow schema` prints. How they are read is in `read`, what
//! is wrong with them in `check`; a `Workflow` outside this module has passed both.

use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde_json::Value;

use super::edges::StepEdge;
use super::schema;
use crate::diagnostic::SourceText;
use crate::ids::{AgentSlug, StepId, WorkflowName};
use crate::plan::ContinueOn;
use crate::retry::RetryOn;
use crate::template_text::TemplateText;
use crate::yaml::Marked;

/// Longest prompt, in bytes, before its templates are filled in.
pub const PROMPT_BYTES_MAX: usize = 256 * 1024;

/// A workflow: steps, what they wait for, and rules for a whole run.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Workflow")]
pub struct Workflow {
    /// What the workflow is stored under and called by.
    #[schemars(with = "schema::NameText")]
    pub name: Marked<WorkflowName>,
    /// A version of your own; each `workflow create` also counts its versions.
    #[schemars(with = "Option<schema::TextOrNumber>")]
    pub version: Option<String>,
    /// What it is for, for people.
    #[schemars(with = "Option<String>")]
    pub description: Option<String>,
    /// Values for `<< vars.x >>`; overridden by `--vars`, then by `--param`.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub vars: IndexMap<String, Value>,
    /// What holds for every step that does not say otherwise.
    #[schemars(with = "Option<StepDefaults>")]
    pub defaults: StepDefaults,
    /// Most tasks of one run at a time; no limit unless set.
    #[schemars(with = "Option<schema::Positive>")]
    pub concurrency: Option<u32>,
    /// Longest time of the whole run, from its submission; all is cancelled when it is over.
    #[schemars(rename = "timeout", with = "Option<schema::DurationText>")]
    pub timeout_ms: Option<u64>,
    /// Whether the first failure that nothing handles cancels what is left of the run.
    #[schemars(with = "Option<bool>")]
    pub fail_fast: bool,
    /// The steps, in any order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// Who waits for whom, with what templates imply; places in `steps`.
    #[schemars(skip)]
    pub edges: Vec<StepEdge>,
    /// The file, for marks in later errors.
    #[schemars(skip)]
    pub source: Arc<SourceText>,
}

/// What holds for every step that does not say otherwise.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StepDefaults {
    /// The agent type of steps that name none.
    #[schemars(with = "Option<schema::NameText>")]
    pub agent: Option<Marked<AgentSlug>>,
    /// Longest time of one attempt.
    #[schemars(rename = "timeout", with = "Option<schema::DurationText>")]
    pub timeout_ms: Option<u64>,
    /// Longest time a ready task waits for a worker.
    #[schemars(rename = "queue_timeout", with = "Option<schema::DurationText>")]
    pub queue_timeout_ms: Option<u64>,
    /// Longest time without output.
    #[schemars(rename = "stall_timeout", with = "Option<schema::DurationText>")]
    pub stall_timeout_ms: Option<u64>,
    /// Which folder the agents work in.
    #[schemars(with = "Option<schema::WorkspaceText>")]
    pub workspace: Option<Marked<WorkspaceName>>,
    /// What happens after a failure; a step's own `retry` replaces single keys of it.
    #[schemars(with = "Option<RetryRules>")]
    pub retry: RetryRules,
    /// 1 (first) to 5 (last).
    #[schemars(with = "Option<u8>", range(min = 1, max = 5))]
    pub priority: Option<u8>,
    /// Further environment of every agent; values are templates.
    #[schemars(with = "Option<IndexMap<String, schema::TextOrNumber>>")]
    pub env: IndexMap<String, TemplateText>,
}

/// One step: what an agent does, and when.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Step {
    /// Its name in this workflow.
    #[schemars(with = "schema::NameText")]
    pub id: Marked<StepId>,
    /// The agent type that works on it; may be left out if `defaults` names one.
    #[schemars(with = "Option<schema::NameText>")]
    pub agent: Marked<AgentSlug>,
    /// What the agent is to do, a template. Only steps of `noop` may leave it out.
    #[schemars(with = "Option<schema::TextOrNumber>")]
    pub prompt: Option<TemplateText>,
    /// What it is for, for people.
    #[schemars(with = "Option<String>")]
    pub description: Option<String>,
    /// Steps that must have completed before it starts: one id or a list.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub depends_on: Vec<Marked<StepId>>,
    /// Steps that follow if it completes: one id or a list.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub on_success: Vec<Marked<StepId>>,
    /// Steps that follow if it fails for good: one id or a list.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub on_failure: Vec<Marked<StepId>>,
    /// An expression, with or without `<< >>`, decided just before the step would start; false skips it.
    #[schemars(with = "Option<schema::ConditionText>")]
    pub when: Option<TemplateText>,
    /// A list, or an expression that gives one; each item is a task of its own, `<< item >>`.
    #[schemars(with = "Option<schema::ForeachText>")]
    pub foreach: Option<ForeachList>,
    /// Most items of `foreach` at a time.
    #[schemars(with = "Option<schema::Positive>")]
    pub max_parallel: Option<u32>,
    /// What happens after a failure.
    #[schemars(with = "Option<RetryRules>")]
    pub retry: RetryRules,
    /// Longest time of one attempt.
    #[schemars(rename = "timeout", with = "Option<schema::DurationText>")]
    pub timeout_ms: Option<u64>,
    /// Longest time it waits for a worker once it is ready.
    #[schemars(rename = "queue_timeout", with = "Option<schema::DurationText>")]
    pub queue_timeout_ms: Option<u64>,
    /// Longest time without output.
    #[schemars(rename = "stall_timeout", with = "Option<schema::DurationText>")]
    pub stall_timeout_ms: Option<u64>,
    /// Keys of shared state and what is put there on success; values are templates that also know `outputs`.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub publish: IndexMap<String, PublishValue>,
    /// Further environment of the agent; values are templates.
    #[schemars(with = "Option<IndexMap<String, schema::TextOrNumber>>")]
    pub env: IndexMap<String, TemplateText>,
    /// Which folder the agent works in.
    #[schemars(with = "Option<schema::WorkspaceText>")]
    pub workspace: Option<Marked<WorkspaceName>>,
    /// 1 (first) to 5 (last).
    #[schemars(with = "Option<u8>", range(min = 1, max = 5))]
    pub priority: Option<u8>,
    /// Ends, beside completion, that let its dependents go on.
    #[schemars(with = "Option<schema::ContinueOnWords>")]
    pub continue_on: ContinueOn,
    /// Makes a labelled snapshot before or after the step: `<workflow>:<step>:before`.
    #[schemars(with = "Option<SnapshotMoment>")]
    pub snapshot: Option<Marked<SnapshotMoment>>,
    /// The role the agent plays: `<< agent.role >>` and `MAESTRO_ROLE`.
    #[schemars(with = "Option<String>")]
    pub role: Option<String>,
    /// Of a step that stands for a snapshot: its label. None is written so; see `with_snapshot_steps`.
    #[schemars(skip)]
    pub makes_snapshot: Option<String>,
}

/// What happens after a failure. What is left out comes from `defaults`, then from the built-in rules.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RetryRules {
    /// Failures allowed, the first included; 1 (built in) = never again.
    #[schemars(with = "Option<schema::Positive>")]
    pub max_attempts: Option<u32>,
    /// Wait after the first failure; 10s built in.
    #[schemars(rename = "delay", with = "Option<schema::DurationText>")]
    pub delay_ms: Option<u64>,
    /// Factor from one wait to the next; 2 built in.
    #[schemars(range(min = 1))]
    pub backoff: Option<f64>,
    /// Longest wait; 5m built in.
    #[schemars(rename = "max_delay", with = "Option<schema::DurationText>")]
    pub max_delay_ms: Option<u64>,
    /// Whether a wait is a random part of itself; true built in.
    pub jitter: Option<bool>,
    /// Which failures are worth another try: one or a list; `exit`, `timeout`, `stalled` and `oom` built in.
    #[schemars(with = "Option<schema::RetryOnWords>")]
    pub on: Option<Vec<RetryOn>>,
}

/// Which folder a step works in, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceName {
    /// `task`: a fresh one of its own.
    Task,
    /// `run`: one for the whole run, on one worker.
    Run,
    /// A copy of what this step left.
    Step(StepId),
}

/// When a snapshot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SnapshotMoment {
    /// Before the step starts.
    Before,
    /// After it has completed.
    After,
}

/// What `foreach` goes over.
#[derive(Debug, Clone)]
pub enum ForeachList {
    /// A list in the file. Texts in it are templates that may read `vars` and `params`.
    Literal {
        /// The items.
        items: Vec<Value>,
        /// Texts among them that have names to fill in.
        templates: Vec<TemplateText>,
        /// The bytes of the list in the file.
        place: Range<usize>,
    },
    /// An expression.
    Expression(TemplateText),
}

impl ForeachList {
    /// Its bytes in the file.
    pub fn place(&self) -> Range<usize> {
        match self {
            ForeachList::Literal { place, .. } => place.clone(),
            ForeachList::Expression(expression) => expression.place.clone(),
        }
    }

    /// What it reads.
    pub fn texts(&self) -> &[TemplateText] {
        match self {
            ForeachList::Literal { templates, .. } => templates,
            ForeachList::Expression(expression) => std::slice::from_ref(expression),
        }
    }
}

/// A value for shared state; texts in it are templates.
#[derive(Debug, Clone)]
pub struct PublishValue {
    /// The value as written.
    pub value: Value,
    /// Texts in it that have names to fill in.
    pub templates: Vec<TemplateText>,
}
