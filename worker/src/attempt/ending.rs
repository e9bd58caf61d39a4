//! What the end of an attempt means.
//!
//! Decided from facts alone, so that every combination can be tested without a process. Whether another
//! attempt follows is decided elsewhere.

use std::time::Duration;

use super::agent::AgentExit;
use super::own_end::conclude_own_end;
use super::secrets::SecretError;
use super::stop::StopKind;
use crate::answer::AnswerFindings;
use crate::container::{ContainerEnd, ContainerError};
use crate::launch::{LaunchError, MainEnd, ProcessEnd, TreeEnd, TreeEndCause};
use crate::step_copy::CopyError;
use crate::workspace::{OwnFileError, TemplateCopyError, WorkspaceError};
use indexmap::IndexMap;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::output_file::OutputFileError;
use maestro_model::task::Reason;

/// Longest message in a report, bytes: of an error file the first 2 KiB count.
pub(super) const MESSAGE_BYTES_MAX: usize = 2 * 1024;

/// An attempt that is over: nothing of it runs any more.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEnd {
    /// What the store is told. `publish` is empty: its values may refer to the outputs, and are rendered now.
    pub report: AttemptReport,
    /// What of this host is broken, if that was the reason: nothing that needs it should be claimed until
    /// a probe passes.
    pub broken: Option<BrokenPart>,
    /// How the processes ended and what they used; none if no agent was started, or its supervisor was lost.
    pub tree: Option<TreeEnd>,
    /// Bytes of output, all of which are in `agent.log` unless the disk failed.
    pub output_bytes: u64,
    /// Bytes of output that were left out of the streamed pieces.
    pub dropped_bytes: u64,
    /// From the launch to the end; zero if no agent was started.
    pub ran_for: Duration,
}

/// A part of the host that failed an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokenPart {
    /// The agent type's binary: missing or not executable.
    Binary,
    /// The agent type's template.
    Template,
    /// A secret of the agent type, which this host cannot give.
    Secrets,
    /// The folder of an assigned agent.
    Assigned,
    /// The disk below the workspace root.
    Workspaces,
    /// The launcher, or the host's processes, memory and descriptors.
    Launcher,
    /// The container engine.
    Engine,
}

/// Why a running agent was ended. Of several the greatest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndingCause {
    /// No output for so long.
    Stalled(Duration),
    /// Ran for so long.
    Timeout(Duration),
    /// The log could not be written, in words.
    LogFailed(String),
    /// The program does not know its mode, in words.
    UnknownMode(String),
    /// Asked from outside.
    Stopped(StopKind),
}

/// What the worker knows when nothing of the attempt runs any more.
pub(super) struct EndingFacts {
    pub(super) cause: Option<EndingCause>,
    pub(super) exit: AgentExit,
    /// The end of standard output: the answer, unless the agent prints JSON.
    pub(super) result: String,
    /// What was found in standard output, of one that prints JSON.
    pub(super) answer: Option<AnswerFindings>,
    /// The last line on standard error.
    pub(super) last_error_line: String,
    /// Whether the kernel killed any of its processes because of its limit on memory.
    pub(super) ran_out_of_memory: bool,
}

/// Files that count only for some ends, and are read only then.
pub(super) trait OwnFiles {
    /// The output file's pairs.
    fn outputs(&self) -> Result<IndexMap<String, String>, OutputsError>;
    /// The beginning of the error file.
    fn error_text(&self) -> Option<String>;
}

/// Why an output file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputsError {
    #[error("the output file cannot be read: {0}")]
    Unreadable(#[from] OwnFileError),
    #[error(transparent)]
    Malformed(#[from] OutputFileError),
}

/// The report of an agent that was started, and what of the host is broken.
pub(super) fn conclude(facts: EndingFacts, files: &impl OwnFiles) -> (AttemptReport, Option<BrokenPart>) {
    let used = facts.answer.as_ref().and_then(AnswerFindings::told_use);
    let failed = |reason, message: String| {
        (AttemptReport { model_use: used.clone(), ..AttemptReport::failed(reason, None, message) }, None)
    };
    match &facts.cause {
        Some(EndingCause::Stopped(StopKind::Cancel)) => {
            (AttemptReport::plain(AttemptOutcome::Cancelled), None)
        }
        Some(EndingCause::Stopped(StopKind::Return)) => {
            (AttemptReport::plain(AttemptOutcome::Returned), None)
        }
        Some(EndingCause::LogFailed(message)) => {
            let report = AttemptReport::failed(Reason::Infra, None, bounded(message));
            (report, Some(BrokenPart::Workspaces))
        }
        Some(EndingCause::UnknownMode(message)) => failed(Reason::Config, bounded(message)),
        Some(EndingCause::Timeout(limit)) => {
            failed(Reason::Timeout, format!("ran longer than its timeout of {}", in_seconds(*limit)))
        }
        Some(EndingCause::Stalled(limit)) => {
            failed(Reason::Stalled, format!("made no output for {}", in_seconds(*limit)))
        }
        None => match facts.exit.clone() {
            AgentExit::Process(ProcessEnd::Ended(TreeEnd { cause: TreeEndCause::Asked, main, .. })) => {
                (conclude_own_end(main, facts, files), None)
            }
            AgentExit::Process(
                ProcessEnd::Ended(TreeEnd { cause: TreeEndCause::LauncherLost, .. })
                | ProcessEnd::SupervisorLost,
            ) => {
                let message = "the launcher of agent processes was lost, and the agent ended with it";
                (AttemptReport::failed(Reason::Infra, None, message), Some(BrokenPart::Launcher))
            }
            AgentExit::Container(ContainerEnd::Lost(message)) => {
                (AttemptReport::failed(Reason::Infra, None, bounded(&message)), Some(BrokenPart::Engine))
            }
            AgentExit::Container(ContainerEnd::Ended { main, out_of_memory: true, .. })
                if main != MainEnd::Exited(0) =>
            {
                failed(Reason::Oom, "the agent needed more memory than its container may have".to_owned())
            }
            AgentExit::Container(ContainerEnd::Ended { main, program, image, .. }) => {
                if init_found_no_program(main, &facts.last_error_line) {
                    let error = StartError::from(ContainerError::NoProgram { program, image });
                    let (reason, broken) = error.meaning();
                    return (AttemptReport::failed(reason, None, error.to_string()), broken);
                }
                (conclude_own_end(main, facts, files), None)
            }
        },
    }
}

/// Whether it was the container's init that ended so, for want of the program it was to start: by its code, and
/// by what Docker's init and Podman's say then. An agent's own code of that number comes without these words.
fn init_found_no_program(main: MainEnd, last_error_line: &str) -> bool {
    let code_says_so = matches!(main, MainEnd::Exited(126 | 127));
    let docker_says_so = last_error_line.starts_with("[FATAL tini (")
        && last_error_line.contains(" exec ")
        && last_error_line.contains(" failed: ");
    let podman_says_so =
        last_error_line.starts_with("ERROR (catatonit:") && last_error_line.contains("failed to exec");
    code_says_so && (docker_says_so || podman_says_so)
}

/// The end of an attempt whose agent was never started.
pub(super) fn unstarted(report: AttemptReport, broken: Option<BrokenPart>) -> AttemptEnd {
    AttemptEnd { report, broken, tree: None, output_bytes: 0, dropped_bytes: 0, ran_for: Duration::ZERO }
}

/// Why an agent was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl StartError {
    /// This runner has no way to other steps' folders.
    pub(super) fn cannot_copy() -> StartError {
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        WorkspaceError::Host { action: "copy into", path: "the workspace".into(), source }.into()
    }

    /// What the task has failed of, and what of the host is broken.
    fn meaning(&self) -> (Reason, Option<BrokenPart>) {
        match self {
            StartError::Workspace(WorkspaceError::Host { .. }) => {
                (Reason::Infra, Some(BrokenPart::Workspaces))
            }
            StartError::Workspace(WorkspaceError::Assigned { .. }) => {
                (Reason::Infra, Some(BrokenPart::Assigned))
            }
            StartError::Workspace(WorkspaceError::Template(TemplateCopyError::Unfit { .. })) => {
                (Reason::Config, None)
            }
            StartError::Workspace(WorkspaceError::Template(_)) => (Reason::Infra, Some(BrokenPart::Template)),
            StartError::Copy(error) => match error {
                CopyError::Nothing { .. } => (Reason::Config, None),
                CopyError::Lost { .. } => (Reason::Lost, None),
                // The host is well: others' tasks are served meanwhile.
                CopyError::Interrupted { .. } | CopyError::Store(_) => (Reason::Infra, None),
                CopyError::Workspace(_) => (Reason::Infra, Some(BrokenPart::Workspaces)),
            },
            StartError::Secret(SecretError::NoVariable { .. } | SecretError::NoFile { .. }) => {
                (Reason::Infra, Some(BrokenPart::Secrets))
            }
            StartError::Secret(_) => (Reason::Config, None),
            StartError::Container(error) => match error {
                ContainerError::Order(_) => (Reason::Config, None),
                ContainerError::NoImage { .. } | ContainerError::NoProgram { .. } => {
                    (Reason::Infra, Some(BrokenPart::Binary))
                }
                ContainerError::Engine(_)
                | ContainerError::Refused { .. }
                | ContainerError::OtherRoot { .. } => (Reason::Infra, Some(BrokenPart::Engine)),
            },
            StartError::Launch(error) => match error {
                LaunchError::ProgramMissing { .. }
                | LaunchError::ProgramRefused { .. }
                | LaunchError::InterpreterMissing { .. } => (Reason::Infra, Some(BrokenPart::Binary)),
                LaunchError::Workspace { .. } => (Reason::Infra, Some(BrokenPart::Workspaces)),
                LaunchError::Malformed { .. } | LaunchError::TooLarge | LaunchError::PathRefused { .. } => {
                    (Reason::Config, None)
                }
                // One attempt's path: others' agents can be started.
                LaunchError::NotShown { .. } => (Reason::Infra, None),
                LaunchError::Host { .. }
                | LaunchError::Unwalled { .. }
                | LaunchError::Confinement { .. }
                | LaunchError::LauncherLost { .. } => (Reason::Infra, Some(BrokenPart::Launcher)),
            },
        }
    }
}

/// The end of an attempt whose agent could not be started.
pub(super) fn without_start(error: &StartError) -> AttemptEnd {
    let (reason, broken) = error.meaning();
    unstarted(AttemptReport::failed(reason, None, bounded(&error.to_string())), broken)
}

/// What a stop before the start means.
pub(super) fn stopped_before_start(kind: StopKind) -> AttemptEnd {
    let outcome = match kind {
        StopKind::Cancel => AttemptOutcome::Cancelled,
        StopKind::Return => AttemptOutcome::Returned,
    };
    unstarted(AttemptReport::plain(outcome), None)
}

/// Seconds as people write them: `90s`, `0.5s`.
fn in_seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs_f64())
}

/// At most [`MESSAGE_BYTES_MAX`] bytes, cut between characters.
pub(super) fn bounded(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(Default)]
    struct Files {
        outputs: Vec<(&'static str, &'static str)>,
        error_text: Option<&'static str>,
    }

    impl OwnFiles for Files {
        fn outputs(&self) -> Result<IndexMap<String, String>, OutputsError> {
            Ok(self.outputs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
        }

        fn error_text(&self) -> Option<String> {
            self.error_text.map(str::to_owned)
        }
    }

    fn ended(main: MainEnd) -> ProcessEnd {
        ProcessEnd::Ended(TreeEnd {
            main,
            cause: TreeEndCause::Asked,
            survivors: 0,
            leftovers: 0,
            max_rss_kib: 0,
            user_us: 0,
            system_us: 0,
        })
    }

    fn facts(cause: Option<EndingCause>, main: MainEnd) -> EndingFacts {
        EndingFacts {
            cause,
            exit: AgentExit::Process(ended(main)),
            result: "out".to_owned(),
            answer: None,
            last_error_line: String::new(),
            ran_out_of_memory: false,
        }
    }

    #[test]
    fn a_stop_that_was_asked_for_outweighs_whatever_the_agent_said() {
        for main in [MainEnd::Exited(0), MainEnd::Exited(3), MainEnd::Signaled(15)] {
            for (kind, outcome) in
                [(StopKind::Cancel, AttemptOutcome::Cancelled), (StopKind::Return, AttemptOutcome::Returned)]
            {
                let facts = facts(Some(EndingCause::Stopped(kind)), main);
                assert_eq!(conclude(facts, &Files::default()).0, AttemptReport::plain(outcome));
            }
        }
    }

    #[test]
    fn the_greater_cause_counts() {
        let second = Duration::from_secs(1);
        let causes = [
            EndingCause::Stalled(second),
            EndingCause::Timeout(second),
            EndingCause::LogFailed(String::new()),
            EndingCause::UnknownMode(String::new()),
            EndingCause::Stopped(StopKind::Return),
            EndingCause::Stopped(StopKind::Cancel),
        ];
        assert!(causes.is_sorted());
    }

    #[test]
    fn codes_and_signals_are_told_apart() {
        let outcome_of = |main| conclude(facts(None, main), &Files::default()).0;
        let failed = |code, message: &str| AttemptReport::failed(Reason::Exit, Some(code), message);
        assert_eq!(outcome_of(MainEnd::Exited(1)), failed(1, "the agent ended with exit code 1"));
        assert_eq!(outcome_of(MainEnd::Exited(78)), failed(78, "the agent ended with exit code 78"));
        assert_eq!(outcome_of(MainEnd::Signaled(9)), failed(137, "the agent was ended by signal 9"));
        assert_eq!(outcome_of(MainEnd::Exited(75)), AttemptReport::plain(AttemptOutcome::ComeBack));
    }

    #[test]
    fn the_error_file_speaks_before_standard_error() {
        let files = Files { error_text: Some("from the file"), ..Files::default() };
        let said =
            EndingFacts { last_error_line: "from stderr".to_owned(), ..facts(None, MainEnd::Exited(2)) };
        assert_eq!(conclude(said, &files).0.message.as_deref(), Some("from the file"));
        let said =
            EndingFacts { last_error_line: "from stderr".to_owned(), ..facts(None, MainEnd::Exited(2)) };
        assert_eq!(conclude(said, &Files::default()).0.message.as_deref(), Some("from stderr"));
    }

    #[test]
    fn success_brings_result_and_outputs() {
        let files = Files { outputs: vec![("id", "7")], ..Files::default() };
        let report = conclude(facts(None, MainEnd::Exited(0)), &files).0;
        assert_eq!(report.outcome, AttemptOutcome::Completed);
        let outputs = report.outputs.expect("it completed");
        assert_eq!(outputs.result, Value::from("out"));
        assert_eq!(outputs.outputs, IndexMap::from([("id".to_owned(), Value::from("7"))]));
    }

    #[test]
    fn a_lost_launcher_is_the_hosts_failure() {
        let mut lost = facts(None, MainEnd::Signaled(9));
        lost.exit = AgentExit::Process(ProcessEnd::SupervisorLost);
        let (report, broken) = conclude(lost, &Files::default());
        assert!(matches!(report.outcome, AttemptOutcome::Failed { reason: Reason::Infra, exit_code: None }));
        assert_eq!(broken, Some(BrokenPart::Launcher));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "€".repeat(1_000);
        let cut = bounded(&long);
        assert!(cut.len() <= MESSAGE_BYTES_MAX && cut.len() > MESSAGE_BYTES_MAX - 3);
    }

    fn in_container(main: MainEnd, out_of_memory: bool, last_error_line: &str) -> EndingFacts {
        let (program, image) = ("claude".to_owned(), "team:1".to_owned());
        EndingFacts {
            exit: AgentExit::Container(ContainerEnd::Ended { main, out_of_memory, program, image }),
            last_error_line: last_error_line.to_owned(),
            ..facts(None, main)
        }
    }

    #[test]
    fn a_container_tells_memory_engine_and_agent_apart() {
        let end = |facts| conclude(facts, &Files::default());
        let tini = "[FATAL tini (7)] exec claude failed: No such file or directory";
        let outcome = |reason, exit_code| AttemptOutcome::Failed { reason, exit_code };

        let (report, broken) = end(in_container(MainEnd::Exited(127), false, tini));
        assert_eq!((report.outcome, broken), (outcome(Reason::Infra, None), Some(BrokenPart::Binary)));
        assert_eq!(report.message.as_deref(), Some("binary not found: `claude` in image `team:1`"));
        for (code, line) in [(127, "sh: nothing: not found"), (125, tini), (1, tini), (125, "")] {
            let (report, broken) = end(in_container(MainEnd::Exited(code), false, line));
            assert_eq!((report.outcome, broken), (outcome(Reason::Exit, Some(code)), None), "{code} {line}");
        }

        let (report, broken) = end(in_container(MainEnd::Signaled(9), true, ""));
        assert_eq!((report.outcome, broken), (outcome(Reason::Oom, None), None));
        let (report, _) = end(in_container(MainEnd::Exited(0), true, ""));
        assert_eq!(report.outcome, AttemptOutcome::Completed, "it got over it");

        let lost = AgentExit::Container(ContainerEnd::Lost("the container engine went away".to_owned()));
        let (report, broken) = end(EndingFacts { exit: lost.clone(), ..facts(None, MainEnd::Exited(0)) });
        assert_eq!((report.outcome, broken), (outcome(Reason::Infra, None), Some(BrokenPart::Engine)));
        let cancelled = Some(EndingCause::Stopped(StopKind::Cancel));
        let (report, broken) = end(EndingFacts { exit: lost, ..facts(cancelled, MainEnd::Exited(0)) });
        assert_eq!((report.outcome, broken), (AttemptOutcome::Cancelled, None));
    }
}
