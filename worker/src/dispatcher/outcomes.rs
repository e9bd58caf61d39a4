//! Outcomes on their way: taken down in the journal before anything of them is sent, and told to people when they
//! have arrived.

use maestro_model::ids::AgentSlug;
use maestro_store::step::StepReport;

use super::Dispatcher;

impl Dispatcher {
    /// What a request under way reports, each with whose it is.
    pub fn reports_of(&self, lane: u8, id: u64) -> impl Iterator<Item = (&StepReport, Option<&AgentSlug>)> {
        let reports = self.requests.under_way(lane, id).map(|request| request.reports.as_slice());
        reports.unwrap_or_default().iter().map(|report| (report, self.requests.agent_of(report)))
    }

    /// Whether the cluster knows this worker.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Outcomes to be written to the journal before they are reported.
    pub fn outcomes(&self) -> &[u8] {
        self.requests.outcomes()
    }

    /// They are written.
    pub fn outcomes_written(&mut self) {
        self.requests.outcomes_written();
    }

    /// All outcomes that are not acknowledged, for a journal that begins a new file.
    pub fn unreported_outcomes(&self) -> Vec<u8> {
        self.requests.unreported_outcomes()
    }
}
