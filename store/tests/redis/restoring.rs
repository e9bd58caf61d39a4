//! A generation loaded beside the one in force: what Redis takes, when it comes into force, and who is refused then.

use std::time::Duration;

use maestro_model::ids::Incarnation;
use maestro_model::snapshot::{FileDigest, KeyEntry, KeyType};
use maestro_store::freezing::{FreezeId, FreezeStanding, Thawed};
use maestro_store::restoring::{
    Committed, LoadingCell, PayloadChecks, RestoreCommit, RestoreJournal, RestoreStage,
};
use maestro_store::state::{StateActor, WriteCondition};
use maestro_store::{Refusal, Store, StoreError, StoreOptions};

use crate::support::TestRedis;

const HOUR: Duration = Duration::from_secs(3600);

struct Scene {
    redis: TestRedis,
    store: Store,
}

impl Scene {
    async fn set() -> Scene {
        let redis = TestRedis::start();
        let options = StoreOptions { patience: Duration::ZERO, ..redis.options() };
        let store = Store::connect(&options).await.expect("redis is there");
        Scene { redis, store }
    }

    async fn write(&self, value: &str) -> Result<u64, StoreError> {
        let value = serde_json::Value::String(value.to_owned());
        let set =
            self.store.set_state("k", &value, Some(HOUR), WriteCondition::Always, StateActor::Named("ada"));
        set.await
    }

    /// All keys of the cell in force as an archive has them.
    fn dumped(&self) -> Vec<(KeyEntry, Vec<u8>)> {
        let mut raw = self.redis.raw();
        let keys: Vec<String> = redis::cmd("KEYS").arg("maestro:{1.0}:*").query(&mut raw).expect("read");
        let mut dumped = Vec::new();
        for key in keys {
            let payload: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut raw).expect("read");
            let word: String = redis::cmd("TYPE").arg(&key).query(&mut raw).expect("read");
            let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut raw).expect("read");
            let key_type = KeyType::from_word(&word).expect("a type of ours");
            let ttl_ms = u64::try_from(ttl).ok();
            let entry = KeyEntry { key, key_type, ttl_ms, encoding: payload[0], offset: 0, length: 0 };
            dumped.push((entry, payload));
        }
        dumped
    }

    async fn load(&self, dumped: Vec<(KeyEntry, Vec<u8>)>, generation: u64) -> Result<u64, StoreError> {
        let mut cell = LoadingCell::begin(&self.store, generation);
        for (entry, payload) in dumped {
            cell.add(&entry, payload).await?;
        }
        cell.finish(self.store.cluster_id()).await
    }

    async fn frozen(&self) -> FreezeId {
        let id = FreezeId::random();
        self.store.freeze(&id, "ada", HOUR).await.expect("nothing is in the way");
        let standing = self.store.renew_freeze(&id, &[]).await.expect("it is ours");
        assert_eq!(standing, FreezeStanding::Frozen);
        id
    }

    async fn journal(&self, stage: RestoreStage) -> RestoreJournal {
        let journal = RestoreJournal {
            id: Incarnation::random().to_string(),
            stage,
            from: 1,
            to: 2,
            archive: FileDigest([1; 32]),
            by: "ada".to_owned(),
            folders: Vec::new(),
            seen_ms: 0,
        };
        self.store.write_restore_journal(&journal).await.expect("redis is there");
        journal
    }

    fn field(&self, key: &str, field: &str) -> Option<String> {
        redis::cmd("HGET").arg(key).arg(field).query(&mut self.redis.raw()).expect("read")
    }
}

#[tokio::test]
async fn the_change_is_one_step_and_the_old_cell_refuses_everybody() {
    let scene = Scene::set().await;
    scene.write("then").await.expect("it is lawful");
    let dumped = scene.dumped();
    scene.write("now").await.expect("it is lawful");
    let id = scene.frozen().await;
    scene.load(dumped, 2).await.expect("it is good");
    let journal = scene.journal(RestoreStage::Staged).await;
    let before: u64 = scene.store.epoch().parse().expect("a number");

    let commit = RestoreCommit { journal: &journal, freeze: &id };
    let Ok(Committed::InForce(epoch)) = scene.store.commit_restore(&commit).await else {
        panic!("it is ready")
    };
    assert!(epoch.parse::<u64>().expect("a number") > before);
    assert_eq!(
        scene.store.commit_restore(&commit).await.expect("a lost reply"),
        Committed::InForce(epoch.clone())
    );
    let late = scene.write("late").await.expect_err("it speaks for the past");
    assert!(matches!(late, StoreError::Refused(Refusal::Epoch { .. })), "{late}");
    // A commander that wakes up late does not bring the old generation back.
    assert_eq!(scene.store.thaw(&id, "ada").await.expect("asked"), Thawed::Retired);
    assert_eq!(scene.field("maestro:{1.0}:ctl", "mode").as_deref(), Some("retired"));

    let restored = scene.store.reopened().await.expect("redis is there");
    assert_eq!((restored.generation(), restored.epoch()), (2, epoch));
    let value = restored.state("k").await.expect("read").expect("it is there");
    assert_eq!(value.value, serde_json::json!("then"));
    restored.finish_restore(&journal, "").await.expect("it is committed");
    restored.finish_restore(&journal, "").await.expect("a lost reply");
    assert_eq!(restored.mode().await.expect("read").word, "run");
    restored.collect_generations().await.expect("redis is there");
    let old: Vec<String> =
        redis::cmd("KEYS").arg("maestro:{1.*").query(&mut scene.redis.raw()).expect("read");
    assert_eq!(old, Vec::<String>::new());
    let gone = scene.write("much later").await.expect_err("there is no such cell");
    assert!(
        matches!(gone, StoreError::Refused(Refusal::ClusterGone)) || gone.to_string().contains("GONE"),
        "{gone}"
    );
}

#[tokio::test]
async fn a_freeze_that_has_ended_allows_no_change() {
    let scene = Scene::set().await;
    let dumped = scene.dumped();
    let id = scene.frozen().await;
    scene.load(dumped, 2).await.expect("it is good");
    let journal = scene.journal(RestoreStage::Loading).await;
    let commit = RestoreCommit { journal: &journal, freeze: &id };
    assert!(scene.store.commit_restore(&commit).await.is_err(), "not all is staged");
    let journal = scene.journal(RestoreStage::Staged).await;
    let other = FreezeId::random();
    let stolen = RestoreCommit { journal: &journal, freeze: &other };
    assert_eq!(scene.store.commit_restore(&stolen).await.expect("asked"), Committed::Thawed);
    scene.store.thaw(&id, "ada").await.expect("it is ours");
    let commit = RestoreCommit { journal: &journal, freeze: &id };
    assert_eq!(scene.store.commit_restore(&commit).await.expect("asked"), Committed::Thawed);
    assert_eq!(scene.field("maestro:ctl", "generation").as_deref(), Some("1"));
    scene.write("goes on").await.expect("nothing has happened");
}

#[tokio::test]
async fn a_value_lives_for_as_long_as_it_had_left() {
    let scene = Scene::set().await;
    scene.write("then").await.expect("it is lawful");
    let mut dumped = scene.dumped();
    // Taken a week ago.
    let ctl = scene.store.keys().ctl();
    let week_ms = 7 * 24 * 3_600_000_u64;
    let wall: u64 = scene.field(&ctl, "wall").expect("it has a clock").parse().expect("a number");
    for (entry, payload) in &mut dumped {
        if entry.key == ctl {
            let mut raw = scene.redis.raw();
            redis::cmd("COPY").arg(&ctl).arg("old").exec(&mut raw).expect("copied");
            redis::cmd("HSET").arg("old").arg("wall").arg(wall - week_ms).exec(&mut raw).expect("set");
            *payload = redis::cmd("DUMP").arg("old").query(&mut raw).expect("read");
            entry.encoding = payload[0];
        }
    }
    scene.load(dumped, 2).await.expect("it is good");
    let mut raw = scene.redis.raw();
    let ttl: i64 = redis::cmd("PTTL").arg("maestro:{2.0}:state:k").query(&mut raw).expect("read");
    assert!((3_500_000..=3_600_000).contains(&ttl), "{ttl} ms of an hour");
    let ends = |key: &str| -> f64 {
        redis::cmd("ZSCORE").arg(key).arg("k").query(&mut scene.redis.raw()).expect("read")
    };
    let moved = ends("maestro:{2.0}:states") - ends("maestro:{1.0}:states");
    assert!((moved - week_ms as f64).abs() < 60_000.0, "the list of names moves along: {moved}");
}

#[tokio::test]
async fn a_forged_value_does_not_come_into_redis() {
    let scene = Scene::set().await;
    let checks = scene.store.check_payloads().await.expect("it is ours");
    assert!(matches!(checks, PayloadChecks::TurnedOn { .. }), "{checks:?}");
    // A hash as a packed list whose length is a lie, with a good checksum.
    let mut forged = vec![16, 11, 0xff, 0xff, 0xff, 0x7f, 2, 0, 0x81, b'a', 2, 0x81, 0xff];
    forged.extend_from_slice(&10_u16.to_le_bytes());
    let mut sum = maestro_model::snapshot::RdbChecksum::default();
    sum.add(&forged);
    forged.extend_from_slice(&sum.value().to_le_bytes());
    let key = "maestro:{1.0}:state:evil".to_owned();
    let entry = KeyEntry { key, key_type: KeyType::Hash, ttl_ms: None, encoding: 16, offset: 0, length: 0 };
    let mut cell = LoadingCell::begin(&scene.store, 2);
    cell.add(&entry, forged).await.expect("nothing is sent yet");
    let refused = cell.send().await.expect_err("redis looks at it");
    assert!(refused.to_string().contains("Bad data format"), "{refused}");
    let loaded: Vec<String> =
        redis::cmd("KEYS").arg("maestro:{2.*").query(&mut scene.redis.raw()).expect("read");
    assert_eq!(loaded, Vec::<String>::new());
    scene.store.reset_payload_checks(&checks).await.expect("it is ours");
    let after: Vec<String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("sanitize-dump-payload")
        .query(&mut scene.redis.raw())
        .expect("read");
    assert_eq!(after[1], "no", "the setting is as it was");
}

#[tokio::test]
async fn keys_of_others_and_of_processes_are_not_loaded() {
    let scene = Scene::set().await;
    let hash: Vec<u8> =
        redis::cmd("DUMP").arg(scene.store.keys().ctl()).query(&mut scene.redis.raw()).expect("read");
    let mut dumped = scene.dumped();
    for key in ["maestro:ctl", "maestro:{1.0}:names", "maestro:{1.0}:w:x", "maestro:{1.0}:unknown"] {
        let (key, encoding) = (key.to_owned(), hash[0]);
        let entry = KeyEntry { key, key_type: KeyType::Hash, ttl_ms: None, encoding, offset: 0, length: 0 };
        dumped.push((entry, hash.clone()));
    }
    scene.load(dumped, 2).await.expect("it is good");
    let mut loaded: Vec<String> =
        redis::cmd("KEYS").arg("maestro:{2.*").query(&mut scene.redis.raw()).expect("read");
    loaded.sort();
    assert_eq!(loaded, ["maestro:{2.0}:ctl"]);
    assert_eq!(scene.field("maestro:ctl", "generation").as_deref(), Some("1"));
}
