//! Whether an attempt may change shared state: in every state of its task, by every voice, and with each
//! guard taken out to see that these tests would notice.

use maestro_model::ids::Attempt;
use maestro_model::task::TaskStatus;
use maestro_store::events::{EventKind, EventPosition};
use maestro_store::scripts::{ScriptSet, TEST_CLOCK};
use maestro_store::state::{StateActor, TaskVoice, WriteCondition, check_state_key};
use maestro_store::{Refusal, Store, StoreError};
use serde_json::json;

use crate::simulation::stage::{Deed, FIRST_WALL_MS, Setting, Stage};
use crate::support::TestRedis;

const KEY: &str = "build_id";
/// Settings that tell guards apart: each of them can be mistaken for a running task by one fewer guard.
const TELLING: [Setting; 4] =
    [Setting::Running, Setting::Cancelling, Setting::QueuedAgain, Setting::Completed];
const BY_HAND: StateActor<'_> = StateActor::Named("hand");

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Holder,
    Stranger,
    AnotherAttempt,
    AnotherTask,
}

impl Speaker {
    const ALL: [Speaker; 4] =
        [Speaker::Holder, Speaker::Stranger, Speaker::AnotherAttempt, Speaker::AnotherTask];

    fn voice(self, stage: &Stage) -> TaskVoice {
        let (mut task, mut attempt) = (stage.task.clone(), stage.attempt);
        let mut incarnation = stage.owner.clone();
        match self {
            Speaker::Holder => {}
            Speaker::Stranger => incarnation = stage.stranger.clone(),
            Speaker::AnotherAttempt => attempt = Attempt(attempt.0 + 1),
            Speaker::AnotherTask => task.index += 40,
        }
        TaskVoice { task, attempt, incarnation }
    }
}

fn fenced<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Refused(Refusal::Fenced)))
}

async fn refusals_told(store: &Store) -> usize {
    let (events, _) = store.events_after(&EventPosition::start()).await.expect("readable");
    let fenced = |kind: &EventKind| matches!(kind, EventKind::Other { word, .. } if word == "state-refused");
    events.iter().filter(|event| fenced(&event.kind)).count()
}

/// What is wrong with the answers to a voice that should be heard or should not.
async fn try_voice(store: &Store, voice: &TaskVoice, is_heard: bool, what: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let version = store.set_state(KEY, &json!("before"), None, WriteCondition::Always, BY_HAND).await;
    let version = version.expect("anybody with Redis may");
    let told = refusals_told(store).await;
    let actor = StateActor::Attempt(voice);
    let written = store.set_state(KEY, &json!("by voice"), None, WriteCondition::Always, actor).await;
    let found = store.state(KEY).await.expect("readable").expect("set above");
    match (&written, is_heard) {
        (Ok(new), true) if *new == found.version && found.value == json!("by voice") => {}
        (answer, false) if fenced(answer) && found.version == version => {}
        other => complaints.push(format!("{what}: a write is answered {other:?}, found {found:?}")),
    }
    let deleted = store.delete_state(KEY, actor).await;
    let is_there = store.state(KEY).await.expect("readable").is_some();
    match (&deleted, is_heard) {
        (Ok(true), true) if !is_there => {}
        (answer, false) if fenced(answer) && is_there => {}
        other => complaints.push(format!("{what}: a deletion is answered {other:?}, still there {is_there}")),
    }
    let refused = if is_heard { 0 } else { 2 };
    if refusals_told(store).await != told + refused {
        complaints.push(format!("{what}: the audit stream tells of another number than {refused}"));
    }
    complaints
}

/// Every speaker in every setting, while all leases live.
async fn try_settings(redis: &TestRedis, scripts: &ScriptSet, settings: &[Setting]) -> Vec<String> {
    let mut complaints = Vec::new();
    for setting in settings.iter().copied() {
        let stage = Stage::set(redis, setting, &Deed::Beat).await;
        let store = redis.store_with(scripts.clone()).await;
        for speaker in Speaker::ALL {
            let runs = matches!(setting.status(), TaskStatus::Running | TaskStatus::Cancelling);
            // A group runs without a holder.
            let is_heard = speaker == Speaker::Holder && runs && setting != Setting::GroupRunning;
            let what = format!("{setting:?}, {speaker:?}");
            complaints.extend(try_voice(&store, &speaker.voice(&stage), is_heard, &what).await);
        }
    }
    complaints
}

/// The holder, when its lease has run out and nobody has noticed yet, and in a cell that was given up.
async fn try_circumstances(redis: &TestRedis, scripts: &ScriptSet) -> Vec<String> {
    let mut stage = Stage::set(redis, Setting::Running, &Deed::LeaseEnds).await;
    let store = redis.store_with(scripts.clone()).await;
    let voice = Speaker::Holder.voice(&stage);
    let mut complaints = try_voice(&store, &voice, true, "a lease that lives").await;
    // The logical clock follows in steps, with every call that changes something.
    for step in 1..=4 {
        stage.set_wall(FIRST_WALL_MS + step * 4_000);
        let ticked = store.set_state("tick", &json!(step), None, WriteCondition::Always, BY_HAND).await;
        ticked.expect("anybody with Redis may");
    }
    assert_eq!(stage.status().await, TaskStatus::Running, "nobody has swept");
    complaints.extend(try_voice(&store, &voice, false, "a lease that is over").await);

    let mut stage = Stage::set(redis, Setting::Running, &Deed::Beat).await;
    let store = redis.store_with(scripts.clone()).await;
    let key = stage.store.keys().ctl();
    redis::cmd("HSET").arg(key).arg("mode").arg("retired").exec(&mut stage.raw).expect("set");
    let voice = Speaker::Holder.voice(&stage);
    complaints.extend(try_voice(&store, &voice, false, "a cell that was given up").await);
    complaints
}

fn scripts(edits: &[(&str, &str)]) -> ScriptSet {
    ScriptSet::edited(&[&[TEST_CLOCK], edits].concat())
}

#[tokio::test]
async fn only_the_attempt_that_runs_is_heard() {
    let redis = TestRedis::start();
    let scripts = scripts(&[]);
    let mut complaints = try_settings(&redis, &scripts, &Setting::ALL).await;
    complaints.extend(try_circumstances(&redis, &scripts).await);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test]
async fn each_guard_of_a_voice_is_needed() {
    let redis = TestRedis::start();
    let mutants = [
        (
            "whatever its state",
            "(rec[ST] == 'R' or rec[ST] == 'X') and rec[ATT] == attempt",
            "rec[ATT] == attempt",
        ),
        (
            "not while it is cancelled",
            "local holds = rec and (rec[ST] == 'R' or rec[ST] == 'X')",
            "local holds = rec and rec[ST] == 'R'",
        ),
        (
            "whatever its attempt",
            "rec[ATT] == attempt and rec[OWNER] == inc\n  if holds and",
            "rec[OWNER] == inc\n  if holds and",
        ),
        ("whoever holds it", "and rec[OWNER] == inc\n  if holds and", "\n  if holds and"),
        ("whatever its lease", "if holds and lease >= clk and", "if holds and"),
        ("whatever became of the cell", "lease >= clk and mode ~= 'retired' then", "lease >= clk then"),
        (
            "without a line for the audit",
            "tell('state-refused', id .. '.' .. idx, attempt, inc, key)\n  write_events()\n  return { 'FENCED' }",
            "return { 'FENCED' }",
        ),
        ("a write is not checked", "refused = unheard(ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[2])", ""),
        ("a deletion is not checked", "refused = unheard(ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[2])", ""),
    ];
    let mut survivors = Vec::new();
    for (name, piece, instead) in mutants {
        let scripts = scripts(&[(piece, instead)]);
        let mut complaints = try_circumstances(&redis, &scripts).await;
        for setting in TELLING {
            if complaints.is_empty() {
                complaints = try_settings(&redis, &scripts, &[setting]).await;
            }
        }
        if complaints.is_empty() {
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "nothing notices that an attempt is heard {survivors:?}");
}

#[tokio::test]
async fn the_audit_stream_says_which_attempt_wrote() {
    let redis = TestRedis::start();
    let stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
    let voice = Speaker::Holder.voice(&stage);
    let actor = StateActor::Attempt(&voice);
    let write = stage.store.set_state(KEY, &json!({"n": 1}), None, WriteCondition::Absent, actor).await;
    let version = write.expect("it is heard");
    assert!(stage.store.delete_state(KEY, actor).await.expect("it is heard"));
    let (events, _) = stage.store.events_after(&EventPosition::start()).await.expect("readable");
    let changes: Vec<EventKind> = events
        .into_iter()
        .map(|event| event.kind)
        .filter(|kind| matches!(kind, EventKind::State { .. }))
        .collect();
    let who = format!("{}.{}", stage.task, stage.attempt);
    let change = |version| EventKind::State { key: KEY.to_owned(), version, who: who.clone() };
    assert_eq!(changes, [change(Some(version)), change(None)]);
}

#[tokio::test]
async fn a_voice_of_an_older_epoch_is_refused_and_changes_nothing() {
    let redis = TestRedis::start();
    let mut stage = Stage::set(&redis, Setting::Running, &Deed::Beat).await;
    let voice = Speaker::Holder.voice(&stage);
    let key = stage.store.keys().ctl();
    redis::cmd("HSET").arg(key).arg("epoch").arg("9999999999").exec(&mut stage.raw).expect("set");
    let actor = StateActor::Attempt(&voice);
    let write = stage.store.set_state(KEY, &json!("x"), None, WriteCondition::Always, actor).await;
    assert!(matches!(write, Err(StoreError::Refused(Refusal::Epoch { .. }))), "{write:?}");
    assert_eq!(stage.store.state(KEY).await.expect("readable"), None);
}

#[test]
fn a_key_that_could_forge_a_line_of_the_audit_is_none() {
    let too_long = "k".repeat(513);
    for unlawful in ["", "a\tb", "a\nrun-completed", "a\0", "\u{7f}", too_long.as_str()] {
        assert!(check_state_key(unlawful).is_err(), "{unlawful:?}");
    }
    for lawful in ["a", "task:x/y z", "ключ", "{a}", "k".repeat(512).as_str()] {
        assert!(check_state_key(lawful).is_ok(), "{lawful:?}");
    }
}

#[tokio::test]
async fn while_redis_is_told_what_it_forgot_a_voice_has_to_wait() {
    let redis = TestRedis::start();
    let mut stage = Stage::set(&redis, Setting::Queued, &Deed::Beat).await;
    let voice = Speaker::Holder.voice(&stage);
    let key = stage.store.keys().ctl();
    let far = "9999999999999";
    let mode = [("mode", "recover"), ("recover_first", far), ("recover_last", far)];
    redis::cmd("HSET").arg(key).arg(&mode).exec(&mut stage.raw).expect("set");
    let actor = StateActor::Attempt(&voice);
    let write = stage.store.set_state(KEY, &json!("x"), None, WriteCondition::Always, actor).await;
    assert!(matches!(write, Err(StoreError::Refused(Refusal::Paused))), "{write:?}");
    let delete = stage.store.delete_state(KEY, actor).await;
    assert!(matches!(delete, Err(StoreError::Refused(Refusal::Paused))), "{delete:?}");
}
