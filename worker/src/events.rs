//! The words between `dispatcher`, which decides, and `service`, which does.
//!
//! Nothing happens here.

use std::collections::HashMap;
use std::time::Duration;

use maestro_model::attempt::AttemptReport;
use maestro_model::ids::{AgentId, AgentSlug};
use maestro_model::plan::QueueName;
use maestro_store::brought::{GroupOutputs, KnownRun};
use maestro_store::freezing::FreezeId;
use maestro_store::step::{Grant, StepReply, StepRequest};
use maestro_store::worker::BeatReply;

use crate::assigned::AgentsHere;
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
    /// Redis has changed, and wants to hear what this worker holds and has reported.
    RecoveryAsked(Life),
    /// It has heard all.
    Recovered(Life),
    /// A new incarnation has attached.
    Attached(Life),
    /// Types that this host can serve, now.
    TypesServed(Vec<AgentSlug>),
    /// Agents that have their folder on this worker, now.
    AgentsHere(AgentsHere),
    /// A part of the host that was broken works again.
    ProbePassed(Breakage),
    /// So many runs with a folder of their own have it here, and have not ended.
    RunsBound(usize),
    /// For a freeze, all agents stand still; their ends, as far as there were any, came before this.
    AgentsStill(FreezeId),
    /// All agents are to end, with this grace; the worker goes on.
    EndAgents(Duration),
    /// Somebody wants the worker to end.
    Terminate,
    /// Somebody wants it to end by and by.
    Drain(DrainOrder),
    /// The time for running tasks to end by themselves is over: of this drain, unless there is a later one.
    DrainDeadline(DrainNumber),
    /// The time to report what was ended is over, too.
    LastDeadline,
}

/// How a worker is to come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOrder {
    /// How long running tasks may go on; none = the worker's own deadline.
    pub deadline: Option<Duration>,
    /// Whether they are ended at once.
    pub force: bool,
}

/// Which drain it is, of those that were asked for: a later one has a deadline of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainNumber(pub u32);

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
    /// End an attempt that was launched, so that it is given back, with a grace of its own.
    EndAttemptWithin(AttemptKey, Duration),
    /// Compare what is held and was reported with what Redis remembers.
    Recover,
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
    /// Start the time that running tasks have to end by themselves; none = the worker's own.
    StartDrainTimer(DrainNumber, Option<Duration>),
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
    /// The task is being cancelled, or its agent starts again.
    Cancel,
    /// The same, without grace.
    Kill,
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
    /// What one agent type needs: its binary, its template, its secrets, its container engine.
    Type(AgentSlug),
    /// The folder of one assigned agent.
    Agent(AgentId),
}

impl Breakage {
    /// What an attempt of a type, or of one assigned agent of it, found broken.
    pub fn of(part: BrokenPart, slug: &AgentSlug, assigned: Option<&AgentId>) -> Breakage {
        match (part, assigned) {
            (BrokenPart::Assigned, Some(id)) => Breakage::Agent(id.clone()),
            (BrokenPart::Workspaces | BrokenPart::Assigned, _) => Breakage::Workspaces,
            (BrokenPart::Launcher, _) => Breakage::Launcher,
            // Types that run as processes are served meanwhile.
            (BrokenPart::Binary | BrokenPart::Template | BrokenPart::Secrets | BrokenPart::Engine, _) => {
                Breakage::Type(slug.clone())
            }
        }
    }
}

impl std::fmt::Display for Breakage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Breakage::Workspaces => formatter.write_str("workspaces"),
            Breakage::Launcher => formatter.write_str("launcher"),
            Breakage::Type(slug) => write!(formatter, "agent type `{slug}`"),
            Breakage::Agent(id) => write!(formatter, "agent `{id}`"),
        }
    }
}
