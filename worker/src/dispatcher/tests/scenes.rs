//! Stories: what happened once, or must never happen.

use maestro_model::agent_type::OnDisconnect;
use maestro_model::attempt::AttemptReport;
use maestro_store::step::StepReply;
use maestro_store::worker::{BeatReply, BeatVerdict};

use super::super::*;
use super::stage::{Stage, accepted, beat_reply, completed, reply};
use crate::samples::{grant, key, known_run, shared_spec};

#[test]
fn a_bell_that_rings_during_a_claim_leads_to_another_claim() {
    let mut stage = Stage::new(1);
    assert_eq!(stage.handle(WorkerEvent::BellRang), ["send 0#1 want 1 from w:alpha a:shell"]);
    assert_eq!(stage.handle(WorkerEvent::BellRang), [] as [&str; 0]);
    // The claim looked before the task came, the bell rang after.
    let actions = stage.answer(0, reply(Vec::new()));
    assert_eq!(actions, ["send 0#2 want 1 from w:alpha a:shell"]);
    assert_eq!(stage.answer(0, reply(Vec::new())), ["listen [w:alpha a:shell]"]);
}

#[test]
fn a_successor_waits_until_its_predecessor_is_gone_and_is_reported() {
    let mut stage = Stage::running(3, &[key(1, 1)]);
    assert_eq!(stage.beat(&[(key(1, 1), BeatVerdict::Stale)]), ["end 1.1 Discard"]);
    stage.handle(WorkerEvent::BellRang);
    let actions = stage.answer(0, reply(vec![grant(&key(1, 2), "p")]));
    assert!(!actions.contains(&"launch 1.2".to_owned()), "{actions:?}");
    let actions = stage.ended(&key(1, 1), completed());
    assert_eq!(actions[0], "launch 1.2");
    assert!(actions.iter().all(|action| !action.contains("1.1=")), "{actions:?}");
    while let Some(lane) = stage.sent.keys().next().copied() {
        stage.answer(lane, reply(Vec::new()));
    }
    let actions = stage.ended(&key(1, 2), completed());
    assert_eq!(actions, ["send 0#4 want 3 from w:alpha a:shell 1.2=completed"]);
}

#[test]
fn a_cancel_before_the_launch_is_reported_as_one() {
    let mut stage = Stage::in_the_middle();
    assert_eq!(stage.beat(&[(key(2, 1), BeatVerdict::Cancel)]), [] as [&str; 0]);
    assert_eq!(stage.fetched(&key(2, 1)), ["send 1#3 want 1 from w:alpha a:shell 2.1=cancelled"]);
}

#[test]
fn a_grant_whose_answer_got_lost_goes_back_once_it_cannot_arrive_any_more() {
    let mut stage = Stage::in_the_middle();
    let beat = || {
        let answer = BeatReply { unknown: vec![key(5, 1)], ..beat_reply(Vec::new()) };
        WorkerEvent::BeatAnswered(Life::FIRST, Vec::new(), answer)
    };
    // Request 2 may still bring it.
    for _ in 0..3 {
        assert_eq!(stage.handle(beat()), [] as [&str; 0]);
    }
    stage.answer(0, reply(Vec::new()));
    assert_eq!(stage.handle(beat()), ["send 0#3 want 1 from w:alpha a:shell 5.1=returned"]);
    assert_eq!(stage.handle(beat()), [] as [&str; 0], "it is being reported");
}

#[test]
fn a_grant_that_came_late_and_has_ended_since_is_not_given_back() {
    let mut stage = Stage::in_the_middle();
    let beat = || {
        let answer = BeatReply { unknown: vec![key(5, 1)], ..beat_reply(Vec::new()) };
        WorkerEvent::BeatAnswered(Life::FIRST, Vec::new(), answer)
    };
    // Asked while request 2 was bringing it, and once more between its end and its report.
    assert_eq!(stage.handle(beat()), [] as [&str; 0]);
    stage.answer(0, reply(vec![grant(&key(5, 1), "p")]));
    stage.fetched(&key(5, 1));
    let sent = stage.ended(&key(5, 1), completed());
    assert!(sent.iter().any(|line| line.contains("5.1=completed")), "{sent:?}");
    let answer = StepReply { answers: accepted(&stage.sent[&0]), ..reply(Vec::new()) };
    stage.answer(0, answer);
    let actions = stage.handle(beat());
    assert!(actions.iter().all(|line| !line.contains("5.1")), "{actions:?}");
}

#[test]
fn keepers_run_on_in_danger_and_end_when_the_lease_is_over() {
    let mut stage = Stage::serving(2, "shell", OnDisconnect::Keep);
    stage.run(&[key(1, 1)]);
    assert_eq!(stage.handle(WorkerEvent::LeaseInDanger(Life::FIRST)), [] as [&str; 0]);
    assert_eq!(stage.handle(WorkerEvent::Fenced(Life::FIRST)), ["end 1.1 Discard", "reattach"]);

    let mut stage = Stage::running(2, &[key(1, 1)]);
    assert_eq!(stage.handle(WorkerEvent::LeaseInDanger(Life::FIRST)), ["end 1.1 Return"]);
    // Redis answers again before the lease is over: the task goes back unburned.
    let returned = AttemptReport::plain(AttemptOutcome::Returned);
    assert_eq!(stage.ended(&key(1, 1), returned), ["send 0#2 want 2 from w:alpha a:shell 1.1=returned"]);
}

#[test]
fn a_new_life_owes_nothing_to_the_one_before() {
    let mut stage = Stage::in_the_middle();
    let old = stage.id(0);
    assert_eq!(stage.handle(WorkerEvent::Fenced(Life::FIRST)), ["end 1.1 Discard", "reattach"]);
    assert_eq!(stage.handle(WorkerEvent::Fenced(Life::FIRST)), [] as [&str; 0]);
    let late = reply(vec![grant(&key(3, 1), "p")]);
    assert_eq!(stage.handle(WorkerEvent::StepAnswered(0, old, late)), [] as [&str; 0]);
    // The agents of the life before hold their slots until they are gone.
    let actions = stage.handle(WorkerEvent::Attached(Life(2)));
    assert_eq!(actions, ["send 0#3 want 1 from w:alpha a:shell"]);
    assert_eq!(stage.handle(WorkerEvent::Fenced(Life::FIRST)), [] as [&str; 0], "of the life before");
    assert_eq!(stage.ended(&key(1, 1), completed()), ["send 1#4 want 1 from w:alpha a:shell"]);
    assert_eq!(stage.fetched(&key(2, 1)), [] as [&str; 0], "given up without a word");
}

#[test]
fn what_is_broken_is_not_claimed_by_the_very_request_that_reports_it() {
    let mut stage = Stage::running(2, &[key(1, 1)]);
    let infra = || AttemptReport::failed(Reason::Infra, None, "binary not found: `shell`");
    let broken = Breakage::Type("shell".parse().expect("a lawful slug"));
    let actions = stage.handle(WorkerEvent::AttemptEnded(key(1, 1), infra(), Some(broken.clone())));
    assert_eq!(
        actions,
        [
            "probe agent type `shell`",
            "serve ",
            "send 0#2 want 2 from w:alpha 1.1=returned:infra",
            "listen [w:alpha]",
        ]
    );
    assert_eq!(stage.dispatcher.trouble().as_deref(), Some("agent type `shell`: binary not found: `shell`"));
    let actions = stage.handle(WorkerEvent::ProbePassed(broken));
    assert_eq!(actions, ["serve shell", "listen [w:alpha a:shell]"]);
    assert_eq!(stage.dispatcher.trouble(), None);
    let actions = stage.answer(0, reply(Vec::new()));
    assert_eq!(actions, ["send 0#3 want 2 from w:alpha a:shell"], "what waited meanwhile is claimed");
}

#[test]
fn a_full_worker_listens_to_no_queue_and_steady_work_changes_no_bell() {
    let mut stage = Stage::new(1);
    stage.handle(WorkerEvent::BellRang);
    stage.answer(0, reply(Vec::new()));
    stage.handle(WorkerEvent::BellRang);
    let actions = stage.answer(0, reply(vec![grant(&key(1, 1), "p")]));
    assert_eq!(actions, ["fetch 1.1", "listen []"]);
    stage.fetched(&key(1, 1));
    for index in 1..20 {
        let actions = stage.ended(&key(index, 1), completed());
        assert_eq!(actions.len(), 1, "one request reports and claims: {actions:?}");
        let actions = stage.answer(0, reply(vec![grant(&key(index + 1, 1), "p")]));
        assert_eq!(actions, [format!("launch {}.1", index + 1)]);
    }
    stage.ended(&key(20, 1), completed());
    assert_eq!(stage.answer(0, reply(Vec::new())), ["listen [w:alpha a:shell]"]);
}

#[test]
fn what_launches_nothing_goes_through_in_one_request_each() {
    let mut stage = Stage::serving(2, "noop", OnDisconnect::Stop);
    stage.run(&[key(1, 1)]);
    let mut index = 1;
    for _ in 0..5 {
        let lane = *stage.sent.keys().next().expect("reports are under way");
        assert_eq!(stage.sent.len(), 1);
        let grants = vec![grant(&key(index + 1, 1), "p"), grant(&key(index + 2, 1), "p")];
        index += 2;
        let answer = StepReply { answers: accepted(&stage.sent[&lane]), ..reply(grants) };
        let actions = stage.answer(lane, answer);
        assert_eq!(actions.len(), 1, "{actions:?}");
        assert!(
            actions[0].ends_with(&format!("{}.1=completed {index}.1=completed", index - 1)),
            "{actions:?}"
        );
    }
    assert_eq!(stage.dispatcher.running(), 0);
}

#[test]
fn a_draining_worker_goes_on_with_runs_bound_to_it_and_takes_no_other() {
    let mut stage = Stage::running(2, &[key(1, 1)]);
    let actions = stage.handle(WorkerEvent::Terminate);
    assert_eq!(actions, ["serve shell", "ask-bound-runs after 0ns", "start-drain-timer", "listen []"]);
    let own = "send 0#2 want 1 from w:alpha";
    let ask = "ask-bound-runs after 1s";
    assert_eq!(stage.handle(WorkerEvent::RunsBound(1)), [ask, own]);
    assert_eq!(stage.answer(0, reply(vec![grant(&key(2, 1), "p")])), ["launch 2.1"]);
    let actions = stage.ended(&key(1, 1), completed());
    assert_eq!(actions, ["send 0#3 want 1 from w:alpha 1.1=completed"]);
    stage.answer(0, reply(Vec::new()));
    let actions = stage.ended(&key(2, 1), completed());
    assert_eq!(actions, ["send 0#4 want 2 from w:alpha 2.1=completed"]);
    assert_eq!(stage.answer(0, reply(Vec::new())), [] as [&str; 0], "the run has not ended");
    assert_eq!(stage.handle(WorkerEvent::RunsBound(0)), ["listen []", "finish"]);
}

#[test]
fn what_was_claimed_before_the_drain_goes_back_unburned() {
    let mut stage = Stage::in_the_middle();
    stage.handle(WorkerEvent::Terminate);
    let actions = stage.answer(0, reply(vec![grant(&key(3, 1), "p")]));
    assert_eq!(actions, ["send 0#3 3.1=returned"]);
}

#[test]
fn the_second_terminate_ends_at_once_and_waits_only_for_the_reports() {
    let mut stage = Stage::running(2, &[key(1, 1)]);
    stage.handle(WorkerEvent::Terminate);
    assert_eq!(stage.handle(WorkerEvent::Terminate), ["end 1.1 Return", "start-last-timer"]);
    assert_eq!(stage.handle(WorkerEvent::Terminate), ["end 1.1 within 0ns"], "a third one waits for nobody");
    assert_eq!(stage.handle(WorkerEvent::DrainDeadline(DrainNumber(0))), [] as [&str; 0]);
    let returned = AttemptReport::plain(AttemptOutcome::Returned);
    assert_eq!(stage.ended(&key(1, 1), returned), ["send 0#2 1.1=returned"]);
    assert_eq!(stage.answer(0, reply(Vec::new())), ["finish"]);
}

#[test]
fn told_to_end_its_agents_a_worker_gives_their_tasks_back_and_goes_on() {
    // Attempt 1.1 runs, what 2.1 needs is being read, and a claim is under way.
    let mut stage = Stage::in_the_middle();
    let end = || WorkerEvent::EndAgents(Duration::from_secs(3));
    assert_eq!(stage.handle(end()), ["end 1.1 within 3s"]);
    assert_eq!(stage.handle(end()), ["end 1.1 within 3s"], "asked again, it is the handle that compares");
    let read = WorkerEvent::Fetched(
        Box::new(grant(&key(2, 1), "p")),
        known_run(shared_spec("shell")),
        HashMap::new(),
    );
    assert_eq!(stage.handle(read), ["send 1#3 want 1 from w:alpha a:shell 2.1=returned"]);
    let returned = AttemptReport::plain(AttemptOutcome::Returned);
    stage.ended(&key(1, 1), returned);
    assert_eq!(stage.dispatcher.running(), 0);
    assert!(!stage.dispatcher.is_draining(), "it serves as before");
}

#[test]
fn with_redis_away_the_end_comes_all_the_same() {
    let mut stage = Stage::in_the_middle();
    stage.handle(WorkerEvent::Terminate);
    assert_eq!(
        stage.handle(WorkerEvent::DrainDeadline(DrainNumber(0))),
        ["end 1.1 Return", "start-last-timer"]
    );
    assert_eq!(stage.handle(WorkerEvent::LastDeadline), ["finish"]);
    assert_eq!(stage.handle(WorkerEvent::BellRang), [] as [&str; 0]);
}

#[test]
fn a_worker_told_to_end_while_it_has_no_lease_does_not_wait_for_one() {
    let mut stage = Stage::new(2);
    let actions = stage.handle(WorkerEvent::Fenced(Life::FIRST));
    assert_eq!(actions, ["reattach", "listen [w:alpha a:shell]"]);
    let actions = stage.handle(WorkerEvent::Terminate);
    assert_eq!(
        actions,
        ["serve shell", "ask-bound-runs after 0ns", "start-drain-timer", "listen []", "finish"]
    );
}

#[test]
fn while_the_cluster_is_paused_reports_go_out_and_nothing_is_claimed() {
    let mut stage = Stage::running(2, &[key(1, 1)]);
    let paused = BeatReply { mode: CellMode::Paused, ..beat_reply(Vec::new()) };
    stage.handle(WorkerEvent::BeatAnswered(Life::FIRST, Vec::new(), paused));
    assert_eq!(stage.handle(WorkerEvent::BellRang), [] as [&str; 0]);
    assert_eq!(stage.ended(&key(1, 1), completed()), ["send 0#2 1.1=completed"]);
    let request = stage.id(0);
    let actions = stage.handle(WorkerEvent::StepPaused(0, request));
    assert_eq!(actions, ["send 0#2 1.1=completed after 1s"], "the same words");
    stage.answer(0, StepReply { mode: CellMode::Paused, ..reply(Vec::new()) });
    assert_eq!(stage.beat(&[]), ["send 0#3 want 2 from w:alpha a:shell"], "it is over");
}

#[test]
fn what_cannot_be_understood_counts_and_what_redis_withholds_does_not() {
    let failures = [
        (FetchFailure::Passing("no answer".to_owned()), "2.1=returned"),
        (FetchFailure::Lasting("a newer format".to_owned()), "2.1=returned:infra"),
    ];
    for (failure, expected) in failures {
        let mut stage = Stage::in_the_middle();
        let actions = stage.handle(WorkerEvent::FetchFailed(Box::new(grant(&key(2, 1), "p")), failure));
        assert_eq!(actions, [format!("send 1#3 want 1 from w:alpha a:shell {expected}")]);
    }
}

#[test]
fn a_recovery_is_asked_for_many_times_and_made_once() {
    let mut stage = Stage::running(2, &[key(1, 1)]);
    assert_eq!(stage.handle(WorkerEvent::RecoveryAsked(Life(0))), [] as [&str; 0], "another life");
    assert_eq!(stage.handle(WorkerEvent::RecoveryAsked(Life::FIRST)), ["recover"]);
    assert_eq!(stage.handle(WorkerEvent::RecoveryAsked(Life::FIRST)), [] as [&str; 0]);
    stage.handle(WorkerEvent::Recovered(Life::FIRST));
    assert_eq!(stage.handle(WorkerEvent::RecoveryAsked(Life::FIRST)), ["recover"], "redis has changed again");
}
