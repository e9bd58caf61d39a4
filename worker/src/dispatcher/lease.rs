//! What the cluster says of this worker and of what it holds: beats answered, the lease in danger or over.

use std::collections::HashMap;

use maestro_model::ids::{Attempt, TaskId};
use maestro_store::step::{Ending, StepReport};
use maestro_store::worker::{BeatReply, BeatVerdict};

use super::{Dispatcher, Phase, Sparing};
use crate::events::{EndCause, Life, WorkerAction};
use crate::held::AttemptKey;

impl Dispatcher {
    pub(super) fn on_beat_answered(
        &mut self,
        life: Life,
        listed: &[AttemptKey],
        reply: &BeatReply,
        actions: &mut Vec<WorkerAction>,
    ) {
        if life != self.life || !self.attached {
            return;
        }
        let was_paused = self.paused;
        self.on_mode(reply.mode);
        if was_paused && !self.paused {
            self.hungry = true;
        }
        for (key, verdict) in listed.iter().zip(&reply.verdicts) {
            match verdict {
                BeatVerdict::Yours => {}
                BeatVerdict::Cancel => self.end_attempt(key, EndCause::Cancel, actions),
                BeatVerdict::Kill => self.end_attempt(key, EndCause::Kill, actions),
                BeatVerdict::Stale => self.end_attempt(key, EndCause::Discard, actions),
            }
        }
        self.on_unknown(&reply.unknown);
    }

    /// What Redis says is held here, but is not: a grant on its way, or one whose answer got lost. It is
    /// lost if it is unknown again when every request that could have brought it has been answered. One that
    /// did arrive, or whose end was recorded, is no suspect any more: a beat may have been asked before that.
    pub(super) fn on_unknown(&mut self, unknown: &[(TaskId, Attempt)]) {
        let mut suspects = HashMap::new();
        for key in unknown {
            if self.held.contains_key(key) || self.requests.is_reporting(key) {
                continue;
            }
            let since = self.suspects.get(key).copied();
            match since {
                Some(since) if !self.requests.any_since(since) => self.requests.report(StepReport {
                    task: key.0.clone(),
                    attempt: key.1,
                    ending: Ending::Returned { host_failed: false },
                    output: String::new(),
                    publish: Vec::new(),
                }),
                _ => {
                    suspects.insert(key.clone(), since.unwrap_or(self.requests.last_id()));
                }
            }
        }
        self.suspects = suspects;
    }

    pub(super) fn on_lease_in_danger(&mut self, life: Life, actions: &mut Vec<WorkerAction>) {
        if life == self.life && self.attached {
            self.end_all(EndCause::Return, Sparing::Keepers, actions);
        }
    }

    pub(super) fn on_recovery_asked(&mut self, life: Life, actions: &mut Vec<WorkerAction>) {
        if life == self.life && self.attached && !self.recovering {
            self.recovering = true;
            actions.push(WorkerAction::Recover);
        }
    }

    pub(super) fn on_recovered(&mut self, life: Life) {
        if life == self.life {
            self.recovering = false;
            self.hungry = true;
        }
    }

    pub(super) fn on_fenced(&mut self, life: Life, actions: &mut Vec<WorkerAction>) {
        if life != self.life || !self.attached {
            return;
        }
        self.attached = false;
        self.recovering = false;
        self.end_all(EndCause::Discard, Sparing::Nobody, actions);
        // What is still to be reported is refused from now on: the cluster has given those tasks away.
        self.requests.abandon();
        self.suspects.clear();
        if self.phase == Phase::Serving {
            actions.push(WorkerAction::Reattach);
        }
    }

    pub(super) fn on_attached(&mut self, life: Life) {
        if life <= self.life {
            return;
        }
        self.life = life;
        self.attached = true;
        self.paused = false;
        self.hungry = true;
        // A restore may have put another run under a known id.
        self.known.clear();
    }
}
