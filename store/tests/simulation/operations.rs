//! What may happen next: each operation is one thing that somebody does, well or badly.

use std::time::Duration;

use maestro_model::ids::{Incarnation, TaskId};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::duties::Expansion;
use maestro_store::encode::expanded_item;
use maestro_store::step::{CellMode, Ending, PublishedValue, StepReport, StepRequest};
use maestro_store::worker::{BeatReply, BeatVerdict, ProcessRole, ProcessStatus};
use maestro_store::{Refusal, StoreError};
use rand::Rng;

use super::actor::{Actor, Health, PendingRequest, RunningTask};
use super::again::take_over;
use super::delivery::{Delivery, unexpected};
use super::plans::{LOST_MAX, ShadowRun, random_plan};
use super::world::World;
use super::{Violation, hold};

/// How long a beat is good for.
pub const LEASE: Duration = Duration::from_secs(12);
/// Requests that a retry may need while things are left over, and sweeps between them.
pub const RETRY_CALLS: i64 = 50;
/// Names that processes of the played cluster go by.
pub const NAMES: [&str; 3] = ["ada", "bob", "cyd"];

/// What an actor does with what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Everything can happen.
    Random,
    /// All work is done well and reported at once.
    Diligent,
}

impl World {
    /// Submits a new run, or one of those known once more.
    pub async fn op_submit(&mut self) -> Result<(), Violation> {
        let again = !self.runs.is_empty() && self.die.random_bool(0.25);
        let place = if again {
            self.die.random_range(0..self.runs.len())
        } else {
            let id = self.fresh_run();
            let mut plan = random_plan(&mut self.die);
            if self.die.random_bool(0.25) {
                take_over(&mut self.die, &mut plan);
            }
            self.runs.push(ShadowRun::new(id, plan));
            self.runs.len() - 1
        };
        if self.runs[place].collected {
            return Ok(());
        }
        let (id, plan) = (self.runs[place].id.clone(), self.runs[place].plan.clone());
        self.tell(format!("submit {id}: {} tasks, policy {:?}", plan.tasks.len(), plan.policy));
        match self.store.submit(&id, &plan, LOST_MAX).await {
            Ok(_) => self.runs[place].acknowledged = true,
            Err(StoreError::Refused(Refusal::Paused)) => {}
            Err(error) => return Err(unexpected("a submission failed", error)),
        }
        self.statistics.count(if again { "submit-again" } else { "submit" });
        self.look(1)
    }

    /// A process attaches, under a free name, a dead one's or, by takeover, a live one's.
    pub async fn op_attach(&mut self) -> Result<(), Violation> {
        let coordinator = self.die.random_bool(0.25);
        let role = if coordinator { ProcessRole::Coordinator } else { ProcessRole::Worker };
        let name = if coordinator { "coordinator" } else { NAMES[self.die.random_range(0..NAMES.len())] };
        let takeover = self.die.random_bool(0.5);
        let both = self.die.random_bool(0.75);
        self.attach(name, role, takeover, both).await
    }

    pub async fn attach(
        &mut self,
        name: &str,
        role: ProcessRole,
        takeover: bool,
        both_types: bool,
    ) -> Result<(), Violation> {
        let incarnation = Incarnation::from_stored(self.fresh_id(16));
        let actor = Actor::new(incarnation.clone(), name, role, both_types);
        self.tell(format!("attach {incarnation} as {name} ({role:?}), takeover {takeover}"));
        let sent = self.store.attach(&incarnation, name, &actor.types, LEASE, takeover, &actor.about()).await;
        match sent {
            Ok(()) => {
                let holder = self.last.hash("names").and_then(|names| names.get(name)).cloned();
                for old in
                    self.actors.iter_mut().filter(|old| Some(old.incarnation.as_str()) == holder.as_deref())
                {
                    old.lease_until = None;
                    self.statistics.count(if takeover { "takeover" } else { "name-inherited" });
                }
                self.actors.push(actor);
                self.look(1)?;
                let until = self.clock() + LEASE.as_millis() as i64;
                self.actors.last_mut().expect("just pushed").lease_until = Some(until);
                self.statistics.count("attach");
            }
            Err(StoreError::Refused(Refusal::NameTaken { .. })) => {
                hold!(!takeover, "a takeover was refused");
                self.statistics.count("name-taken");
                self.look(1)?;
            }
            Err(error) => return Err(unexpected("attaching failed", error)),
        }
        Ok(())
    }

    /// Time passes; now and then the wall clock jumps.
    pub fn op_time(&mut self) -> Result<(), Violation> {
        let by: i64 = match self.die.random_range(0..100) {
            0..50 => self.die.random_range(0..1_500),
            50..85 => self.die.random_range(1_000..5_000),
            85..90 => self.die.random_range(5_000..9_000),
            90..95 => 3_600_000,
            _ => -3_600_000,
        };
        self.statistics.count(if by.abs() == 3_600_000 { "clock-jump" } else { "time" });
        self.tell(format!("time {by:+} ms"));
        self.set_wall(self.wall_ms + by)
    }

    /// An actor's heartbeat.
    pub async fn op_beat(&mut self, place: usize) -> Result<(), Violation> {
        let delivery = Delivery::random(&mut self.die);
        self.beat(place, delivery).await
    }

    pub async fn beat(&mut self, place: usize, delivery: Delivery) -> Result<(), Violation> {
        self.statistics.count(&format!("beat-{}", delivery.word()));
        let actor = self.actors[place].clone();
        self.tell(format!("beat of {} ({}), {}", actor.name, actor.incarnation, delivery.word()));
        if delivery == Delivery::RequestLost {
            return Ok(());
        }
        let list = actor.list();
        let status = ProcessStatus::default();
        for number in 0..if delivery == Delivery::Twice { 2 } else { 1 } {
            match self.store.beat(&actor.incarnation, LEASE, &actor.types, &status, &list).await {
                Ok(reply) => {
                    let over = self.actors[place].lease_until.is_some_and(|until| until < self.clock());
                    hold!(!over, "a lease that has run out was renewed");
                    self.look(1)?;
                    if reply.mode == CellMode::Run {
                        self.check_limits(&actor.incarnation)?;
                    }
                    let until = self.clock() + LEASE.as_millis() as i64;
                    self.actors[place].lease_until = Some(until);
                    if delivery != Delivery::AnswerLost && number == 0 {
                        self.on_beat(place, &list, reply)?;
                    }
                }
                Err(StoreError::Refused(Refusal::Fenced)) => {
                    self.look(1)?;
                    self.check_fenced(&actor.incarnation)?;
                    self.actors[place].lease_until = None;
                    if self.die.random_bool(0.7) {
                        self.actors[place].forget();
                        self.actors[place].health = Health::Gone;
                    }
                    return Ok(());
                }
                Err(error) => return Err(unexpected("a beat failed", error)),
            }
        }
        Ok(())
    }

    /// Whoever has just beaten holds no attempt that may run for ever.
    fn check_limits(&self, who: &Incarnation) -> Result<(), Violation> {
        for run in self.last.runs() {
            for (index, record) in self.last.records(run)? {
                let held = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling);
                let mine = held && record.owner.as_ref() == Some(who);
                hold!(!mine || record.flags.contains('d'), "{run}.{index} has no limit after a beat");
            }
        }
        Ok(())
    }

    fn on_beat(
        &mut self,
        place: usize,
        list: &[(TaskId, maestro_model::ids::Attempt)],
        reply: BeatReply,
    ) -> Result<(), Violation> {
        hold!(reply.verdicts.len() == list.len(), "each attempt has its verdict");
        for ((task, attempt), verdict) in list.iter().zip(&reply.verdicts) {
            let running = &mut self.actors[place].running;
            let known = running.get(task).is_some_and(|running| running.attempt == *attempt);
            match verdict {
                BeatVerdict::Yours => {}
                BeatVerdict::Cancel | BeatVerdict::Kill => {
                    if let Some(running) = running.get_mut(task) {
                        running.told_to_end = true;
                    }
                    let hurry = *verdict == BeatVerdict::Kill;
                    self.statistics.count(if hurry { "told-to-end-at-once" } else { "told-to-end" });
                }
                BeatVerdict::Stale => {
                    // A `foreach` that was expanded is nobody's any more; so is what somebody else has.
                    if known {
                        running.remove(task);
                    }
                    self.statistics.count("told-stale");
                }
            }
        }
        for (task, attempt) in reply.unknown {
            hold!(!list.contains(&(task.clone(), attempt)), "{task} was listed and is called unknown");
            let found = RunningTask { attempt, grant: None, told_to_end: false, expansion: None };
            self.actors[place].running.insert(task, found);
            self.statistics.count("lost-grant-found");
        }
        Ok(())
    }

    /// An actor reports and claims.
    pub async fn op_step(&mut self, place: usize) -> Result<(), Violation> {
        let delivery = Delivery::random(&mut self.die);
        self.step(place, delivery, Temper::Random).await
    }

    pub async fn step(&mut self, place: usize, delivery: Delivery, temper: Temper) -> Result<(), Violation> {
        let lane = self.die.random_range(0..2);
        let pending = match self.actors[place].pending[lane].take() {
            Some(pending) => pending,
            None => PendingRequest { request: self.new_request(place, lane, temper), executed: None },
        };
        let who = self.actors[place].incarnation.clone();
        self.tell(format!(
            "step of {} ({who}) lane {lane} request {}, want {}, reports {:?}, {}",
            self.actors[place].name,
            pending.request.request_id,
            pending.request.want,
            pending
                .request
                .reports
                .iter()
                .map(|report| (&report.task, report.attempt.0, &report.ending))
                .collect::<Vec<_>>(),
            delivery.word()
        ));
        self.statistics.count(&format!("step-{}", delivery.word()));
        if delivery == Delivery::RequestLost {
            self.actors[place].pending[lane] = Some(pending);
            return Ok(());
        }
        let PendingRequest { request, executed } = pending;
        let Some(first) = self.send_step(&who, &request, executed.as_ref()).await? else {
            self.actors[place].pending[lane] = Some(PendingRequest { request, executed });
            return Ok(());
        };
        let mut reply = first;
        if delivery == Delivery::Twice {
            match self.send_step(&who, &request, Some(&reply)).await? {
                Some(again) => reply = again,
                None => return Err(Violation("frozen between two requests".to_owned())),
            }
        }
        if delivery == Delivery::AnswerLost {
            self.actors[place].pending[lane] = Some(PendingRequest { request, executed: Some(reply) });
            return Ok(());
        }
        for grant in reply.grants {
            let running = RunningTask {
                attempt: grant.attempt,
                grant: Some(grant.clone()),
                told_to_end: false,
                expansion: None,
            };
            self.actors[place].running.insert(grant.task, running);
        }
        if reply.fenced {
            self.actors[place].lease_until = None;
            self.actors[place].health = Health::Gone;
        }
        Ok(())
    }

    fn new_request(&mut self, place: usize, lane: usize, temper: Temper) -> StepRequest {
        let running: Vec<(TaskId, RunningTask)> = self.actors[place]
            .running
            .iter()
            .map(|(task, running)| (task.clone(), running.clone()))
            .collect();
        let mut reports = Vec::new();
        // Failures seldom come alone.
        let gloomy = self.die.random_bool(0.15);
        for (task, running) in running {
            let expands = running.grant.as_ref().is_some_and(|grant| grant.own.list.is_some());
            let waits = match temper {
                Temper::Diligent => expands && !running.told_to_end,
                Temper::Random => {
                    self.die.random_bool(if expands && !running.told_to_end { 0.9 } else { 0.5 })
                }
            };
            if waits || reports.len() >= 64 {
                continue;
            }
            let mut ending = self.ending(&running, temper);
            if gloomy && temper == Temper::Random && matches!(ending, Ending::Completed { .. }) {
                let retry_in_ms = self.die.random_bool(0.6).then(|| self.die.random_range(0..3_000));
                ending = Ending::Failed { reason: Reason::Exit, exit_code: Some(1), retry_in_ms };
            }
            self.actors[place].running.remove(&task);
            let publish = if matches!(ending, Ending::Completed { .. }) && self.die.random_bool(0.1) {
                vec![PublishedValue { key: "color of it".to_owned(), value: "blue".to_owned(), json: false }]
            } else {
                Vec::new()
            };
            let output = format!("{{\"message\":\"{}\"}}", running.attempt);
            reports.push(StepReport { task, attempt: running.attempt, ending, output, publish });
        }
        let want = match temper {
            Temper::Random => self.die.random_range(0..9),
            Temper::Diligent => 64,
        };
        self.actors[place].request(lane, want, reports)
    }

    fn ending(&mut self, running: &RunningTask, temper: Temper) -> Ending {
        let Some(grant) = &running.grant else { return Ending::Returned { host_failed: false } };
        if running.told_to_end && (temper == Temper::Diligent || self.die.random_bool(0.7)) {
            return Ending::Cancelled;
        }
        let done = Ending::Completed { exit_code: Some(0) };
        if temper == Temper::Diligent {
            return done;
        }
        let reason = if self.die.random_bool(0.3) { Reason::Timeout } else { Reason::Exit };
        let delay = self.die.random_range(0..3_000);
        let plain = grant.group.is_none();
        match self.die.random_range(0..100) {
            0..15 => Ending::Failed { reason, exit_code: Some(1), retry_in_ms: None },
            15..32 => Ending::Failed { reason, exit_code: Some(1), retry_in_ms: Some(delay) },
            32..38 => Ending::ComeBack { delay_ms: delay },
            38..48 => Ending::Returned { host_failed: self.die.random_bool(0.3) },
            48..53 if plain => Ending::Skipped,
            _ if grant.own.list.is_some() => Ending::Returned { host_failed: false },
            _ => done,
        }
    }

    /// A coordinator stores the next items of a `foreach` that it holds.
    pub async fn op_expand(&mut self, place: usize) -> Result<(), Violation> {
        let delivery = Delivery::random(&mut self.die);
        self.expand(place, delivery).await
    }

    pub async fn expand(&mut self, place: usize, delivery: Delivery) -> Result<(), Violation> {
        let found = self.actors[place]
            .running
            .iter()
            .find(|(_, running)| running.grant.as_ref().is_some_and(|grant| grant.own.list.is_some()));
        let Some((task, running)) = found.map(|(task, running)| (task.clone(), running.clone())) else {
            return Ok(());
        };
        let (total, offset) = running.expansion.unwrap_or((self.die.random_range(0..6), 0));
        let portion = if total - offset > 2 && self.die.random_bool(0.6) { 2 } else { total - offset };
        let grant = running.grant.expect("found by it");
        let record = self.last.record(task.run.as_str(), task.index)?;
        let flags = record.map(|record| record.flags.replace(['x', 'd', 'o'], "")).unwrap_or_default();
        let items: Vec<String> = (offset..offset + portion)
            .map(|number| {
                expanded_item(task.index, grant.shared, &flags, &grant.own.step, number as u32, number.into())
            })
            .collect();
        self.tell(format!(
            "expand {task} by {}: {offset}+{portion} of {total}, {}",
            self.actors[place].name,
            delivery.word()
        ));
        self.statistics.count(&format!("expand-{}", delivery.word()));
        if delivery == Delivery::RequestLost {
            return Ok(());
        }
        let who = self.actors[place].incarnation.clone();
        let limit = grant.own.max_parallel;
        let mut stored = Expansion::Stale;
        for _ in 0..if delivery == Delivery::Twice { 2 } else { 1 } {
            match self.store.expand(&who, &task, running.attempt, total, offset, limit, &items).await {
                Ok(expansion) => stored = expansion,
                Err(StoreError::Refused(Refusal::Paused | Refusal::NotFound { .. })) => {
                    stored = Expansion::Stale
                }
                Err(error) => return Err(unexpected("an expansion failed", error)),
            }
            self.look(1)?;
        }
        let held = &mut self.actors[place].running;
        match stored {
            Expansion::Stored if delivery == Delivery::AnswerLost => {
                held.get_mut(&task).expect("held").expansion = Some((total, offset));
            }
            Expansion::Stored if offset + portion < total => {
                held.get_mut(&task).expect("held").expansion = Some((total, offset + portion));
            }
            Expansion::Stored => {
                held.remove(&task);
                self.statistics.count("expanded");
            }
            Expansion::Stale => self.statistics.count("expand-stale"),
            Expansion::TooMany { .. } => return Err(Violation("too many tasks".to_owned())),
        }
        Ok(())
    }

    pub fn any_run(&mut self) -> Option<usize> {
        let live: Vec<usize> = (0..self.runs.len()).filter(|place| !self.runs[*place].collected).collect();
        (!live.is_empty()).then(|| live[self.die.random_range(0..live.len())])
    }

    /// Anyone sweeps.
    pub async fn op_sweep(&mut self) -> Result<(), Violation> {
        let items = self.die.random_range(1..=10);
        self.tell(format!("sweep {items}"));
        match self.store.sweep(items).await {
            Ok(swept) => self.statistics.add("swept", swept.handled),
            Err(StoreError::Refused(Refusal::Paused)) => {}
            Err(error) => return Err(unexpected("a sweep failed", error)),
        }
        self.statistics.count("sweep");
        self.look(1)
    }

    /// An actor takes its leave.
    pub async fn op_detach(&mut self, place: usize) -> Result<(), Violation> {
        let who = self.actors[place].incarnation.clone();
        self.tell(format!("detach {} ({who})", self.actors[place].name));
        self.actors[place].lease_until = None;
        let sent = self.store.detach(&who).await;
        sent.map_err(|error| unexpected("a detach failed", error))?;
        self.statistics.count("detach");
        self.actors[place].health = if self.die.random_bool(0.5) { Health::Gone } else { Health::Asleep };
        self.look(1)
    }

    /// A request from long ago comes through once more; nobody reads the answer.
    pub async fn op_old_request(&mut self) -> Result<(), Violation> {
        if self.old_requests.is_empty() {
            return Ok(());
        }
        let place = self.die.random_range(0..self.old_requests.len());
        let (who, request) = self.old_requests[place].clone();
        self.tell(format!("old request {} of {who} lane {}", request.request_id, request.lane));
        self.statistics.count("old-request");
        let Some(reply) = self.send_step(&who, &request, None).await? else { return Ok(()) };
        for actor in self.actors.iter_mut().filter(|actor| actor.incarnation == who) {
            if let Some(pending) = &mut actor.pending[usize::from(request.lane)] {
                let same = pending.request.request_id == request.request_id;
                pending.executed = same.then(|| reply.clone());
            }
        }
        Ok(())
    }
}
