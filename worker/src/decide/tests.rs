//! What becomes of a grant, and what a store is asked for once it has ended.

use std::sync::Arc;

use maestro_model::attempt::TaskOutputs;
use maestro_model::model_use::ModelUse;
use maestro_model::plan::References;
use maestro_model::retry::{COME_BACK_DELAY_MS, COME_BACKS_MAX, EXIT_NEVER_AGAIN, RetryOn, RetryPolicy};
use maestro_store::brought::make_ready;
use maestro_store::step::GatheredValue;

use super::*;
use crate::samples::{grant, key, known_run, shared_spec};

fn ready(shared: SharedSpec, grant: Grant) -> ReadyGrant {
    let known = known_run(shared);
    *make_ready(grant, Some(&known), Default::default()).expect("all of it is known")
}

fn decided(shared: SharedSpec, prompt: &str) -> Decision {
    decide(ready(shared, grant(&key(1, 1), prompt)), "alpha")
}

fn reported(decision: Decision) -> AttemptReport {
    match decision {
        Decision::Report(report) => *report,
        Decision::Launch(rendered) => panic!("it would be launched: {}", rendered.prompt),
    }
}

fn failed_config(decision: Decision) -> String {
    let report = reported(decision);
    assert_eq!(report.outcome, AttemptOutcome::Failed { reason: Reason::Config, exit_code: None });
    report.message.expect("it says why")
}

#[test]
fn a_prompt_is_rendered_with_the_names_of_the_task() {
    let prompt =
        "<< task.id >> try << attempt >> of << run.workflow >> on << env.MAESTRO_WORKER >>; cat <<EOF >> x";
    let Decision::Launch(rendered) = decided(shared_spec("shell"), prompt) else {
        panic!("it is to be launched")
    };
    assert_eq!(rendered.prompt, "0k3v9x2mqf1a.1 try 1 of sample on alpha; cat <<EOF >> x");
}

#[test]
fn when_decides_whether_it_starts_except_for_items() {
    let with = |when: &str| SharedSpec { when: Some(when.to_owned()), ..shared_spec("shell") };
    assert!(matches!(decided(with("attempt == 1"), "p"), Decision::Launch(_)));
    assert_eq!(reported(decided(with("<< attempt == 2 >>"), "p")).outcome, AttemptOutcome::Skipped);
    // A prompt that could not be rendered is not looked at.
    assert_eq!(reported(decided(with("false"), "<< state.nope >>")).outcome, AttemptOutcome::Skipped);
    let message = failed_config(decided(with("state.nope == 1"), "p"));
    assert!(message.contains("state.nope"), "{message}");

    let mut item = grant(&key(1, 1), "p");
    item.own.number = Some(0);
    assert!(matches!(decide(ready(with("false"), item), "alpha"), Decision::Launch(_)));
    let quiet = SharedSpec { when: Some("false".to_owned()), ..shared_spec("noop") };
    assert_eq!(reported(decided(quiet, "p")).outcome, AttemptOutcome::Skipped);
}

#[test]
fn an_unknown_name_fails_the_task_and_is_named_with_a_hint() {
    let message = failed_config(decided(shared_spec("shell"), "build << state.nope >>"));
    assert!(message.starts_with("unknown name `state.nope` (hint: "), "{message}");
    let env = IndexMap::from([("KEY".to_owned(), "<< vars.nope >>".to_owned())]);
    let message = failed_config(decided(SharedSpec { env, ..shared_spec("shell") }, "p"));
    assert!(message.contains("`vars.nope`"), "{message}");
    // Also where nothing is launched.
    let message = failed_config(decided(shared_spec("noop"), "<< state.nope >>"));
    assert!(message.contains("`state.nope`"), "{message}");
}

#[test]
fn state_and_steps_are_read_as_the_claim_found_them() {
    let references = References {
        steps: IndexMap::from([("test".parse().expect("lawful"), 4)]),
        state: vec!["branch".to_owned()],
    };
    let mut granted =
        grant(&key(1, 1), "<< state.branch >> << steps.test.result >> << steps.test.outputs.id >>");
    granted.own.references = references;
    let outputs = serde_json::json!({ "result": "fine", "outputs": { "id": "7" } });
    granted.values = vec![
        GatheredValue::State { key: "branch".to_owned(), value: Some("main".to_owned()), json: false },
        GatheredValue::Step { index: 4, record: None, output: Some(outputs.to_string()) },
    ];
    let Decision::Launch(rendered) = decide(ready(shared_spec("shell"), granted), "alpha") else {
        panic!("it is to be launched")
    };
    assert_eq!(rendered.prompt, "main fine 7");
}

#[test]
fn what_launches_nothing_is_completed_at_once_and_may_publish() {
    let report = reported(decided(shared_spec("noop"), "p"));
    assert_eq!(report, AttemptReport::plain(AttemptOutcome::Completed));

    let publish = IndexMap::from([
        ("tries".to_owned(), Value::String("<< attempt >>".to_owned())),
        ("list".to_owned(), serde_json::json!([1, 2])),
    ]);
    let report = reported(decided(SharedSpec { publish, ..shared_spec("noop") }, "p"));
    assert_eq!(report.outcome, AttemptOutcome::Completed);
    assert_eq!(report.publish["tries"], serde_json::json!(1), "one expression keeps its type");
    let sent = step_report(&key(1, 1), NO_TRIES, None, report, 0.0);
    let published =
        |key: &str, value: &str, json| PublishedValue { key: key.to_owned(), value: value.to_owned(), json };
    assert_eq!(sent.publish, [published("tries", "1", true), published("list", "[1,2]", true)]);
}

#[test]
fn what_is_published_is_bounded_and_only_published_on_success() {
    let publish = IndexMap::from([("big".to_owned(), Value::String("<< outputs.x >>".to_owned()))]);
    let shared = SharedSpec { publish, ..shared_spec("shell") };
    let scope = Scope::new();
    let with_output = |bytes: usize| AttemptReport {
        outputs: Some(TaskOutputs {
            result: Value::Null,
            outputs: IndexMap::from([("x".to_owned(), Value::String("x".repeat(bytes)))]),
        }),
        ..AttemptReport::plain(AttemptOutcome::Completed)
    };
    let fits = with_publish(with_output(STATE_VALUE_BYTES_MAX), &shared, &scope);
    assert_eq!(fits.publish["big"].as_str().map(str::len), Some(STATE_VALUE_BYTES_MAX));

    let large = with_publish(with_output(STATE_VALUE_BYTES_MAX + 1), &shared, &scope);
    assert_eq!(large.outcome, AttemptOutcome::Failed { reason: Reason::Config, exit_code: None });
    let expected = format!(
        "the value published as `big` has {} bytes; the limit is {STATE_VALUE_BYTES_MAX}",
        STATE_VALUE_BYTES_MAX + 1
    );
    assert_eq!(large.message, Some(expected));
    assert!(large.publish.is_empty() && large.outputs.is_none(), "nothing of it is written");

    let missing = with_publish(AttemptReport::plain(AttemptOutcome::Completed), &shared, &scope);
    assert_eq!(missing.outcome, AttemptOutcome::Failed { reason: Reason::Config, exit_code: None });
    let failed = AttemptReport::failed(Reason::Exit, Some(1), "no");
    assert_eq!(with_publish(failed.clone(), &shared, &scope), failed);
}

const NO_TRIES: Tries = Tries { failures: 0, come_backs: 0, host_failures: 0 };

fn ending_of(outcome: AttemptOutcome, tries: Tries, retry: RetryPolicy) -> Ending {
    let shared = Arc::new(SharedSpec { retry, ..shared_spec("shell") });
    step_report(&key(1, 3), tries, Some(&shared), AttemptReport::plain(outcome), 0.0).ending
}

#[test]
fn what_follows_an_end_depends_on_its_own_counter_alone() {
    let retry = || RetryPolicy { max_attempts: 2, delay_ms: 100, jitter: false, ..RetryPolicy::default() };
    let failed = |reason, exit_code| AttemptOutcome::Failed { reason, exit_code };
    let again = |reason, exit_code, retry_in_ms| Ending::Failed { reason, exit_code, retry_in_ms };
    let tries = |failures, come_backs, host_failures| Tries { failures, come_backs, host_failures };
    let longest = COME_BACK_DELAY_MS << (COME_BACKS_MAX - 1);
    let table = [
        (AttemptOutcome::Completed, tries(9, 9, 9), Ending::Completed { exit_code: Some(0) }),
        (AttemptOutcome::Skipped, NO_TRIES, Ending::Skipped),
        (AttemptOutcome::Cancelled, NO_TRIES, Ending::Cancelled),
        (AttemptOutcome::Returned, tries(9, 9, 9), Ending::Returned { host_failed: false }),
        // Failures: `max_attempts` counts them all, the first included.
        (failed(Reason::Exit, Some(1)), tries(0, 9, 9), again(Reason::Exit, Some(1), Some(100))),
        (failed(Reason::Exit, Some(1)), tries(1, 0, 0), again(Reason::Exit, Some(1), None)),
        (failed(Reason::Timeout, None), NO_TRIES, again(Reason::Timeout, None, Some(100))),
        (
            failed(Reason::Exit, Some(EXIT_NEVER_AGAIN)),
            NO_TRIES,
            again(Reason::Exit, Some(EXIT_NEVER_AGAIN), None),
        ),
        (failed(Reason::Config, None), NO_TRIES, again(Reason::Config, None, None)),
        // Asking to be called again: ten times, each wait twice as long.
        (AttemptOutcome::ComeBack, tries(9, 0, 9), Ending::ComeBack { delay_ms: COME_BACK_DELAY_MS }),
        (AttemptOutcome::ComeBack, tries(0, COME_BACKS_MAX - 1, 0), Ending::ComeBack { delay_ms: longest }),
        (AttemptOutcome::ComeBack, tries(0, COME_BACKS_MAX, 0), again(Reason::Exit, Some(75), None)),
        // The host: three times for nothing, then it is a failure.
        (failed(Reason::Infra, None), tries(9, 9, 0), Ending::Returned { host_failed: true }),
        (
            failed(Reason::Infra, None),
            tries(0, 0, HOST_FAILURES_MAX - 1),
            Ending::Returned { host_failed: true },
        ),
        (failed(Reason::Infra, None), tries(0, 0, HOST_FAILURES_MAX), again(Reason::Infra, None, None)),
    ];
    for (outcome, tries, expected) in table {
        let shown = format!("{outcome:?} after {tries:?}");
        assert_eq!(ending_of(outcome, tries, retry()), expected, "{shown}");
    }
}

#[test]
fn a_message_goes_along_where_there_are_no_outputs() {
    let failed = AttemptReport::failed(Reason::Exit, Some(1), "it broke");
    let sent = step_report(&key(1, 3), NO_TRIES, None, failed, 0.0);
    assert_eq!((sent.task, sent.attempt), key(1, 3));
    assert_eq!(sent.output, r#"{"message":"it broke"}"#);
    let plain = step_report(&key(1, 3), NO_TRIES, None, AttemptReport::plain(AttemptOutcome::Skipped), 0.0);
    assert_eq!(plain.output, "");
    let asked = Tries { come_backs: COME_BACKS_MAX, ..NO_TRIES };
    let sent = step_report(&key(1, 3), asked, None, AttemptReport::plain(AttemptOutcome::ComeBack), 0.0);
    assert_eq!(sent.output, r#"{"message":"the agent asked 11 times to be called again"}"#);
}

#[test]
fn what_was_used_goes_along_with_outputs_and_with_failures() {
    let used = ModelUse { session: Some("s".to_owned()), ..ModelUse::default() };
    let outputs = TaskOutputs { result: Value::from("42"), outputs: IndexMap::new() };
    let done = AttemptReport {
        outputs: Some(outputs.clone()),
        model_use: Some(Box::new(used.clone())),
        ..AttemptReport::plain(AttemptOutcome::Completed)
    };
    let sent = step_report(&key(1, 3), NO_TRIES, None, done, 0.0).output;
    assert_eq!(sent, r#"{"result":"42","use":{"v":1,"session":"s"}}"#);
    let stored: StoredOutput = serde_json::from_str(&sent).expect("our own");
    assert_eq!((stored.outputs, stored.model_use), (Some(outputs), Some(used.clone())));
    let failed = AttemptReport {
        model_use: Some(Box::new(used)),
        ..AttemptReport::failed(Reason::Exit, Some(1), "it broke")
    };
    let sent = step_report(&key(1, 3), NO_TRIES, None, failed, 0.0).output;
    let stored: StoredOutput = serde_json::from_str(&sent).expect("our own");
    assert!(stored.outputs.is_none() && stored.model_use.is_some(), "{sent}");
}

#[test]
fn a_usage_limit_is_waited_for_by_those_who_try_it_again() {
    let limited = || AttemptReport {
        not_before_ms: Some(7_200_000),
        ..AttemptReport::failed(Reason::Budget, Some(1), "usage limit")
    };
    let retry_in = |on: Vec<RetryOn>, random| {
        let retry = RetryPolicy { max_attempts: 2, delay_ms: 100, on, ..RetryPolicy::default() };
        let shared = SharedSpec { retry, ..shared_spec("shell") };
        match step_report(&key(1, 3), NO_TRIES, Some(&shared), limited(), random).ending {
            Ending::Failed { reason: Reason::Budget, retry_in_ms, .. } => retry_in_ms,
            other => panic!("expected a failure, found {other:?}"),
        }
    };
    assert_eq!(retry_in(vec![RetryOn::Exit], 0.0), None, "not unless the step says so");
    assert_eq!(retry_in(vec![RetryOn::Budget], 0.0), Some(7_200_000));
    assert_eq!(retry_in(vec![RetryOn::Budget], 1.0), Some(7_200_000 + RESET_SPREAD_MS), "not all at once");
}
