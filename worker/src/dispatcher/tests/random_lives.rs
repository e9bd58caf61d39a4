//! Long random lives of a worker: answers late, twice, out of turn or never; the rules hold throughout,
//! and a worker that is told to end does end.

use std::collections::VecDeque;

use maestro_model::attempt::AttemptReport;
use maestro_store::step::{StepReply, StepRequest};
use maestro_store::worker::{BeatReply, BeatVerdict};
use proptest::prelude::*;

use super::super::*;
use super::stage::{Stage, accepted, beat_reply, completed, reply};
use crate::samples::{grant, key, known_run, shared_spec};

/// The rest of the world, as far as a worker meets it.
struct World {
    stage: Stage,
    next_task: u32,
    attempts: HashMap<u32, u32>,
    fetching: Vec<AttemptKey>,
    answered: VecDeque<StepRequest>,
    attaching: Option<Life>,
}

impl World {
    fn new(concurrency: usize) -> World {
        World {
            stage: Stage::new(concurrency),
            next_task: 0,
            attempts: HashMap::new(),
            fetching: Vec::new(),
            answered: VecDeque::new(),
            attaching: None,
        }
    }

    /// A task that was never granted, or one again, with its next attempt.
    fn task(&mut self, choice: u8) -> AttemptKey {
        let index = if choice.is_multiple_of(3) && self.next_task > 0 {
            u32::from(choice) % self.next_task
        } else {
            self.next_task += 1;
            self.next_task - 1
        };
        let attempt = self.attempts.entry(index).or_default();
        *attempt += 1;
        key(index, *attempt)
    }

    fn handle(&mut self, event: WorkerEvent) {
        for action in self.stage.handle(event) {
            if action == "reattach" {
                self.attaching = Some(self.stage.dispatcher.life.next());
            }
        }
        self.fetching.retain(|key| {
            matches!(
                self.stage.dispatcher.held.get(key),
                Some(Holding { stage: super::super::Stage::Fetching, .. })
            )
        });
        let held = self.stage.dispatcher.held.iter();
        let fetching = held.filter(|(_, one)| matches!(one.stage, super::super::Stage::Fetching));
        self.fetching = fetching.map(|(key, _)| key.clone()).collect();
    }

    fn answer(&mut self, lane: u8, grants: u8, choice: u8) {
        let Some(request) = self.stage.sent.get(&lane).cloned() else { return };
        let count = usize::from(grants).min(request.want);
        let grants = (0..count).map(|nth| grant(&self.task(choice.wrapping_add(nth as u8)), "p")).collect();
        let answer =
            StepReply { answers: accepted(&request), more: choice.is_multiple_of(5), ..reply(grants) };
        self.handle(WorkerEvent::StepAnswered(lane, request.request_id, answer.clone()));
        // The same answer may come again, and an old one long after.
        if choice.is_multiple_of(4) {
            self.handle(WorkerEvent::StepAnswered(lane, request.request_id, answer));
        }
        self.answered.push_back(request);
        if self.answered.len() > 3 {
            let old = self.answered.pop_front().expect("there are four");
            let late = reply(vec![grant(&key(9_000, 1), "p")]);
            self.handle(WorkerEvent::StepAnswered(old.lane, old.request_id, late));
        }
    }

    fn fetch(&mut self, choice: u8) {
        let Some(key) = pick(&self.fetching, choice) else { return };
        let read = Box::new(grant(&key, "p"));
        self.handle(match choice % 5 {
            0 => WorkerEvent::FetchFailed(read, FetchFailure::Passing("x".to_owned())),
            1 => WorkerEvent::FetchFailed(read, FetchFailure::Lasting("x".to_owned())),
            _ => WorkerEvent::Fetched(read, self.stage.known.clone(), HashMap::new()),
        });
    }

    fn end(&mut self, choice: u8) {
        let launched: Vec<AttemptKey> = self.stage.launched.iter().cloned().collect();
        let Some(key) = pick(&launched, choice) else { return };
        let (report, broken) = match choice % 6 {
            0 => (AttemptReport::failed(Reason::Exit, Some(1), "x"), None),
            1 => (AttemptReport::failed(Reason::Infra, None, "x"), Some(Breakage::Workspaces)),
            2 => (AttemptReport::plain(AttemptOutcome::Returned), None),
            _ => (completed(), None),
        };
        self.handle(WorkerEvent::AttemptEnded(key.clone(), report.clone(), broken));
        if choice.is_multiple_of(7) {
            self.handle(WorkerEvent::AttemptEnded(key, report, None));
        }
    }

    fn beat(&mut self, choice: u8) {
        let life = if choice.is_multiple_of(11) { Life(0) } else { self.stage.dispatcher.life };
        let listed: Vec<AttemptKey> = self.stage.dispatcher.held.keys().cloned().collect();
        let verdicts = listed.iter().enumerate().map(|(nth, _)| match choice.wrapping_add(nth as u8) % 9 {
            0 => BeatVerdict::Cancel,
            1 => BeatVerdict::Stale,
            2 => BeatVerdict::Kill,
            _ => BeatVerdict::Yours,
        });
        let mode = if choice.is_multiple_of(13) { CellMode::Paused } else { CellMode::Run };
        let unknown = if choice.is_multiple_of(3) { vec![key(8_000, u32::from(choice))] } else { Vec::new() };
        let answer = BeatReply { mode, unknown, ..beat_reply(verdicts.collect()) };
        self.handle(WorkerEvent::BeatAnswered(life, listed, answer));
    }

    fn step(&mut self, kind: u8, choice: u8) {
        let life = self.stage.dispatcher.life;
        match kind % 20 {
            0..=5 => self.answer(kind % 2, choice % 4, choice),
            6..=8 => self.fetch(choice),
            9..=12 => self.end(choice),
            13 | 14 => self.beat(choice),
            15 => self.handle(WorkerEvent::BellRang),
            16 => match self.attaching.take() {
                Some(life) => self.handle(WorkerEvent::Attached(life)),
                None if choice.is_multiple_of(4) => self.handle(WorkerEvent::Fenced(life)),
                None => self.handle(WorkerEvent::ProbePassed(Breakage::Workspaces)),
            },
            17 if choice.is_multiple_of(3) => self.handle(WorkerEvent::LeaseInDanger(life)),
            17 => {
                let id = self.stage.sent.get(&(choice % 2)).map_or(0, |request| request.request_id);
                self.handle(WorkerEvent::StepPaused(choice % 2, id));
            }
            18 => self.handle(WorkerEvent::RunsBound(usize::from(choice % 2))),
            _ if choice < 6 => self.handle(WorkerEvent::Terminate),
            _ if choice < 9 => self.handle(WorkerEvent::DrainDeadline(DrainNumber(0))),
            _ if choice < 40 => self.handle(WorkerEvent::EndAgents(Duration::from_millis(choice.into()))),
            _ => self.handle(WorkerEvent::BellRang),
        }
    }

    /// Everything that is asked for happens: the worker must come to its end.
    fn come_to_an_end(&mut self) {
        self.handle(WorkerEvent::Terminate);
        self.handle(WorkerEvent::RunsBound(0));
        for _ in 0..1_000 {
            if self.stage.finished {
                return;
            }
            for lane in [0, 1] {
                self.answer(lane, 0, 1);
            }
            self.fetch(2);
            self.end(3);
        }
        panic!("it does not end: {:?}", self.stage.dispatcher);
    }
}

fn pick(keys: &[AttemptKey], choice: u8) -> Option<AttemptKey> {
    keys.get(usize::from(choice) % keys.len().max(1)).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_through_any_life(
        concurrency in 1_usize..6,
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 1..300),
    ) {
        let mut world = World::new(concurrency);
        world.handle(WorkerEvent::BellRang);
        for (kind, choice) in steps {
            world.step(kind, choice);
        }
        world.come_to_an_end();
    }

    #[test]
    fn an_agent_never_does_two_things_whatever_is_granted(
        concurrency in 1_usize..6,
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 1..300),
    ) {
        let mut world = World::new(concurrency);
        let assigned = Some("smith".parse().expect("a lawful id"));
        world.stage.known = known_run(SharedSpec { assigned, ..shared_spec("shell") });
        world.handle(WorkerEvent::BellRang);
        for (kind, choice) in steps {
            world.step(kind, choice);
        }
        world.come_to_an_end();
    }
}
