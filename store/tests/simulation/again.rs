//! What is submitted knowing of others, and what is tried anew: keys, needs in other runs, retries.

use maestro_model::ids::{AgentSlug, RunId, TaskId};
use maestro_model::plan::{ExternalNeed, NeedTarget, Plan, PlannedTask, RootRange, TaskKind, TaskSeed};
use maestro_model::task::{Reason, TaskStatus};
use maestro_store::rerun::RetryAnswer;
use maestro_store::{Refusal, StoreError};
use rand::Rng;
use rand::rngs::StdRng;

use super::audit::origin;
use super::delivery::unexpected;
use super::dump::Dump;
use super::operations::RETRY_CALLS;
use super::plans::{LOST_MAX, ShadowRun, random_plan};
use super::world::World;
use super::{Violation, hold};

/// Keys of dispatches in the played cluster.
const KEYS: [&str; 2] = ["nightly", "weekly"];

/// Lets some steps of a plan be over before it begins.
pub fn take_over(die: &mut StdRng, plan: &mut Plan) {
    let origin: TaskId = "0aaaaaaaaaaa.0".parse().expect("a lawful id");
    let steps = plan.tasks.iter().take_while(|task| !matches!(task.kind, TaskKind::Item { .. })).count();
    for index in 0..steps {
        if die.random_bool(0.65) {
            continue;
        }
        let status = [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Skipped][die.random_range(0..3)];
        let seed = |status| TaskSeed {
            status,
            attempt: maestro_model::ids::Attempt(2),
            owner: None,
            failures: 1,
            losses: 0,
            queued_at_ms: Some(1),
            started_at_ms: Some(1),
            finished_at_ms: Some(1),
            exit_code: None,
            reason: (status == TaskStatus::Failed).then_some(Reason::Exit),
            output: Some("{}".to_owned()),
            origin: origin.clone(),
        };
        if let TaskKind::Group { first, count, .. } = plan.tasks[index].kind {
            let of_items = if status == TaskStatus::Failed { status } else { TaskStatus::Completed };
            plan.seeds.extend((first..first + count).map(|item| (item, seed(of_items))));
            if count == 0 && status == TaskStatus::Failed {
                continue;
            }
        }
        plan.seeds.insert(index as u32, seed(status));
    }
    let all = (0..steps as u32).all(|index| plan.seeds.contains_key(&index));
    if all {
        plan.seeds.clear();
    }
}

fn is_free(task: &PlannedTask) -> bool {
    task.dependencies == 0 && task.triggers == 0
}

/// The ranges with a gap at one task.
fn without(roots: &[RootRange], task: u32) -> Vec<RootRange> {
    let parts = roots.iter().flat_map(|range| {
        let end = range.first + range.count;
        let cut = if (range.first..end).contains(&task) { task } else { end };
        let part =
            |from: u32, to: u32| RootRange { first: from, count: to.saturating_sub(from), ..range.clone() };
        [part(range.first, cut), part(cut + 1, end)]
    });
    parts.filter(|range| range.count > 0).collect()
}

/// Members of all waiting lists: the run and task that are waited for, and who waits.
pub fn waiters(dump: &Dump) -> impl Iterator<Item = (&str, &str, &str)> {
    let lists = dump
        .zsets
        .iter()
        .filter_map(|(key, members)| Some((key.strip_prefix("r:")?.strip_suffix(":waits")?, members)));
    lists.flat_map(|(run, members)| {
        members.keys().map(move |member| {
            let (on, who) = member.split_once(' ').unwrap_or_default();
            (run, on, who)
        })
    })
}

/// Whoever waits for another run waits for something that has not ended, or is about to be told.
pub fn check_waiters(dump: &Dump) -> Result<(), Violation> {
    for (run, on, who) in waiters(dump) {
        let told = dump.lists.get("todo").into_iter().flatten().any(|entry| {
            entry
                .strip_prefix("O ")
                .is_some_and(|rest| rest == format!("{run} {on}") || rest == format!("{run} run"))
        });
        let over = matches!(dump.run_field(run, "status"), "completed" | "failed" | "cancelled");
        let ended = match on {
            "run" => over,
            task => {
                let record = dump.record(run, task.parse().unwrap_or(u32::MAX))?;
                over || record.is_some_and(|record| record.status.is_final())
            }
        };
        hold!(told || !ended, "{who} waits for {on} of run {run}, which has ended");
        let marked = dump.run_field(run, "marks").contains('w');
        hold!(marked, "{who} waits for {on} of run {run}, which does not know it");
    }
    Ok(())
}

impl World {
    /// Something of the above.
    pub async fn op_again(&mut self) -> Result<(), Violation> {
        match self.die.random_range(0..10) {
            0..6 => self.op_retry().await,
            6..9 => self.op_dispatch().await,
            _ => self.op_pause().await,
        }
    }

    async fn op_retry(&mut self) -> Result<(), Violation> {
        let Some(run) = self.any_run() else { return Ok(()) };
        let id = self.runs[run].id.clone();
        let count = self.last.run_number(id.as_str(), "n").max(1) as u32;
        let ended: Vec<u32> = self
            .last
            .records(id.as_str())?
            .into_iter()
            .filter(|(_, record)| record.status.is_final())
            .map(|(index, _)| index)
            .collect();
        let named: Vec<u32> = (0..self.die.random_range(1..3))
            .map(|_| match ended.is_empty() || self.die.random_bool(0.1) {
                true => self.die.random_range(0..count),
                false => ended[self.die.random_range(0..ended.len())],
            })
            .collect();
        let downstream = self.die.random_bool(0.6);
        self.tell(format!("retry {named:?} of {id}, downstream {downstream}"));
        let word = match self.store.retry(&id, &named, downstream).await {
            Ok(RetryAnswer::Retried(tasks)) => {
                hold!(!tasks.is_empty(), "a retry of nothing");
                for index in &named {
                    let step = origin(&self.runs[run], &self.last, *index)?;
                    self.audit.forced.extend([format!("{id}.{index}"), format!("{id}.{step}")]);
                }
                "retry"
            }
            Ok(RetryAnswer::Running { .. }) => "retry-running",
            Ok(RetryAnswer::Completed { .. }) => "retry-completed",
            Ok(RetryAnswer::TooMany { .. }) => "retry-too-many",
            Ok(RetryAnswer::Stopping) => "retry-stopping",
            Ok(RetryAnswer::FolderLost { .. }) => "retry-folder-lost",
            Err(StoreError::Refused(Refusal::Paused | Refusal::NotFound { .. })) => "retry-refused",
            Err(StoreError::Refused(Refusal::Busy { .. })) => "retry-busy",
            Err(error) => return Err(unexpected("a retry failed", error)),
        };
        self.statistics.count(word);
        self.look(RETRY_CALLS)?;
        self.forget_ends_taken_back(&id)
    }

    /// What was accepted of tasks that are tried anew is no promise any more.
    fn forget_ends_taken_back(&mut self, run: &RunId) -> Result<(), Violation> {
        let records = self.last.records(run.as_str())?;
        self.accepted.retain(|(task, attempt), _| {
            let record = records.get(&task.index);
            // Who held an attempt stays on record until its end is taken back.
            let stays = record.is_some_and(|record| record.owner.is_some() || record.attempt > *attempt);
            let stays = task.run != *run || stays;
            if !stays {
                self.taken_back.insert((task.clone(), *attempt));
            }
            stays
        });
        Ok(())
    }

    async fn op_dispatch(&mut self) -> Result<(), Violation> {
        let mut plan = random_plan(&mut self.die);
        let slugs: Vec<AgentSlug> = plan.shared.iter().map(|shared| shared.agent.clone()).collect();
        hold!(!slugs.is_empty(), "a plan has agents");
        if self.die.random_bool(0.5) {
            plan.key = Some(KEYS[self.die.random_range(0..KEYS.len())].to_owned());
        }
        // No command makes a task that waits for steps of its own run and for others: a dispatch has no edges.
        let root = plan.tasks.iter().position(|task| is_free(task) && matches!(task.kind, TaskKind::Agent));
        if let Some(root) = root {
            for _ in 0..self.die.random_range(0..3) {
                let on = self.some_need();
                plan.waits_for.extend(on.map(|on| ExternalNeed { task: root as u32, on }));
            }
            if !plan.waits_for.is_empty() {
                plan.roots = without(&plan.roots, root as u32);
            }
        }
        let mut seen = Vec::new();
        plan.waits_for.retain(|need| {
            let fresh = !seen.contains(&need.on);
            seen.push(need.on.clone());
            fresh
        });
        let id = self.fresh_run();
        self.tell(format!("dispatch {id}: key {:?}, waits for {:?}", plan.key, plan.waits_for));
        let (key, needs) = (plan.key.clone(), plan.waits_for.clone());
        match self.store.submit(&id, &plan, LOST_MAX).await {
            Ok(answer) if answer.repeated => {
                let holder = key.map(|key| format!("dispatch:{key}"));
                let holder = holder.and_then(|key| self.last.hash(&key)?.get("").cloned());
                hold!(holder.as_deref() == Some(answer.run.as_str()), "the key is held by {holder:?}");
                self.statistics.count("dispatch-repeated");
            }
            Ok(_) => {
                hold!(needs.iter().all(|need| self.is_there(&need.on)), "what it waits for is not there");
                self.runs.push(ShadowRun::new(id, plan));
                self.runs.last_mut().expect("just pushed").acknowledged = true;
                self.statistics.count(if needs.is_empty() { "dispatch" } else { "dispatch-that-waits" });
            }
            Err(StoreError::Refused(Refusal::NotFound { .. })) => {
                hold!(needs.iter().any(|need| !self.is_there(&need.on)), "all it waits for is there");
                self.statistics.count("dispatch-needs-nothing-known");
            }
            Err(StoreError::Refused(Refusal::Paused)) => {}
            Err(error) => return Err(unexpected("a dispatch failed", error)),
        }
        self.look(1)
    }

    fn some_need(&mut self) -> Option<NeedTarget> {
        if self.runs.is_empty() {
            return None;
        }
        let place = self.die.random_range(0..self.runs.len());
        let run = self.runs[place].id.clone();
        if self.die.random_bool(0.4) {
            return Some(NeedTarget::Run(run));
        }
        let count = self.runs[place].plan.tasks.len() as u32;
        Some(NeedTarget::Task(TaskId { run, index: self.die.random_range(0..count) }))
    }

    fn is_there(&self, on: &NeedTarget) -> bool {
        !matches!(self.last.run_field(on.run().as_str(), "status"), "" | "loading")
    }

    async fn op_pause(&mut self) -> Result<(), Violation> {
        self.tell("pause".to_owned());
        match self.store.pause("enough", "test").await {
            Ok(_) => self.statistics.count("pause"),
            Err(StoreError::Refused(Refusal::WrongMode { .. })) => self.statistics.count("pause-frozen"),
            Err(error) => return Err(unexpected("a pause failed", error)),
        }
        self.look(1)?;
        if self.die.random_bool(0.7) {
            self.tell("resume".to_owned());
            match self.store.resume("test").await {
                Ok(_) => self.statistics.count("resume"),
                Err(StoreError::Refused(Refusal::WrongMode { .. })) => {}
                Err(error) => return Err(unexpected("a resumption failed", error)),
            }
            self.look(1)?;
        }
        Ok(())
    }
}
