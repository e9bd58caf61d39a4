//! Outcomes on their way to the journal: taken down before anything of them is sent.

use super::Dispatcher;

impl Dispatcher {
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
