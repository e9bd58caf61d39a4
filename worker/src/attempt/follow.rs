//! Following an agent that runs until it has ended: its output, its limits, orders to stop and to stand still.
//!
//! Starting it is `run`'s, what its end means `ending`'s.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use jiff::Zoned;
use maestro_model::output_file::{OUTPUT_FILE_BYTES_MAX, parse_output_file};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::agent::{AgentExit, RunningTree};
use super::ending::{
    AttemptEnd, EndingCause, EndingFacts, MESSAGE_BYTES_MAX, OutputsError, OwnFiles, bounded, conclude,
};
use super::masking::{hide_in_findings, hide_secrets};
use super::pause::{AgentPause, PauseStep};
use super::secrets::SECRET_BYTES_MAX;
use super::stop::{LiveOutput, StopKind, StopRequest};
use crate::confinement::AttemptGroup;
use crate::launch::KILL_ANSWER_LIMIT;
use crate::log_capture::{OutputCapture, OutputStream, SecretMask};
use crate::side_door::OpenDoor;
use crate::workspace::{WorkspacePaths, read_own_file, read_own_head};

/// Longest last line shown of a running attempt, bytes.
const LIVE_LINE_BYTES_MAX: usize = 200;

/// An attempt whose agent runs.
pub(super) struct RunningAgent {
    pub(super) agent: RunningTree,
    pub(super) group: Option<AttemptGroup>,
    pub(super) door: Option<OpenDoor>,
    pub(super) capture: OutputCapture,
    pub(super) mask: Option<Arc<SecretMask>>,
    pub(super) live: Arc<LiveOutput>,
    pub(super) stopped: watch::Receiver<StopRequest>,
    pub(super) started: Instant,
    pub(super) last_output: Instant,
    pub(super) timeout: Duration,
    pub(super) stall_timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) ending: Option<AgentEnding>,
    pub(super) pause: AgentPause,
}

/// An agent that has been told to end.
pub(super) struct AgentEnding {
    cause: EndingCause,
    next: EndingStep,
}

/// What is due next on the way to an agent's end, and when.
#[derive(Clone, Copy)]
enum EndingStep {
    /// SIGKILL, when the grace is over.
    Kill(Instant),
    /// Giving up on the supervisor, which has been told to kill.
    Abandon(Instant),
    /// Nothing more can be done but wait.
    Wait,
}

impl RunningAgent {
    /// `files` are where the agent leaves its own, `paths` has the log.
    pub(super) async fn follow(mut self, files: &WorkspacePaths, paths: &WorkspacePaths) -> AttemptEnd {
        let mut stop_heard = true;
        // A stop may have come between the last look and now.
        self.on_stop();
        let exit = loop {
            let due = self.next_due();
            tokio::select! {
                end = self.agent.ended() => break end,
                stream = self.capture.readable() => self.on_output(stream, paths).await,
                changed = self.stopped.changed(), if stop_heard => {
                    // With the last handle gone nobody can ask for a stop any more.
                    stop_heard = changed.is_ok();
                    self.on_stop();
                }
                () = self.pause.due() => self.on_pause(),
                () = sleep_until(due) => self.on_due(due),
            }
        };
        let ran_for = self.started.elapsed();
        self.door = None;
        self.live.update(|live| live.pid = None);
        if let Err(error) = self.capture.drain().await {
            self.end_because(log_failed(&error, paths));
        }
        if let Some(notice) = self.capture.noticed() {
            self.end_because(EndingCause::UnknownMode(notice.to_owned()));
        }
        self.conclude(exit, files, ran_for)
    }

    /// The next moment at which something is to be done.
    fn next_due(&self) -> Instant {
        if let Some(ending) = &self.ending {
            return match ending.next {
                EndingStep::Kill(due) | EndingStep::Abandon(due) => due,
                EndingStep::Wait => far_away(),
            };
        }
        if self.pause.is_on() {
            return far_away();
        }
        // A timeout too long for the clock is none.
        let timeout = self.started.checked_add(self.timeout).unwrap_or_else(far_away);
        let stall = self.stall_timeout.and_then(|limit| self.last_output.checked_add(limit));
        stall.map_or(timeout, |stall| stall.min(timeout))
    }

    /// What stands still spends none of its time.
    fn on_pause(&mut self) {
        let spent = match self.pause.step() {
            PauseStep::Stop => return self.agent.pause(),
            PauseStep::None => return,
            PauseStep::GoOn(spent) => spent,
        };
        self.agent.resume();
        self.started = self.started.checked_add(spent).unwrap_or(self.started);
        self.last_output = self.last_output.checked_add(spent).unwrap_or(self.last_output);
        self.live.update(|live| live.last_output = self.last_output.into_std());
    }

    fn on_due(&mut self, due: Instant) {
        if let Some(ending) = &mut self.ending {
            match ending.next {
                EndingStep::Kill(_) => ending.next = kill(&self.agent),
                EndingStep::Abandon(_) => {
                    tracing::error!(
                        pid = self.agent.pid(),
                        "an agent does not end although it was killed; it is given up"
                    );
                    self.agent.abandon();
                    ending.next = EndingStep::Wait;
                }
                EndingStep::Wait => {}
            }
        } else if self.started.checked_add(self.timeout) == Some(due) {
            self.end_because(EndingCause::Timeout(self.timeout));
        } else if let Some(limit) = self.stall_timeout {
            self.end_because(EndingCause::Stalled(limit));
        }
    }

    fn on_stop(&mut self) {
        let StopRequest { kind, hurry, grace } = *self.stopped.borrow_and_update();
        let Some(kind) = kind else { return };
        if let Some(grace) = grace {
            self.shorten(grace);
        }
        if hurry && kind == StopKind::Return {
            // It may be somebody else's task by now: what its agent still says is not passed on.
            self.door = None;
        }
        self.end_because(EndingCause::Stopped(kind));
        if hurry
            && let Some(ending) = &mut self.ending
            && let EndingStep::Kill(_) = ending.next
        {
            ending.next = kill(&self.agent);
        }
    }

    /// Another grace holds: for what is not being ended yet it is this one, else the shorter of both.
    fn shorten(&mut self, grace: Duration) {
        match &mut self.ending {
            None => self.grace = grace,
            Some(AgentEnding { next: EndingStep::Kill(due), .. }) => {
                *due = Instant::now().checked_add(grace).map_or(*due, |sooner| sooner.min(*due));
            }
            Some(_) => {}
        }
    }

    async fn on_output(&mut self, stream: OutputStream, paths: &WorkspacePaths) {
        match self.capture.take(stream).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => self.end_because(log_failed(&error, paths)),
        }
        if let Some(notice) = self.capture.noticed() {
            self.end_because(EndingCause::UnknownMode(notice.to_owned()));
        }
        self.last_output = Instant::now();
        let (line, bytes) = (self.capture.last_line(), self.capture.bytes());
        self.live.update(|live| {
            live.last_output = self.last_output.into_std();
            live.output_bytes = bytes;
            live.last_line = cut_line(line);
        });
    }

    /// Tells the agent to end, unless it has been told; the weightier cause is the one that counts.
    fn end_because(&mut self, cause: EndingCause) {
        if let Some(ending) = &mut self.ending {
            if cause > ending.cause {
                ending.cause = cause;
            }
            return;
        }
        // Whoever is told to end has to be able to.
        self.pause.break_off();
        let next = match Instant::now().checked_add(self.grace) {
            Some(due) if !self.grace.is_zero() => {
                self.agent.terminate();
                EndingStep::Kill(due)
            }
            // A grace too long for the clock is none.
            _ => kill(&self.agent),
        };
        self.ending = Some(AgentEnding { cause, next });
    }

    fn conclude(mut self, exit: AgentExit, paths: &WorkspacePaths, ran_for: Duration) -> AttemptEnd {
        let tree = exit.tree();
        if let Some(tree) = tree.filter(|tree| tree.survivors > 0) {
            let folder = paths.folder.display();
            tracing::error!(survivors = tree.survivors, workspace = %folder, "processes cannot be killed");
        }
        let mut answer = self.capture.take_answer().map(|reader| reader.finish(&Zoned::now()));
        if let (Some(answer), Some(mask)) = (&mut answer, &self.mask) {
            hide_in_findings(answer, mask);
        }
        let facts = EndingFacts {
            cause: self.ending.map(|ending| ending.cause),
            exit,
            result: self.capture.result(),
            answer,
            last_error_line: self.capture.last_error_line(),
            ran_out_of_memory: self.group.as_ref().is_some_and(AttemptGroup::ran_out_of_memory),
        };
        let (mut report, broken) = conclude(facts, &AttemptFiles { paths, mask: self.mask.as_deref() });
        if let Some(mask) = &self.mask {
            hide_secrets(&mut report, mask);
        }
        AttemptEnd {
            report,
            broken,
            tree,
            output_bytes: self.capture.bytes(),
            dropped_bytes: self.capture.finish(),
            ran_for,
        }
    }
}

/// The agent's files, secrets masked before anything is cut from them.
struct AttemptFiles<'a> {
    paths: &'a WorkspacePaths,
    mask: Option<&'a SecretMask>,
}

impl OwnFiles for AttemptFiles<'_> {
    fn outputs(&self) -> Result<IndexMap<String, String>, OutputsError> {
        match read_own_file(&self.paths.output(), OUTPUT_FILE_BYTES_MAX)? {
            Some(bytes) => Ok(parse_output_file(&bytes)?),
            None => Ok(IndexMap::new()),
        }
    }

    fn error_text(&self) -> Option<String> {
        // Half a secret at the end would not be known for one.
        let room = if self.mask.is_some() { SECRET_BYTES_MAX } else { 0 };
        let bytes = read_own_head(&self.paths.error(), MESSAGE_BYTES_MAX + room)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = self.mask.map_or_else(|| text.to_string(), |mask| mask.text(&text));
        Some(bounded(text.trim()))
    }
}

fn kill(agent: &RunningTree) -> EndingStep {
    agent.kill();
    EndingStep::Abandon(Instant::now() + KILL_ANSWER_LIMIT)
}

fn log_failed(error: &io::Error, paths: &WorkspacePaths) -> EndingCause {
    EndingCause::LogFailed(format!("cannot write `{}`: {error}", paths.log().display()))
}

fn cut_line(mut line: String) -> String {
    let mut end = line.len().min(LIVE_LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

/// A moment that no attempt lives to see.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}
