//! Reports that wait, and the requests under way that carry them.
//!
//! Redis stores the last answer of each lane, so a lane has one request at a time: a lost answer costs
//! nothing. What a request promises to take is counted here; when to send one is decided in `dispatcher`.

use std::collections::{HashMap, VecDeque};

use maestro_model::ids::AgentSlug;
use maestro_model::plan::QueueName;
use maestro_store::step::{STEP_BATCH_MAX, StepReport, StepRequest};

use crate::held::AttemptKey;
use crate::journal::encode;

/// Requests under way at one time: while Redis works on one, the next is filled.
pub const LANES: usize = 2;
/// Bytes of outputs and published values in one request; a single larger report goes alone.
const REPORT_BYTES_MAX: usize = 1024 * 1024;

/// Memory kept between two writes to the journal.
const OUTCOME_BYTES_KEPT: usize = 64 * 1024;

/// What is to be told, and what is being told.
#[derive(Debug, Default)]
pub struct Requests {
    waiting: VecDeque<StepReport>,
    lanes: [Option<StepRequest>; LANES],
    sent: u64,
    /// Outcomes in the journal's form that it has not written yet.
    outcomes: Vec<u8>,
    /// Whose they are, as far as it is known: for people and counters, not for Redis.
    agents: HashMap<AttemptKey, AgentSlug>,
}

impl Requests {
    /// Adds a report.
    pub fn report(&mut self, report: StepReport) {
        encode(&report, &mut self.outcomes);
        self.waiting.push_back(report);
    }

    /// Notes whose the report of an attempt is, until it is answered.
    pub fn name(&mut self, key: &AttemptKey, agent: &AgentSlug) {
        self.agents.insert(key.clone(), agent.clone());
    }

    /// Whose a report is that was not answered yet.
    pub fn agent_of(&self, report: &StepReport) -> Option<&AgentSlug> {
        self.agents.get(&(report.task.clone(), report.attempt))
    }

    /// What the journal has to write before anything is sent.
    pub fn outcomes(&self) -> &[u8] {
        &self.outcomes
    }

    /// It is written.
    pub fn outcomes_written(&mut self) {
        self.outcomes.clear();
        self.outcomes.shrink_to(OUTCOME_BYTES_KEPT);
    }

    /// Outcomes that Redis has not acknowledged, in the journal's form.
    pub fn unreported_outcomes(&self) -> Vec<u8> {
        let under_way = self.lanes.iter().flatten().flat_map(|request| &request.reports);
        let mut bytes = Vec::new();
        under_way.chain(&self.waiting).for_each(|report| encode(report, &mut bytes));
        bytes
    }

    /// A lane without a request.
    pub fn free_lane(&self) -> Option<usize> {
        self.lanes.iter().position(Option::is_none)
    }

    /// Whether reports wait.
    pub fn has_reports(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether an outcome has not been acknowledged.
    pub fn owes_reports(&self) -> bool {
        let mut under_way = self.lanes.iter().flatten();
        self.has_reports() || under_way.any(|request| !request.reports.is_empty())
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(Option::is_none)
    }

    /// Tasks that requests under way may bring.
    pub fn promised(&self) -> usize {
        self.lanes.iter().flatten().map(|request| request.want).sum()
    }

    /// Whether an attempt's end is still to be recorded.
    pub fn is_reporting(&self, (task, attempt): &AttemptKey) -> bool {
        let mut under_way = self.lanes.iter().flatten().flat_map(|request| &request.reports);
        let same = |report: &StepReport| report.task == *task && report.attempt == *attempt;
        self.waiting.iter().any(same) || under_way.any(same)
    }

    /// Fills a free lane: with what waits, as far as one request carries it, and a claim for `want`.
    pub fn fill(
        &mut self,
        lane: usize,
        want: usize,
        queues: Vec<QueueName>,
        state_ttl_ms: u64,
    ) -> StepRequest {
        assert!(self.lanes[lane].is_none(), "a lane has one request at a time");
        self.sent += 1;
        let request = StepRequest {
            lane: lane as u8,
            request_id: self.sent,
            want: want.min(STEP_BATCH_MAX),
            queues,
            reports: self.take_reports(),
            state_ttl_ms,
        };
        self.lanes[lane] = Some(request.clone());
        request
    }

    fn take_reports(&mut self) -> Vec<StepReport> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            bytes += bytes_of(next);
            let is_full = taken.len() >= STEP_BATCH_MAX || bytes > REPORT_BYTES_MAX;
            if is_full && !taken.is_empty() {
                break;
            }
            taken.extend(self.waiting.pop_front());
        }
        taken
    }

    /// Takes the request that was answered; none if the answer concerns nobody any more.
    pub fn answered(&mut self, lane: u8, request_id: u64) -> Option<StepRequest> {
        let slot = self.lanes.get_mut(usize::from(lane))?;
        let request = slot.take_if(|request| request.request_id == request_id)?;
        for report in &request.reports {
            self.agents.remove(&(report.task.clone(), report.attempt));
        }
        Some(request)
    }

    /// The request under way with this lane and id.
    pub fn under_way(&self, lane: u8, request_id: u64) -> Option<&StepRequest> {
        self.lanes.get(usize::from(lane))?.as_ref().filter(|request| request.request_id == request_id)
    }

    /// The number of the last request made.
    pub fn last_id(&self) -> u64 {
        self.sent
    }

    /// Whether a request made no later than `id` is still under way.
    pub fn any_since(&self, id: u64) -> bool {
        self.lanes.iter().flatten().any(|request| request.request_id <= id)
    }

    /// Forgets what waits and what is under way; ids go on, so that late answers are known as such.
    pub fn abandon(&mut self) {
        self.waiting.clear();
        self.lanes = Default::default();
        self.agents.clear();
    }
}

fn bytes_of(report: &StepReport) -> usize {
    let published = report.publish.iter().map(|value| value.key.len() + value.value.len());
    report.output.len() + published.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use maestro_store::step::Ending;

    use super::*;

    fn report(index: u32, bytes: usize) -> StepReport {
        let (task, attempt) = crate::samples::key(index, 1);
        StepReport { task, attempt, ending: Ending::Skipped, output: "x".repeat(bytes), publish: Vec::new() }
    }

    #[test]
    fn a_request_carries_what_fits_and_at_least_one_report() {
        let mut requests = Requests::default();
        requests.report(report(0, REPORT_BYTES_MAX + 1));
        for index in 1..=STEP_BATCH_MAX as u32 + 3 {
            requests.report(report(index, 1));
        }
        assert_eq!(requests.fill(0, 0, Vec::new(), 0).reports.len(), 1);
        assert_eq!(requests.fill(1, 0, Vec::new(), 0).reports.len(), STEP_BATCH_MAX);
        assert_eq!(requests.free_lane(), None);
        assert!(requests.answered(0, 2).is_none(), "that is the other lane's");
        assert!(requests.answered(0, 1).is_some());
        assert!(requests.answered(0, 1).is_none(), "an answer is taken once");
        assert_eq!(requests.fill(0, 1_000, Vec::new(), 0).reports.len(), 3);
        assert_eq!(requests.promised(), STEP_BATCH_MAX);
        requests.abandon();
        assert!(requests.is_quiet());
        assert_eq!(requests.fill(0, 1, Vec::new(), 0).request_id, 4);
    }

    #[test]
    fn an_end_is_known_until_it_is_recorded() {
        let mut requests = Requests::default();
        let ended = crate::samples::key(1, 2);
        requests.report(StepReport { attempt: ended.1, ..report(1, 0) });
        assert!(requests.is_reporting(&ended));
        let request = requests.fill(0, 0, Vec::new(), 0);
        assert!(requests.is_reporting(&ended));
        assert!(!requests.is_reporting(&crate::samples::key(1, 1)), "another attempt");
        requests.answered(0, request.request_id).expect("it was under way");
        assert!(!requests.is_reporting(&ended));
    }
}
