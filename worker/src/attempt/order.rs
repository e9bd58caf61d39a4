//! What an attempt is given, and what is refused before anything is made for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, PromptVia};
use maestro_model::attempt::AttemptReport;
use maestro_model::ids::{Attempt, StepId, TaskId, WorkerName};
use maestro_model::task::Reason;

use crate::answer::FallbackNotice;
use crate::step_copy::SourceTask;
use crate::workspace::WorkspacePlace;

/// Longest word of a command, bytes: the kernel's limit less the NUL it adds.
const WORD_BYTES_MAX: usize = 131_071;

/// A task ready to be run: nothing in it is a template any more.
#[derive(Debug, Clone)]
pub struct AttemptOrder {
    /// The task.
    pub task: TaskId,
    /// Which try of it.
    pub attempt: Attempt,
    /// The step it comes from.
    pub step: StepId,
    /// The workflow's name.
    pub workflow: String,
    /// The worker's name.
    pub worker: WorkerName,
    /// The agent type, for its home, its passed variables and how it takes its prompt.
    pub agent: Arc<AgentType>,
    /// The command. A prompt that comes by argument is in it already; for one that comes by file the path
    /// is [`WorkspacePaths::prompt`](crate::workspace::WorkspacePaths::prompt).
    pub argv: Vec<String>,
    /// The type's and the step's `env`, rendered.
    pub env: IndexMap<String, String>,
    /// The prompt, for `prompt_via: stdin` and `file`.
    pub prompt: String,
    /// Which folder it works in.
    pub place: WorkspacePlace,
    /// The type's template as an absolute path, if it has one.
    pub template: Option<PathBuf>,
    /// The task whose folder its own begins as a copy of; it counts before the template.
    pub copy_of: Option<SourceTask>,
    /// Longest time from the launch.
    pub timeout: Duration,
    /// Longest time without output.
    pub stall_timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL when it is ended from outside.
    pub grace: Duration,
}

impl AttemptOrder {
    /// The report of an order that cannot be carried out as it is written.
    pub(super) fn refusal(&self) -> Option<AttemptReport> {
        let rule = self.broken_rule()?;
        Some(AttemptReport::failed(Reason::Config, None, rule))
    }

    /// What Kilo says on standard error if it does not know its mode; none for other programs.
    pub(super) fn fallback_notice(&self) -> Option<FallbackNotice> {
        self.agent.is_kilo().then(|| FallbackNotice::new(&self.agent.mode))
    }

    fn broken_rule(&self) -> Option<String> {
        let slug = &self.agent.slug;
        if self.argv.first().is_none_or(String::is_empty) {
            return Some(format!("the command of agent `{slug}` is empty, expected a program"));
        }
        let by_argument = self.agent.prompt_via == PromptVia::Arg;
        let hint = if by_argument {
            format!("; hint: give agent `{slug}` its prompt with `prompt_via: stdin` or `prompt_via: file`")
        } else {
            String::new()
        };
        for word in &self.argv {
            if word.len() > WORD_BYTES_MAX {
                let bytes = word.len();
                return Some(format!(
                    "an argument of agent `{slug}` has {bytes} bytes, at most {WORD_BYTES_MAX} fit{hint}"
                ));
            }
            if word.contains('\0') {
                return Some(format!("an argument of agent `{slug}` holds a NUL, which none can{hint}"));
            }
        }
        self.env.iter().find_map(|(name, value)| broken_variable(name, value))
    }
}

fn broken_variable(name: &str, value: &str) -> Option<String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Some(format!("`{}` is no name for a variable in `env`", name.escape_default()));
    }
    if value.contains('\0') {
        return Some(format!("the variable `{name}` in `env` holds a NUL, which none can"));
    }
    let bytes = name.len() + 1 + value.len();
    (bytes > WORD_BYTES_MAX).then(|| {
        format!(
            "the variable `{name}` in `env` has {bytes} bytes with its name, at most {WORD_BYTES_MAX} fit"
        )
    })
}
