//! What people and the collector end: tasks, runs, and what is left of them.

use maestro_model::ids::TaskId;
use maestro_store::runs::StopAnswer;
use maestro_store::{Refusal, StoreError};
use rand::Rng;

use super::delivery::unexpected;
use super::world::World;
use super::{Violation, hold};

impl World {
    /// Somebody cancels a task.
    pub async fn op_cancel(&mut self) -> Result<(), Violation> {
        let Some(run) = self.any_run() else { return Ok(()) };
        let count = self.last.run_number(self.runs[run].id.as_str(), "n").max(1) as u32;
        let task = TaskId { run: self.runs[run].id.clone(), index: self.die.random_range(0..count) };
        self.tell(format!("cancel {task}"));
        for _ in 0..if self.die.random_bool(0.2) { 2 } else { 1 } {
            let word = match self.store.cancel_task(&task, "enough").await {
                Ok(StopAnswer::Ended) => "cancel-ended",
                Ok(StopAnswer::Ending) => "cancel-ending",
                Ok(StopAnswer::Repeated) => "cancel-repeated",
                Err(StoreError::Refused(Refusal::NotFound { .. })) => "cancel-nothing",
                Err(error) => return Err(unexpected("a cancel failed", error)),
            };
            self.statistics.count(word);
            self.look(1)?;
        }
        Ok(())
    }

    /// Somebody stops a run.
    pub async fn op_stop(&mut self) -> Result<(), Violation> {
        let Some(run) = self.any_run() else { return Ok(()) };
        let id = self.runs[run].id.clone();
        self.tell(format!("stop {id}"));
        match self.store.stop_run(&id, "enough").await {
            Ok(_) | Err(StoreError::Refused(Refusal::NotFound { .. })) => {}
            Err(error) => return Err(unexpected("a stop failed", error)),
        }
        self.statistics.count("stop");
        self.look(1)
    }

    /// A run is collected, if it has ended.
    pub async fn op_collect(&mut self) -> Result<(), Violation> {
        let Some(run) = self.any_run() else { return Ok(()) };
        self.collect(run).await
    }

    pub async fn collect(&mut self, run: usize) -> Result<(), Violation> {
        let id = self.runs[run].id.clone();
        if !self.runs[run].acknowledged {
            return Ok(());
        }
        self.check_accepted(id.as_str())?;
        let status = self.last.run_field(id.as_str(), "status").to_owned();
        self.tell(format!("collect {id}, which is {status}"));
        let gone =
            self.store.collect_run(&id).await.map_err(|error| unexpected("a collection failed", error))?;
        let waited_for = self.last.zset(&format!("r:{id}:waits")).next().is_some();
        let ended = matches!(status.as_str(), "completed" | "failed" | "cancelled") && !waited_for;
        hold!(gone == ended, "run {id} is {status}; collected: {gone}");
        self.statistics.count(if gone { "collect" } else { "collect-busy" });
        self.runs[run].collected |= gone;
        self.look(8)
    }
}
