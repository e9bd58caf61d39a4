//! Every pair of events, one after the other, from the middle of a worker's life.

use maestro_model::attempt::AttemptReport;
use maestro_store::step::{CellMode, StepReply};
use maestro_store::worker::{BeatReply, BeatVerdict};

use super::super::*;
use super::stage::{Stage, beat_reply, completed, reply};
use crate::assigned::AgentHere;
use crate::events::DrainOrder;
use crate::samples::{grant, key, known_run, shared_spec};

const HOUR: Duration = Duration::from_secs(3600);

fn smith() -> AgentsHere {
    let agent = AgentHere {
        id: "smith".parse().expect("a lawful id"),
        agent_type: "shell".parse().expect("a lawful slug"),
        path: "/srv/app".to_owned(),
    };
    AgentsHere { ready: vec![agent], hindered: Vec::new() }
}

/// A name for the table, and the event. Request 2 is under way in lane 0, attempt 1.1 runs, and what
/// attempt 2.1 needs is being read.
fn events() -> Vec<(&'static str, WorkerEvent)> {
    let beat =
        |life, attempt, verdict| WorkerEvent::BeatAnswered(life, vec![attempt], beat_reply(vec![verdict]));
    let first = Life::FIRST;
    let fenced = StepReply { fenced: true, ..reply(Vec::new()) };
    let unknown = BeatReply { unknown: vec![key(5, 1)], ..beat_reply(Vec::new()) };
    let paused = BeatReply { mode: CellMode::Paused, ..beat_reply(Vec::new()) };
    let infra = AttemptReport::failed(Reason::Infra, None, "disk full");
    let read = grant(&key(2, 1), "p");
    vec![
        ("answered: nothing", WorkerEvent::StepAnswered(0, 2, reply(Vec::new()))),
        ("answered: 3.1", WorkerEvent::StepAnswered(0, 2, reply(vec![grant(&key(3, 1), "p")]))),
        ("answered: request 1 again", WorkerEvent::StepAnswered(0, 1, reply(vec![grant(&key(9, 1), "p")]))),
        ("answered: fenced", WorkerEvent::StepAnswered(0, 2, fenced)),
        ("frozen", WorkerEvent::StepPaused(0, 2)),
        ("frozen: request 1", WorkerEvent::StepPaused(0, 1)),
        (
            "read: 2.1",
            WorkerEvent::Fetched(Box::new(read.clone()), known_run(shared_spec("shell")), HashMap::new()),
        ),
        (
            "cannot read: redis",
            WorkerEvent::FetchFailed(Box::new(read.clone()), FetchFailure::Passing("x".to_owned())),
        ),
        (
            "cannot read: words",
            WorkerEvent::FetchFailed(Box::new(read), FetchFailure::Lasting("x".to_owned())),
        ),
        ("ended: 1.1", WorkerEvent::AttemptEnded(key(1, 1), completed(), None)),
        ("ended: disk", WorkerEvent::AttemptEnded(key(1, 1), infra, Some(Breakage::Workspaces))),
        ("ended: nobody's", WorkerEvent::AttemptEnded(key(1, 7), completed(), None)),
        ("bell", WorkerEvent::BellRang),
        ("beat: mine", beat(first, key(1, 1), BeatVerdict::Yours)),
        ("beat: cancel 1.1", beat(first, key(1, 1), BeatVerdict::Cancel)),
        ("beat: kill 1.1", beat(first, key(1, 1), BeatVerdict::Kill)),
        ("beat: stale 1.1", beat(first, key(1, 1), BeatVerdict::Stale)),
        ("beat: cancel 2.1", beat(first, key(2, 1), BeatVerdict::Cancel)),
        ("beat: unknown 5.1", WorkerEvent::BeatAnswered(first, Vec::new(), unknown)),
        ("beat: paused", WorkerEvent::BeatAnswered(first, Vec::new(), paused)),
        ("beat: earlier life", beat(Life(0), key(1, 1), BeatVerdict::Stale)),
        ("fenced", WorkerEvent::Fenced(first)),
        ("fenced: earlier life", WorkerEvent::Fenced(Life(0))),
        ("lease in danger", WorkerEvent::LeaseInDanger(first)),
        ("recovery asked", WorkerEvent::RecoveryAsked(first)),
        ("recovered", WorkerEvent::Recovered(first)),
        ("attached", WorkerEvent::Attached(Life(2))),
        ("types: noop", WorkerEvent::TypesServed(vec!["noop".parse().expect("a lawful slug")])),
        ("agents: smith", WorkerEvent::AgentsHere(smith())),
        ("disk works", WorkerEvent::ProbePassed(Breakage::Workspaces)),
        ("bound runs: 0", WorkerEvent::RunsBound(0)),
        ("bound runs: 1", WorkerEvent::RunsBound(1)),
        ("end agents", WorkerEvent::EndAgents(HOUR)),
        ("terminate", WorkerEvent::Terminate),
        ("drain: an hour", WorkerEvent::Drain(DrainOrder { deadline: Some(HOUR), force: false })),
        ("drain: force", WorkerEvent::Drain(DrainOrder { deadline: None, force: true })),
        ("drain deadline", WorkerEvent::DrainDeadline(DrainNumber(0))),
        ("drain deadline: second", WorkerEvent::DrainDeadline(DrainNumber(1))),
        ("last deadline", WorkerEvent::LastDeadline),
    ]
}

fn line(name: &str, actions: &[String]) -> String {
    let actions = if actions.is_empty() { "-".to_owned() } else { actions.join("; ") };
    format!("{name:<26} {actions}\n")
}

#[test]
fn every_pair_of_events_leads_to_these_actions_and_no_others() {
    let mut table = String::new();
    for first in 0..events().len() {
        for second in 0..events().len() {
            let mut stage = Stage::in_the_middle();
            let (name, event) = events().swap_remove(first);
            let actions = stage.handle(event);
            if second == 0 {
                table += &line(&format!("# {name}"), &actions);
            }
            let (name, event) = events().swap_remove(second);
            let actions = stage.handle(event);
            table += &line(&format!("  {name}"), &actions);
        }
    }
    insta::assert_snapshot!(table);
}
