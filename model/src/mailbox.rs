//! What may be asked of a worker, and what it answers: the words of the mailbox.
//!
//! A question concerns what only the worker's host knows or can do: folders, programs, processes. It changes
//! no task and no assignment; those are scripts of the store. How letters travel is `store`'s business.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, AgentSlug, Attempt, TaskId, WorkerName};
use crate::snapshot::{FileDigest, WorkspaceKey, WorkspaceRole};

/// The version of letters as they are stored.
pub const LETTER_VERSION: u32 = 1;
/// Most agent types asked about in one question.
pub const TYPES_ASKED_MAX: usize = 200;
/// Most workspaces in one answer.
pub const WORKSPACES_TOLD_MAX: usize = 2_000;
/// Most staged workspaces in one question.
pub const STAGED_TOLD_MAX: usize = 500;
/// Most log lines in one answer, and the bytes of each.
pub const LOG_LINES_TOLD_MAX: u32 = 1_000;
/// Longest log line in an answer, bytes.
pub const LOG_LINE_BYTES_MAX: usize = 2_000;

/// What is asked of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum WorkerQuestion {
    /// Whether its host has what these types need; at most [`TYPES_ASKED_MAX`].
    CheckTypes {
        /// Registered types; one that is not registered is answered with that.
        types: Vec<AgentSlug>,
        /// Whether to start each type's program for a moment, to see that it answers.
        launch: bool,
    },
    /// Whether an agent may work in a folder. Makes it, mode 700, if it is missing.
    PreparePath {
        /// The agent.
        agent: AgentId,
        /// Absolute.
        path: String,
        /// Ids of agents and types: below the root, folders of these names are Maestro's own.
        names: Vec<String>,
    },
    /// How an assigned agent is, now.
    AgentHealth {
        /// The agent.
        agent: AgentId,
        /// Its folder.
        path: String,
        /// Lines of its newest log; at most [`LOG_LINES_TOLD_MAX`].
        log_lines: u32,
    },
    /// Empty an assigned folder and set it up again. The agent must have been stopped.
    ResetFolder {
        /// The agent.
        agent: AgentId,
        /// Its folder.
        path: String,
        /// The template it is filled with afterwards, as its type names it; none = it stays empty.
        template: Option<String>,
        /// Whether a copy is made first.
        copy: SafetyCopy,
        /// Whether git trees with uncommitted work go as well.
        unclean: UncleanTrees,
        /// Whether only to say what would be done.
        rehearsal: bool,
    },
    /// The workspaces on its host.
    Workspaces {
        /// Only of this agent or type.
        of: Option<String>,
        /// Whether to count files and bytes: reads every folder.
        sizes: bool,
    },
    /// Remove workspaces of a type's attempts that do not run.
    CleanWorkspaces {
        /// The type or agent whose folders they are.
        of: String,
        /// Whether git trees with uncommitted work go as well.
        unclean: UncleanTrees,
        /// Whether only to say what would be done.
        rehearsal: bool,
    },
    /// Send what an attempt left in its folder to whoever receives under this name.
    SendFolder {
        /// The task.
        task: TaskId,
        /// The attempt that left it.
        attempt: Attempt,
        /// The task's agent type.
        agent: AgentSlug,
        /// Which folder it worked in.
        folder: LeftFolder,
        /// The transfer, whose receiver listens already.
        transfer: String,
    },
    /// Send all workspaces, while the cluster is held still, to whoever receives under this name.
    PackWorkspaces {
        /// The transfer, whose receiver listens already.
        transfer: String,
        /// Workers that are asked as well: of those that share a root only the first sends what lies below it.
        peers: Vec<WorkerName>,
        /// Whether Maestro's own folders of attempts, with their logs, are sent as well.
        include_logs: bool,
    },
    /// Receive a workspace of a snapshot, and unpack it beside its place.
    StageWorkspace {
        /// The restore it is for.
        restore: String,
        /// Which, and what it comes to.
        workspace: StagedWorkspace,
        /// The transfer; it begins when this is answered.
        transfer: String,
    },
    /// About workspaces that were staged; at most [`STAGED_TOLD_MAX`].
    Staged {
        /// The restore they are for.
        restore: String,
        /// What is to be done with them.
        order: StagedOrder,
        /// Which.
        folders: Vec<StagedFolder>,
    },
    /// End all agents that run; their tasks go back to their queues, and no attempt is counted.
    EndAgents {
        /// From SIGTERM to SIGKILL, ms; of an agent that is being ended already the shorter time counts.
        grace_ms: u64,
    },
    /// Remove workspaces that nothing needs any more and that are older than the retention time, now.
    RemoveOldWorkspaces,
    /// Take no new tasks, and end when the running ones have. A coordinator ends at once.
    Drain {
        /// When running tasks are ended, ms from now; none = the worker's own deadline.
        deadline_ms: Option<u64>,
        /// Whether they are ended at once.
        force: bool,
    },
}

/// A workspace of a snapshot that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedWorkspace {
    /// Which, and where it belongs.
    #[serde(flatten)]
    pub folder: StagedFolder,
    /// Entries, the folder itself included.
    pub entries: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
    /// What its entries come to.
    pub tree: FileDigest,
}

/// A workspace of a snapshot, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFolder {
    /// Its name in the archive.
    pub key: WorkspaceKey,
    /// What kind of folder.
    #[serde(flatten)]
    pub role: WorkspaceRole,
}

/// What is to be done with staged workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedOrder {
    /// Say how far they have come.
    Look,
    /// Put them into their places; what was there is kept beside.
    Place,
    /// Remove what is beside their places.
    Drop,
}

/// How far a staged workspace has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StagedFact {
    /// Nothing is known of it.
    Absent,
    /// It is on its way.
    Receiving,
    /// It lies beside its place, whole.
    Staged,
    /// It is in its place.
    Placed,
    /// It could not be.
    Failed {
        /// Why.
        why: String,
    },
}

/// Which folder an attempt worked in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftFolder {
    /// One of its own.
    Task,
    /// The one of its run.
    Run,
    /// The one its agent was assigned.
    Assigned {
        /// The agent.
        agent: AgentId,
        /// Absolute.
        path: String,
    },
}

/// Whether a folder is copied before it is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafetyCopy {
    /// To an archive below the worker's snapshot folder.
    Archive,
    /// No.
    None,
}

/// What happens to git trees with uncommitted work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UncleanTrees {
    /// They stay, and are named.
    Keep,
    /// They go with the rest.
    Remove,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum WorkerAnswer {
    /// To `CheckTypes`, in the same order.
    Types {
        /// One for each.
        checks: Vec<TypeCheck>,
    },
    /// To `PreparePath`: the folder is there.
    Path {
        /// Whether it was made.
        made: bool,
        /// What is unusual about it.
        warnings: Vec<String>,
    },
    /// To `AgentHealth`.
    Health {
        /// What was found.
        health: AgentHealthFacts,
    },
    /// To `ResetFolder`.
    Emptied {
        /// Entries of the folder that went, or would.
        removed: u64,
        /// Trees that were kept.
        kept: Vec<String>,
        /// Where the safety copy is.
        copy: Option<String>,
        /// Whether a template was copied.
        from_template: bool,
    },
    /// To `Workspaces`.
    Workspaces {
        /// What there is, at most [`WORKSPACES_TOLD_MAX`].
        list: Vec<WorkspaceFacts>,
        /// Whether there are more.
        more: bool,
    },
    /// To `SendFolder` and `PackWorkspaces`: it is on its way.
    Sending,
    /// To `PackWorkspaces`: something moves here.
    NotStill,
    /// To `SendFolder`: it is not on this host.
    NoSuchFolder,
    /// To `StageWorkspace`: it can be sent now.
    Receiving,
    /// To `Staged`, in the same order.
    StagedFacts {
        /// One for each.
        facts: Vec<StagedFact>,
    },
    /// To `CleanWorkspaces`.
    Cleaned {
        /// Those that went, or would.
        removed: Vec<WorkspaceFacts>,
        /// Those that were kept, and why.
        kept: Vec<WorkspaceFacts>,
        /// Whether there are more: ask again.
        more: bool,
    },
    /// To `EndAgents`: they have been told to.
    Ending {
        /// How many agents ran.
        agents: u64,
    },
    /// To `RemoveOldWorkspaces`.
    RemovedOld {
        /// How many went.
        removed: u64,
        /// How many were due, and stay for a git tree with uncommitted work.
        kept: u64,
    },
    /// To `Drain`.
    Draining {
        /// Whether it was draining before.
        already: bool,
    },
    /// A rule forbids it.
    Refused {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It could not be done.
    Failed {
        /// Why.
        message: String,
    },
    /// The worker is of another version and does not know the question.
    NotUnderstood,
}

/// Whether a host can serve a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeCheck {
    /// The type.
    pub slug: AgentSlug,
    /// Whether this worker serves it.
    pub serves: bool,
    /// What was looked at, in a fixed order.
    pub findings: Vec<TypeFinding>,
}

/// One thing that a type needs of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeFinding {
    /// `binary`, `mode`, `template`, `resources`, `labels`, `isolation`, `choice`.
    pub subject: String,
    /// Whether it is there.
    pub good: bool,
    /// What was found.
    pub text: String,
}

/// What a worker knows of an assigned agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHealthFacts {
    /// What is wrong, each in one line; empty = healthy.
    pub problems: Vec<String>,
    /// Of its folder, such as `drwx------ uid 1000`; none if it is not there.
    pub folder: Option<String>,
    /// What runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningFacts>,
    /// The newest log of the agent on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_path: Option<String>,
    /// Its last lines.
    #[serde(default)]
    pub log: Vec<String>,
}

/// What a worker knows of a running attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningFacts {
    /// The task.
    pub task: TaskId,
    /// Its first process; none while it starts.
    pub pid: Option<u32>,
    /// Since it wrote something, ms.
    pub silent_ms: u64,
    /// Bytes it has written.
    pub output_bytes: u64,
    /// Its last line.
    pub last_line: String,
}

/// What kind of workspace it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceKind {
    /// Of one attempt.
    Task,
    /// Of a run's steps.
    Run,
    /// Assigned to an agent.
    Assigned,
}

/// One workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceFacts {
    /// Whose it is: a type or an agent; of a run's folder the run.
    pub of: String,
    /// What kind.
    pub kind: WorkspaceKind,
    /// Where.
    pub path: String,
    /// The attempt, as `<task>` or `<task>.<attempt>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Whether something runs in it.
    pub in_use: bool,
    /// When it was last changed, ms since 1970.
    pub changed_ms: u64,
    /// Bytes on disk, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Files and folders, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Why it is as it is: kept because a tree is unclean, not counted to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_survive_text() {
        let questions = [
            WorkerQuestion::CheckTypes { types: vec!["shell".parse().expect("lawful")], launch: true },
            WorkerQuestion::Workspaces { of: None, sizes: false },
            WorkerQuestion::Drain { deadline_ms: Some(1), force: false },
        ];
        for question in questions {
            let text = serde_json::to_string(&question).expect("plain data");
            assert_eq!(serde_json::from_str::<WorkerQuestion>(&text).expect("read"), question, "{text}");
        }
        let answer = WorkerAnswer::Refused { message: "no".to_owned(), hint: None };
        let text = serde_json::to_string(&answer).expect("plain data");
        assert_eq!(serde_json::from_str::<WorkerAnswer>(&text).expect("read"), answer, "{text}");
    }
}
