//! The reference evaluator against workflows small enough to be worked out by hand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::evaluate::{Expectation, Fate, OpenOrder, SkipCause, evaluate};
use crate::sketch::{
    Condition, Failing, ItemList, ItemSketch, NOTHING, Offer, Read, RetryKind, RetrySketch, Script, Sketch,
    StepSketch, Test, Trigger,
};

fn step() -> StepSketch {
    StepSketch { value: "value".to_owned(), ..StepSketch::default() }
}

fn failing() -> StepSketch {
    StepSketch { script: Script { fails_until: u32::MAX, ..Script::default() }, ..step() }
}

fn after(needs: &[usize]) -> StepSketch {
    StepSketch { needs: needs.to_vec(), ..step() }
}

fn named(triggers: &[(usize, Trigger)]) -> StepSketch {
    StepSketch { triggers: triggers.to_vec(), ..step() }
}

fn sketch(steps: Vec<StepSketch>) -> Sketch {
    let steps: Vec<StepSketch> = steps
        .into_iter()
        .enumerate()
        .map(|(index, step)| StepSketch { id: format!("s{index}"), ..step })
        .collect();
    Sketch {
        name: "small".to_owned(),
        vars: BTreeMap::from([("mode".to_owned(), "fast".to_owned())]),
        concurrency: None,
        fail_fast: false,
        file_order: (0..steps.len()).collect(),
        steps,
        sleeper: None,
    }
}

fn expect(steps: Vec<StepSketch>) -> Expectation {
    evaluate(&sketch(steps))
}

fn fates(steps: Vec<StepSketch>) -> String {
    let letter = |fate| match fate {
        Fate::Completed => 'C',
        Fate::Failed => 'F',
        Fate::Skipped => 'K',
    };
    expect(steps).steps.iter().map(|step| letter(step.fate)).collect()
}

#[test]
fn a_failure_skips_what_needs_it_and_nothing_else() {
    assert_eq!(fates(vec![failing(), step(), after(&[0, 1]), after(&[2]), after(&[1])]), "FCKKC");
}

#[test]
fn continue_on_lets_dependents_go_on() {
    let tolerated = StepSketch { continue_failed: true, ..failing() };
    let dull = StepSketch { continue_skipped: true, ..after(&[1]) };
    assert_eq!(fates(vec![tolerated, failing(), dull, after(&[0]), after(&[2]), after(&[1])]), "FFKCCK");
}

#[test]
fn a_named_step_needs_one_of_its_edges_and_all_it_depends_on() {
    use Trigger::{Failure, Success};
    assert_eq!(fates(vec![step(), named(&[(0, Success)]), named(&[(0, Failure)])]), "CCK");
    assert_eq!(fates(vec![failing(), named(&[(0, Success)]), named(&[(0, Failure)])]), "FKC");
    let either = || named(&[(0, Success), (1, Failure)]);
    assert_eq!(fates(vec![step(), step(), either()]), "CCC");
    assert_eq!(fates(vec![failing(), step(), either()]), "FCK");
    let both = StepSketch { needs: vec![1], ..named(&[(0, Success)]) };
    assert_eq!(fates(vec![step(), failing(), both]), "CFK");
    // A skip fires neither kind.
    assert_eq!(fates(vec![failing(), after(&[0]), named(&[(1, Success), (1, Failure)])]), "FKK");
}

#[test]
fn handled_failures_do_not_count() {
    let handled = expect(vec![failing(), named(&[(0, Trigger::Failure)])]);
    assert!(handled.unhandled.is_empty());
    let tolerated = expect(vec![StepSketch { continue_failed: true, ..failing() }]);
    assert!(tolerated.unhandled.is_empty());
    assert_eq!(expect(vec![failing(), named(&[(0, Trigger::Success)])]).unhandled, [0]);
}

#[test]
fn tries_follow_the_retry_rules() {
    let retry = |max_attempts, only| RetrySketch { max_attempts, only, ..RetrySketch::default() };
    let table = [
        (0, Failing::Exit(3), retry(3, None), 1, Fate::Completed),
        (2, Failing::Exit(3), retry(3, None), 3, Fate::Completed),
        (3, Failing::Exit(3), retry(3, None), 3, Fate::Failed),
        (1, Failing::Exit(78), retry(3, None), 1, Fate::Failed),
        (1, Failing::Exit(3), retry(0, None), 1, Fate::Failed),
        (1, Failing::Exit(3), retry(3, Some(RetryKind::Timeout)), 1, Fate::Failed),
        (1, Failing::Hang, retry(2, Some(RetryKind::Timeout)), 2, Fate::Completed),
        (1, Failing::Hang, retry(2, Some(RetryKind::Exit)), 1, Fate::Failed),
    ];
    for (fails_until, failure, retry, tries, fate) in table {
        let script = Script { fails_until, failure, nap_ms: 0 };
        let expected = expect(vec![StepSketch { script, retry, ..step() }]).steps.remove(0);
        assert_eq!((expected.tries, expected.fate), (tries, fate), "{script:?} {retry:?}");
    }
}

#[test]
fn a_false_when_skips_and_a_name_that_is_missing_fails() {
    let when = |test| StepSketch {
        when: Some(Condition { negated: false, marked: true, test }),
        ..StepSketch::default()
    };
    let var = |is: &str| Test::Var { name: "mode".to_owned(), is: is.to_owned() };
    assert_eq!(fates(vec![when(var("fast")), when(var("slow"))]), "CK");
    let output = |default| Test::Output { step: 0, is: NOTHING.to_owned(), default };
    let source = || StepSketch { continue_failed: true, ..failing() };
    assert_eq!(fates(vec![source(), when(output(true)), when(output(false))]), "FCF");
    let skipped = expect(vec![when(var("slow"))]).steps.remove(0);
    assert_eq!(skipped.skipped, Some(SkipCause::When));
}

#[test]
fn a_reference_counts_as_a_dependency_unless_it_is_upstream() {
    let reads = |needs: &[usize]| StepSketch {
        needs: needs.to_vec(),
        reads: vec![Read::Output { step: 0, default: true }],
        ..step()
    };
    assert_eq!(fates(vec![failing(), reads(&[])]), "FK");
    // Upstream by way of a step that puts up with it: no edge of its own.
    let between = StepSketch { continue_skipped: true, ..after(&[0]) };
    assert_eq!(fates(vec![failing(), between, reads(&[1])]), "FKC");
}

#[test]
fn a_foreach_joins_its_items_in_order() {
    let item = |text: &str, fails_until| ItemSketch {
        text: text.to_owned(),
        script: Script { fails_until, ..Script::default() },
    };
    let group = |items| StepSketch { list: Some(ItemList::Literal(items)), continue_failed: true, ..step() };
    let reader =
        StepSketch { needs: vec![0], reads: vec![Read::ListOutputs(0), Read::ListResult(0)], ..step() };
    let mixed = expect(vec![group(vec![item("a", 0), item("b", 1)]), reader.clone()]);
    assert_eq!(mixed.steps[0].fate, Fate::Failed);
    assert_eq!(mixed.steps[1].outputs["r0"], json!(["value of a", null]));
    assert_eq!(mixed.steps[1].outputs["r1"], json!(["out value of a", null]));
    let empty = expect(vec![group(Vec::new()), reader.clone()]);
    assert_eq!(empty.steps[0].fate, Fate::Completed);
    assert_eq!(empty.steps[1].outputs["r0"], json!([]));
    let hopeless = expect(vec![group(vec![item("a", 1)]), reader]);
    assert_eq!(hopeless.open, [OpenOrder::Read(1, 0)]);
}

#[test]
fn a_list_from_an_output_is_taken_as_it_was_put_out() {
    let offering = |offers| StepSketch { offers: Some(offers), ..step() };
    let over = StepSketch { list: Some(ItemList::OutputOf(0)), ..step() };
    let items = vec![ItemSketch { text: "a".to_owned(), script: Script::default() }];
    let good = expect(vec![offering(Offer::Items(items)), over.clone()]);
    assert_eq!((good.steps[1].fate, good.steps[1].items.len()), (Fate::Completed, 1));
    assert_eq!(good.steps[0].outputs["list"], json!("[\"a\"]"));
    let bad = expect(vec![offering(Offer::Nonsense), over]);
    assert_eq!((bad.steps[1].fate, bad.steps[1].reason), (Fate::Failed, Some("config")));
}

#[test]
fn shared_state_is_what_the_last_before_wrote() {
    let writes = |needs: &[usize], value: &str| StepSketch {
        publish: vec!["k".to_owned()],
        value: value.to_owned(),
        ..after(needs)
    };
    let reads = |needs: &[usize]| StepSketch {
        reads: vec![Read::State { key: "k".to_owned(), default: true }],
        ..after(needs)
    };
    let chain = expect(vec![writes(&[], "a"), reads(&[0]), writes(&[1], "b"), reads(&[2])]);
    assert_eq!(chain.steps[1].outputs["r0"], json!("a"));
    assert_eq!(chain.steps[3].outputs["r0"], json!("b"));
    assert_eq!(chain.state["k"], BTreeSet::from(["b".to_owned()]));
    assert!(chain.open.is_empty());
    let race = expect(vec![writes(&[], "a"), writes(&[], "b"), reads(&[0, 1])]);
    assert_eq!(race.open, [OpenOrder::Read(2, 0)]);
    assert_eq!(race.state["k"].len(), 2);
    let none = expect(vec![reads(&[])]);
    assert_eq!(none.steps[0].outputs["r0"], json!(NOTHING));
}

#[test]
fn a_writer_further_down_is_late_only_if_it_waits() {
    let reader = || StepSketch { reads: vec![Read::State { key: "k".to_owned(), default: true }], ..step() };
    let writer =
        |triggers: &[(usize, Trigger)]| StepSketch { publish: vec!["k".to_owned()], ..named(triggers) };
    let waiting = expect(vec![reader(), writer(&[(0, Trigger::Success)])]);
    assert!(waiting.open.is_empty());
    // It may be started by the other step that names it.
    let racing = expect(vec![reader(), step(), writer(&[(0, Trigger::Success), (1, Trigger::Success)])]);
    assert_eq!(racing.open, [OpenOrder::Read(0, 0)]);
}

#[test]
fn what_one_of_two_edges_started_says_nothing_about_the_other() {
    let either = named(&[(0, Trigger::Success), (1, Trigger::Success)]);
    let reader = StepSketch { reads: vec![Read::Status(0)], ..either };
    let run = expect(vec![step(), step(), reader]);
    assert_eq!(run.before[2], 0);
    assert_eq!(run.open, [OpenOrder::Read(2, 0)]);
}
