//! Which steps of a resumed run keep what they came to, and the plan with them taken over.
//!
//! Pure: from a fresh plan and what is known of the old run.

use std::collections::BTreeSet;

use maestro_model::ids::{Attempt, TaskId};
use maestro_model::plan::{
    Dependent, EdgeKind, Plan, PlannedTask, QueueName, RootRange, TASKS_PER_RUN_MAX, TaskKind, TaskSeed,
};
use maestro_model::task::TaskStatus;
use maestro_store::runs::TaskView;

use super::{OldRun, Seeds};

/// Whether a task is an item of a `foreach`.
pub(super) fn is_item(task: &PlannedTask) -> bool {
    matches!(task.kind, TaskKind::Item { .. })
}

/// What a step comes to in the new run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepFate {
    /// It runs, as far as its edges let it.
    Runs,
    /// It keeps its end.
    Keeps(TaskStatus),
    /// It has no end of its own, and none comes.
    Skipped,
}

/// The decision, step by step.
pub(super) struct KeepingSteps<'a> {
    plan: &'a Plan,
    old: &'a OldRun,
    start: u32,
    parents: Vec<Vec<Dependent>>,
    fates: Vec<StepFate>,
    upstream: BTreeSet<u32>,
}

impl<'a> KeepingSteps<'a> {
    /// `start` is the task of the step that everything starts from.
    pub(super) fn new(plan: &'a Plan, old: &'a OldRun, start: u32) -> KeepingSteps<'a> {
        let steps = plan.tasks.iter().take_while(|task| !is_item(task)).count();
        let mut parents = vec![Vec::new(); steps];
        for (index, task) in plan.tasks.iter().enumerate().take(steps) {
            for edge in &task.dependents {
                parents[edge.index as usize].push(Dependent { index: index as u32, edge: edge.edge });
            }
        }
        let fates = vec![StepFate::Runs; steps];
        KeepingSteps { plan, old, start, parents, fates, upstream: BTreeSet::new() }
    }

    /// Decides for every step.
    pub(super) fn decide(mut self) -> Kept {
        let downstream = reach(self.start, |index| edges(&self.plan.tasks[index as usize].dependents));
        self.upstream = reach(self.start, |index| edges(&self.parents[index as usize]));
        for index in 0..self.fates.len() as u32 {
            let fate = match (downstream.contains(&index), self.own_end(index)) {
                _ if index == self.start => StepFate::Runs,
                (true, _) => StepFate::Runs,
                (false, Some(status)) => StepFate::Keeps(status),
                (false, None) if self.upstream.contains(&index) => StepFate::Skipped,
                (false, None) => StepFate::Runs,
            };
            self.fates[index as usize] = fate;
        }
        self.skip_hopeless();
        Kept { fates: self.fates, upstream: self.upstream, start: self.start }
    }

    /// What a step came to by itself: not if it was cancelled, or skipped because of another step.
    fn own_end(&self, index: u32) -> Option<TaskStatus> {
        let task = &self.plan.tasks[index as usize];
        let view = self.old.steps.get(task.step.as_str())?;
        let record = view.record.as_ref()?;
        let own = match record.status {
            TaskStatus::Completed | TaskStatus::Failed => true,
            // Its own `when` said so: it had been claimed.
            TaskStatus::Skipped => record.attempt > Attempt(0),
            _ => false,
        };
        let items = self.old.items.get(&view.id.index).map_or(&[][..], Vec::as_slice);
        let ended = |item: &TaskView| item.record.as_ref().is_some_and(|record| record.status.is_final());
        let fits = match &task.kind {
            TaskKind::Group { count, .. } => items.len() == *count as usize && items.iter().all(ended),
            TaskKind::Expand { .. } => items.iter().all(ended),
            TaskKind::Agent | TaskKind::Item { .. } | TaskKind::Snapshot { .. } => items.is_empty(),
        };
        (own && fits).then_some(record.status)
    }

    /// What cannot run, given what is kept, and what hangs on that.
    fn skip_hopeless(&mut self) {
        let mut left: Vec<u32> = (0..self.fates.len() as u32).rev().collect();
        while let Some(index) = left.pop() {
            let place = index as usize;
            if index == self.start || self.fates[place] != StepFate::Runs || !self.is_hopeless(index) {
                continue;
            }
            self.fates[place] = StepFate::Skipped;
            left.extend(edges(&self.plan.tasks[place].dependents));
        }
    }

    fn is_hopeless(&self, index: u32) -> bool {
        let (mut triggered, mut open) = (false, false);
        for parent in &self.parents[index as usize] {
            let end = match self.fates[parent.index as usize] {
                StepFate::Runs => None,
                StepFate::Keeps(status) => Some(status),
                StepFate::Skipped => Some(TaskStatus::Skipped),
            };
            match parent.edge {
                EdgeKind::Needs if end.is_some_and(|end| !self.satisfies(parent.index, end)) => return true,
                EdgeKind::OnSuccess => {
                    triggered = true;
                    open |= end.is_none_or(|end| end == TaskStatus::Completed);
                }
                EdgeKind::OnFailure => {
                    triggered = true;
                    open |= end.is_none_or(|end| end == TaskStatus::Failed);
                }
                EdgeKind::Needs | EdgeKind::Item => {}
            }
        }
        triggered && !open
    }

    fn satisfies(&self, index: u32, end: TaskStatus) -> bool {
        let put_up_with = self.plan.shared[self.plan.tasks[index as usize].shared as usize].continue_on;
        match end {
            TaskStatus::Completed => true,
            TaskStatus::Failed => put_up_with.failed,
            TaskStatus::Skipped => put_up_with.skipped,
            _ => false,
        }
    }
}

fn edges(dependents: &[Dependent]) -> impl Iterator<Item = u32> + '_ {
    dependents.iter().filter(|edge| edge.edge != EdgeKind::Item).map(|edge| edge.index)
}

/// All that can be reached from a task, itself left out.
fn reach<I: Iterator<Item = u32>>(from: u32, next: impl Fn(u32) -> I) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut left = vec![from];
    while let Some(index) = left.pop() {
        left.extend(next(index).filter(|to| found.insert(*to)));
    }
    found
}

/// What was decided.
pub(super) struct Kept {
    fates: Vec<StepFate>,
    upstream: BTreeSet<u32>,
    start: u32,
}

impl Kept {
    /// Takes over what is kept. The error is the number of tasks that would be too many.
    pub(super) fn apply(&self, mut plan: Plan, old: &OldRun) -> Result<Plan, usize> {
        let mut seeds = Seeds::new();
        for (index, fate) in (0..).zip(&self.fates) {
            let step = plan.tasks[index as usize].step.clone();
            let view = old.steps.get(step.as_str());
            match (fate, view) {
                (StepFate::Keeps(_), Some(view)) => {
                    seeds.insert(index, taken_over(view, old));
                    take_over_items(&mut plan, &mut seeds, index, view, old);
                }
                (StepFate::Skipped, Some(view)) => {
                    seeds.insert(index, skipped(old.origin(view)));
                }
                _ => {}
            }
            // Failures before the step it starts from no longer count.
            plan.tasks[index as usize].handled |= self.upstream.contains(&index);
        }
        if plan.tasks.len() > TASKS_PER_RUN_MAX as usize {
            return Err(plan.tasks.len());
        }
        plan.seeds = seeds;
        self.set_free(&mut plan);
        Ok(plan)
    }

    /// The step starts whatever its predecessors came to.
    fn set_free(&self, plan: &mut Plan) {
        let task = &mut plan.tasks[self.start as usize];
        task.dependencies = 0;
        task.triggers = 0;
        let queue = match &task.kind {
            TaskKind::Group { .. } => None,
            TaskKind::Expand { .. } | TaskKind::Snapshot { .. } => Some(QueueName::expand()),
            _ => Some(plan.shared[task.shared as usize].queue.clone()),
        };
        let is_in = |range: &RootRange| (range.first..range.first + range.count).contains(&self.start);
        if !plan.roots.iter().any(is_in) {
            plan.roots.push(RootRange { queue, first: self.start, count: 1 });
        }
    }
}

/// Items keep their ends as well; those of a list that was only known in the old run join the plan.
fn take_over_items(plan: &mut Plan, seeds: &mut Seeds, group: u32, view: &TaskView, old: &OldRun) {
    let Some(items) = old.items.get(&view.id.index) else { return };
    let first = match plan.tasks[group as usize].kind {
        TaskKind::Group { first, .. } => first,
        _ => {
            let first = plan.tasks.len() as u32;
            let of_group = plan.tasks[group as usize].clone();
            let numbered = (0..).zip(items);
            plan.tasks.extend(numbered.map(|(number, item)| known_item(&of_group, group, number, item)));
            first
        }
    };
    for (index, item) in (first..).zip(items) {
        seeds.insert(index, taken_over(item, old));
    }
}

fn known_item(of_group: &PlannedTask, group: u32, number: u32, view: &TaskView) -> PlannedTask {
    let item = view.own.item.clone().unwrap_or_default();
    PlannedTask {
        kind: TaskKind::Item { group, number, item },
        prompt: None,
        references: Default::default(),
        dependencies: 0,
        triggers: 0,
        dependents: vec![Dependent { index: group, edge: EdgeKind::Item }],
        ..of_group.clone()
    }
}

fn taken_over(view: &TaskView, old: &OldRun) -> TaskSeed {
    let record = view.record.as_ref().expect("only what has a record has an end of its own");
    TaskSeed {
        status: record.status,
        attempt: record.attempt,
        owner: record.owner.clone(),
        failures: record.failures,
        losses: record.losses,
        queued_at_ms: record.queued_at_ms,
        started_at_ms: record.started_at_ms,
        finished_at_ms: record.finished_at_ms,
        exit_code: record.exit_code,
        reason: record.reason,
        output: old.outputs.get(&view.id.index).cloned(),
        origin: old.origin(view),
    }
}

fn skipped(origin: TaskId) -> TaskSeed {
    TaskSeed {
        status: TaskStatus::Skipped,
        attempt: Attempt(0),
        owner: None,
        failures: 0,
        losses: 0,
        queued_at_ms: None,
        started_at_ms: None,
        finished_at_ms: None,
        exit_code: None,
        reason: None,
        output: None,
        origin,
    }
}
