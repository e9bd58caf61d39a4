//! A worker without a host: events go in by hand, actions come out as text, and the rules hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maestro_model::agent_type::OnDisconnect;
use maestro_model::attempt::{AttemptOutcome, AttemptReport};
use maestro_model::plan::QueueName;
use maestro_store::brought::KnownRun;
use maestro_store::step::{CellMode, Ending, Grant, ReportAnswer, StepReply, StepReport, StepRequest};
use maestro_store::worker::{BeatReply, BeatVerdict};

use super::super::*;
use crate::samples::{grant, key, known_run, shared_spec};

/// What a request was answered with, when nothing is said about it.
pub(super) fn reply(grants: Vec<Grant>) -> StepReply {
    StepReply { answers: Vec::new(), grants, more: false, mode: CellMode::Run, fenced: false }
}

/// A beat's answer, when nothing is said about it.
pub(super) fn beat_reply(verdicts: Vec<BeatVerdict>) -> BeatReply {
    BeatReply { mode: CellMode::Run, verdicts, unknown: Vec::new(), registry: 1 }
}

pub(super) fn completed() -> AttemptReport {
    AttemptReport::plain(AttemptOutcome::Completed)
}

/// A dispatcher that is looked at after each event.
pub(super) struct Stage {
    pub(super) dispatcher: Dispatcher,
    /// Requests under way, by lane.
    pub(super) sent: BTreeMap<u8, StepRequest>,
    /// What runs, as the actions say.
    pub(super) launched: BTreeSet<AttemptKey>,
    /// Granted and neither reported to the end nor given up.
    owed: BTreeSet<AttemptKey>,
    pub(super) finished: bool,
    pub(super) known: KnownRun,
}

impl Stage {
    pub(super) fn new(concurrency: usize) -> Stage {
        Stage::serving(concurrency, "shell", OnDisconnect::Stop)
    }

    pub(super) fn serving(concurrency: usize, slug: &str, on_disconnect: OnDisconnect) -> Stage {
        let settings = DispatcherSettings {
            concurrency,
            name: "alpha".parse().expect("a lawful name"),
            state_ttl_ms: 0,
            random: || 0.0,
        };
        let mut known = known_run(shared_spec(slug));
        for agent in known.agents.values_mut() {
            Arc::get_mut(agent).expect("nobody else has it").on_disconnect = on_disconnect;
        }
        Stage {
            dispatcher: Dispatcher::new(settings, vec![slug.parse().expect("a lawful slug")]),
            sent: BTreeMap::new(),
            launched: BTreeSet::new(),
            owed: BTreeSet::new(),
            finished: false,
            known,
        }
    }

    /// Everything that happens to the worker passes here.
    pub(super) fn handle(&mut self, event: WorkerEvent) -> Vec<String> {
        let before = self.dispatcher.life;
        let was_attached = self.dispatcher.attached;
        let answered = self.note_event(&event);
        let is_last = matches!(event, WorkerEvent::LastDeadline);
        let shown = format!("{event:?}");
        let actions = self.dispatcher.handle_event(event);
        assert!(!self.finished || actions.is_empty(), "acts after it has finished: {shown}");
        if let Some(request) = answered {
            let reported = |report: &StepReport| (report.task.clone(), report.attempt);
            for key in request.reports.iter().map(reported) {
                self.owed.remove(&key);
            }
        }
        if self.dispatcher.life != before || (was_attached && !self.dispatcher.attached) {
            // A lease that is over takes everything with it.
            self.sent.clear();
            self.owed.clear();
        }
        for action in &actions {
            self.note_action(action, is_last, &shown);
        }
        self.check(&shown);
        actions.iter().map(show).collect()
    }

    fn note_event(&mut self, event: &WorkerEvent) -> Option<StepRequest> {
        match event {
            WorkerEvent::StepAnswered(lane, id, reply) => {
                let is_due = self.sent.get(lane).is_some_and(|request| request.request_id == *id);
                let request = is_due.then(|| self.sent.remove(lane)).flatten()?;
                if self.dispatcher.attached && !reply.fenced {
                    self.owed.extend(reply.grants.iter().map(|grant| (grant.task.clone(), grant.attempt)));
                }
                Some(request)
            }
            WorkerEvent::AttemptEnded(key, ..) => {
                self.launched.remove(key);
                None
            }
            WorkerEvent::BeatAnswered(life, listed, reply) if *life == self.dispatcher.life => {
                for (key, verdict) in listed.iter().zip(&reply.verdicts) {
                    if *verdict == BeatVerdict::Stale && self.dispatcher.held.contains_key(key) {
                        self.owed.remove(key);
                    }
                }
                None
            }
            _ => None,
        }
    }

    fn note_action(&mut self, action: &WorkerAction, is_last: bool, shown: &str) {
        match action {
            WorkerAction::SendStep(request, wait) => {
                let known = self.sent.insert(request.lane, request.clone());
                let is_same = known.as_ref().is_some_and(|known| known.request_id == request.request_id);
                assert!(
                    known.is_none() || (is_same && *wait == PAUSE_POLL),
                    "two requests in one lane after {shown}"
                );
            }
            WorkerAction::Launch(rendered) => {
                let key = (rendered.ready.grant.task.clone(), rendered.ready.grant.attempt);
                let is_alone = self.launched.iter().all(|(task, _)| *task != key.0);
                assert!(is_alone, "two attempts of one task at one time after {shown}");
                let is_agents = rendered.ready.shared.assigned.is_some();
                assert!(!is_agents || self.launched.is_empty(), "one agent does two things after {shown}");
                assert!(self.launched.insert(key), "launched twice after {shown}");
            }
            WorkerAction::EndAttempt(key, _) | WorkerAction::EndAttemptWithin(key, _) => {
                assert!(self.launched.contains(key), "ends what does not run after {shown}");
            }
            WorkerAction::Finish => {
                let is_quiet = self.dispatcher.held.is_empty() && self.dispatcher.requests.is_quiet();
                assert!(is_quiet || is_last, "finished with work in hand after {shown}");
                self.finished = true;
                self.owed.clear();
            }
            _ => {}
        }
    }

    fn check(&self, shown: &str) {
        let Dispatcher { held, requests, visible, settings, waiting, .. } = &self.dispatcher;
        for key in held.keys() {
            assert!(!requests.is_reporting(key), "{key:?} is held and reported after {shown}");
        }
        let speaking: BTreeSet<&AttemptKey> = held
            .iter()
            .filter(|(_, one)| one.ending != Some(EndCause::Discard))
            .map(|(key, _)| key)
            .collect();
        let visible = visible.lock().expect("no holder panics");
        assert_eq!(
            visible.iter().collect::<BTreeSet<_>>(),
            speaking,
            "the beat sees something else after {shown}"
        );
        let taken = held.len() + requests.promised();
        assert!(taken <= settings.concurrency, "{taken} slots are taken after {shown}");
        for key in waiting {
            assert!(matches!(held[key].stage, Stage_::Waiting(_)), "{key:?} does not wait after {shown}");
        }
        if self.finished {
            return;
        }
        for key in &self.owed {
            let is_here = speaking.contains(key) || requests.is_reporting(key);
            assert!(is_here, "{key:?} got lost after {shown}");
        }
    }

    /// The request under way in a lane.
    pub(super) fn id(&self, lane: u8) -> u64 {
        self.sent[&lane].request_id
    }

    pub(super) fn answer(&mut self, lane: u8, reply: StepReply) -> Vec<String> {
        let id = self.id(lane);
        self.handle(WorkerEvent::StepAnswered(lane, id, reply))
    }

    pub(super) fn fetched(&mut self, key: &AttemptKey) -> Vec<String> {
        let event = WorkerEvent::Fetched(Box::new(grant(key, "p")), self.known.clone(), HashMap::new());
        self.handle(event)
    }

    pub(super) fn ended(&mut self, key: &AttemptKey, report: AttemptReport) -> Vec<String> {
        self.handle(WorkerEvent::AttemptEnded(key.clone(), report, None))
    }

    pub(super) fn beat(&mut self, verdicts: &[(AttemptKey, BeatVerdict)]) -> Vec<String> {
        let (listed, verdicts) = verdicts.iter().cloned().unzip();
        let life = self.dispatcher.life;
        self.handle(WorkerEvent::BeatAnswered(life, listed, beat_reply(verdicts)))
    }

    /// A worker that has claimed these and launched them all.
    pub(super) fn running(concurrency: usize, keys: &[AttemptKey]) -> Stage {
        let mut stage = Stage::new(concurrency);
        stage.run(keys);
        stage
    }

    pub(super) fn run(&mut self, keys: &[AttemptKey]) {
        self.handle(WorkerEvent::BellRang);
        self.answer(0, reply(keys.iter().map(|key| grant(key, "p")).collect()));
        for key in keys {
            self.fetched(key);
        }
    }

    /// Tasks 1 is running, 2 is being read, and a claim for the third slot is under way.
    pub(super) fn in_the_middle() -> Stage {
        let mut stage = Stage::new(3);
        stage.handle(WorkerEvent::BellRang);
        stage.answer(0, reply(vec![grant(&key(1, 1), "p"), grant(&key(2, 1), "p")]));
        stage.fetched(&key(1, 1));
        stage.handle(WorkerEvent::BellRang);
        stage
    }
}

use super::super::Stage as Stage_;

fn show_key((task, attempt): &AttemptKey) -> String {
    format!("{}.{attempt}", task.index)
}

fn show_queues(queues: &[QueueName]) -> String {
    queues.iter().map(QueueName::as_str).collect::<Vec<_>>().join(" ")
}

fn show_report(report: &StepReport) -> String {
    let ending = match &report.ending {
        Ending::Completed { .. } => "completed".to_owned(),
        Ending::Skipped => "skipped".to_owned(),
        Ending::Failed { reason, retry_in_ms: None, .. } => format!("failed:{}", reason.word()),
        Ending::Failed { reason, retry_in_ms: Some(wait), .. } => {
            format!("failed:{}:again:{wait}", reason.word())
        }
        Ending::ComeBack { delay_ms } => format!("come-back:{delay_ms}"),
        Ending::Cancelled => "cancelled".to_owned(),
        Ending::Returned { host_failed: true } => "returned:infra".to_owned(),
        Ending::Returned { host_failed: false } => "returned".to_owned(),
    };
    format!("{}={ending}", show_key(&(report.task.clone(), report.attempt)))
}

/// An action, whole.
pub(super) fn show(action: &WorkerAction) -> String {
    match action {
        WorkerAction::SendStep(request, wait) => {
            let StepRequest { lane, request_id, want, queues, reports, state_ttl_ms: _ } = request;
            let mut text = format!("send {lane}#{request_id}");
            if *want > 0 {
                text += &format!(" want {want} from {}", show_queues(queues));
            }
            for report in reports {
                text += &format!(" {}", show_report(report));
            }
            if !wait.is_zero() { format!("{text} after {wait:?}") } else { text }
        }
        WorkerAction::Fetch(grant) => format!("fetch {}", show_key(&(grant.task.clone(), grant.attempt))),
        WorkerAction::Launch(rendered) => {
            let grant = &rendered.ready.grant;
            format!("launch {}", show_key(&(grant.task.clone(), grant.attempt)))
        }
        WorkerAction::EndAttempt(key, cause) => format!("end {} {cause:?}", show_key(key)),
        WorkerAction::EndAttemptWithin(key, grace) => format!("end {} within {grace:?}", show_key(key)),
        WorkerAction::Recover => "recover".to_owned(),
        WorkerAction::Reattach => "reattach".to_owned(),
        WorkerAction::Serve(types) => {
            format!("serve {}", types.iter().map(AgentSlug::to_string).collect::<Vec<_>>().join(" "))
        }
        WorkerAction::Listen(queues) => format!("listen [{}]", show_queues(queues)),
        WorkerAction::Probe(part) => format!("probe {part}"),
        WorkerAction::AskBoundRuns(wait) => format!("ask-bound-runs after {wait:?}"),
        WorkerAction::StartDrainTimer(_, None) => "start-drain-timer".to_owned(),
        WorkerAction::StartDrainTimer(number, Some(deadline)) => {
            format!("start-drain-timer {} {deadline:?}", number.0)
        }
        WorkerAction::StartLastTimer => "start-last-timer".to_owned(),
        WorkerAction::Finish => "finish".to_owned(),
    }
}

/// The answers to a request whose reports were all taken.
pub(super) fn accepted(request: &StepRequest) -> Vec<ReportAnswer> {
    vec![ReportAnswer::Accepted; request.reports.len()]
}
