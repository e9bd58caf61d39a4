//! How a request and its answer fare on the way, and what an answer must be.

use maestro_model::ids::{Attempt, Incarnation, TaskId};
use maestro_model::task::TaskStatus;
use maestro_store::step::{Ending, Grant, ReportAnswer, StepReply, StepReport, StepRequest, wanted_status};
use maestro_store::{Refusal, StoreError};
use rand::Rng;
use rand::rngs::StdRng;

use super::actor::Actor;
use super::agents::agents_in;
use super::audit::origin;
use super::world::{AcceptedEnd, World};
use super::{Violation, hold};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    RequestLost,
    AnswerLost,
    Twice,
}

impl Delivery {
    pub fn random(die: &mut StdRng) -> Delivery {
        match die.random_range(0..100) {
            0..6 => Delivery::RequestLost,
            6..20 => Delivery::AnswerLost,
            20..32 => Delivery::Twice,
            _ => Delivery::Whole,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Delivery::Whole => "delivered",
            Delivery::RequestLost => "request-lost",
            Delivery::AnswerLost => "answer-lost",
            Delivery::Twice => "sent-twice",
        }
    }
}

/// Whether an attempt had been told to end so that its agent starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    ToRestart,
    NothingOfThat,
}

/// An error that the test did not ask for.
pub fn unexpected(what: &str, error: StoreError) -> Violation {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Violation(format!("{what}: {error}{cause}"))
}

/// Whether two ends are recorded in the same way: whoever gives a task back may say so in several words.
fn alike(one: &Ending, other: &Ending) -> bool {
    let back = |ending: &Ending| matches!(ending, Ending::Returned { .. } | Ending::Cancelled);
    one == other || (back(one) && back(other))
}

impl World {
    /// Sends a step and checks its answer. None: the cluster is frozen and nothing happened.
    pub async fn send_step(
        &mut self,
        who: &Incarnation,
        request: &StepRequest,
        earlier: Option<&StepReply>,
    ) -> Result<Option<StepReply>, Violation> {
        let stored = self.is_stored(who, request);
        let restarting = self.restarting_among(request)?;
        let clock = self.clock();
        let silent =
            |actor: &Actor| actor.incarnation == *who && actor.lease_until.is_none_or(|until| until < clock);
        let silent = self.actors.iter().any(silent);
        let reply = match self.store.step(who, request).await {
            Ok(reply) => reply,
            Err(StoreError::Refused(Refusal::Paused)) => {
                self.statistics.count("step-paused");
                self.look(1)?;
                return Ok(None);
            }
            Err(error) => return Err(unexpected("a step failed", error)),
        };
        self.look(1)?;
        self.statistics.count(if stored { "step-replayed" } else { "step" });
        hold!(reply.answers.len() == request.reports.len(), "each report has its answer: {reply:?}");
        for (report, answer) in request.reports.iter().zip(&reply.answers) {
            let before =
                if restarting.contains(&report.task) { Told::ToRestart } else { Told::NothingOfThat };
            self.check_answer(who, report, *answer, stored, before)
                .map_err(|Violation(rule)| Violation(format!("{rule}\n  report: {report:?} of {who}")))?;
        }
        let claimed = !reply.grants.is_empty() && !stored;
        let mode = self.last.hash("ctl").and_then(|ctl| ctl.get("mode")).map_or("", String::as_str);
        hold!(!claimed || matches!(mode, "run" | "recover"), "a task was claimed in mode {mode}");
        hold!(!(silent && claimed), "{who} has no lease any more and was granted {:?}", reply.grants);
        for grant in &reply.grants {
            self.check_grant(who, request, grant, stored)
                .map_err(|Violation(rule)| Violation(format!("{rule}\n  grant: {grant:?} to {who}")))?;
        }
        if let Some(earlier) = earlier.filter(|_| stored) {
            self.check_replay(who, earlier, &reply)?;
        }
        if reply.fenced {
            self.check_fenced(who)?;
        }
        self.remember(who, request);
        Ok(Some(reply))
    }

    /// Reported tasks whose agent was to start again when it was last looked.
    fn restarting_among(&self, request: &StepRequest) -> Result<Vec<TaskId>, Violation> {
        let mut found = Vec::new();
        for StepReport { task, .. } in &request.reports {
            let record = self.last.record(task.run.as_str(), task.index)?;
            if record.is_some_and(|record| record.restarting) {
                found.push(task.clone());
            }
        }
        Ok(found)
    }

    /// Whether the answer to this very request is kept.
    fn is_stored(&self, who: &Incarnation, request: &StepRequest) -> bool {
        let kept =
            self.last.hash(&format!("w:{who}")).and_then(|worker| worker.get(&format!("a{}", request.lane)));
        kept.is_some_and(|kept| kept.starts_with(&format!("{}|", request.request_id)))
    }

    /// Only who was silent for too long, was taken over or took leave is fenced.
    pub fn check_fenced(&mut self, who: &Incarnation) -> Result<(), Violation> {
        self.statistics.count("fenced");
        let clock = self.clock_of_next_call();
        let promised =
            self.actors.iter().find(|actor| actor.incarnation == *who).and_then(|actor| actor.lease_until);
        hold!(
            promised.is_none_or(|until| until < clock),
            "{who} is fenced at {clock} though its lease was promised until {promised:?}"
        );
        Ok(())
    }

    fn check_answer(
        &mut self,
        who: &Incarnation,
        report: &StepReport,
        answer: ReportAnswer,
        stored: bool,
        before: Told,
    ) -> Result<(), Violation> {
        let word = match answer {
            ReportAnswer::Accepted => "report-accepted",
            ReportAnswer::Repeated => "report-repeated",
            ReportAnswer::Cancelled => "report-cancelled",
            ReportAnswer::Stale => "report-stale",
            ReportAnswer::Gone => "report-gone",
        };
        self.statistics.count(word);
        let key = (report.task.clone(), report.attempt);
        let run = report.task.run.as_str();
        let record = self.last.record(run, report.task.index)?;
        let Some(record) = record else {
            hold!(answer == ReportAnswer::Gone || stored, "a run that is gone answers {answer:?}");
            return Ok(());
        };
        let mine = record.attempt == report.attempt && record.owner.as_ref() == Some(who);
        let held = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling);
        match answer {
            ReportAnswer::Accepted if stored => {
                let same =
                    self.accepted.get(&key).is_some_and(|end| end.ending == report.ending && end.who == *who);
                hold!(
                    same || self.taken_back.contains(&key),
                    "a repeated answer speaks of what was never accepted"
                );
            }
            ReportAnswer::Accepted => {
                hold!(!self.accepted.contains_key(&key), "one attempt's end is accepted twice");
                hold!(mine || record.attempt > report.attempt, "an end was accepted from somebody else");
                let finished = matches!(report.ending, Ending::Completed { .. });
                let restarted = before == Told::ToRestart && !finished;
                let wanted = if restarted { TaskStatus::Queued } else { wanted_status(&report.ending) };
                let right = record.status == wanted
                    || (wanted == TaskStatus::Queued && record.status == TaskStatus::Running)
                    || (!wanted.is_final() && record.status.is_final())
                    || (report.ending == Ending::Cancelled && !record.status.is_final());
                hold!(right, "the end was accepted and the task is {record:?}");
                if restarted {
                    self.statistics.count("report-restarted");
                }
                let (who, ending) = (who.clone(), report.ending.clone());
                self.accepted.insert(key, AcceptedEnd { who, ending, restarted });
            }
            ReportAnswer::Repeated => {
                let known = self.accepted.get(&key).is_some_and(|end| alike(&end.ending, &report.ending));
                let wanted = wanted_status(&report.ending);
                let says_so = mine
                    && (record.status == wanted
                        || (wanted == TaskStatus::Parked && record.status == TaskStatus::Failed));
                hold!(known || says_so, "an end counts as known, and the task is {record:?}");
            }
            ReportAnswer::Cancelled => {
                hold!(
                    record.status == TaskStatus::Cancelled,
                    "an end counts as cancelled, and the task is {record:?}"
                );
            }
            ReportAnswer::Stale => {
                hold!(!(mine && held) || stored, "the holder's report is refused: {record:?}");
                let same = |end: &&AcceptedEnd| end.ending == report.ending && end.who == *who;
                let known = self.accepted.get(&key).filter(same).is_some_and(|end| !end.restarted);
                let moved = record.attempt > report.attempt || !wanted_status(&report.ending).is_final();
                hold!(!known || moved, "an end that was accepted is refused the second time: {record:?}");
            }
            ReportAnswer::Gone => return Err(Violation(format!("a task that is there is gone: {record:?}"))),
        }
        Ok(())
    }

    fn check_grant(
        &mut self,
        who: &Incarnation,
        request: &StepRequest,
        grant: &Grant,
        stored: bool,
    ) -> Result<(), Violation> {
        self.statistics.count(if stored { "grant-replayed" } else { "grant" });
        let key = (grant.task.clone(), grant.attempt);
        let by = (who.clone(), request.lane, request.request_id);
        match self.granted.get(&key) {
            Some(known) => hold!(stored && *known == by, "one attempt is granted twice: to {known:?} before"),
            None => hold!(!stored, "a repeated answer grants what was not granted before"),
        }
        self.granted.insert(key, by);
        let shadow = self.runs.iter().find(|run| run.id == grant.task.run);
        let shadow = shadow.ok_or_else(|| Violation("a grant of an unknown run".to_owned()))?;
        let record = self.last.record(grant.task.run.as_str(), grant.task.index)?;
        let record = record.ok_or_else(|| Violation("a grant without a record".to_owned()))?;
        let holds = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling)
            && record.attempt == grant.attempt
            && record.owner.as_ref() == Some(who);
        hold!(holds, "a grant that does not hold: {record:?}");
        let counts = (record.failures, record.losses, record.come_backs, record.host_failures);
        let told = (grant.failures, grant.losses, grant.come_backs, grant.host_failures);
        hold!(counts == told, "a grant with other counts than its record: {record:?}");
        let step = origin(shadow, &self.last, grant.task.index)?;
        hold!(grant.own.step == format!("step{step}"), "a grant with another task's spec");
        let shared = shadow.shared(step);
        let bound = record.flags.contains('b') && !record.flags.contains('x');
        let pin = self.last.run_field(grant.task.run.as_str(), "pin");
        let name =
            self.actors.iter().find(|actor| actor.incarnation == *who).map(|actor| actor.name.as_str());
        hold!(!bound || Some(pin) == name, "a bound task was granted to {name:?}, its run is bound to {pin}");
        let expands = record.flags.contains('x');
        if let Some(id) = shared.assigned.as_ref().filter(|_| !expands) {
            let agents = agents_in(&self.last)?;
            let agent = agents.get(id.as_str());
            hold!(grant.agent.as_ref() == agent, "a grant with another folder than that of {id}: {agent:?}");
            let here = agent.is_some_and(|agent| Some(agent.worker.as_str()) == name);
            hold!(here, "a task of {id} was granted to {name:?}, and the agent is {agent:?}");
            let free = agent.is_some_and(|agent| agent.held.is_none());
            hold!(free || stored, "a task of {id} was started though the agent is stopped");
            self.statistics.count("grant-to-agent");
            return Ok(());
        }
        hold!(grant.agent.is_none() || expands, "a task for anybody was granted with an agent");
        let served = expands
            || self.actors.iter().any(|actor| {
                actor.incarnation == *who && actor.types.iter().any(|slug| slug == shared.agent.as_str())
            });
        hold!(served, "a task of {} was granted to one who does not serve it", shared.agent);
        Ok(())
    }

    /// The second answer to a request says the same, without the grants that hold no more.
    fn check_replay(
        &self,
        who: &Incarnation,
        earlier: &StepReply,
        again: &StepReply,
    ) -> Result<(), Violation> {
        hold!(earlier.answers == again.answers, "one request, two answers: {earlier:?} and {again:?}");
        let key = |grant: &Grant| (grant.task.clone(), grant.attempt);
        let granted: Vec<(TaskId, Attempt)> = again.grants.iter().map(key).collect();
        let before: Vec<(TaskId, Attempt)> = earlier.grants.iter().map(key).collect();
        hold!(
            granted.iter().all(|grant| before.contains(grant)),
            "the repeated answer grants more: {again:?}"
        );
        for (task, attempt) in before {
            let record = self.last.record(task.run.as_str(), task.index)?;
            let holds = record.is_some_and(|record| {
                matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling)
                    && record.attempt == attempt
                    && record.owner.as_ref() == Some(who)
            });
            let listed = granted.contains(&(task.clone(), attempt));
            hold!(holds == listed, "the grant of {task} holds: {holds}; it is repeated: {listed}");
        }
        Ok(())
    }

    /// What was acknowledged is what is recorded.
    pub fn check_accepted(&self, run: &str) -> Result<(), Violation> {
        for ((task, attempt), end) in self.accepted.iter().filter(|((task, _), _)| task.run.as_str() == run) {
            let Some(record) = self.last.record(run, task.index)? else {
                return Err(Violation(format!("task {task} had an end accepted and has no record")));
            };
            let wanted = wanted_status(&end.ending);
            if wanted.is_final() && end.ending != Ending::Cancelled && !end.restarted {
                let right = record.status == wanted
                    && record.attempt == *attempt
                    && record.owner.as_ref() == Some(&end.who);
                hold!(
                    right,
                    "task {task}: {end:?} was accepted as attempt {attempt}, recorded is {record:?}"
                );
            }
            if matches!(end.ending, Ending::Completed { .. }) {
                let out =
                    self.last.hash(&format!("r:{run}:out")).and_then(|out| out.get(&task.index.to_string()));
                let wanted = format!("{{\"message\":\"{attempt}\"}}");
                hold!(out == Some(&wanted), "task {task}: the output kept is {out:?}, accepted was {wanted}");
            }
        }
        Ok(())
    }
}
