//! The audit stream read as a story: what may follow what in the life of a task and of a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maestro_model::plan::{Dependent, EdgeKind};
use maestro_model::task::TaskStatus;

use super::dump::{Dump, EventLine};
use super::plans::{LOST_MAX, ShadowRun};
use super::{Violation, hold};

/// A task as its events tell it.
#[derive(Debug, Clone, Default)]
pub struct TaskStory {
    pub chapter: Chapter,
    /// The last attempt that started.
    pub attempt: u32,
    /// Who holds it, or held it last.
    pub who: String,
    pub losses: u32,
    /// Whether it was told to end only so that its agent starts again.
    restarting: bool,
    /// Whether it is tried anew.
    again: bool,
    /// Where it stands, while it is queued.
    place: String,
}

/// Where the story of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chapter {
    #[default]
    Blocked,
    Queued,
    Running,
    Cancelling,
    Parked,
    /// Lost or given back; the same call must say what becomes of it.
    Dropped,
    Ended(TaskStatus),
}

#[derive(Debug, Default)]
struct RunStory {
    stop: Option<String>,
    ended: bool,
}

/// All stories so far.
#[derive(Debug, Default)]
pub struct Audit {
    tasks: HashMap<String, TaskStory>,
    runs: BTreeMap<String, RunStory>,
    touched: BTreeSet<String>,
    /// Every end that a task or run ever had, and whether it satisfied who waited for it in another run.
    ends: BTreeSet<(String, bool)>,
    /// Tasks that somebody named in a retry: they start whatever keeps them from it.
    pub forced: BTreeSet<String>,
    /// Events by kind.
    pub counts: BTreeMap<String, u64>,
}

impl Audit {
    /// Reads the events of one dump and compares the stories they touch with the records.
    pub fn read(&mut self, dump: &Dump, runs: &[ShadowRun]) -> Result<(), Violation> {
        self.touched.clear();
        for event in &dump.events {
            *self.counts.entry(event.kind.clone()).or_default() += 1;
            let told = match event.kind.split_once('-') {
                Some(("run", word)) => self.on_run(event, word),
                Some(_) => Ok(()),
                None if event.kind == "leader" => Ok(()),
                None => self.on_task(event, dump, runs),
            };
            if event.kind == "run-submitted" {
                self.take_over(&event.subject, runs);
            }
            told.map_err(|Violation(rule)| Violation(format!("{rule}\n  event: {event:?}")))?;
        }
        for id in &self.touched {
            self.compare(id, dump)?;
        }
        Ok(())
    }

    /// What another run has carried out is over from the first word on.
    fn take_over(&mut self, run: &str, runs: &[ShadowRun]) {
        let Some(shadow) = runs.iter().find(|shadow| shadow.id.as_str() == run) else { return };
        for (index, seed) in &shadow.plan.seeds {
            let chapter = Chapter::Ended(seed.status);
            let story = TaskStory { chapter, attempt: seed.attempt.0, ..TaskStory::default() };
            self.tasks.insert(format!("{run}.{index}"), story);
            let good = seed.status == TaskStatus::Completed;
            self.ends.insert((format!("{run}.{index}"), good));
            self.ends.insert((format!("{run}.{index}"), false));
        }
    }

    /// The story of a task, if it has one.
    pub fn task(&self, id: &str) -> Option<&TaskStory> {
        self.tasks.get(id)
    }

    fn on_run(&mut self, event: &EventLine, word: &str) -> Result<(), Violation> {
        let known = self.runs.contains_key(&event.subject);
        match word {
            "submitted" => {
                hold!(!known, "a run is submitted once");
                self.runs.insert(event.subject.clone(), RunStory::default());
            }
            "stopping" => {
                let run = self.run(&event.subject)?;
                hold!(!run.ended, "a run that has ended is not stopped");
                let weak = run.stop.as_deref().is_none_or(|stop| stop == "fail_fast");
                hold!(weak, "a run is stopped once, or after `fail_fast` for a stronger reason");
                run.stop = Some(event.detail.clone());
            }
            "completed" | "failed" | "cancelled" => {
                let run = self.run(&event.subject)?;
                hold!(!run.ended, "a run ends once");
                run.ended = true;
                let end = (event.subject.clone(), word == "completed");
                self.ends.insert(end);
            }
            "retried" => {
                let run = self.run(&event.subject)?;
                hold!(run.ended, "only a run that has ended goes on");
                *run = RunStory::default();
            }
            "collected" => {}
            _ => return Err(Violation(format!("no run is ever `{word}`"))),
        }
        Ok(())
    }

    fn run(&mut self, id: &str) -> Result<&mut RunStory, Violation> {
        self.runs.get_mut(id).ok_or_else(|| Violation(format!("run {id} was never submitted")))
    }

    fn on_task(&mut self, event: &EventLine, dump: &Dump, runs: &[ShadowRun]) -> Result<(), Violation> {
        let (run_id, index) = event.subject.split_once('.').unwrap_or_default();
        let index: u32 = index.parse().map_err(|_| Violation("a task has an index".to_owned()))?;
        let shadow = runs.iter().find(|run| run.id.as_str() == run_id);
        let shadow = shadow.ok_or_else(|| Violation("the run is known".to_owned()))?;
        let origin = origin(shadow, dump, index)?;
        let attempt: u32 = event.attempt.parse().unwrap_or(0);
        let story = self.tasks.get(&event.subject).cloned().unwrap_or_default();
        if event.kind == "fenced" {
            let current = matches!(story.chapter, Chapter::Running | Chapter::Cancelling)
                && story.attempt == attempt
                && story.who == event.who;
            hold!(!current, "the holder of the current attempt is not refused");
            return Ok(());
        }
        let run = self.run(run_id)?;
        hold!(!run.ended, "nothing happens to a task after its run has ended");
        let stopped = match run.stop.as_deref() {
            None => false,
            Some("fail_fast") => !shadow.task(origin).handler,
            Some(_) => true,
        };
        if stopped && matches!(event.kind.as_str(), "queued" | "started" | "parked" | "completed") {
            // An attempt that runs may end by itself before it is told; nothing new begins.
            hold!(event.kind == "completed", "a run that is being stopped starts nothing");
        }
        let first = story.chapter == Chapter::Blocked && matches!(event.kind.as_str(), "queued" | "started");
        let forced = first && self.forced.remove(&event.subject);
        if first && index == origin && !forced {
            self.ready(shadow, index)?;
        }
        if first && !story.again {
            self.others_have_ended(shadow, index)?;
        }
        if story.chapter == Chapter::Blocked && event.kind == "skipped" && !self.others_failed(shadow, index)
        {
            self.hopeless(shadow, index)?;
        }
        let group = index == origin && shadow.is_group(index);
        let next = turn(story, event, attempt, Circumstances { stopped, group })?;
        if let Chapter::Ended(status) = next.chapter {
            let put_up_with = shadow.shared(origin).continue_on;
            let good = match status {
                TaskStatus::Completed => true,
                TaskStatus::Failed => put_up_with.failed,
                TaskStatus::Skipped => put_up_with.skipped,
                _ => false,
            };
            self.ends.insert((event.subject.clone(), good));
        }
        self.tasks.insert(event.subject.clone(), next);
        self.touched.insert(event.subject.clone());
        Ok(())
    }

    fn ended(&self, shadow: &ShadowRun, task: u32) -> Option<TaskStatus> {
        match self.tasks.get(&format!("{}.{task}", shadow.id)) {
            Some(TaskStory { chapter: Chapter::Ended(status), .. }) => Some(*status),
            _ => None,
        }
    }

    /// All that a task waits for in other runs has once ended well.
    fn others_have_ended(&self, shadow: &ShadowRun, index: u32) -> Result<(), Violation> {
        for need in shadow.plan.waits_for.iter().filter(|need| need.task == index) {
            let good = self.ends.contains(&(need.on.to_string(), true));
            hold!(good, "a task is ready when what it needs has happened: {} has not", need.on);
        }
        Ok(())
    }

    /// Something that a task waits for in other runs has ended badly, or can end no more.
    fn others_failed(&self, shadow: &ShadowRun, index: u32) -> bool {
        let mut needs = shadow.plan.waits_for.iter().filter(|need| need.task == index);
        needs.any(|need| {
            let bad = self.ends.contains(&(need.on.to_string(), false));
            let over = self.runs.get(need.on.run().as_str()).is_some_and(|run| run.ended);
            bad || (over && !self.ends.contains(&(need.on.to_string(), true)))
        })
    }

    /// What a `depends_on` of a parent has come to: none while the parent has not ended.
    fn need_holds(&self, shadow: &ShadowRun, parent: u32) -> Option<bool> {
        let put_up_with = shadow.shared(parent).continue_on;
        Some(match self.ended(shadow, parent)? {
            TaskStatus::Completed => true,
            TaskStatus::Failed => put_up_with.failed,
            TaskStatus::Skipped => put_up_with.skipped,
            _ => false,
        })
    }

    /// What an `on_success` or `on_failure` edge has come to: none while the parent has not ended.
    fn fires(&self, shadow: &ShadowRun, parent: &Dependent) -> Option<bool> {
        Some(match self.ended(shadow, parent.index)? {
            TaskStatus::Completed => parent.edge == EdgeKind::OnSuccess,
            TaskStatus::Failed => parent.edge == EdgeKind::OnFailure,
            _ => false,
        })
    }

    /// Whether all that a step waits for has happened.
    fn ready(&self, shadow: &ShadowRun, index: u32) -> Result<(), Violation> {
        let parents = &shadow.parents[index as usize];
        for parent in parents.iter().filter(|parent| parent.edge == EdgeKind::Needs) {
            let good = self.need_holds(shadow, parent.index) == Some(true);
            hold!(good, "a task is ready when what it needs has happened: {} has not", parent.index);
        }
        let mut triggers = parents.iter().filter(|parent| parent.edge != EdgeKind::Needs).peekable();
        let waits = triggers.peek().is_some();
        let fired = triggers.any(|parent| self.fires(shadow, parent) == Some(true));
        hold!(!waits || fired, "a step that others name waits for one of them");
        Ok(())
    }

    /// Whether a step that is skipped before it was ready can really never run.
    fn hopeless(&self, shadow: &ShadowRun, index: u32) -> Result<(), Violation> {
        let parents = &shadow.parents[index as usize];
        let mut needs = parents.iter().filter(|parent| parent.edge == EdgeKind::Needs);
        let doomed = needs.any(|parent| self.need_holds(shadow, parent.index) == Some(false));
        let mut triggers = parents.iter().filter(|parent| parent.edge != EdgeKind::Needs).peekable();
        let waits = triggers.peek().is_some();
        let never = waits && triggers.all(|parent| self.fires(shadow, parent) == Some(false));
        let told: Vec<_> = parents.iter().map(|parent| (parent, self.ended(shadow, parent.index))).collect();
        hold!(doomed || never, "a step is skipped only if it can never run; before it: {told:?}");
        Ok(())
    }

    /// Whether the record says what the events say.
    fn compare(&self, id: &str, dump: &Dump) -> Result<(), Violation> {
        let story = &self.tasks[id];
        let (run, index) = id.split_once('.').unwrap_or_default();
        let record = dump.record(run, index.parse().unwrap_or(0))?;
        let Some(record) = record else {
            return Err(Violation(format!("task {id} has events ({story:?}) and no record")));
        };
        let told = match story.chapter {
            Chapter::Blocked => TaskStatus::Blocked,
            Chapter::Queued => TaskStatus::Queued,
            Chapter::Running => TaskStatus::Running,
            Chapter::Cancelling => TaskStatus::Cancelling,
            Chapter::Parked => TaskStatus::Parked,
            Chapter::Dropped => return Err(Violation(format!("task {id} was dropped and not taken up"))),
            Chapter::Ended(status) => status,
        };
        let held = matches!(told, TaskStatus::Running | TaskStatus::Cancelling);
        let who = record.owner.as_ref().map_or("", |owner| owner.as_str());
        hold!(
            record.status == told
                && record.attempt.0 == story.attempt
                && record.losses == story.losses
                && (!held || who == story.who),
            "task {id}: the events tell {story:?}, the record says {record:?}"
        );
        Ok(())
    }
}

/// The plan's task that a task comes from: itself, or the `foreach` it is an item of.
pub fn origin(shadow: &ShadowRun, dump: &Dump, index: u32) -> Result<u32, Violation> {
    if (index as usize) < shadow.plan.tasks.len() {
        return Ok(match shadow.task(index).kind {
            maestro_model::plan::TaskKind::Item { group, .. } => group,
            _ => index,
        });
    }
    let windows = dump.windows(shadow.id.as_str())?;
    let of = windows
        .iter()
        .find(|(name, window)| name.starts_with('g') && window.first <= index && index < window.end);
    of.and_then(|(name, _)| name[1..].parse().ok())
        .ok_or_else(|| Violation(format!("task {index} belongs to no `foreach`")))
}

#[derive(Clone, Copy)]
struct Circumstances {
    /// The run is being stopped and does not spare this task.
    stopped: bool,
    /// It is a `foreach` itself.
    group: bool,
}

/// One event in the life of a task.
fn turn(
    mut story: TaskStory,
    event: &EventLine,
    attempt: u32,
    circumstances: Circumstances,
) -> Result<TaskStory, Violation> {
    use Chapter as C;
    let mine = story.attempt == attempt && story.who == event.who;
    let from = story.chapter;
    let lawful = match event.kind.as_str() {
        "queued" => {
            let moved = from == C::Queued && story.place != event.detail;
            story.place = event.detail.clone();
            story.chapter = C::Queued;
            matches!(from, C::Blocked | C::Parked | C::Dropped) || moved
        }
        "started" => {
            let next = attempt == story.attempt + 1;
            (story.attempt, story.who, story.chapter) = (attempt, event.who.clone(), C::Running);
            let alone = circumstances.group && event.who.is_empty() && from == C::Blocked;
            next && (alone || (from == C::Queued && !event.who.is_empty()))
        }
        "retried" => {
            let attempt_stays = attempt == story.attempt;
            story = TaskStory { attempt, again: true, ..TaskStory::default() };
            matches!(from, C::Ended(_)) && attempt_stays
        }
        "expanded" => {
            story.who.clear();
            from == C::Running && attempt == story.attempt && circumstances.group
        }
        "cancelling" => {
            // Whoever cancels a task that is only to start again is heard.
            let stronger = from == C::Cancelling && story.restarting;
            story.chapter = C::Cancelling;
            story.restarting = false;
            mine && (from == C::Running || stronger)
        }
        "restarting" => {
            story.chapter = C::Cancelling;
            story.restarting = true;
            mine && from == C::Running
        }
        "parked" => {
            story.chapter = C::Parked;
            from == C::Running && mine
        }
        "lost" => {
            story.chapter = C::Dropped;
            story.losses += 1;
            from == C::Running && mine && story.losses <= LOST_MAX
        }
        "returned" => {
            let restarted = from == C::Cancelling && story.restarting;
            story.chapter = C::Dropped;
            (from == C::Running || restarted) && mine
        }
        _ => return end(story, event, mine, circumstances),
    };
    hold!(lawful, "this cannot happen to a task that is {from:?} (now {story:?})");
    Ok(story)
}

/// The last event in the life of a task. `mine`: it speaks of the attempt that is under way.
fn end(
    mut story: TaskStory,
    event: &EventLine,
    mine: bool,
    circumstances: Circumstances,
) -> Result<TaskStory, Violation> {
    use Chapter as C;
    let from = story.chapter;
    let own = from == C::Running && mine;
    let finished_first = from == C::Cancelling && story.restarting && mine;
    let (status, lawful) = match event.kind.as_str() {
        "completed" => (TaskStatus::Completed, own || finished_first),
        "failed" => {
            let expired = from == C::Queued && story.attempt == 0 && event.detail == "timeout";
            let poison = from == C::Dropped && story.losses >= LOST_MAX && event.detail == "lost";
            (TaskStatus::Failed, own || expired || poison)
        }
        "skipped" => (TaskStatus::Skipped, from == C::Blocked || own),
        "cancelled" => {
            let by_items = circumstances.group && story.who.is_empty();
            let running = from == C::Running && (circumstances.stopped || by_items);
            let waiting = matches!(from, C::Blocked | C::Queued | C::Parked | C::Cancelling | C::Dropped);
            (TaskStatus::Cancelled, waiting || running)
        }
        other => return Err(Violation(format!("no task is ever `{other}`"))),
    };
    story.chapter = C::Ended(status);
    hold!(lawful, "this cannot happen to a task that is {from:?} (now {story:?})");
    Ok(story)
}
