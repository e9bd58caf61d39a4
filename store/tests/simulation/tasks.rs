//! What must hold within one run: counts, edges, windows, and that everything which is not final has
//! somebody or something that will carry it on.

use std::collections::BTreeMap;

use maestro_model::plan::{EdgeKind, TaskKind};
use maestro_model::task::TaskStatus;
use maestro_store::encode::EDGES_PER_FIELD;
use maestro_store::record::TaskRecord;

use super::again::waiters;
use super::dump::{Dump, Window};
use super::plans::ShadowRun;
use super::{Violation, hold};

/// One run with all that is stored of it.
pub struct RunPicture<'a> {
    pub dump: &'a Dump,
    pub shadow: &'a ShadowRun,
    pub id: &'a str,
    pub records: BTreeMap<u32, TaskRecord>,
    pub windows: BTreeMap<String, Window>,
    todo: Vec<Vec<String>>,
    /// Tasks that start at one time before a range is filled up again.
    pub ready_window: i64,
}

impl<'a> RunPicture<'a> {
    pub fn new(dump: &'a Dump, shadow: &'a ShadowRun, ready_window: i64) -> Result<Self, Violation> {
        let id = shadow.id.as_str();
        let words = |entry: &String| entry.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let todo = dump.lists.get("todo").into_iter().flatten().map(words);
        Ok(RunPicture {
            dump,
            shadow,
            id,
            records: dump.records(id)?,
            windows: dump.windows(id)?,
            todo: todo.filter(|entry| entry.get(1).is_some_and(|run| run == id)).collect(),
            ready_window,
        })
    }

    /// Checks all rules of a run.
    pub fn check(&self) -> Result<(), Violation> {
        if self.dump.run_field(self.id, "status") == "loading" {
            let early = self.records.keys().find(|index| !self.shadow.plan.seeds.contains_key(index));
            hold!(early.is_none(), "no task of run {} has begun before the commit", self.id);
            return Ok(());
        }
        self.check_counts()?;
        for index in 0..self.shadow.steps() {
            self.check_edges(index)
                .map_err(|Violation(rule)| Violation(format!("task {}.{index}: {rule}", self.id)))?;
        }
        for (name, window) in &self.windows {
            self.check_window(name, window)
                .map_err(|Violation(rule)| Violation(format!("window {name} of {}: {rule}", self.id)))?;
        }
        self.check_stopping()
    }

    fn stop(&self) -> &str {
        self.dump.run_field(self.id, "stop")
    }

    pub fn status(&self, index: u32) -> Option<TaskStatus> {
        self.records.get(&index).map(|record| record.status)
    }

    /// Whether it is more than blocked: only what is tried anew has a record before.
    fn has_begun(&self, index: u32) -> bool {
        self.status(index).is_some_and(|status| status != TaskStatus::Blocked)
    }

    fn is_final(&self, index: u32) -> bool {
        self.status(index).is_some_and(TaskStatus::is_final)
    }

    /// Whether a `foreach` has been started: its items count as open from then on.
    fn started(&self, group: u32) -> bool {
        let Some(record) = self.records.get(&group) else { return false };
        let open = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling);
        open && record.owner.is_none()
    }

    /// All items of all `foreach` steps whose items are known, each with its group.
    fn items(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.windows
            .iter()
            .filter_map(|(name, window)| {
                let group: u32 = name.strip_prefix('g')?.parse().ok()?;
                Some((window.first..window.end).map(move |item| (group, item)))
            })
            .flatten()
    }

    fn spared(&self, index: u32) -> bool {
        match self.stop() {
            "" => true,
            "fail_fast" => self.shadow.task(index).handler,
            _ => false,
        }
    }

    fn check_counts(&self) -> Result<(), Violation> {
        let id = self.id;
        let steps = (0..self.shadow.steps()).filter(|index| !self.is_final(*index)).count();
        let items = self.items().filter(|(group, item)| self.started(*group) && !self.is_final(*item));
        let open = steps + items.count();
        let number = |field: &str| self.dump.run_number(id, field);
        hold!(
            number("open") == open as i64,
            "run {id}: {open} tasks are open, counted are {}",
            number("open")
        );
        let status = self.dump.run_field(id, "status");
        let ended = matches!(status, "completed" | "failed" | "cancelled");
        hold!(ended == (open == 0), "run {id} is {status} with {open} open tasks");
        for status in TaskStatus::ALL.into_iter().filter(|status| status.is_final()) {
            let found = self.records.values().filter(|record| record.status == status).count() as i64;
            let counted = number(&status.letter().to_string());
            hold!(found == counted, "run {id}: {found} tasks are {status:?}, counted are {counted}");
        }
        let steps = 0..self.shadow.steps();
        let bad = steps
            .filter(|index| {
                self.status(*index) == Some(TaskStatus::Failed) && !self.shadow.task(*index).handled
            })
            .count() as i64;
        hold!(bad == number("bad"), "run {id}: {bad} failures are unhandled, counted are {}", number("bad"));
        let inflight = self.records.values().filter(|record| holds_a_place(record)).count() as i64;
        let counted = number("inflight");
        hold!(inflight == counted, "run {id}: {inflight} tasks are in flight, counted are {counted}");
        let limit = number("conc");
        hold!(limit == 0 || inflight <= limit, "run {id}: {inflight} in flight, allowed are {limit}");
        let held = self.dump.zset(&format!("r:{id}:held")).count();
        hold!(held == 0 || inflight >= limit, "run {id}: {held} tasks are held though there is room");
        if ended {
            self.check_end(status)?;
        }
        Ok(())
    }

    /// Whether the run's end is what its tasks and its story say.
    fn check_end(&self, status: &str) -> Result<(), Violation> {
        let number = |field: &str| self.dump.run_number(self.id, field);
        let expected = match self.stop() {
            "timeout" | "lost" => "failed",
            "cancel" => "cancelled",
            _ if number("bad") > 0 => "failed",
            _ if number("N") > 0 => "cancelled",
            _ => "completed",
        };
        hold!(status == expected, "run {} should be {expected}, and is {status}", self.id);
        Ok(())
    }

    /// Whether a parent has ended and its edges up to a portion are walked.
    fn walked(&self, parent: u32, portion: usize) -> bool {
        let waiting = self.todo.iter().any(|entry| {
            entry[0] == "E"
                && entry[2] == parent.to_string()
                && entry[3].parse().is_ok_and(|at: usize| at <= portion)
        });
        let seeds = self.todo.iter().any(|entry| {
            let bound = |place: usize| entry.get(place).and_then(|text| text.parse::<u32>().ok());
            entry[0] == "S" && bound(2).is_some_and(|from| from <= parent)
        });
        let taken_over = self.records.get(&parent).is_some_and(|record| record.flags.contains('o'));
        self.is_final(parent) && !waiting && !(seeds && taken_over)
    }

    fn check_edges(&self, index: u32) -> Result<(), Violation> {
        let (mut needs, mut triggers, mut fired, mut doomed, mut waits) = (0, 0, false, false, false);
        for parent in &self.shadow.parents[index as usize] {
            let edges =
                self.shadow.task(parent.index).dependents.iter().filter(|edge| edge.edge != EdgeKind::Item);
            let place = edges.clone().position(|edge| edge.index == index && edge.edge == parent.edge);
            let portion = place.unwrap_or(0) / EDGES_PER_FIELD;
            let walked = self.walked(parent.index, portion);
            let status = self.status(parent.index);
            if parent.edge == EdgeKind::Needs {
                let put_up_with = self.shadow.shared(parent.index).continue_on;
                let good = match status {
                    Some(TaskStatus::Completed) => true,
                    Some(TaskStatus::Failed) => put_up_with.failed,
                    Some(TaskStatus::Skipped) => put_up_with.skipped,
                    _ => false,
                };
                needs += u32::from(!walked);
                doomed |= walked && !good;
            } else {
                waits = true;
                triggers += u32::from(!walked);
                let wanted = if parent.edge == EdgeKind::OnSuccess {
                    TaskStatus::Completed
                } else {
                    TaskStatus::Failed
                };
                fired |= walked && status == Some(wanted);
            }
        }
        let stored =
            self.dump.hash(&format!("r:{}:left", self.id)).and_then(|left| left.get(&index.to_string()));
        let external =
            waiters(self.dump).filter(|(_, _, who)| *who == format!("{}.{index}", self.id)).count();
        needs += external as u32;
        if self.has_begun(index) {
            hold!(stored.is_none(), "it is not blocked any more and still waits for {stored:?}");
            return Ok(());
        }
        let elsewhere = self.shadow.plan.waits_for.iter().any(|need| need.task == index);
        if self.shadow.parents[index as usize].is_empty() && !elsewhere {
            return self.check_root(index);
        }
        let expected =
            if waits { format!("{needs};{triggers};{}", u8::from(fired)) } else { needs.to_string() };
        hold!(stored == Some(&expected), "it waits for {expected}, stored is {stored:?}");
        let hopeless = doomed || (waits && !fired && triggers == 0);
        hold!(!hopeless, "it can never run and is not skipped");
        hold!(needs > 0 || (waits && !fired), "it is ready and nobody starts it");
        Ok(())
    }

    /// A root without a record stands behind the cursor of its range.
    fn check_root(&self, index: u32) -> Result<(), Violation> {
        let behind = self
            .windows
            .iter()
            .any(|(name, window)| name.starts_with('q') && window.next <= index && index < window.end);
        hold!(behind, "it waits for nothing and nobody starts it");
        Ok(())
    }

    fn check_window(&self, name: &str, window: &Window) -> Result<(), Violation> {
        hold!(window.first <= window.next && window.next <= window.end, "its cursor left it: {window:?}");
        for index in window.first..window.end {
            let record = self.records.get(&index);
            let waits = |status| matches!(status, TaskStatus::Cancelled | TaskStatus::Blocked);
            let taken_over = |record: &TaskRecord| record.flags.contains('o');
            // A `foreach` that goes on with some of its items has the others behind its cursor.
            let past = |record: &TaskRecord| name.starts_with('g') && record.status.is_final();
            let early =
                record.is_none_or(|record| waits(record.status) || taken_over(record) || past(record));
            hold!(index < window.next || early, "task {index} began before it was released");
            hold!(index >= window.next || record.is_some(), "task {index} was released and has no record");
        }
        let released = || (window.first..window.next).filter_map(|index| self.records.get(&index));
        let fresh = |record: &&TaskRecord| record.status == TaskStatus::Queued && record.attempt.0 == 0;
        let Some(group) = name.strip_prefix('g') else {
            let here = released().filter(fresh).count() as i64;
            hold!(window.here == here, "{here} of its tasks are queued, counted are {}", window.here);
            // What was cancelled before it was released needs no release any more.
            let waits = (window.next..window.end).any(|index| !self.is_final(index));
            let stuck = waits && here < self.ready_window / 2 && self.stop().is_empty();
            hold!(!stuck || self.will_refill(name), "it has room and is not filled up: {window:?}");
            return Ok(());
        };
        let group: u32 = group.parse().map_err(|_| Violation("a group has an index".to_owned()))?;
        if !self.started(group) {
            return self.check_resting_group(group, window);
        }
        let all = || (window.first..window.end).map(|index| self.status(index));
        let open = all().filter(|status| !status.is_some_and(TaskStatus::is_final)).count() as i64;
        hold!(open > 0 && window.open == open, "{open} items are open, counted are {}", window.open);
        let cancelled = all().filter(|status| *status == Some(TaskStatus::Cancelled)).count() as i64;
        let failed = all().filter(|status| *status == Some(TaskStatus::Failed)).count() as i64;
        hold!(
            (window.failed, window.cancelled) == (failed, cancelled),
            "{failed} items failed and {cancelled} were cancelled, counted are {window:?}"
        );
        let here = if window.limit > 0 {
            released().filter(|record| !record.status.is_final()).count() as i64
        } else {
            released().filter(fresh).count() as i64
        };
        hold!(window.here == here, "{here} of its items are out, counted are {}", window.here);
        hold!(window.limit == 0 || here <= window.limit, "{here} of its items are out: {window:?}");
        let room = if window.limit > 0 { here < window.limit } else { here < self.ready_window / 2 };
        let goes_on = self.spared(group) && self.status(group) == Some(TaskStatus::Running);
        let stuck = window.next < window.end && room && goes_on;
        hold!(!stuck || self.will_refill(name), "it has room and is not filled up: {window:?}");
        Ok(())
    }

    /// A `foreach` that has not begun or has ended: none of its items is under way.
    fn check_resting_group(&self, group: u32, window: &Window) -> Result<(), Violation> {
        let ended = self.is_final(group);
        for index in window.first..window.end {
            let status = self.status(index);
            let rests = matches!(status, None | Some(TaskStatus::Blocked))
                || (ended && status.is_some_and(TaskStatus::is_final));
            hold!(rests, "item {index} is {status:?} while its `foreach` is {:?}", self.status(group));
        }
        let steps = self.shadow.plan.tasks.get(group as usize);
        hold!(steps.is_some_and(|task| !matches!(task.kind, TaskKind::Agent)), "no `foreach` has it");
        Ok(())
    }

    fn will_refill(&self, name: &str) -> bool {
        self.todo.iter().any(|entry| entry[0] == "W" && entry[2] == name)
    }

    fn will_cancel(&self, index: u32) -> bool {
        self.todo.iter().any(|entry| {
            let bound = |place: usize| entry.get(place).and_then(|text| text.parse::<u32>().ok());
            matches!(entry[0].as_str(), "X" | "I")
                && bound(2).is_some_and(|from| from <= index)
                && bound(3).is_some_and(|to| index < to)
        })
    }

    /// A run or a `foreach` that is being ended forgets none of its tasks.
    fn check_stopping(&self) -> Result<(), Violation> {
        for index in 0..self.shadow.steps() {
            let told = self.status(index) == Some(TaskStatus::Cancelling) || self.will_cancel(index);
            let kept = self.is_final(index) || self.spared(index);
            hold!(kept || told, "run {} is being stopped and forgot task {index}", self.id);
        }
        for (group, item) in self.items() {
            let ending = self.status(group) == Some(TaskStatus::Cancelling) || !self.spared(group);
            if !self.started(group) || !ending || self.is_final(item) {
                continue;
            }
            let told = self.status(item) == Some(TaskStatus::Cancelling);
            let told = told || self.will_cancel(item) || self.will_cancel(group);
            hold!(told, "`foreach` {}.{group} is being ended and forgot item {item}", self.id);
        }
        Ok(())
    }
}

/// Whether a task takes one of its run's places: it stands in a queue or an attempt holds it.
pub fn holds_a_place(record: &TaskRecord) -> bool {
    match record.status {
        TaskStatus::Queued => record.place.as_deref() != Some("held"),
        TaskStatus::Running | TaskStatus::Cancelling => record.owner.is_some(),
        _ => false,
    }
}
