//! What the main loop tells of itself while it works: its status for the beat, its pulse and counters for those who
//! watch, and one line in the log for each start and each end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maestro_model::task::TaskStatus;
use maestro_store::step::{Ending, ReportAnswer, StepReply, StepReport, wanted_status};
use maestro_store::worker::ProcessStatus;
use maestro_vitals::tally::tally;

use super::Service;
use super::standing::resident_bytes;
use crate::beats::SharedStatus;
use crate::decide::Rendered;
use crate::events::WorkerEvent;
use crate::settings::{GrantStamp, WorkerSettings};

/// Stands for the type of an agent that was given back before it was known.
const UNKNOWN_AGENT: &str = "unknown";

/// What the first beat says.
pub(super) fn first_status(settings: &WorkerSettings) -> SharedStatus {
    let heartbeat_ms = settings.heartbeat.as_millis() as u64;
    Arc::new(Mutex::new(ProcessStatus { heartbeat_ms, ..ProcessStatus::default() }))
}

impl Service {
    /// What an event tells beside what the dispatcher makes of it.
    pub(super) fn look_at(&mut self, event: &WorkerEvent) {
        match event {
            WorkerEvent::StepAnswered(lane, id, reply) => self.look_at_answer(*lane, *id, reply),
            WorkerEvent::AgentsStill(freeze) => self.freezing.on_still(freeze.clone()),
            WorkerEvent::BeatAnswered(_, _, reply) => {
                self.freezing.on_mode(reply.mode);
                self.status.lock().expect("no holder panics").memory_bytes = resident_bytes();
                self.registry
                    .send_if_modified(|known| std::mem::replace(known, reply.registry) != reply.registry);
                if let Some(pulse) = &self.settings.pulse {
                    pulse.heard.turn();
                }
            }
            _ => {}
        }
    }

    fn look_at_answer(&self, lane: u8, id: u64, reply: &StepReply) {
        for ((report, agent), answer) in self.dispatcher.reports_of(lane, id).zip(&reply.answers) {
            self.tell_recorded(report, agent.map_or(UNKNOWN_AGENT, |agent| agent.as_str()), *answer);
        }
        // What comes again has waited for its last attempt too.
        for grant in reply.grants.iter().filter(|grant| grant.attempt.0 == 1) {
            tally().task_waited(Duration::from_millis(grant.waited_ms));
        }
        let Some(measurer) = &self.settings.probe else { return };
        let at = Instant::now();
        for grant in &reply.grants {
            let _ = measurer.send(GrantStamp { task: grant.task.clone(), at });
        }
    }

    fn tell_recorded(&self, report: &StepReport, agent: &str, answer: ReportAnswer) {
        let status = match answer {
            ReportAnswer::Accepted | ReportAnswer::Repeated => wanted_status(&report.ending),
            ReportAnswer::Cancelled => TaskStatus::Cancelled,
            ReportAnswer::Stale => return tally().write_fenced(),
            ReportAnswer::Gone => return,
        };
        let (reason, exit_code) = match &report.ending {
            Ending::Failed { reason, exit_code, .. } => (reason.word(), *exit_code),
            _ => ("", None),
        };
        tally().attempt_recorded(agent, status.word(), reason);
        tracing::info!(
            run = %report.task.run, task = %report.task, attempt = report.attempt.0, worker = %self.name.name,
            agent, status = status.word(), reason, exit_code, "ended"
        );
    }

    pub(super) fn tell_launch(&self, rendered: &Rendered) {
        let grant = &rendered.ready.grant;
        tracing::info!(
            run = %grant.task.run, task = %grant.task, attempt = grant.attempt.0, worker = %self.name.name,
            agent = %rendered.ready.agent.slug, step = grant.own.step, "started"
        );
    }

    /// Says that the loop has come round, and whether it takes tasks.
    pub(super) fn tell_pulse(&self) {
        let Some(pulse) = &self.settings.pulse else { return };
        pulse.turn.turn();
        pulse.set_claims(self.dispatcher.is_attached() && !self.dispatcher.is_draining());
    }

    pub(super) fn tell_status(&self) {
        // What the sampler found stays until it looks again.
        let mut status = self.status.lock().expect("no holder panics");
        status.running = self.dispatcher.running() as u32;
        status.draining = self.dispatcher.is_draining();
        status.trouble = self.dispatcher.trouble();
    }
}
