//! One task brought into one state, and everything that can happen to it there.

use std::sync::LazyLock;
use std::time::Duration;

use maestro_model::ids::{AgentId, Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::{Plan, QueueName, WorkspaceChoice};
use maestro_model::task::{Reason, TaskEvent, TaskStatus};
use maestro_store::assignments::HoldOrder;
use maestro_store::runs::StopAnswer;
use maestro_store::scripts::{ScriptSet, TEST_CLOCK};
use maestro_store::step::{Ending, ReportAnswer, StepReply, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole, ProcessStatus};
use maestro_store::{Store, StoreError};

use super::agents::{agent_types, assignment};
use super::dump::{Depth, Dump};
use crate::support::{PlanSketch, TestRedis};

pub const FIRST_WALL_MS: i64 = 1_700_000_000_000;
/// How long a parked task waits, a queued one may wait, an attempt may take.
pub const DELAY_MS: u64 = 60_000;
const WAIT_LIMIT_MS: u64 = 20_000;
const ATTEMPT_LIMIT_MS: u64 = 1_000;

/// Where a task is when something happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    Blocked,
    Queued,
    Held,
    QueuedAgain,
    Running,
    RunningForTheLastTime,
    Parked,
    Cancelling,
    Completed,
    Failed,
    Skipped,
    Cancelled,
    GroupRunning,
    /// An assigned agent works on it.
    AgentRunning,
    /// It was told to end so that its agent starts again.
    Restarting,
}

impl Setting {
    pub const ALL: [Setting; 15] = [
        Setting::Blocked,
        Setting::Queued,
        Setting::Held,
        Setting::QueuedAgain,
        Setting::Running,
        Setting::RunningForTheLastTime,
        Setting::Parked,
        Setting::Cancelling,
        Setting::Completed,
        Setting::Failed,
        Setting::Skipped,
        Setting::Cancelled,
        Setting::GroupRunning,
        Setting::AgentRunning,
        Setting::Restarting,
    ];

    pub fn status(self) -> TaskStatus {
        match self {
            Setting::Blocked => TaskStatus::Blocked,
            Setting::Queued | Setting::Held | Setting::QueuedAgain => TaskStatus::Queued,
            Setting::Running | Setting::RunningForTheLastTime | Setting::GroupRunning => TaskStatus::Running,
            Setting::AgentRunning => TaskStatus::Running,
            Setting::Parked => TaskStatus::Parked,
            Setting::Cancelling | Setting::Restarting => TaskStatus::Cancelling,
            Setting::Completed => TaskStatus::Completed,
            Setting::Failed => TaskStatus::Failed,
            Setting::Skipped => TaskStatus::Skipped,
            Setting::Cancelled => TaskStatus::Cancelled,
        }
    }
}

impl Setting {
    fn is_agents(self) -> bool {
        matches!(self, Setting::AgentRunning | Setting::Restarting)
    }
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// Its holder, or who held it last, reports.
    Report(Ending),
    /// Somebody else reports the same attempt.
    StrangerReports(Ending),
    /// The holder reports an attempt that is not the current one.
    ReportOfAnotherAttempt(Ending),
    Claim,
    Cancel,
    AgentStops,
    AgentStartsAgain,
    Beat,
    OwnerLeaves,
    LeaseEnds,
    AttemptLimitPasses,
    WaitLimitPasses,
    DelayPasses,
}

pub fn endings() -> Vec<Ending> {
    let failed = |retry_in_ms| Ending::Failed { reason: Reason::Exit, exit_code: Some(3), retry_in_ms };
    vec![
        Ending::Completed { exit_code: Some(0) },
        Ending::Skipped,
        failed(None),
        failed(Some(DELAY_MS)),
        Ending::ComeBack { delay_ms: DELAY_MS },
        Ending::Cancelled,
        Ending::Returned { host_failed: false },
        Ending::Returned { host_failed: true },
    ]
}

pub fn deeds() -> Vec<Deed> {
    let mut deeds = vec![
        Deed::Claim,
        Deed::Cancel,
        Deed::AgentStops,
        Deed::AgentStartsAgain,
        Deed::Beat,
        Deed::OwnerLeaves,
        Deed::LeaseEnds,
        Deed::AttemptLimitPasses,
        Deed::WaitLimitPasses,
        Deed::DelayPasses,
    ];
    for ending in endings() {
        deeds.push(Deed::Report(ending.clone()));
        deeds.push(Deed::StrangerReports(ending.clone()));
        deeds.push(Deed::ReportOfAnotherAttempt(ending));
    }
    deeds
}

impl Deed {
    /// What it means for a task, as the table says it; none if it does not concern it.
    pub fn event(&self, setting: Setting) -> Option<TaskEvent> {
        use TaskEvent as E;
        let status = setting.status();
        let group = setting == Setting::GroupRunning;
        let held = matches!(status, TaskStatus::Running | TaskStatus::Cancelling) && !group;
        match self {
            Deed::StrangerReports(_) | Deed::ReportOfAnotherAttempt(_) | Deed::Beat => None,
            Deed::Cancel => Some(E::Cancel),
            // A task in front of its run's gate is not for workers yet, and a group never is.
            Deed::Claim => (status == TaskStatus::Queued && setting != Setting::Held).then_some(E::Claim),
            Deed::AgentStops => setting.is_agents().then_some(E::Cancel),
            Deed::AgentStartsAgain => setting.is_agents().then_some(E::Restart),
            Deed::Report(Ending::Completed { .. }) if setting == Setting::Restarting => Some(E::FinishFirst),
            Deed::Report(_) | Deed::OwnerLeaves | Deed::LeaseEnds | Deed::AttemptLimitPasses
                if setting == Setting::Restarting =>
            {
                Some(E::EndRestarted)
            }
            Deed::Report(_) if status == TaskStatus::Cancelling => Some(E::EndCancelled),
            Deed::Report(_) if !held => None,
            Deed::Report(ending) => Some(match ending {
                Ending::Completed { .. } => E::Succeed,
                Ending::Skipped => E::Skip,
                Ending::Failed { retry_in_ms: None, .. } => E::Fail,
                Ending::Failed { retry_in_ms: Some(_), .. } | Ending::ComeBack { .. } => E::Park,
                // Nobody has asked for its end: the task goes back.
                Ending::Cancelled | Ending::Returned { .. } => E::Return,
            }),
            Deed::OwnerLeaves | Deed::LeaseEnds | Deed::AttemptLimitPasses
                if status == TaskStatus::Cancelling =>
            {
                Some(E::EndCancelled)
            }
            Deed::OwnerLeaves | Deed::LeaseEnds if setting == Setting::RunningForTheLastTime => {
                Some(E::Abandon)
            }
            Deed::OwnerLeaves | Deed::LeaseEnds => held.then_some(E::Return),
            Deed::AttemptLimitPasses => held.then_some(E::Fail),
            Deed::WaitLimitPasses => matches!(setting, Setting::Queued | Setting::Held).then_some(E::Expire),
            Deed::DelayPasses => (status == TaskStatus::Parked).then_some(E::Unpark),
        }
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(if *self == Deed::LeaseEnds { 10 } else { 3600 })
    }
}

/// Put together once: hundreds of stages are set.
static SCRIPTS: LazyLock<ScriptSet> = LazyLock::new(|| {
    let grace = ("local DEADLINE_GRACE_MS = 60000", "local DEADLINE_GRACE_MS = 1000");
    ScriptSet::edited(&[TEST_CLOCK, grace])
});

/// A cell with one task in a given state.
pub struct Stage {
    pub store: Store,
    pub raw: redis::Connection,
    pub wall_ms: i64,
    pub task: TaskId,
    pub owner: Incarnation,
    pub stranger: Incarnation,
    pub attempt: Attempt,
    pub requests: u64,
}

pub fn about() -> AboutProcess {
    AboutProcess {
        role: ProcessRole::Worker,
        host: "here".to_owned(),
        pid: 1,
        slots: 4,
        version: "1.2.0".to_owned(),
        labels: Default::default(),
        confinement: Vec::new(),
        isolation: None,
    }
}

fn smith() -> AgentId {
    "smith".parse().expect("a lawful id")
}

fn sketch(setting: Setting, deed: &Deed) -> (Plan, u32) {
    let (mut sketch, index) = match setting {
        Setting::Blocked => (PlanSketch::chain(2), 1),
        Setting::Held => (PlanSketch::new(2), 1),
        Setting::GroupRunning => (PlanSketch::new(1), 0),
        _ => (PlanSketch::new(1), 0),
    };
    if setting == Setting::Held {
        sketch.policy.concurrency = Some(1);
    }
    if setting == Setting::GroupRunning {
        sketch.tasks[0].items = Some((3, Some(1)));
    }
    let mut plan = sketch.plan();
    if setting.is_agents() {
        for range in &mut plan.roots {
            range.queue = Some(QueueName::assigned(&smith()));
        }
    }
    for shared in &mut plan.shared {
        if setting.is_agents() {
            shared.assigned = Some(smith());
            shared.queue = QueueName::assigned(&smith());
            shared.workspace = WorkspaceChoice::Assigned;
        }
        let alone = !matches!(setting, Setting::GroupRunning | Setting::Blocked);
        if *deed == Deed::WaitLimitPasses && alone {
            shared.queue_timeout_ms = Some(WAIT_LIMIT_MS);
        }
        if *deed == Deed::AttemptLimitPasses {
            shared.timeout_ms = ATTEMPT_LIMIT_MS;
        }
    }
    (plan, index)
}

impl Stage {
    pub async fn set(redis: &TestRedis, setting: Setting, deed: &Deed) -> Stage {
        let mut raw = redis.raw();
        redis::cmd("FLUSHALL").exec(&mut raw).expect("flushed");
        let store = redis.store_with(SCRIPTS.clone()).await;
        let (owner, stranger) = (Incarnation::random(), Incarnation::random());
        for (who, name, lease) in
            [(&owner, "owner", deed.lease()), (&stranger, "stranger", Duration::from_secs(3600))]
        {
            let types = ["noop".to_owned()];
            store.attach(who, name, &types, lease, false, &about()).await.expect("the name is free");
        }
        let mut agent_type = agent_types().remove(0);
        agent_type.slug = "noop".parse().expect("a lawful slug");
        store.register_type(&agent_type).await.expect("registered");
        store.assign(&assignment("smith", "noop", "owner", 0)).await.expect("assigned");
        let (plan, index) = sketch(setting, deed);
        let run = RunId::random(0);
        store.submit(&run, &plan, 2).await.expect("the plan is lawful");
        let task = TaskId { run, index };
        let mut stage = Stage {
            store,
            raw,
            wall_ms: FIRST_WALL_MS,
            task,
            owner,
            stranger,
            attempt: Attempt(1),
            requests: 1,
        };
        stage.lead_to(setting).await;
        // An attempt gets its limit with the first beat of its worker.
        let types = ["noop".to_owned()];
        let listed = [(stage.task.clone(), stage.attempt)];
        let status = ProcessStatus::default();
        let beat = stage.store.beat(&stage.owner, deed.lease(), &types, &status, &listed);
        drop(beat.await.expect("the beat is answered"));
        assert_eq!(stage.status().await, setting.status(), "the stage is set for {setting:?}");
        stage
    }

    /// Brings the task where the setting wants it.
    async fn lead_to(&mut self, setting: Setting) {
        match setting {
            Setting::Blocked | Setting::Queued | Setting::Held | Setting::GroupRunning => return,
            Setting::Cancelled => {
                self.cancel().await.expect("cancelled");
                return;
            }
            _ => {}
        }
        let owner = self.owner.clone();
        self.claim(&owner).await;
        let ending = match setting {
            Setting::QueuedAgain => Ending::Returned { host_failed: false },
            Setting::Parked => {
                Ending::Failed { reason: Reason::Exit, exit_code: Some(1), retry_in_ms: Some(DELAY_MS) }
            }
            Setting::Completed => Ending::Completed { exit_code: Some(9) },
            Setting::Failed => Ending::Failed { reason: Reason::Oom, exit_code: None, retry_in_ms: None },
            Setting::Skipped => Ending::Skipped,
            Setting::Cancelling => {
                self.cancel().await.expect("told to end");
                return;
            }
            Setting::Restarting => return self.order_agent(true).await,
            Setting::RunningForTheLastTime => {
                // Lost once with another process; two losses are allowed.
                let lost = Incarnation::random();
                let types = ["noop".to_owned()];
                let hour = Duration::from_secs(3600);
                self.store.attach(&lost, "lost", &types, hour, false, &about()).await.expect("free");
                self.report(&owner, Attempt(1), Ending::Returned { host_failed: false }).await;
                self.claim(&lost).await;
                self.store.detach(&lost).await.expect("detached");
                self.claim(&owner).await;
                self.attempt = Attempt(3);
                return;
            }
            _ => return,
        };
        self.report(&owner, Attempt(1), ending).await;
    }

    pub async fn status(&self) -> TaskStatus {
        self.store.task(&self.task).await.expect("readable").status
    }

    async fn step(&mut self, who: &Incarnation, want: usize, reports: Vec<StepReport>) -> StepReply {
        self.requests += 1;
        let queues = vec![QueueName::from_stored("a:noop"), QueueName::assigned(&smith())];
        let request =
            StepRequest { lane: 0, request_id: self.requests, want, queues, reports, state_ttl_ms: 0 };
        self.store.step(who, &request).await.expect("the step is answered")
    }

    async fn claim(&mut self, who: &Incarnation) -> StepReply {
        self.step(who, 4, Vec::new()).await
    }

    pub async fn report(&mut self, who: &Incarnation, attempt: Attempt, ending: Ending) -> ReportAnswer {
        let report = StepReport {
            task: self.task.clone(),
            attempt,
            ending,
            output: "{\"message\":\"late\"}".to_owned(),
            publish: Vec::new(),
        };
        let reply = self.step(who, 0, vec![report]).await;
        reply.answers[0]
    }

    async fn order_agent(&self, then_restart: bool) {
        let order = HoldOrder { kill: false, then_restart };
        self.store.hold_agent(&smith(), "me", order).await.expect("the agent is told");
    }

    async fn cancel(&self) -> Result<StopAnswer, StoreError> {
        self.store.cancel_task(&self.task, "").await
    }

    pub fn set_wall(&mut self, wall_ms: i64) {
        self.wall_ms = wall_ms;
        let key = self.store.keys().ctl();
        redis::cmd("HSET").arg(key).arg("test_wall").arg(wall_ms).exec(&mut self.raw).expect("set");
    }

    /// Lets time pass, with sweeps on the way.
    async fn pass(&mut self, ms: u64) {
        let until = self.wall_ms + ms as i64;
        while self.wall_ms < until {
            self.set_wall((self.wall_ms + 4_000).min(until));
            self.store.sweep(50).await.expect("swept");
        }
    }

    /// Does it. The answer of a report, if it was one.
    pub async fn act(&mut self, deed: &Deed) -> Option<ReportAnswer> {
        let (owner, stranger) = (self.owner.clone(), self.stranger.clone());
        let other = Attempt(self.attempt.0 + 1);
        match deed {
            Deed::Report(ending) => return Some(self.report(&owner, self.attempt, ending.clone()).await),
            Deed::StrangerReports(ending) => {
                return Some(self.report(&stranger, self.attempt, ending.clone()).await);
            }
            Deed::ReportOfAnotherAttempt(ending) => {
                return Some(self.report(&owner, other, ending.clone()).await);
            }
            Deed::Claim => drop(self.claim(&stranger).await),
            Deed::Cancel => drop(self.cancel().await),
            Deed::AgentStops => self.order_agent(false).await,
            Deed::AgentStartsAgain => self.order_agent(true).await,
            Deed::Beat => {
                let listed = [(self.task.clone(), self.attempt)];
                let status = ProcessStatus::default();
                let types = ["noop".to_owned()];
                let beat = self.store.beat(&owner, deed.lease(), &types, &status, &listed);
                drop(beat.await.expect("the beat is answered"));
            }
            Deed::OwnerLeaves => self.store.detach(&owner).await.expect("detached"),
            Deed::LeaseEnds => self.pass(10_100).await,
            Deed::AttemptLimitPasses => self.pass(ATTEMPT_LIMIT_MS + 1_100).await,
            Deed::WaitLimitPasses => self.pass(WAIT_LIMIT_MS + 100).await,
            Deed::DelayPasses => self.pass(DELAY_MS + 100).await,
        }
        None
    }

    /// All that is stored of work: not the clock, the events, the bells and what processes say.
    pub fn work(&mut self) -> Dump {
        let prefix = self.store.keys().prefix().to_owned();
        let read = Dump::read(&mut self.raw, &prefix, "0", Depth::Whole);
        let mut dump = read.expect("readable").timeless();
        let aside = |key: &String| {
            key.starts_with("bell:") || key.starts_with("w:") || key == "names" || key == "assignments"
        };
        dump.hashes.retain(|key, _| !aside(key));
        dump.lists.retain(|key, _| !aside(key));
        dump.zsets.remove("leases");
        dump.zsets.remove("lost");
        if let Some(ctl) = dump.hashes.get_mut("ctl") {
            ctl.remove("registry");
        }
        dump
    }
}
