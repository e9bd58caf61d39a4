//! Assigned agents: whose queues are claimed, and that an agent does one thing at a time.

use maestro_model::agent_type::OnDisconnect;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_store::worker::BeatVerdict;

use super::super::*;
use super::stage::{Stage, completed, reply};
use crate::assigned::{AgentHere, AgentsHere};
use crate::samples::{grant, key, known_run, shared_spec};

fn here(paths: &[(&str, &str)]) -> WorkerEvent {
    let ready = paths.iter().map(|(id, path)| AgentHere {
        id: id.parse().expect("a lawful id"),
        agent_type: "shell".parse().expect("a lawful slug"),
        path: (*path).to_owned(),
    });
    WorkerEvent::AgentsHere(AgentsHere { ready: ready.collect(), hindered: Vec::new() })
}

/// A worker of three slots whose tasks are all for the agent `smith`.
fn with_smith() -> Stage {
    let mut stage = Stage::serving(3, "shell", OnDisconnect::Stop);
    let assigned = Some("smith".parse().expect("a lawful id"));
    stage.known = known_run(SharedSpec { assigned, ..shared_spec("shell") });
    stage.handle(here(&[("smith", "/srv/app")]));
    stage
}

#[test]
fn the_queue_of_an_agent_is_claimed_while_the_agent_is_here() {
    let mut stage = Stage::new(2);
    stage.handle(WorkerEvent::BellRang);
    stage.answer(0, reply(Vec::new()));
    let actions = stage.handle(here(&[("smith", "/srv/app")]));
    assert_eq!(actions, ["send 0#2 want 2 from w:alpha a:shell i:smith", "listen [w:alpha a:shell i:smith]"]);
    assert_eq!(stage.handle(here(&[("smith", "/srv/app")])), [] as [&str; 0], "nothing new");
    stage.answer(0, reply(Vec::new()));
    let actions = stage.handle(here(&[]));
    assert_eq!(actions, ["send 0#3 want 2 from w:alpha a:shell", "listen [w:alpha a:shell]"]);
}

#[test]
fn an_agent_that_cannot_be_launched_here_is_trouble_and_not_claimed() {
    let mut stage = Stage::new(1);
    let hindered = vec![("smith".parse().expect("a lawful id"), "binary not found: `kilo`".to_owned())];
    let event = WorkerEvent::AgentsHere(AgentsHere { ready: Vec::new(), hindered });
    assert_eq!(stage.handle(event), ["send 0#1 want 1 from w:alpha a:shell"]);
    let trouble = stage.dispatcher.trouble();
    assert_eq!(trouble.as_deref(), Some("agent `smith`: binary not found: `kilo`"));
}

#[test]
fn a_second_task_waits_until_the_agents_first_is_gone_from_here() {
    let mut stage = with_smith();
    stage.answer(0, reply(vec![grant(&key(1, 1), "p")]));
    assert_eq!(stage.fetched(&key(1, 1)), ["launch 1.1"]);
    // The cluster gave the task up, and with it the agent was free: the next one comes at once.
    assert_eq!(stage.beat(&[(key(1, 1), BeatVerdict::Stale)]), ["end 1.1 Discard"]);
    stage.handle(WorkerEvent::BellRang);
    let lane = *stage.sent.keys().next().expect("a claim is under way");
    let actions = stage.answer(lane, reply(vec![grant(&key(2, 1), "p")]));
    assert!(!actions.iter().any(|action| action.starts_with("launch")), "{actions:?}");
    let actions = stage.ended(&key(1, 1), completed());
    assert!(actions.contains(&"launch 2.1".to_owned()), "{actions:?}");
}

#[test]
fn an_attempt_that_is_to_be_killed_is_ended_at_once_and_reported_as_cancelled() {
    let mut stage = with_smith();
    stage.answer(0, reply(vec![grant(&key(1, 1), "p")]));
    stage.fetched(&key(1, 1));
    assert_eq!(stage.beat(&[(key(1, 1), BeatVerdict::Cancel)]), ["end 1.1 Cancel"]);
    assert_eq!(stage.beat(&[(key(1, 1), BeatVerdict::Kill)]), ["end 1.1 Kill"]);
    assert_eq!(stage.beat(&[(key(1, 1), BeatVerdict::Cancel)]), [] as [&str; 0], "it is being killed");
    let actions = stage.ended(&key(1, 1), AttemptReport::plain(AttemptOutcome::Cancelled));
    assert!(actions.iter().any(|action| action.contains("1.1=cancelled")), "{actions:?}");
}

#[test]
fn what_waits_for_an_agent_waits_while_its_worker_drains() {
    let mut stage = with_smith();
    stage.answer(0, reply(vec![grant(&key(1, 1), "p")]));
    stage.fetched(&key(1, 1));
    stage.handle(WorkerEvent::Terminate);
    stage.handle(WorkerEvent::RunsBound(1));
    let queues = |request: &StepRequest| request.queues.iter().any(|queue| queue.as_str() == "i:smith");
    stage.handle(WorkerEvent::BellRang);
    assert!(!stage.dispatcher.claimed_queues().iter().any(|queue| queue.as_str().starts_with("i:")));
    assert!(!stage.sent.values().any(queues), "{:?}", stage.sent);
}

#[test]
fn a_folder_that_is_gone_closes_its_agents_queue_and_no_other() {
    let mut stage = with_smith();
    stage.handle(here(&[("jones", "/srv/other"), ("smith", "/srv/app")]));
    stage.answer(0, reply(vec![grant(&key(1, 1), "p")]));
    stage.fetched(&key(1, 1));
    let infra = AttemptReport::failed(Reason::Infra, None, "the assigned folder is gone");
    let broken = || Breakage::Agent("smith".parse().expect("a lawful id"));
    let actions = stage.handle(WorkerEvent::AttemptEnded(key(1, 1), infra, Some(broken())));
    assert!(actions.contains(&"probe agent `smith`".to_owned()), "{actions:?}");
    let claimed = |stage: &Stage| -> Vec<String> {
        stage.dispatcher.claimed_queues().iter().map(|queue| queue.as_str().to_owned()).collect()
    };
    assert_eq!(claimed(&stage), ["w:alpha", "a:shell", "i:jones"]);
    assert!(stage.dispatcher.trouble().is_some_and(|trouble| trouble.contains("agent `smith`")));
    stage.handle(WorkerEvent::ProbePassed(broken()));
    assert_eq!(claimed(&stage), ["w:alpha", "a:shell", "i:jones", "i:smith"]);

    stage.dispatcher.intake.break_down(broken(), "gone".to_owned());
    // Another folder is not known to be broken.
    stage.handle(here(&[("jones", "/srv/other"), ("smith", "/srv/new")]));
    assert_eq!(claimed(&stage), ["w:alpha", "a:shell", "i:jones", "i:smith"]);
    assert_eq!(stage.dispatcher.trouble(), None);
}
