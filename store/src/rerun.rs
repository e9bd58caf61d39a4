//! Another try for tasks that have ended, alone or with all that ended because of them.
//!
//! What follows from a retry is worked out here, from records read one after the other (`plan`), and
//! carried out by one script, which refuses if anything it relies on has changed since; then all is read
//! anew. The attempts go on in their numbers, failures and losses are counted from nothing.

mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maestro_model::ids::{Incarnation, RunId, TaskId};
use maestro_model::plan::EdgeKind;
use maestro_model::task::TaskStatus;
use redis::Value;

use crate::cell::{Reply, Store, decode};
use crate::error::{Refusal, StoreError};
use crate::inspect::GroupView;
use crate::record::TaskRecord;
use crate::runs::RunStatus;
use plan::{Change, Unfit, plan_changes, weight};

/// Most tasks that one retry gives another try or makes wait again, items of `foreach` included.
pub const RERUN_TASKS_MAX: usize = 500;
/// Entries of one request: the tasks, and those whose state they rely on.
const ENTRIES_MAX: usize = 4 * RERUN_TASKS_MAX;
/// How often a retry is worked out anew because something changed meanwhile.
const TRIES_MAX: usize = 20;
/// Leftovers carried out before a retry is tried again.
const SWEEP_ITEMS: u32 = 50;

/// What became of a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryAnswer {
    /// These get another try, or wait again for those that do; without their items, in the order of the run.
    Retried(Vec<TaskId>),
    /// This one has not ended: cancel it, or wait for its end.
    Running {
        /// The task: one that was named, or with `downstream` one that follows.
        task: TaskId,
        /// Where it is in its life.
        status: TaskStatus,
    },
    /// This one completed, and others may have used its results: retried only together with what follows it.
    Completed {
        /// The task.
        task: TaskId,
    },
    /// More tasks than one retry takes: `workflow run --resume-from` makes a new run of them.
    TooMany {
        /// How many were found; there may be more.
        found: usize,
        /// How many are taken.
        most: usize,
    },
    /// The run is being stopped: it can be retried when it has ended.
    Stopping,
    /// The run's folder lies on a worker that is gone: `workflow run --resume-from` starts over elsewhere.
    FolderLost {
        /// The worker.
        worker: String,
    },
}

/// A run as far as a retry concerns it.
#[derive(Debug, Default)]
struct RunImage {
    /// Who waits for whom, by where it starts and by where it ends.
    dependents: HashMap<u32, Vec<(u32, EdgeKind)>>,
    parents: HashMap<u32, Vec<(u32, EdgeKind)>>,
    groups: BTreeMap<u32, GroupView>,
    /// `foreach` steps whose list is only known when they start.
    expanded: BTreeSet<u32>,
    /// What was read: the line of a record and of what the task waits for.
    read: HashMap<u32, ReadTask>,
}

/// One task as it was read.
#[derive(Debug, Clone, Default)]
struct ReadTask {
    line: Option<String>,
    record: Option<TaskRecord>,
    left: Option<String>,
}

impl ReadTask {
    fn status(&self) -> TaskStatus {
        match &self.record {
            Some(record) => record.status,
            None if self.left.is_some() => TaskStatus::Blocked,
            None => TaskStatus::Queued,
        }
    }
}

enum Planned {
    Changes(Vec<Change>),
    Refused(RetryAnswer),
}

impl Store {
    /// Gives tasks that have ended another try. With `downstream` everything that follows them waits for
    /// them again, however it ended; a completed task is retried only so.
    ///
    /// # Errors
    /// `NotFound` for a run or task that is not there (any more); `Paused`, `OutOfMemory`; `Busy` if the run
    /// changes so fast that the retry never fits.
    pub async fn retry(
        &self,
        run: &RunId,
        tasks: &[u32],
        downstream: bool,
    ) -> Result<RetryAnswer, StoreError> {
        let request = Incarnation::random();
        for _ in 0..TRIES_MAX {
            let changes = match self.plan_retry(run, tasks, downstream).await? {
                Planned::Changes(changes) => changes,
                Planned::Refused(answer) => return Ok(answer),
            };
            let value = self.eval("rerun", |command| {
                command.arg(self.epoch()).arg(run.as_str()).arg(request.as_str()).arg(changes.len());
                for change in &changes {
                    command.arg(change.index).arg(change.deed.letter()).arg(&change.line);
                    command.arg(&change.left).arg(change.deed.value());
                }
            });
            let reply = Reply::read("rerun", value.await?)?;
            match reply.word.as_str() {
                "OK" | "DUP" => return Ok(RetryAnswer::Retried(retried(run, &changes))),
                "CONFLICT" => {}
                "AGAIN" => drop(self.sweep(SWEEP_ITEMS).await?),
                "STOPPING" => return Ok(RetryAnswer::Stopping),
                "PIN" => return Ok(RetryAnswer::FolderLost { worker: reply.text(0)? }),
                "GONE" => return Err(StoreError::not_found(format!("run `{run}`"))),
                _ => return Err(reply.unexpected()),
            }
        }
        Err(Refusal::Busy { what: format!("run `{run}`") }.into())
    }

    /// What `retry` would do, without doing it.
    ///
    /// # Errors
    /// As `retry`.
    pub async fn retry_plan(
        &self,
        run: &RunId,
        tasks: &[u32],
        downstream: bool,
    ) -> Result<RetryAnswer, StoreError> {
        Ok(match self.plan_retry(run, tasks, downstream).await? {
            Planned::Changes(changes) => RetryAnswer::Retried(retried(run, &changes)),
            Planned::Refused(answer) => answer,
        })
    }

    async fn plan_retry(&self, run: &RunId, tasks: &[u32], downstream: bool) -> Result<Planned, StoreError> {
        let named: BTreeSet<u32> = tasks.iter().copied().collect();
        if named.len() > RERUN_TASKS_MAX {
            return Ok(Planned::Refused(too_many(named.len())));
        }
        let record = self.run(run).await?.ok_or_else(|| StoreError::not_found(format!("run `{run}`")))?;
        if record.status == RunStatus::Cancelling {
            return Ok(Planned::Refused(RetryAnswer::Stopping));
        }
        let views = self.tasks_at(run, &named.iter().copied().collect::<Vec<_>>()).await?;
        for index in &named {
            let view = views.iter().find(|view| view.id.index == *index);
            let id = TaskId { run: run.clone(), index: *index };
            let view = view.ok_or_else(|| StoreError::not_found(format!("task `{id}`")))?;
            if !view.status.is_final() {
                return Ok(Planned::Refused(RetryAnswer::Running { task: id, status: view.status }));
            }
        }
        let mut image = self.image(run).await?;
        self.read_tasks(run, &mut image, &named.iter().copied().collect::<Vec<_>>()).await?;
        let steps = named.iter().map(|index| image.group_of(*index).unwrap_or(*index)).collect();
        if let Some(found) = self.gather(run, &mut image, steps, downstream).await? {
            return Ok(Planned::Refused(too_many(found)));
        }
        let id = |index| TaskId { run: run.clone(), index };
        Ok(match plan_changes(&image, &named, downstream) {
            Ok(changes) if weight(&changes) > RERUN_TASKS_MAX || changes.len() > ENTRIES_MAX => {
                Planned::Refused(too_many(changes.len()))
            }
            Ok(changes) => Planned::Changes(changes),
            Err(Unfit::Running(index, status)) => {
                Planned::Refused(RetryAnswer::Running { task: id(index), status })
            }
            Err(Unfit::Completed(index)) => Planned::Refused(RetryAnswer::Completed { task: id(index) }),
            Err(Unfit::NeverBegan(index)) => {
                return Err(StoreError::not_found(format!(
                    "attempt of item `{}`: it never began",
                    id(index)
                )));
            }
        })
    }

    /// Edges and ranges of the run; records follow.
    async fn image(&self, run: &RunId) -> Result<RunImage, StoreError> {
        let mut image = RunImage { groups: self.groups(run).await?, ..RunImage::default() };
        for edge in self.edges(run).await? {
            image.dependents.entry(edge.from).or_default().push((edge.to, edge.kind));
            image.parents.entry(edge.to).or_default().push((edge.from, edge.kind));
        }
        let groups: Vec<u32> = image.groups.keys().copied().collect();
        let views = self.tasks_at(run, &groups).await?;
        image.expanded = views.iter().filter(|view| view.kind == 'x').map(|view| view.id.index).collect();
        Ok(image)
    }

    /// Reads all that a retry may touch or rely on, step by step along the edges. A number if it is too much.
    async fn gather(
        &self,
        run: &RunId,
        image: &mut RunImage,
        steps: BTreeSet<u32>,
        downstream: bool,
    ) -> Result<Option<usize>, StoreError> {
        let mut seen = steps.clone();
        let mut frontier: Vec<u32> = steps.into_iter().collect();
        let mut first = true;
        while !frontier.is_empty() {
            self.read_tasks(run, image, &frontier).await?;
            let ended: Vec<u32> =
                frontier.iter().copied().filter(|index| image.read[index].status().is_final()).collect();
            let items: Vec<u32> =
                ended.iter().filter_map(|index| image.groups.get(index)).flat_map(GroupView::items).collect();
            if seen.len() + items.len() > ENTRIES_MAX {
                return Ok(Some(seen.len() + items.len()));
            }
            self.read_tasks(run, image, &items).await?;
            let parents = frontier.iter().flat_map(|index| image.parents.get(index).into_iter().flatten());
            let parents: Vec<u32> = parents.map(|(parent, _)| *parent).collect();
            self.read_tasks(run, image, &parents).await?;
            let follow = if downstream || first { ended } else { Vec::new() };
            first = false;
            let next = follow.iter().flat_map(|index| image.dependents.get(index).into_iter().flatten());
            frontier = next.map(|(to, _)| *to).filter(|to| seen.insert(*to)).collect();
        }
        Ok(None)
    }

    async fn read_tasks(&self, run: &RunId, image: &mut RunImage, wanted: &[u32]) -> Result<(), StoreError> {
        let missing: BTreeSet<u32> =
            wanted.iter().copied().filter(|index| !image.read.contains_key(index)).collect();
        let missing: Vec<u32> = missing.into_iter().collect();
        for portion in missing.chunks(RERUN_TASKS_MAX) {
            let mut pipeline = redis::pipe();
            for key in [self.keys().run_task(run), self.keys().run_left(run)] {
                pipeline.cmd("HMGET").arg(key).arg(portion);
            }
            let mut values = self.ask_all(&pipeline).await?.into_iter();
            let mut column = || -> Result<Vec<Option<String>>, StoreError> {
                decode("tasks", values.next().unwrap_or(Value::Nil))
            };
            let (lines, left) = (column()?, column()?);
            for ((index, line), left) in portion.iter().zip(lines).zip(left) {
                let record = line.as_deref().map(TaskRecord::read).transpose()?;
                image.read.insert(*index, ReadTask { line, record, left });
            }
        }
        Ok(())
    }
}

impl RunImage {
    /// The `foreach` that an item belongs to.
    fn group_of(&self, index: u32) -> Option<u32> {
        self.groups.iter().find(|(_, group)| group.items().contains(&index)).map(|(group, _)| *group)
    }

    fn task(&self, index: u32) -> &ReadTask {
        self.read.get(&index).expect("`gather` reads whatever an edge or a range names")
    }
}

fn too_many(found: usize) -> RetryAnswer {
    RetryAnswer::TooMany { found, most: RERUN_TASKS_MAX }
}

/// The tasks that get another try or wait again; items that go with their `foreach` are not told.
fn retried(run: &RunId, changes: &[Change]) -> Vec<TaskId> {
    let told = changes.iter().filter(|change| change.deed.is_told());
    told.map(|change| TaskId { run: run.clone(), index: change.index }).collect()
}
