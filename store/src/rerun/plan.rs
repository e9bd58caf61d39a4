//! What a retry comes to: which tasks start again, which wait again and for what, which ranges begin anew.
//!
//! Pure: from an image of the run to a list of changes, each with what was read of its task.

use std::collections::{BTreeMap, BTreeSet};

use maestro_model::plan::EdgeKind;
use maestro_model::task::{Reason, TaskStatus};

use super::{ReadTask, RunImage};
use crate::inspect::GroupView;
use crate::record::TaskRecord;

/// One entry of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) index: u32,
    pub(super) deed: RetryDeed,
    /// The record it relies on; empty if there was none.
    pub(super) line: String,
    /// What it waited for; empty if for nothing.
    pub(super) left: String,
}

/// What is done to a task; `scripts/rerun.lua` says what each letter means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryDeed {
    /// Others rely on it being so.
    Nothing,
    /// It waits already, and now for this.
    WaitFor(String),
    Start,
    /// A `foreach` whose items are made anew, at once.
    Expand,
    /// It waits again, for this.
    Wait(String),
    /// A `foreach` whose items are made anew when it starts.
    WaitToExpand(String),
    /// A `foreach` that waits with all its items.
    WaitWithItems(String),
    /// A `foreach` goes on with some of its items, in this range.
    GoOn(String),
    /// An item is tried again. `named`: somebody asked for this one.
    TryItem {
        named: bool,
    },
    ItemWaits,
    ForgetItem,
}

impl RetryDeed {
    pub(super) fn letter(&self) -> &'static str {
        match self {
            RetryDeed::Nothing => "=",
            RetryDeed::WaitFor(_) => "L",
            RetryDeed::Start => "S",
            RetryDeed::Expand => "X",
            RetryDeed::Wait(_) => "B",
            RetryDeed::WaitToExpand(_) => "E",
            RetryDeed::WaitWithItems(_) => "W",
            RetryDeed::GoOn(_) => "G",
            RetryDeed::TryItem { .. } => "I",
            RetryDeed::ItemWaits => "i",
            RetryDeed::ForgetItem => "D",
        }
    }

    pub(super) fn value(&self) -> &str {
        match self {
            RetryDeed::WaitFor(text)
            | RetryDeed::Wait(text)
            | RetryDeed::WaitToExpand(text)
            | RetryDeed::WaitWithItems(text)
            | RetryDeed::GoOn(text) => text,
            _ => "",
        }
    }

    /// Whether people are told of it.
    pub(super) fn is_told(&self) -> bool {
        match self {
            RetryDeed::Nothing | RetryDeed::WaitFor(_) | RetryDeed::ItemWaits | RetryDeed::ForgetItem => {
                false
            }
            RetryDeed::TryItem { named } => *named,
            _ => true,
        }
    }
}

/// Why a retry cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    Running(u32, TaskStatus),
    Completed(u32),
    NeverBegan(u32),
}

/// Works it out. `named` are tasks and items that have ended.
pub(super) fn plan_changes(
    image: &RunImage,
    named: &BTreeSet<u32>,
    downstream: bool,
) -> Result<Vec<Change>, Unfit> {
    let mut planner =
        Planner { image, items: BTreeMap::new(), again: BTreeSet::new(), deeds: BTreeMap::new() };
    planner.take_named(named, downstream)?;
    let steps = planner.again.clone();
    if downstream {
        planner.follow()?;
    }
    planner.order(&steps);
    planner.adjust_waiting();
    planner.rely();
    Ok(planner.changes())
}

struct Planner<'a> {
    image: &'a RunImage,
    /// Items that were named, by their `foreach`.
    items: BTreeMap<u32, BTreeSet<u32>>,
    /// Steps that end anew.
    again: BTreeSet<u32>,
    deeds: BTreeMap<u32, RetryDeed>,
}

impl<'a> Planner<'a> {
    fn take_named(&mut self, named: &BTreeSet<u32>, downstream: bool) -> Result<(), Unfit> {
        for index in named {
            let Some(group) = self.image.group_of(*index) else {
                self.again.insert(*index);
                continue;
            };
            if self.image.task(*index).record.is_none() {
                return Err(Unfit::NeverBegan(*index));
            }
            self.items.entry(group).or_default().insert(*index);
            self.again.insert(group);
        }
        for index in self.again.iter().chain(named) {
            let status = self.image.task(*index).status();
            if !status.is_final() {
                return Err(Unfit::Running(*index, status));
            }
            if status == TaskStatus::Completed && !downstream && named.contains(index) {
                return Err(Unfit::Completed(*index));
            }
        }
        Ok(())
    }

    /// Everything that ended because something before it ended, unless something else keeps it from running.
    fn follow(&mut self) -> Result<(), Unfit> {
        let named = self.again.clone();
        let mut left: Vec<u32> = named.iter().copied().collect();
        while let Some(index) = left.pop() {
            for (to, _) in self.dependents(index) {
                let status = self.image.task(to).status();
                match status {
                    TaskStatus::Blocked => {}
                    _ if status.is_final() => {
                        if self.again.insert(to) {
                            left.push(to);
                        }
                    }
                    _ => return Err(Unfit::Running(to, status)),
                }
            }
        }
        // What cannot run for another reason stays as it is, and so does what hangs on that alone.
        loop {
            let stays = self.again.iter().copied().find(|index| {
                let hangs = self.parents(*index).any(|(parent, _)| self.again.contains(&parent));
                !named.contains(index) && (!hangs || self.waits(*index).is_none())
            });
            match stays {
                Some(index) => self.again.remove(&index),
                None => return Ok(()),
            };
        }
    }

    fn dependents(&self, index: u32) -> impl Iterator<Item = (u32, EdgeKind)> + use<'a> {
        self.image.dependents.get(&index).into_iter().flatten().copied()
    }

    fn parents(&self, index: u32) -> impl Iterator<Item = (u32, EdgeKind)> + use<'a> {
        self.image.parents.get(&index).into_iter().flatten().copied()
    }

    /// What a step waits for when those in `again` have still to end: none if it can never run.
    fn waits(&self, index: u32) -> Option<Waits> {
        let mut waits = Waits::default();
        for (parent, kind) in self.parents(index) {
            let task = self.image.task(parent);
            let ended = task.status().is_final() && !self.again.contains(&parent);
            if kind == EdgeKind::Needs {
                match (ended, ended && satisfies(task)) {
                    (false, _) => waits.needs += 1,
                    (true, true) => {}
                    (true, false) => return None,
                }
            } else {
                waits.triggered = true;
                waits.triggers += u32::from(!ended);
                waits.fired |= ended && fires(task, kind);
            }
        }
        let hopeless = waits.triggered && !waits.fired && waits.triggers == 0;
        (!hopeless).then_some(waits)
    }

    /// What becomes of each step that ends anew.
    fn order(&mut self, named: &BTreeSet<u32>) {
        for index in self.again.clone() {
            let hangs = self.parents(index).any(|(parent, _)| self.again.contains(&parent));
            // A step that was named starts, whatever keeps it from it, unless it follows another one.
            let waits = if hangs { self.waits(index) } else { None };
            match waits.filter(|waits| !waits.is_ready()) {
                Some(waits) => self.wait(index, waits.text()),
                None if hangs || named.contains(&index) => self.start(index),
                None => {}
            }
        }
    }

    fn wait(&mut self, index: u32, text: String) {
        let Some(group) = self.image.groups.get(&index) else {
            self.deeds.insert(index, RetryDeed::Wait(text));
            return;
        };
        if self.image.expanded.contains(&index) {
            self.deeds.insert(index, RetryDeed::WaitToExpand(text));
            self.deeds.extend(group.items().map(|item| (item, RetryDeed::ForgetItem)));
            return;
        }
        self.deeds.insert(index, RetryDeed::WaitWithItems(text));
        let known = group.items().filter(|item| self.image.task(*item).record.is_some());
        self.deeds.extend(known.map(|item| (item, RetryDeed::ItemWaits)));
    }

    fn start(&mut self, index: u32) {
        let group = self.image.groups.get(&index);
        let Some(group) = group.filter(|group| self.began(group)) else {
            let anew = group.filter(|_| self.image.expanded.contains(&index));
            self.deeds.insert(index, if anew.is_some() { RetryDeed::Expand } else { RetryDeed::Start });
            let items = anew.into_iter().flat_map(GroupView::items);
            self.deeds.extend(items.map(|item| (item, RetryDeed::ForgetItem)));
            return;
        };
        let named = self.items.get(&index);
        let failed: BTreeSet<u32> = group
            .items()
            .filter(|item| match named {
                Some(named) => named.contains(item),
                None => self.image.task(*item).status() != TaskStatus::Completed,
            })
            .collect();
        // All of its items completed: then the whole of it is wanted once more.
        let tried: BTreeSet<u32> = if failed.is_empty() { group.items().collect() } else { failed };
        self.deeds.insert(index, RetryDeed::GoOn(self.range(group, &tried)));
        for item in &tried {
            let asked = named.is_some_and(|named| named.contains(item));
            self.deeds.insert(*item, RetryDeed::TryItem { named: asked });
        }
    }

    fn began(&self, group: &GroupView) -> bool {
        group.items().any(|item| self.image.task(item).record.is_some())
    }

    /// The range of a `foreach` that goes on with some items: its cursor stands before the first of them.
    fn range(&self, group: &GroupView, tried: &BTreeSet<u32>) -> String {
        let rest = || group.items().filter(|item| !tried.contains(item)).map(|item| self.image.task(item));
        let of = |wanted: &[TaskStatus]| rest().filter(|task| wanted.contains(&task.status())).count();
        let reason = rest().find_map(|task| task.record.as_ref()?.reason).map_or("", Reason::word);
        let first = tried.first().copied().unwrap_or(group.first);
        format!(
            "{},{first},{},0,{},{},{},{},{reason}",
            group.first,
            group.first + group.count,
            group.max_parallel.unwrap_or(0),
            tried.len(),
            of(&[TaskStatus::Failed, TaskStatus::Skipped]),
            of(&[TaskStatus::Cancelled]),
        )
    }

    /// Steps that wait and were told of an end that is taken back.
    fn adjust_waiting(&mut self) {
        let told: BTreeSet<u32> = self
            .again
            .iter()
            .flat_map(|index| self.dependents(*index))
            .map(|(to, _)| to)
            .filter(|to| self.image.task(*to).left.is_some())
            .collect();
        for index in told {
            let Some(mut waits) = self.image.task(index).left.as_deref().and_then(Waits::read) else {
                continue;
            };
            let mut fired = false;
            for (parent, kind) in self.parents(index) {
                let task = self.image.task(parent);
                let again = self.again.contains(&parent);
                match kind {
                    EdgeKind::Needs => waits.needs += u32::from(again),
                    _ => {
                        waits.triggers += u32::from(again);
                        fired |= !again && fires(task, kind);
                    }
                }
            }
            waits.fired = fired;
            self.deeds.insert(index, RetryDeed::WaitFor(waits.text()));
        }
    }

    /// Parents whose end was looked at must not have changed.
    fn rely(&mut self) {
        let relied: Vec<u32> =
            self.deeds.keys().flat_map(|index| self.parents(*index)).map(|(parent, _)| parent).collect();
        for parent in relied {
            self.deeds.entry(parent).or_insert(RetryDeed::Nothing);
        }
    }

    fn changes(self) -> Vec<Change> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let changes = self.deeds.into_iter().map(|(index, deed)| {
            let task = self.image.task(index);
            Change { index, deed, line: text(&task.line), left: text(&task.left) }
        });
        changes.collect()
    }
}

/// How many changes count against the limit: those that are more than a look.
pub(super) fn weight(changes: &[Change]) -> usize {
    changes.iter().filter(|change| change.deed != RetryDeed::Nothing).count()
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waits {
    needs: u32,
    /// Whether an `on_success` or `on_failure` leads to it at all.
    triggered: bool,
    triggers: u32,
    fired: bool,
}

impl Waits {
    fn is_ready(&self) -> bool {
        self.needs == 0 && (!self.triggered || self.fired)
    }

    fn text(&self) -> String {
        if self.triggered {
            format!("{};{};{}", self.needs, self.triggers, u8::from(self.fired))
        } else {
            self.needs.to_string()
        }
    }

    fn read(text: &str) -> Option<Waits> {
        let mut numbers = text.split(';').map(|number| number.parse::<u32>().ok());
        let needs = numbers.next()??;
        Some(match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(triggers), Some(fired)) => Waits { needs, triggered: true, triggers, fired: fired == 1 },
            _ => Waits { needs, ..Waits::default() },
        })
    }
}

/// Whether the end of a task satisfies who needs it.
fn satisfies(task: &ReadTask) -> bool {
    let flag =
        |letter: char| task.record.as_ref().is_some_and(|record: &TaskRecord| record.flags.contains(letter));
    match task.status() {
        TaskStatus::Completed => true,
        TaskStatus::Failed => flag('f'),
        TaskStatus::Skipped => flag('s'),
        _ => false,
    }
}

fn fires(task: &ReadTask, kind: EdgeKind) -> bool {
    match kind {
        EdgeKind::OnSuccess => task.status() == TaskStatus::Completed,
        EdgeKind::OnFailure => task.status() == TaskStatus::Failed,
        EdgeKind::Needs | EdgeKind::Item => false,
    }
}
