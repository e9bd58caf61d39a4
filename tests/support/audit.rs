//! The stream of events read as the story of each task: exactly one end, one holder at a time, no way back.
//!
//! What a task may wait for is not known here, so whether it was ready is not checked (see the random
//! workflows, which know their graph).

use std::collections::BTreeMap;

use maestro_store::events::{AuditEvent, EventKind, TaskHappening};

/// What the events tell.
#[derive(Debug, Default)]
pub struct AuditReport {
    pub violations: Vec<String>,
    /// Attempts that started, by task.
    pub started: BTreeMap<String, u32>,
    /// How each task ended.
    pub ended: BTreeMap<String, &'static str>,
    pub lost: u32,
    pub returned: u32,
    pub fenced: u32,
}

impl AuditReport {
    /// Attempts beyond the first of each task.
    pub fn repeated(&self) -> u32 {
        self.started.values().map(|attempts| attempts.saturating_sub(1)).sum()
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct TaskStory {
    chapter: Chapter,
    attempt: u32,
    who: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Chapter {
    #[default]
    Blocked,
    Queued,
    Running,
    Cancelling,
    Parked,
    Dropped,
    Ended,
}

/// Reads all events in order. With `over`, every task must have ended.
pub fn audit(events: &[AuditEvent], over: bool) -> AuditReport {
    let mut report = AuditReport::default();
    let mut tasks: BTreeMap<String, TaskStory> = BTreeMap::new();
    let mut run_ends: BTreeMap<String, u32> = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::Task { task, attempt, who, what } => {
                let id = task.to_string();
                let story = tasks.entry(id.clone()).or_default();
                let before = story.clone();
                if let Err(rule) = turn(story, *attempt, who, what) {
                    report.violations.push(format!(
                        "task {id}: {rule} ({what:?} of attempt {attempt} by {who:?}, after {before:?})"
                    ));
                }
                count(&mut report, id, what);
            }
            EventKind::Run { run, word, .. }
                if ["completed", "failed", "cancelled"].contains(&word.as_str()) =>
            {
                let ends = run_ends.entry(run.to_string()).or_default();
                *ends += 1;
                if *ends > 1 {
                    report.violations.push(format!("run {run} ended {ends} times"));
                }
            }
            _ => {}
        }
    }
    if over {
        let open = tasks.iter().filter(|(_, story)| story.chapter != Chapter::Ended);
        report.violations.extend(open.map(|(id, story)| format!("task {id} has not ended: {story:?}")));
    }
    report
}

fn count(report: &mut AuditReport, id: String, what: &TaskHappening) {
    match what {
        TaskHappening::Started { .. } => *report.started.entry(id).or_default() += 1,
        TaskHappening::Lost => report.lost += 1,
        TaskHappening::Returned => report.returned += 1,
        TaskHappening::Fenced => report.fenced += 1,
        TaskHappening::Completed
        | TaskHappening::Failed { .. }
        | TaskHappening::Skipped
        | TaskHappening::Cancelled => drop(report.ended.insert(id, what.word())),
        TaskHappening::Queued { .. }
        | TaskHappening::Expanded { .. }
        | TaskHappening::Retried
        | TaskHappening::Cancelling
        | TaskHappening::Parked { .. } => {}
    }
}

/// One event in the life of a task, or the rule that it breaks.
fn turn(story: &mut TaskStory, attempt: u32, who: &str, what: &TaskHappening) -> Result<(), &'static str> {
    use Chapter as C;
    let mine = story.attempt == attempt && story.who == who;
    let from = story.chapter;
    if let TaskHappening::Fenced = what {
        let current = matches!(from, C::Running | C::Cancelling) && mine;
        return if current { Err("the holder of the current attempt is refused") } else { Ok(()) };
    }
    if let TaskHappening::Retried = what {
        story.chapter = C::Blocked;
        return require(from == C::Ended, "only what has ended is tried anew");
    }
    if from == C::Ended {
        return Err("nothing follows an end");
    }
    match what {
        TaskHappening::Queued { .. } => {
            story.chapter = C::Queued;
            // From one queue to another: a run that is bound to a worker.
            require(
                matches!(from, C::Blocked | C::Parked | C::Dropped | C::Queued),
                "it is queued from there",
            )
        }
        TaskHappening::Started { .. } => {
            let next = attempt == story.attempt + 1;
            *story = TaskStory { chapter: C::Running, attempt, who: who.to_owned() };
            require(next, "attempts count upwards by one")?;
            require(
                from == C::Queued || (from == C::Blocked && who.is_empty()),
                "it is started out of a queue",
            )
        }
        TaskHappening::Expanded { .. } => {
            story.who.clear();
            require(from == C::Running, "what is expanded runs")
        }
        TaskHappening::Completed => {
            story.chapter = C::Ended;
            require(from == C::Running && mine, "only the holder completes, and not after a cancel")
        }
        TaskHappening::Failed { .. } => {
            story.chapter = C::Ended;
            require(
                (from == C::Running && mine) || matches!(from, C::Queued | C::Dropped),
                "only the holder fails",
            )
        }
        TaskHappening::Skipped => {
            story.chapter = C::Ended;
            require(from == C::Blocked || (from == C::Running && mine), "what is skipped never ran")
        }
        TaskHappening::Cancelling => {
            story.chapter = C::Cancelling;
            require(from == C::Running && mine, "only what runs is told to end")
        }
        TaskHappening::Cancelled => {
            story.chapter = C::Ended;
            Ok(())
        }
        TaskHappening::Parked { .. } => {
            story.chapter = C::Parked;
            require(from == C::Running && mine, "only the holder parks")
        }
        TaskHappening::Lost | TaskHappening::Returned => {
            story.chapter = C::Dropped;
            require(from == C::Running && mine, "only what is held is dropped, and not after a cancel")
        }
        TaskHappening::Retried | TaskHappening::Fenced => Ok(()),
    }
}

fn require(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}
