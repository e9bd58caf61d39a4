//! Asking a program for its version as a task would start it: on this host, or in a container.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, PromptVia};
use maestro_model::attempt::AttemptOutcome;
use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::task::Reason;
use maestro_model::template::is_plain_text;
use maestro_worker::attempt::{AttemptOrder, AttemptRunner, HostEnvironment};
use maestro_worker::confinement::Confinement;
use maestro_worker::container::ContainerEngine;
use maestro_worker::launch::{Launcher, LauncherCommand, MainEnd};
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};

use super::CheckEntry;
use super::trial::answer_of;
use crate::commands::CommandContext;
use crate::failure::Failure;
use crate::output::moment::duration;

/// What a program is asked for.
const QUESTION: &str = "--version";
/// Longest time it may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Bytes read of what it says.
const ANSWER_BYTES: u64 = 4096;
/// A program that is asked.
pub(super) struct Asked {
    /// Its name or path.
    pub(super) program: String,
    /// Where it is, if not on this host.
    pub(super) place: String,
    /// What to do if it fails, never ends, or does not start.
    pub(super) mends: [&'static str; 3],
}

impl Asked {
    /// Waits for its answer and says what came.
    pub(super) fn try_out(
        &self,
        context: &CommandContext,
        asking: impl Future<Output = Result<Trial, Failure>>,
    ) -> CheckEntry {
        let Asked { program, place, mends } = self;
        let begun = Instant::now();
        let ended = answer_of(context, asking);
        let took = duration(begun.elapsed().as_millis() as u64);
        let command = format!("`{program} {QUESTION}`{place}");
        match ended {
            Ok(Trial { main: Some(main), said, in_time: true }) => {
                answered(&command, main, &said, (&took, mends[0]))
            }
            Ok(Trial { in_time: false, .. }) => CheckEntry::fail(
                "program",
                format!("{command} did not end within {} s and was killed", ANSWER_WAIT.as_secs()),
                mends[1],
            ),
            Ok(Trial { said, .. }) => {
                CheckEntry::fail("program", format!("`{program}`{place} cannot be started: {said}"), mends[2])
            }
            Err(failure) => CheckEntry::fail(
                "program",
                format!("`{program}`{place} cannot be tried: {}", failure.one_line()),
                "look at the rights of `MAESTRO_WORKSPACE_ROOT`",
            ),
        }
    }
}

/// How a trial ended.
pub(super) struct Trial {
    /// The program's end; none if it did not start.
    main: Option<MainEnd>,
    /// The first line it said, or why it did not start.
    said: String,
    in_time: bool,
}

/// Asks the program as a task would start it: the same launcher or engine, confinement, limits, home and
/// environment.
pub(super) async fn ask(
    agent: &AgentType,
    program: &str,
    (scratch, confinement): (&Path, &Confinement),
    engine: Option<ContainerEngine>,
) -> Result<Trial, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::unavailable(error.to_string());
    let root = WorkspaceRoot::open(scratch).map_err(|error| failed(&error))?;
    let launcher = Launcher::new(LauncherCommand::this_program());
    let mut runner = AttemptRunner::new(launcher.clone(), root, HostEnvironment::of_this_process())
        .map_err(|error| failed(&error))?;
    runner.confine_with(confinement.clone());
    if let Some(engine) = &engine {
        runner = runner.with_containers(engine.clone());
    }
    let order = trial_order(agent, program);
    let place = WorkspacePlace::Task;
    let log = runner.root().paths(&order.agent.slug, &order.task, order.attempt, place).log();
    let end = runner.attempt(order, None).run().await;
    launcher.close().await;
    if let Some(engine) = engine {
        engine.close().await;
    }
    let in_time = !matches!(end.report.outcome, AttemptOutcome::Failed { reason: Reason::Timeout, .. });
    // An image without the program ends like one whose program failed; only the report tells them apart.
    let main = end.tree.filter(|_| end.broken.is_none()).map(|tree| tree.main);
    let said = match main {
        Some(_) => first_line(&log).unwrap_or_default(),
        None => end.report.message.unwrap_or_default(),
    };
    Ok(Trial { main, said, in_time })
}

/// Without the secrets, whose absence is told apart from this.
fn trial_order(agent: &AgentType, program: &str) -> AttemptOrder {
    let agent = AgentType { secrets: IndexMap::new(), prompt_via: PromptVia::Arg, ..agent.clone() };
    let env = agent.env.iter().filter(|(_, value)| is_plain_text(value));
    AttemptOrder {
        task: TaskId { run: RunId::random(0), index: 0 },
        attempt: Attempt(1),
        step: "trial".parse().expect("a lawful id"),
        workflow: "doctor".to_owned(),
        worker: "doctor".parse().expect("a lawful name"),
        argv: vec![program.to_owned(), QUESTION.to_owned()],
        env: env.map(|(name, value)| (name.clone(), value.clone())).collect(),
        prompt: String::new(),
        place: WorkspacePlace::Task,
        template: None,
        copy_of: None,
        timeout: ANSWER_WAIT,
        stall_timeout: None,
        grace: Duration::ZERO,
        agent: Arc::new(agent),
    }
}

fn answered(command: &str, main: MainEnd, said: &str, (took, mend): (&str, &str)) -> CheckEntry {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    match main {
        MainEnd::Exited(0) => CheckEntry::ok("program", format!("{command} answered in {took}{said}")),
        MainEnd::Exited(code @ (126 | 127)) => {
            CheckEntry::fail("program", format!("{command} ended with {code}{said}"), mend)
        }
        // Not every program knows the question; that it starts and ends is what matters.
        MainEnd::Exited(code) => {
            CheckEntry::ok("program", format!("{command} starts (it ended with {code} in {took}{said})"))
        }
        MainEnd::Signaled(signal) => {
            CheckEntry::fail("program", format!("{command} was ended by signal {signal}{said}"), mend)
        }
    }
}

fn first_line(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(ANSWER_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
