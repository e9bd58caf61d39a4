//! Holding the cluster still: who is waited for, what waits meanwhile, and who lets it go on when nobody comes back.
//!
//! The wall clock is the test's own. What an archive is made of, `tests/snapshots` shows with real processes.

use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_model::task::TaskStatus;
use maestro_store::freezing::{FreezeId, FreezeStage, FreezeStanding, Thawed};
use maestro_store::scripts::{ScriptSet, TEST_CLOCK};
use maestro_store::state::{StateActor, WriteCondition};
use maestro_store::step::{CellMode, StepRequest};
use maestro_store::worker::ProcessStatus;
use maestro_store::{Refusal, Store, StoreError, StoreOptions};

use crate::support::manual::{ManualWorker, status_of, submit_plan};
use crate::support::{PlanSketch, TestRedis};

const FIRST_WALL_MS: u64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

struct Scene {
    redis: TestRedis,
    store: Store,
}

impl Scene {
    async fn set() -> Scene {
        let redis = TestRedis::start();
        // What is held up is refused at once.
        let options = StoreOptions { patience: Duration::ZERO, ..redis.options() };
        let scripts = ScriptSet::edited(&[TEST_CLOCK]);
        let store = Store::connect_with(&options, scripts).await.expect("redis is there");
        let scene = Scene { redis, store };
        scene.set_wall(0);
        scene
    }

    /// Seconds after the beginning.
    fn set_wall(&self, seconds: u64) {
        let wall = FIRST_WALL_MS + seconds * 1000;
        let key = self.store.keys().ctl();
        redis::cmd("HSET").arg(key).arg("test_wall").arg(wall).exec(&mut self.redis.raw()).expect("set");
    }

    fn ctl(&self, field: &str) -> Option<String> {
        let key = self.store.keys().ctl();
        redis::cmd("HGET").arg(key).arg(field).query(&mut self.redis.raw()).expect("read")
    }

    async fn freeze(&self) -> FreezeId {
        let id = FreezeId::random();
        self.store.freeze(&id, "ada", HOUR).await.expect("nothing is in the way");
        id
    }

    async fn frozen(&self) -> FreezeId {
        let id = self.freeze().await;
        assert_eq!(self.renew(&id, &[]).await, FreezeStanding::Frozen);
        id
    }

    async fn renew(&self, id: &FreezeId, missing: &[Incarnation]) -> FreezeStanding {
        self.store.renew_freeze(id, missing).await.expect("redis is there")
    }

    async fn beat(&self, worker: &ManualWorker) -> CellMode {
        let (types, status) = (["noop".to_owned()], ProcessStatus::default());
        let beat = self.store.beat(&worker.incarnation, Duration::from_secs(30), &types, &status, &[]);
        beat.await.expect("a beat is answered").mode
    }

    /// All keys with their values, as Redis writes them.
    fn keys(&self) -> Vec<(String, Vec<u8>)> {
        let mut raw = self.redis.raw();
        let mut names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).expect("keys");
        names.sort();
        let dump = |name: String| {
            let value = redis::cmd("DUMP").arg(&name).query(&mut raw).expect("there");
            (name, value)
        };
        names.into_iter().map(dump).collect()
    }
}

async fn set_state(store: &Store, value: &str) -> Result<(), StoreError> {
    let (value, actor) = (serde_json::Value::from(value), StateActor::Named("ada"));
    store.set_state("k", &value, None, WriteCondition::Always, actor).await.map(drop)
}

#[tokio::test]
async fn it_is_frozen_once_every_worker_has_paused_or_is_given_up() {
    let scene = Scene::set().await;
    let first = ManualWorker::attach(&scene.store, "first").await;
    let second = ManualWorker::attach(&scene.store, "second").await;
    let id = scene.freeze().await;
    assert_eq!(scene.beat(&first).await, CellMode::Freezing);
    let FreezeStanding::Waiting(mut waiting) = scene.renew(&id, &[]).await else { panic!("nobody paused") };
    waiting.sort();
    let mut both = vec![first.incarnation.clone(), second.incarnation.clone()];
    both.sort();
    assert_eq!(waiting, both);
    assert!(scene.store.freeze_paused(&first.incarnation, &id).await.expect("heard"));
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Waiting(vec![second.incarnation.clone()]));
    assert_eq!(scene.renew(&id, std::slice::from_ref(&second.incarnation)).await, FreezeStanding::Frozen);
    assert!(!scene.store.freeze_paused(&second.incarnation, &id).await.expect("heard"), "too late");
    assert!(!scene.store.freeze_paused(&first.incarnation, &FreezeId::random()).await.expect("heard"));
}

#[tokio::test]
async fn reports_are_taken_until_all_stand_still_and_nothing_is_claimed() {
    let scene = Scene::set().await;
    let run = submit_plan(&scene.store, &PlanSketch::new(2).plan()).await;
    let mut worker = ManualWorker::attach(&scene.store, "w").await;
    let grant = worker.claim().await.expect("a task waits");
    let id = scene.freeze().await;
    worker.complete(&grant).await;
    assert_eq!(status_of(&scene.store, &run, grant.task.index).await, TaskStatus::Completed);
    assert!(worker.claim().await.is_none(), "nothing is claimed");
    assert!(scene.store.freeze_paused(&worker.incarnation, &id).await.expect("heard"));
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Frozen);
    let request = StepRequest {
        lane: 0,
        request_id: 9,
        want: 1,
        queues: Vec::new(),
        reports: Vec::new(),
        state_ttl_ms: 0,
    };
    let refused = scene.store.step(&worker.incarnation, &request).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::Paused))), "{refused:?}");
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("thawed"), Thawed::GoesOn("run".to_owned()));
    assert!(worker.claim().await.is_some());
}

#[tokio::test]
async fn nothing_of_a_frozen_cell_changes_whatever_is_asked() {
    let scene = Scene::set().await;
    let run = submit_plan(&scene.store, &PlanSketch::new(1).plan()).await;
    let mut worker = ManualWorker::attach(&scene.store, "w").await;
    let grant = worker.claim().await.expect("a task waits");
    set_state(&scene.store, "v").await.expect("set");
    let id = scene.freeze().await;
    assert!(scene.store.freeze_paused(&worker.incarnation, &id).await.expect("heard"));
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Frozen);
    scene.set_wall(3);
    let before = scene.keys();
    let store = &scene.store;
    let about = maestro_store::worker::AboutProcess {
        role: maestro_store::worker::ProcessRole::Worker,
        host: "here".to_owned(),
        pid: 1,
        slots: 4,
        version: "1.2.0".to_owned(),
        labels: Default::default(),
        confinement: Vec::new(),
        isolation: None,
    };
    let refused = [
        ("cancel", store.cancel_task(&grant.task, "").await.map(drop)),
        ("stop", store.stop_run(&run, "").await.map(drop)),
        ("pause", store.pause("", "ada").await.map(drop)),
        ("state set", set_state(store, "w").await),
        ("state delete", store.delete_state("k", StateActor::Named("ada")).await.map(drop)),
        ("detach", store.detach(&worker.incarnation).await),
        ("attach", store.attach(&Incarnation::random(), "late", &[], HOUR, false, &about).await),
        ("freeze", store.freeze(&FreezeId::random(), "eve", HOUR).await),
    ];
    for (name, answer) in refused {
        assert!(matches!(answer, Err(StoreError::Refused(Refusal::Frozen { .. }))), "{name}: {answer:?}");
    }
    let collected = store.collect_run(&run).await;
    assert!(matches!(collected, Err(StoreError::Refused(Refusal::Paused))), "{collected:?}");
    let swept = store.sweep(50).await;
    assert!(matches!(swept, Err(StoreError::Refused(Refusal::Paused))), "{swept:?}");
    assert_eq!(scene.beat(&worker).await, CellMode::Frozen);
    assert!(before == scene.keys(), "a key has changed");
}

#[tokio::test]
async fn what_is_held_up_goes_through_after_the_thaw() {
    let scene = Scene::set().await;
    let id = scene.frozen().await;
    let patient = scene.redis.store_with(ScriptSet::edited(&[TEST_CLOCK])).await;
    let waiting = tokio::spawn(async move { set_state(&patient, "v").await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    scene.store.thaw(&id, "ada").await.expect("thawed");
    waiting.await.expect("it does not panic").expect("it was set");
}

#[tokio::test]
async fn a_freeze_that_nobody_renews_is_ended_by_anybody() {
    let scene = Scene::set().await;
    let id = scene.frozen().await;
    scene.set_wall(14);
    assert_eq!(scene.store.thaw_if_abandoned("w").await.expect("asked"), Thawed::Held);
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Frozen);
    scene.set_wall(28);
    assert_eq!(scene.store.thaw_if_abandoned("w").await.expect("asked"), Thawed::Held, "it was renewed");
    scene.set_wall(31);
    let thawed = scene.store.thaw_if_abandoned("w").await.expect("asked");
    assert_eq!(thawed, Thawed::GoesOn("run".to_owned()));
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Lost, "it does not come back");
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("asked"), Thawed::NotFrozen);
    assert_eq!(scene.store.thaw_if_abandoned("w").await.expect("asked"), Thawed::NotFrozen);
}

#[tokio::test]
async fn a_freeze_ends_at_its_deadline_however_it_is_renewed() {
    let scene = Scene::set().await;
    let id = FreezeId::random();
    scene.store.freeze(&id, "ada", Duration::from_secs(20)).await.expect("free");
    scene.set_wall(10);
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Frozen);
    scene.set_wall(21);
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Lost);
    let thawed = scene.store.thaw_if_abandoned("w").await.expect("asked");
    assert_eq!(thawed, Thawed::GoesOn("run".to_owned()));
}

#[tokio::test]
async fn a_cell_that_the_pointer_does_not_name_is_retired_and_never_runs_again() {
    let scene = Scene::set().await;
    let id = scene.frozen().await;
    redis::cmd("HSET").arg("maestro:ctl").arg("generation").arg(2).exec(&mut scene.redis.raw()).expect("set");
    scene.set_wall(60);
    assert_eq!(scene.store.thaw_if_abandoned("w").await.expect("asked"), Thawed::Retired);
    assert_eq!(scene.ctl("mode").as_deref(), Some("retired"));
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("asked"), Thawed::Retired);
    assert_eq!(scene.ctl("mode").as_deref(), Some("retired"));
}

#[tokio::test]
async fn frozen_time_counts_against_no_lease() {
    let scene = Scene::set().await;
    let worker = ManualWorker::attach(&scene.store, "w").await;
    assert_eq!(scene.beat(&worker).await, CellMode::Run);
    let clock = scene.ctl("clk");
    let id = FreezeId::random();
    scene.store.freeze(&id, "ada", HOUR).await.expect("free");
    assert!(scene.store.freeze_paused(&worker.incarnation, &id).await.expect("heard"));
    for second in (0..600).step_by(10) {
        scene.set_wall(second);
        assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Frozen);
    }
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("thawed"), Thawed::GoesOn("run".to_owned()));
    assert_eq!(scene.ctl("clk"), clock, "ten minutes passed, and none of it on this clock");
    assert_eq!(scene.beat(&worker).await, CellMode::Run, "its lease of 30 s holds");
}

#[tokio::test]
async fn the_mode_before_comes_back_and_one_freeze_is_on_at_a_time() {
    let scene = Scene::set().await;
    scene.store.pause("why", "ada").await.expect("paused");
    let id = scene.frozen().await;
    let view = scene.store.freeze_view().await.expect("readable").expect("it is on");
    assert_eq!((view.id, view.by.as_str(), view.stage), (id.clone(), "ada", FreezeStage::Frozen));
    assert_eq!(scene.store.thaw(&FreezeId::random(), "eve").await.expect("asked"), Thawed::NotFrozen);
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("thawed"), Thawed::GoesOn("paused".to_owned()));
    assert_eq!(scene.store.freeze_view().await.expect("readable"), None);
}

#[tokio::test]
async fn a_redis_that_was_replaced_is_not_what_was_frozen() {
    let scene = Scene::set().await;
    let id = scene.frozen().await;
    let key = scene.store.keys().ctl();
    redis::cmd("HSET").arg(key).arg("server").arg("other").exec(&mut scene.redis.raw()).expect("set");
    scene.redis.store_with(ScriptSet::edited(&[TEST_CLOCK])).await;
    assert_eq!(scene.renew(&id, &[]).await, FreezeStanding::Lost);
    let thawed = scene.store.thaw_if_abandoned("w").await.expect("asked");
    assert_eq!(thawed, Thawed::GoesOn("run".to_owned()));
}
