//! Assigned agents against a real Redis: whose tasks they are, one at a time, stopped, started again, moved.

use std::time::Duration;

use maestro_model::agent_type::AgentType;
use maestro_model::assignment::{ASSIGNMENT_VERSION, Assignment};
use maestro_model::ids::{AgentId, Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::{QueueName, WorkspaceChoice};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::assignments::{AssignAnswer, HoldAnswer, HoldOrder, RegisterAnswer};
use maestro_store::scripts::ScriptSet;
use maestro_store::step::{Ending, Grant, ReportAnswer, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, BeatVerdict, BellRing, ProcessRole, ProcessStatus, own_bell};
use maestro_store::{Refusal, Store, StoreError};

use crate::support::{PlanSketch, TestRedis};

const LEASE: Duration = Duration::from_secs(30);

/// A worker without a process, which asks for the queues of both agents whoever they belong to.
struct HandWorker {
    store: Store,
    incarnation: Incarnation,
    next_request: u64,
}

impl HandWorker {
    async fn attach(store: &Store, name: &str) -> HandWorker {
        let incarnation = Incarnation::random();
        let about = AboutProcess {
            role: ProcessRole::Worker,
            host: "here".to_owned(),
            pid: 1,
            slots: 4,
            version: "1.2.0".to_owned(),
            labels: Default::default(),
            confinement: Vec::new(),
            isolation: None,
        };
        let types = ["noop".to_owned()];
        let attached = store.attach(&incarnation, name, &types, LEASE, false, &about).await;
        attached.expect("the name is free");
        HandWorker { store: store.clone(), incarnation, next_request: 1 }
    }

    fn queues() -> Vec<QueueName> {
        ["i:smith", "i:jones", "a:noop"].map(QueueName::from_stored).into()
    }

    async fn step(&mut self, want: usize, reports: Vec<StepReport>) -> (Vec<ReportAnswer>, Vec<Grant>) {
        self.next_request += 1;
        let request = StepRequest {
            lane: 0,
            request_id: self.next_request,
            want,
            queues: HandWorker::queues(),
            reports,
            state_ttl_ms: 0,
        };
        let reply = self.store.step(&self.incarnation, &request).await.expect("the step is accepted");
        (reply.answers, reply.grants)
    }

    async fn claim(&mut self, want: usize) -> Vec<Grant> {
        self.step(want, Vec::new()).await.1
    }

    async fn report(&mut self, grant: &Grant, ending: Ending) -> ReportAnswer {
        self.step(0, vec![report(grant, ending)]).await.0[0]
    }

    async fn beat(&self, grant: &Grant) -> BeatVerdict {
        let listed = [(grant.task.clone(), grant.attempt)];
        let (status, types) = (ProcessStatus::default(), ["noop".to_owned()]);
        let beat = self.store.beat(&self.incarnation, LEASE, &types, &status, &listed);
        beat.await.expect("the beat is answered").verdicts[0]
    }
}

fn report(grant: &Grant, ending: Ending) -> StepReport {
    StepReport {
        task: grant.task.clone(),
        attempt: grant.attempt,
        ending,
        output: String::new(),
        publish: Vec::new(),
    }
}

fn done() -> Ending {
    Ending::Completed { exit_code: Some(0) }
}

fn noop_type(max_concurrent: Option<u32>) -> AgentType {
    let text = serde_json::json!({
        "slug": "noop", "mode": "noop", "command": [], "limits": {"max_concurrent": max_concurrent},
    });
    serde_json::from_value(text).expect("a lawful type")
}

fn id(text: &str) -> AgentId {
    text.parse().expect("a lawful id")
}

fn agent(name: &str, worker: &str) -> Assignment {
    Assignment {
        v: ASSIGNMENT_VERSION,
        id: id(name),
        agent_type: "noop".parse().expect("a lawful slug"),
        path: format!("/srv/{name}"),
        role: None,
        priority: None,
        worker: worker.parse().expect("a lawful name"),
        assigned_at_ms: 0,
        held: None,
    }
}

/// A run of so many tasks without edges, all for one agent.
async fn submit_for(store: &Store, name: &str, count: usize) -> RunId {
    let mut plan = PlanSketch::new(count).plan();
    for shared in &mut plan.shared {
        shared.assigned = Some(id(name));
        shared.queue = QueueName::assigned(&id(name));
        shared.workspace = WorkspaceChoice::Assigned;
    }
    for range in &mut plan.roots {
        range.queue = Some(QueueName::assigned(&id(name)));
    }
    let run = RunId::random(0);
    store.submit(&run, &plan, 2).await.expect("the plan is lawful");
    run
}

/// A cluster with the agent `smith` on `ada`, and the workers `ada` and `bob`.
async fn cluster(redis: &TestRedis) -> (Store, HandWorker, HandWorker) {
    cluster_with(redis, &[]).await
}

/// The same with edits to the scripts.
async fn cluster_with(redis: &TestRedis, edits: &[(&str, &str)]) -> (Store, HandWorker, HandWorker) {
    let store = redis.store_with(ScriptSet::edited(edits)).await;
    store.register_type(&noop_type(None)).await.expect("registered");
    assert_eq!(store.assign(&agent("smith", "ada")).await.expect("assigned"), AssignAnswer::New);
    let (ada, bob) = (HandWorker::attach(&store, "ada").await, HandWorker::attach(&store, "bob").await);
    (store, ada, bob)
}

async fn record(store: &Store, task: &TaskId) -> maestro_store::record::TaskRecord {
    store.task(task).await.expect("readable").record.expect("it was ready")
}

async fn stop(store: &Store, name: &str, kill: bool) -> HoldAnswer {
    let order = HoldOrder { kill, then_restart: false };
    store.hold_agent(&id(name), "me", order).await.expect("stopped")
}

async fn restart(store: &Store, name: &str, kill: bool) -> HoldAnswer {
    let order = HoldOrder { kill, then_restart: true };
    store.hold_agent(&id(name), "me", order).await.expect("started again")
}

#[tokio::test]
async fn an_agent_works_on_its_own_worker_one_task_at_a_time() {
    let redis = TestRedis::start();
    let (store, mut ada, mut bob) = cluster(&redis).await;
    let run = submit_for(&store, "smith", 3).await;
    assert!(bob.claim(4).await.is_empty(), "it is not bob's");
    let grants = ada.claim(4).await;
    assert_eq!(grants.len(), 1, "one at a time");
    let known = grants[0].agent.clone().expect("the claim says where the agent is");
    assert_eq!((known.path.as_str(), known.worker.as_str()), ("/srv/smith", "ada"));
    assert!(ada.claim(4).await.is_empty(), "it is at work");
    assert_eq!(store.agent_running(&id("smith")).await.expect("readable"), Some(grants[0].task.clone()));
    // The report frees the agent, and the same request brings its next task.
    let (answers, next) = ada.step(4, vec![report(&grants[0], done())]).await;
    assert_eq!((answers, next.len()), (vec![ReportAnswer::Accepted], 1));
    let (_, last) = ada.step(4, vec![report(&next[0], done())]).await;
    assert_eq!(ada.report(&last[0], done()).await, ReportAnswer::Accepted);
    assert!(store.run(&run).await.expect("readable").expect("there").status.is_final());
    assert_eq!(store.agent_running(&id("smith")).await.expect("readable"), None);
}

#[tokio::test]
async fn a_task_of_an_agent_waits_behind_it_and_not_in_front_of_others() {
    let redis = TestRedis::start();
    let (store, mut ada, mut bob) = cluster(&redis).await;
    submit_for(&store, "smith", 5).await;
    // What is ready in one and the same millisecond has no order.
    let millisecond = || -> u64 {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis.raw()).expect("the time");
        seconds * 1000 + micros / 1000
    };
    let now = millisecond();
    while millisecond() == now {}
    let run = RunId::random(0);
    store.submit(&run, &PlanSketch::new(3).plan(), 2).await.expect("the plan is lawful");
    let grants = ada.claim(3).await;
    let of_agent = grants.iter().filter(|grant| grant.agent.is_some()).count();
    assert_eq!((of_agent, grants.len()), (1, 3), "the slots that the agent leaves go to others");
    assert_eq!(bob.claim(4).await.len(), 1, "what is for anybody");
}

#[tokio::test]
async fn a_stopped_agent_starts_nothing_until_it_is_let_go() {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster(&redis).await;
    assert_eq!(stop(&store, "smith", false).await, HoldAnswer { running: None, was_held: false });
    assert!(stop(&store, "smith", false).await.was_held, "the second stop changes nothing");
    submit_for(&store, "smith", 1).await;
    assert!(ada.claim(4).await.is_empty());
    let held = store.assignment(&id("smith")).await.expect("readable").expect("there").held.expect("held");
    assert_eq!(held.by, "me");
    assert!(held.at_ms > 0);
    // Moving it does not let it go.
    let moved = store.assign(&Assignment { path: "/srv/other".to_owned(), ..agent("smith", "ada") }).await;
    assert_eq!(moved.expect("idle"), AssignAnswer::Moved);
    assert!(ada.claim(4).await.is_empty());
    let mut bells = store.bells(Duration::from_millis(200)).await.expect("connected");
    while bells.wait(&ada.incarnation, &HandWorker::queues()).await.expect("answered") {}
    assert!(store.release_agent(&id("smith"), "me").await.expect("let go").was_held);
    let rung = bells.wait_ring(&ada.incarnation, &HandWorker::queues()).await.expect("answered");
    assert_eq!(rung, BellRing::Queue(QueueName::from_stored("i:smith")));
    assert_eq!(ada.claim(4).await[0].agent.as_ref().expect("there").path, "/srv/other");
}

#[tokio::test]
async fn stopping_an_agent_at_work_cancels_its_task() {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster(&redis).await;
    submit_for(&store, "smith", 2).await;
    let grant = ada.claim(4).await.remove(0);
    assert_eq!(stop(&store, "smith", false).await.running, Some(grant.task.clone()));
    assert_eq!(ada.beat(&grant).await, BeatVerdict::Cancel);
    stop(&store, "smith", true).await;
    assert_eq!(ada.beat(&grant).await, BeatVerdict::Kill);
    stop(&store, "smith", false).await;
    assert_eq!(ada.beat(&grant).await, BeatVerdict::Kill, "what is to be killed is not spared");
    assert_eq!(ada.report(&grant, Ending::Cancelled).await, ReportAnswer::Cancelled);
    assert_eq!(store.task(&grant.task).await.expect("readable").status, TaskStatus::Cancelled);
    assert!(ada.claim(4).await.is_empty(), "the other task waits");
}

#[tokio::test]
async fn a_restart_burns_nothing() {
    an_agent_is_restarted_at_work(&[]).await;
}

/// Panics unless its task is queued again; with `edits` to the scripts.
pub(super) async fn an_agent_is_restarted_at_work(edits: &[(&str, &str)]) {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster_with(&redis, edits).await;
    submit_for(&store, "smith", 1).await;
    let failed = Ending::Failed { reason: Reason::Exit, exit_code: Some(143), retry_in_ms: None };
    for (number, ending) in [Ending::Cancelled, failed, Ending::Skipped].into_iter().enumerate() {
        let grant = ada.claim(4).await.remove(0);
        assert_eq!(grant.attempt, Attempt(number as u32 + 1));
        assert_eq!(restart(&store, "smith", number == 1).await.running, Some(grant.task.clone()));
        let wanted = if number == 1 { BeatVerdict::Kill } else { BeatVerdict::Cancel };
        assert_eq!(ada.beat(&grant).await, wanted);
        assert!(record(&store, &grant.task).await.restarting);
        assert!(ada.claim(4).await.is_empty(), "not before it has ended");
        assert_eq!(ada.report(&grant, ending).await, ReportAnswer::Accepted);
        let after = record(&store, &grant.task).await;
        assert_eq!(after.status, TaskStatus::Queued);
        assert_eq!((after.failures, after.losses, after.reason), (0, 0, None));
    }
    // The worker dies while it ends the attempt: that is no loss either.
    let grant = ada.claim(4).await.remove(0);
    restart(&store, "smith", false).await;
    store.detach(&ada.incarnation).await.expect("detached");
    let after = record(&store, &grant.task).await;
    assert_eq!((after.status, after.losses), (TaskStatus::Queued, 0));
}

#[tokio::test]
async fn what_was_done_before_the_restart_is_done() {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster(&redis).await;
    submit_for(&store, "smith", 1).await;
    let grant = ada.claim(4).await.remove(0);
    restart(&store, "smith", false).await;
    assert_eq!(ada.report(&grant, done()).await, ReportAnswer::Accepted);
    assert_eq!(store.task(&grant.task).await.expect("readable").status, TaskStatus::Completed);
}

#[tokio::test]
async fn a_cancelled_task_is_not_saved_by_a_restart() {
    a_cancelled_task_is_restarted(&[]).await;
}

/// Panics unless it ends as cancelled; with `edits` to the scripts.
pub(super) async fn a_cancelled_task_is_restarted(edits: &[(&str, &str)]) {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster_with(&redis, edits).await;
    submit_for(&store, "smith", 3).await;
    let cancelled_first = ada.claim(4).await.remove(0);
    store.cancel_task(&cancelled_first.task, "").await.expect("told to end");
    restart(&store, "smith", false).await;
    assert_eq!(ada.report(&cancelled_first, Ending::Cancelled).await, ReportAnswer::Cancelled);

    let restarted_first = ada.claim(4).await.remove(0);
    restart(&store, "smith", false).await;
    store.cancel_task(&restarted_first.task, "").await.expect("told to end");
    assert_eq!(ada.report(&restarted_first, done()).await, ReportAnswer::Cancelled);

    let stopped = ada.claim(4).await.remove(0);
    restart(&store, "smith", false).await;
    stop(&store, "smith", false).await;
    assert_eq!(ada.report(&stopped, Ending::Cancelled).await, ReportAnswer::Cancelled);
}

#[tokio::test]
async fn a_restart_of_a_stopped_agent_lets_it_go() {
    let redis = TestRedis::start();
    let (store, mut ada, _bob) = cluster(&redis).await;
    submit_for(&store, "smith", 1).await;
    stop(&store, "smith", false).await;
    assert_eq!(restart(&store, "smith", false).await, HoldAnswer { running: None, was_held: true });
    assert_eq!(ada.claim(4).await.len(), 1);
}

#[tokio::test]
async fn an_idle_agent_moves_and_what_waits_for_it_follows() {
    let redis = TestRedis::start();
    let (store, mut ada, mut bob) = cluster(&redis).await;
    submit_for(&store, "smith", 2).await;
    let grant = ada.claim(4).await.remove(0);
    let busy = store.assign(&agent("smith", "bob")).await.expect("answered");
    assert_eq!(busy, AssignAnswer::Busy { task: grant.task.clone() });
    assert_eq!(store.assign(&agent("smith", "ada")).await.expect("answered"), AssignAnswer::Unchanged);
    let other_role =
        Assignment { role: Some("critic".to_owned()), priority: Some(1), ..agent("smith", "ada") };
    assert_eq!(store.assign(&other_role).await.expect("answered"), AssignAnswer::Changed, "also at work");
    ada.report(&grant, done()).await;
    assert_eq!(store.assign(&agent("smith", "bob")).await.expect("answered"), AssignAnswer::Moved);
    assert!(ada.claim(4).await.is_empty(), "it has left");
    assert_eq!(bob.claim(4).await.len(), 1);
    let agents = store.assignments().await.expect("readable");
    assert_eq!(agents.keys().map(AgentId::as_str).collect::<Vec<_>>(), ["smith"]);
    assert!(agents[&id("smith")].assigned_at_ms > 0);
}

#[tokio::test]
async fn workers_are_told_of_what_is_assigned() {
    let redis = TestRedis::start();
    let (store, ada, bob) = cluster(&redis).await;
    let mut raw = redis.raw();
    let bell = |who: &HandWorker| store.keys().bell(&own_bell(&who.incarnation));
    let registry = || -> u64 {
        let mut raw = redis.raw();
        redis::cmd("HGET").arg(store.keys().ctl()).arg("registry").query(&mut raw).expect("a number")
    };
    let before = registry();
    store.assign(&agent("smith", "bob")).await.expect("moved");
    for who in [&ada, &bob] {
        let tokens: u32 = redis::cmd("LLEN").arg(bell(who)).query(&mut raw).expect("a number");
        assert_eq!(tokens, 1, "both are called");
    }
    assert_eq!(registry(), before + 1);
    stop(&store, "smith", false).await;
    store.release_agent(&id("smith"), "me").await.expect("let go");
    store.release_agent(&id("smith"), "me").await.expect("nothing to do");
    assert_eq!(registry(), before + 3);
}

#[tokio::test]
async fn an_agent_counts_towards_the_limit_of_its_type() {
    let redis = TestRedis::start();
    let (store, mut ada, mut bob) = cluster(&redis).await;
    assert_eq!(store.register_type(&noop_type(Some(1))).await.expect("registered"), RegisterAnswer::Changed);
    submit_for(&store, "smith", 1).await;
    let run = RunId::random(0);
    store.submit(&run, &PlanSketch::new(1).plan(), 2).await.expect("the plan is lawful");
    let anybodys = bob.claim(4).await;
    assert_eq!(anybodys.len(), 1, "the agent is not bob's");
    assert!(ada.claim(4).await.is_empty(), "the type is at its limit");
    let mut bells = store.bells(Duration::from_millis(200)).await.expect("connected");
    let queue = || vec![QueueName::from_stored("i:smith")];
    while bells.wait(&ada.incarnation, &queue()).await.expect("answered") {}
    bob.report(&anybodys[0], done()).await;
    let rung = bells.wait_ring(&ada.incarnation, &queue()).await.expect("answered");
    assert_eq!(rung, BellRing::Queue(queue().remove(0)), "the agent's worker is called when there is room");
    let grants = ada.claim(4).await;
    assert_eq!(grants.len(), 1);
    store.submit(&RunId::random(0), &PlanSketch::new(1).plan(), 2).await.expect("the plan is lawful");
    assert!(bob.claim(4).await.is_empty(), "the agent holds the only place");
    ada.report(&grants[0], done()).await;
    assert_eq!(bob.claim(4).await.len(), 1);
}

#[tokio::test]
async fn types_are_registered_in_place_of_each_other() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    for (limit, answer) in [
        (None, RegisterAnswer::New),
        (None, RegisterAnswer::Unchanged),
        (Some(2), RegisterAnswer::Changed),
        (None, RegisterAnswer::Changed),
    ] {
        assert_eq!(store.register_type(&noop_type(limit)).await.expect("registered"), answer);
        let limits = store.type_limits().await.expect("readable");
        assert_eq!(limits.get("noop").copied(), limit);
    }
    let unknown = Assignment { agent_type: "gone".parse().expect("lawful"), ..agent("smith", "ada") };
    let refused = store.assign(&unknown).await.expect_err("there is no such type");
    assert!(matches!(refused, StoreError::Refused(Refusal::NotFound { .. })), "{refused}");
    let refused = store.release_agent(&id("nobody"), "me").await.expect_err("there is no such agent");
    assert_eq!(refused.to_string(), "there is no agent `nobody`");
}
