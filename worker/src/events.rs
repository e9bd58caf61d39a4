//! The words between `dispatcher`, which decides, and `service`, which does.
//!
//! Nothing happens here.

use std::collections::HashMap;
use std::time::Duration;

use maestro_model::attempt::AttemptReport;
use maestro_model::ids::AgentSlug;
use maestro_model::plan::QueueName;
use maestro_store::brought::{GroupOutputs, KnownRun};
use maestro_store::step::{Grant, StepReply, StepRequest};
use maestro_store::worker::BeatReply;

use crate::attempt::BrokenPart;
use crate::decide::Rendered;
use crate::held::AttemptKey;

/// Which of its incarnations a worker process is in, counted from 1. What is said of an earlier one
/// concerns nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub u64);

impl Life {
    /// Of a process that has just attached.
    pub const FIRST: Life = Life(1);

    /// The one after it.
    pub fn next(self) -> Life {
        Life(self.0 + 1)
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A request was answered: its lane and id.
    StepAnswered(u8, u64, StepReply),
    /// The cluster is frozen: the request of this lane and id was not carried out.
    StepPaused(u8, u64),
    /// What a grant needs has been read.
    Fetched(Box<Grant>, KnownRun, HashMap<u32, GroupOutputs>),
    /// What a grant needs cannot be read.
    FetchFailed(Box<Grant>, FetchFailure),
    /// An attempt is over; with what of the host failed it, if that was the reason.
    AttemptEnded(AttemptKey, AttemptReport, Option<Breakage>),
    /// There may be work, or it is time to look.
    BellRang,
    /// A beat was answered; with what was listed.
    BeatAnswered(Life, Vec<AttemptKey>, BeatReply),
    /// The lease has run out, or the cluster is another one.
    Fenced(Life),
    /// The lease could not be renewed in time: agents must end before others can start their tasks.
    LeaseInDanger(Life),
    /// A new incarnation has attached.
    Attached(Life),
    /// Types that this host can serve, now.
    TypesServed(Vec<AgentSlug>),
    /// A part of the host that was broken works again.
    ProbePassed(Breakage),
    /// So many runs with a folder of their own have it here, and have not ended.
    RunsBound(usize),
    /// Somebody wants the worker to end.
    Terminate,
    /// The time for running tasks to end by themselves is over.
    DrainDeadline,
    /// The time to report what was ended is over, too.
    LastDeadline,
}

/// Why what a grant needs cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchFailure {
    /// Redis is away, or the run is gone: the task goes back.
    Passing(String),
    /// What is stored cannot be understood here: another try here would fare no better.
    Lasting(String),
}

/// Something to be done.
#[derive(Debug)]
pub enum WorkerAction {
    /// Send a request, after a wait if there is one.
    SendStep(StepRequest, Duration),
    /// Read what a grant needs.
    Fetch(Box<Grant>),
    /// Launch an agent.
    Launch(Box<Rendered>),
    /// End an attempt that was launched.
    EndAttempt(AttemptKey, EndCause),
    /// Attach as a new incarnation.
    Reattach,
    /// Tell the cluster that these are the types served.
    Serve(Vec<AgentSlug>),
    /// Listen to the bells of these queues, beside one's own.
    Listen(Vec<QueueName>),
    /// Look from time to time whether a part of the host works again.
    Probe(Breakage),
    /// Ask, after a wait, how many runs are bound to this worker.
    AskBoundRuns(Duration),
    /// Start the time that running tasks have to end by themselves.
    StartDrainTimer,
    /// Start the time that ended attempts have to be reported.
    StartLastTimer,
    /// All is done.
    Finish,
}

/// Why an attempt is to end. Of two causes the greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndCause {
    /// It is to be given back.
    Return,
    /// The task is being cancelled.
    Cancel,
    /// Another attempt speaks for the task: nothing is reported.
    Discard,
}

/// A part of this host that does not work. Nothing that needs it is claimed until a probe passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breakage {
    /// The disk below the workspace root.
    Workspaces,
    /// The launcher, or the host's processes, memory and descriptors.
    Launcher,
    /// What one agent type needs: its binary, its template, its secrets.
    Type(AgentSlug),
}

impl Breakage {
    /// What an attempt of a type found broken.
    pub fn of(part: BrokenPart, slug: &AgentSlug) -> Breakage {
        match part {
            BrokenPart::Workspaces => Breakage::Workspaces,
            BrokenPart::Launcher => Breakage::Launcher,
            BrokenPart::Binary | BrokenPart::Template | BrokenPart::Secrets => Breakage::Type(slug.clone()),
        }
    }
}

impl std::fmt::Display for Breakage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Breakage::Workspaces => formatter.write_str("workspaces"),
            Breakage::Launcher => formatter.write_str("launcher"),
            Breakage::Type(slug) => write!(formatter, "agent type `{slug}`"),
        }
    }
}
