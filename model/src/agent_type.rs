//! What an agent type says: which command to launch and how (`agents.d/<slug>.yaml`).
//!
//! Reading the file, with marked lines for what is wrong in it, is in `agent_file`.
//! Whether a host can serve a type is for the worker to find out.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::ids::AgentSlug;

/// A definition of an agent, with every default filled in that does not depend on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentType {
    /// The file's name without `.yaml`.
    pub slug: AgentSlug,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Handed to the command as `<< agent.mode >>`; the slug unless set.
    pub mode: String,
    /// argv, each word a template, never a shell. Empty for the built-in `noop`; none stands for
    /// `$MAESTRO_KILOCODE_BIN <mode> "<prompt>" <workspace>`.
    pub command: Option<Vec<String>>,
    /// How the prompt reaches the agent.
    #[serde(default)]
    pub prompt_via: PromptVia,
    /// A folder copied into each new workspace, relative to the agent file, on the worker.
    #[serde(default)]
    pub workspace_template: Option<String>,
    /// What it can do; nothing reads this yet.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Environment, values are templates.
    #[serde(default)]
    pub env: IndexMap<String, String>,
    /// Names taken over from the worker's environment.
    #[serde(default)]
    pub env_passthrough: Vec<String>,
    /// Names and where their value is found (`env://NAME` or `file://PATH`); resolved on the worker.
    #[serde(default)]
    pub secrets: IndexMap<String, String>,
    /// How an agent is kept apart from others.
    #[serde(default)]
    pub isolate_with: Isolation,
    /// The image, for `docker` only.
    #[serde(default)]
    pub image: Option<String>,
    /// Whether a container shares the host's network.
    #[serde(default)]
    pub shared_network: bool,
    /// Which network a container has, unless it shares the host's.
    #[serde(default)]
    pub network: NetworkChoice,
    /// Capabilities a container keeps; all others are dropped.
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Whether a container can write nothing of its image, only to its workspace, its own files and `/tmp`.
    #[serde(default)]
    pub read_only: bool,
    /// When the image is pulled.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Limits of one attempt.
    #[serde(default)]
    pub resources: Resources,
    /// Paths beyond the workspace.
    #[serde(default)]
    pub paths: ExtraPaths,
    /// What HOME is.
    #[serde(default)]
    pub home: HomeChoice,
    /// Mounted or readable, never writable.
    #[serde(default)]
    pub cache_dir: Option<String>,
    /// Mounted or readable, never writable.
    #[serde(default)]
    pub secrets_dir: Option<String>,
    /// Longest time of one attempt, ms; none = `MAESTRO_AGENT_TIMEOUT`.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Longest time without output, ms; none = no such limit.
    #[serde(default)]
    pub stall_timeout_ms: Option<u64>,
    /// Limits across the cluster.
    #[serde(default)]
    pub limits: AgentLimits,
    /// Labels a worker must carry to serve it.
    #[serde(default)]
    pub worker_labels: IndexMap<String, String>,
    /// Where the answer is found in what it prints.
    #[serde(default)]
    pub output: OutputFormat,
    /// What happens to a running agent when its worker cannot renew its lease.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
}

impl AgentType {
    /// Whether its command is Kilo, by that name or by default.
    pub fn is_kilo(&self) -> bool {
        self.command.as_ref().is_none_or(|words| words.first().is_some_and(|program| program == KILO_PROGRAM))
    }
}

/// How the prompt reaches the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PromptVia {
    /// As `<< prompt >>` in the command.
    #[default]
    Arg,
    /// On standard input.
    Stdin,
    /// In a file whose path is `<< prompt >>` in the command and `MAESTRO_PROMPT_FILE`.
    File,
}

/// How an agent is kept apart from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A confined process.
    #[default]
    Process,
    /// A container.
    Docker,
    /// A process without confinement.
    None,
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkChoice {
    /// One of its own, in which nobody else is.
    #[default]
    Own,
    /// None but its own loopback.
    None,
}

/// When the image of a container is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// If the engine does not have it.
    #[default]
    Missing,
    /// Before every attempt.
    Always,
    /// Never: it is there, or the attempt fails.
    Never,
}

/// Limits of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processors, 1.5 = one and a half.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Whether a worker that cannot enforce them must not claim.
    #[serde(default)]
    pub required: bool,
}

/// Paths beyond the workspace that an agent may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraPaths {
    /// Readable.
    #[serde(default)]
    pub read: Vec<String>,
    /// Readable and writable.
    #[serde(default)]
    pub write: Vec<String>,
}

/// What HOME is for the agent: `workspace`, `worker`, or a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HomeChoice {
    /// A folder of its own beside the workspace.
    #[default]
    Workspace,
    /// The HOME of the worker's user.
    Worker,
    /// This path.
    Path(String),
}

/// Limits across the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLimits {
    /// Most attempts of the type at one time.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
}

/// Where the answer is found in what an agent prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    /// All of standard output.
    #[default]
    Text,
    /// Claude Code's JSON.
    ClaudeJson,
    /// Codex's JSON lines.
    CodexJson,
    /// Gemini's JSON.
    GeminiJson,
    /// Kilo's JSON.
    KiloJson,
}

/// What happens to a running agent when its worker cannot renew its lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It is ended before another worker can start the task.
    #[default]
    Stop,
    /// It goes on; its result counts if nobody took the task over.
    Keep,
}

/// The program of a command that is `MAESTRO_KILOCODE_BIN` if that is set.
pub const KILO_PROGRAM: &str = "kilo";

/// The type that finishes at once and launches nothing.
pub const NOOP: &str = "noop";
