//! Redis forgets the last that it acknowledged, and live workers tell it again.
//!
//! A rollback is made by copying every key and putting the copy back; what follows is what a restarted
//! server would see. That real servers behave so is shown in `tests/cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::QueueName;
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::recovery::{
    RECOVERY_BATCH_MAX, RECOVERY_LANE, RecoveredAttachment, RecoveringWorker, RecoveryTurn, RecoveryVerdict,
};
use maestro_store::runs::RunStatus;
use maestro_store::scripts::{ScriptSet, TEST_CLOCK};
use maestro_store::step::{Ending, Grant, ReportAnswer, StepReply, StepReport, StepRequest};
use maestro_store::worker::{AboutProcess, ProcessRole, ProcessStatus};
use maestro_store::{Refusal, Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::simulation::dump::{Depth, Dump};
use crate::simulation::invariants;
use crate::simulation::plans::ShadowRun;
use crate::support::{PlanSketch, TestRedis};

const LEASE: Duration = Duration::from_secs(30);
/// Ready tasks of a run at one time, as the scripts have it.
const READY_WINDOW: i64 = 256;

/// Every key as it was.
struct Copy(Vec<(String, Vec<u8>)>);

impl Copy {
    fn take(redis: &TestRedis) -> Copy {
        let mut raw = redis.raw();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).expect("readable");
        let dump = |key: String, raw: &mut redis::Connection| {
            let bytes = redis::cmd("DUMP").arg(&key).query(raw).expect("it is there");
            (key, bytes)
        };
        Copy(keys.into_iter().map(|key| dump(key, &mut raw)).collect())
    }

    /// Puts it back, as another server.
    fn put_back(&self, redis: &TestRedis) {
        let mut raw = redis.raw();
        redis::cmd("FLUSHALL").exec(&mut raw).expect("flushed");
        for (key, bytes) in &self.0 {
            redis::cmd("RESTORE").arg(key).arg(0).arg(&bytes[..]).exec(&mut raw).expect("restored");
        }
        redis::cmd("HSET").arg("maestro:{1.0}:ctl").arg("server").arg("before").exec(&mut raw).expect("set");
    }
}

fn about() -> AboutProcess {
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

/// A worker without a process, that remembers what it holds and what it has reported.
struct Rememberer {
    store: Store,
    name: String,
    incarnation: Incarnation,
    next_request: u64,
    held: BTreeMap<(TaskId, Attempt), Grant>,
    outcomes: Vec<StepReport>,
}

impl Rememberer {
    async fn attach(store: &Store, name: &str) -> Rememberer {
        let incarnation = Incarnation::random();
        let types = ["noop".to_owned()];
        store.attach(&incarnation, name, &types, LEASE, false, &about()).await.expect("the name is free");
        Rememberer {
            store: store.clone(),
            name: name.to_owned(),
            incarnation,
            next_request: 1,
            held: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    async fn try_step(&mut self, want: usize, reports: Vec<StepReport>) -> Result<StepReply, StoreError> {
        self.next_request += 1;
        let queues =
            vec![QueueName::from_stored(format!("w:{}", self.name)), QueueName::from_stored("a:noop")];
        let request =
            StepRequest { lane: 0, request_id: self.next_request, want, queues, reports, state_ttl_ms: 0 };
        self.store.step(&self.incarnation, &request).await
    }

    async fn step(&mut self, want: usize, reports: Vec<StepReport>) -> StepReply {
        let reply = self.try_step(want, reports.clone()).await.expect("the step is carried out");
        for report in reports {
            self.held.remove(&(report.task.clone(), report.attempt));
            self.outcomes.push(report);
        }
        for grant in &reply.grants {
            self.held.insert((grant.task.clone(), grant.attempt), grant.clone());
        }
        reply
    }

    async fn claim(&mut self, want: usize) -> Vec<Grant> {
        self.step(want, Vec::new()).await.grants
    }

    fn speaker(&self) -> RecoveringWorker {
        let attachment = RecoveredAttachment { types: vec!["noop".to_owned()], lease: LEASE, about: about() };
        RecoveringWorker {
            incarnation: self.incarnation.clone(),
            name: self.name.clone(),
            attachment: Some(attachment),
        }
    }

    async fn ask(&self, keys: &[(TaskId, Attempt)], turn: RecoveryTurn) -> Vec<RecoveryVerdict> {
        self.store.recover(&self.speaker(), keys, turn).await.expect("redis compares")
    }

    /// Tells all it remembers once; what is open after it.
    async fn tell(&mut self) -> Vec<(TaskId, Attempt)> {
        let outcomes: Vec<_> =
            self.outcomes.iter().map(|report| (report.task.clone(), report.attempt)).collect();
        let all: BTreeSet<_> = outcomes.iter().cloned().chain(self.held.keys().cloned()).collect();
        let mut open = Vec::new();
        for batch in all.into_iter().collect::<Vec<_>>().chunks(RECOVERY_BATCH_MAX) {
            let verdicts = self.ask(batch, RecoveryTurn::More).await;
            let mut reports = Vec::new();
            for (key, verdict) in batch.iter().zip(verdicts) {
                match verdict {
                    RecoveryVerdict::Later => open.push(key.clone()),
                    RecoveryVerdict::Adopted | RecoveryVerdict::Yours => {
                        reports.extend(
                            self.outcomes
                                .iter()
                                .find(|one| (&one.task, one.attempt) == (&key.0, key.1))
                                .cloned(),
                        );
                    }
                    RecoveryVerdict::Stale | RecoveryVerdict::Gone => {}
                }
            }
            if !reports.is_empty() {
                self.next_request += 1;
                let request = StepRequest {
                    lane: RECOVERY_LANE,
                    request_id: self.next_request,
                    want: 0,
                    queues: Vec::new(),
                    reports,
                    state_ttl_ms: 0,
                };
                self.store.step(&self.incarnation, &request).await.expect("reports are accepted");
            }
        }
        open
    }

    async fn beat(&self) -> Result<maestro_store::worker::BeatReply, StoreError> {
        let held: Vec<_> = self.held.keys().cloned().collect();
        self.store
            .beat(&self.incarnation, LEASE, &["noop".to_owned()], &ProcessStatus::default(), &held)
            .await
    }
}

fn done(grant: &Grant) -> StepReport {
    ended(grant, Ending::Completed { exit_code: Some(0) })
}

fn ended(grant: &Grant, ending: Ending) -> StepReport {
    let (task, attempt) = (grant.task.clone(), grant.attempt);
    StepReport { task, attempt, ending, output: String::new(), publish: Vec::new() }
}

async fn submit(store: &Store, sketch: &PlanSketch) -> RunId {
    let run = RunId::random(0);
    store.submit(&run, &sketch.plan(), 3).await.expect("the plan is lawful");
    run
}

async fn statuses(store: &Store, run: &RunId) -> Vec<TaskStatus> {
    let count = store.run(run).await.expect("readable").expect("there").tasks;
    store.tasks(run, 0..count).await.expect("readable").into_iter().map(|task| task.status).collect()
}

fn wants_recovery<T>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Refused(Refusal::Recover)))
}

#[tokio::test]
async fn claims_and_outcomes_that_were_forgotten_count_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::chain(3)).await;
    let mut worker = Rememberer::attach(&store, "hand").await;
    let copy = Copy::take(&redis);
    let first = worker.claim(1).await.remove(0);
    let second = worker.step(1, vec![done(&first)]).await.grants.remove(0);
    copy.put_back(&redis);
    let _notices = redis.store().await;

    assert_eq!(statuses(&store, &run).await[0], TaskStatus::Queued, "all is forgotten");
    assert!(wants_recovery(worker.beat().await));
    assert!(wants_recovery(worker.try_step(1, Vec::new()).await));
    let open = worker.tell().await;
    assert_eq!(open, [(second.task.clone(), second.attempt)], "its dependency was not known yet");
    assert_eq!(worker.tell().await, []);
    worker.ask(&[], RecoveryTurn::Last).await;

    let verdicts = worker.beat().await.expect("it has said all").verdicts;
    assert_eq!(verdicts, [maestro_store::worker::BeatVerdict::Yours]);
    let now = statuses(&store, &run).await;
    assert_eq!(now[..2], [TaskStatus::Completed, TaskStatus::Running]);
    let reply = worker.step(0, vec![done(&second)]).await;
    assert_eq!(reply.answers, [ReportAnswer::Accepted]);
}

#[tokio::test]
async fn nothing_is_claimed_until_all_have_said_what_they_know_or_time_is_over() {
    let redis = TestRedis::start();
    let store = redis.store_with(ScriptSet::edited(&[TEST_CLOCK])).await;
    let mut raw = redis.raw();
    let mut set_clock = |ms: u64| {
        redis::cmd("HSET").arg("maestro:{1.0}:ctl").arg("test_wall").arg(ms).exec(&mut raw).expect("set");
    };
    let start = 1_700_000_000_000_u64;
    set_clock(start);
    for (silent, longest) in [(false, 1_000), (true, 15_000)] {
        submit(&store, &PlanSketch::new(2)).await;
        let mut quick = Rememberer::attach(&store, &format!("quick-{silent}")).await;
        let slow = Rememberer::attach(&store, &format!("slow-{silent}")).await;
        Copy::take(&redis).put_back(&redis);
        let _notices = redis.store_with(ScriptSet::edited(&[TEST_CLOCK])).await;
        quick.ask(&[], RecoveryTurn::Last).await;
        assert_eq!(quick.claim(1).await.len(), 0, "the other one has said nothing yet");
        if !silent {
            slow.ask(&[], RecoveryTurn::Last).await;
        }
        let mut passed = 0;
        while quick.claim(1).await.is_empty() {
            passed += 500;
            assert!(passed <= 20_000, "nothing is claimed any more");
            set_clock(start + u64::from(silent) * 100_000 + passed);
        }
        assert_eq!(passed, longest, "silent: {silent}");
        for one in [&quick, &slow] {
            store.detach(&one.incarnation).await.expect("it leaves");
        }
        set_clock(start + 100_000);
        // The logical clock follows by five seconds a call.
        for _ in 0..30 {
            store.sweep(1).await.expect("swept");
        }
    }
}

#[tokio::test]
async fn a_worker_that_was_forgotten_altogether_is_attached_again() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::new(1)).await;
    let other = Rememberer::attach(&store, "other").await;
    let copy = Copy::take(&redis);
    let mut worker = Rememberer::attach(&store, "hand").await;
    let grant = worker.claim(1).await.remove(0);
    copy.put_back(&redis);
    let _notices = redis.store().await;
    assert!(wants_recovery(worker.beat().await), "it is not taken for a dead one");
    assert_eq!(worker.tell().await, []);
    worker.ask(&[], RecoveryTurn::Last).await;
    other.ask(&[], RecoveryTurn::Last).await;
    assert_eq!(worker.beat().await.expect("known").verdicts.len(), 1);
    assert_eq!(worker.step(0, vec![done(&grant)]).await.answers, [ReportAnswer::Accepted]);
    assert_eq!(statuses(&store, &run).await, [TaskStatus::Completed]);
}

#[tokio::test]
async fn what_somebody_else_has_claimed_meanwhile_is_not_taken_back() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    submit(&store, &PlanSketch::new(2)).await;
    let mut late = Rememberer::attach(&store, "late").await;
    let mut prompt = Rememberer::attach(&store, "prompt").await;
    let copy = Copy::take(&redis);
    let forgotten = late.claim(1).await.remove(0);
    copy.put_back(&redis);
    // Nobody notices: the first claims before the second says anything.
    let taken = prompt.claim(2).await;
    assert!(taken.iter().any(|grant| grant.task == forgotten.task));
    let verdict = late.ask(&[(forgotten.task.clone(), forgotten.attempt)], RecoveryTurn::Last).await;
    assert_eq!(verdict, [RecoveryVerdict::Stale]);
    let answers = prompt.step(0, taken.iter().map(done).collect()).await.answers;
    assert_eq!(answers, [ReportAnswer::Accepted; 2]);
}

#[tokio::test]
async fn a_second_try_waits_for_the_report_of_the_first_and_is_then_adopted() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let run = submit(&store, &PlanSketch::new(1)).await;
    let mut worker = Rememberer::attach(&store, "hand").await;
    let copy = Copy::take(&redis);
    let first = worker.claim(1).await.remove(0);
    let again = Ending::Failed { reason: Reason::Exit, exit_code: Some(1), retry_in_ms: Some(0) };
    worker.step(0, vec![ended(&first, again)]).await;
    store.sweep(10).await.expect("the delay is over");
    let second = worker.claim(1).await.remove(0);
    assert_eq!(second.attempt, Attempt(2));
    copy.put_back(&redis);
    let _notices = redis.store().await;
    assert_eq!(worker.tell().await, [(second.task.clone(), Attempt(2))]);
    assert_eq!(worker.tell().await, []);
    worker.ask(&[], RecoveryTurn::Last).await;
    let task = store.task(&second.task).await.expect("readable").record.expect("it ran");
    assert_eq!((task.status, task.attempt, task.failures), (TaskStatus::Running, Attempt(2), 1));
    worker.step(0, vec![done(&second)]).await;
    assert_eq!(store.run(&run).await.expect("readable").expect("there").status, RunStatus::Completed);
}

#[tokio::test]
async fn the_successor_of_a_worker_speaks_for_it_while_it_is_not_forgotten() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    submit(&store, &PlanSketch::new(1)).await;
    let mut gone = Rememberer::attach(&store, "hand").await;
    let grant = gone.claim(1).await.remove(0);
    let key = (grant.task.clone(), grant.attempt);
    let speaker = RecoveringWorker { attachment: None, ..gone.speaker() };
    let verdict =
        store.recover(&speaker, std::slice::from_ref(&key), RecoveryTurn::Last).await.expect("compared");
    assert_eq!(verdict, [RecoveryVerdict::Yours]);
    store.detach(&gone.incarnation).await.expect("it is buried");
    let refused = store.recover(&speaker, &[key], RecoveryTurn::Last).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::Fenced))), "{refused:?}");
}

/// One random cluster that is rolled back once; how much was forgotten and told again.
async fn roll_back_once(redis: &TestRedis, seed: u64) -> (u32, u32) {
    let mut dice = StdRng::seed_from_u64(seed);
    redis::cmd("FLUSHALL").exec(&mut redis.raw()).expect("flushed");
    let store = redis.store().await;
    let mut sketch = PlanSketch::new(dice.random_range(4..60));
    for index in 1..sketch.tasks.len() as u32 {
        let parents = if index < 4 { 0 } else { dice.random_range(1..3) };
        let on: BTreeSet<u32> = (0..parents).map(|_| dice.random_range(0..index)).collect();
        sketch = sketch.needs(index, &on.into_iter().collect::<Vec<_>>());
    }
    sketch.policy.concurrency = dice.random_bool(0.3).then(|| dice.random_range(2..6));
    let run = submit(&store, &sketch).await;
    let shadow = ShadowRun { acknowledged: true, ..ShadowRun::new(run.clone(), sketch.plan()) };
    let mut workers = Vec::new();
    for number in 0..dice.random_range(1..4) {
        workers.push(Rememberer::attach(&store, &format!("w{number}")).await);
    }
    let (copy_at, back_at) = (dice.random_range(0..15), dice.random_range(15..40));
    let mut copy = None;
    for turn in 0..back_at {
        if turn == copy_at {
            copy = Some(Copy::take(redis));
            workers.iter_mut().for_each(|one| one.outcomes.clear());
        }
        let worker = dice.random_range(0..workers.len());
        act(&mut workers[worker], &mut dice).await;
    }
    let forgotten: u32 = workers.iter().map(|one| (one.outcomes.len() + one.held.len()) as u32).sum();
    copy.expect("it was taken").put_back(redis);
    let again = redis.store().await;
    // Once more around than there are links in any chain.
    for _ in 0..sketch.tasks.len() + 2 {
        let mut open = 0;
        for worker in &mut workers {
            open += worker.tell().await.len();
            let dump = Dump::read(&mut redis.raw(), "maestro:{1.0}:", "0", Depth::Whole).expect("readable");
            match invariants::check(&dump, std::slice::from_ref(&shadow), READY_WINDOW) {
                // What really runs is more than what the records of an earlier time leave room for.
                Err(broken) if broken.0.contains("in flight, allowed are") => {}
                checked => checked.unwrap_or_else(|broken| panic!("seed {seed}: {}", broken.0)),
            }
        }
        if open == 0 {
            break;
        }
    }
    for worker in &mut workers {
        assert_eq!(worker.tell().await, [], "seed {seed}: everybody lives, so nothing stays unknown");
        worker.ask(&[], RecoveryTurn::Last).await;
        let verdicts = worker.beat().await.expect("it has said all").verdicts;
        assert!(
            verdicts.iter().all(|verdict| *verdict == maestro_store::worker::BeatVerdict::Yours),
            "seed {seed}: {verdicts:?}"
        );
    }
    // The shortest window is a second.
    redis::cmd("HSET")
        .arg("maestro:{1.0}:ctl")
        .arg("recover_first")
        .arg(0)
        .exec(&mut redis.raw())
        .expect("set");
    let begun = std::time::Instant::now();
    while !store.run(&run).await.expect("readable").expect("there").status.is_final() {
        assert!(begun.elapsed() < Duration::from_secs(20), "seed {seed}: {:?}", statuses(&store, &run).await);
        for worker in &mut workers {
            act(worker, &mut dice).await;
        }
    }
    for task in again.tasks(&run, 0..sketch.tasks.len() as u32).await.expect("readable") {
        let record = task.record.expect("it ran");
        assert_eq!((task.status, record.attempt), (TaskStatus::Completed, Attempt(1)), "seed {seed}");
    }
    (forgotten, sketch.tasks.len() as u32)
}

/// Claims, or reports something it holds.
async fn act(worker: &mut Rememberer, dice: &mut StdRng) {
    let ended: Vec<StepReport> = worker.held.values().filter(|_| dice.random_bool(0.6)).map(done).collect();
    let want = dice.random_range(0..4);
    worker.step(want, ended).await;
}

#[tokio::test]
async fn whatever_is_forgotten_nothing_is_done_twice_while_its_worker_lives() {
    let seed = std::env::var("MAESTRO_SEED").ok().and_then(|text| text.parse().ok());
    let first: u64 = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let redis = TestRedis::start();
    let (mut forgotten, mut all) = (0, 0);
    let scenarios = if seed.is_some() { 1 } else { 25 };
    for seed in first..first + scenarios {
        let (lost, tasks) = roll_back_once(&redis, seed).await;
        forgotten += lost;
        all += tasks;
    }
    assert!(seed.is_some() || forgotten * 5 > all, "only {forgotten} of {all} were forgotten: too tame");
}
