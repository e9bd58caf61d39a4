//! Looking closely: what a task waits for, where it stands, what holds it up, who leads.
//!
//! Only reads, for people who ask; nothing that carries work forward goes through here. What is told
//! apart in several answers may have changed between them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use maestro_model::ids::{Incarnation, RunId, TaskId};
use maestro_model::plan::{EdgeKind, NeedTarget};
use maestro_model::task::TaskStatus;
use redis::Value;

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::record::TaskRecord;
use crate::step::CellMode;

/// Fields asked for in one portion of a scan.
const SCAN_COUNT: u32 = 1000;

/// A `foreach` whose items are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Its first item.
    pub first: u32,
    /// How many items.
    pub count: u32,
    /// Items that have been let into a queue so far.
    pub released: u32,
    /// Most items at one time; none = no limit.
    pub max_parallel: Option<u32>,
    /// Items not ended; 0 as well before it has started.
    pub open: u32,
    /// Items that failed or were skipped.
    pub failed: u32,
    /// Items that were cancelled.
    pub cancelled: u32,
}

impl GroupView {
    /// Its items.
    pub fn items(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

/// One edge of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeView {
    /// The task it starts at.
    pub from: u32,
    /// The task that waits.
    pub to: u32,
    /// For what.
    pub kind: EdgeKind,
}

/// Where a task stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Tasks in front of it.
    pub before: u64,
    /// Tasks in the queue, this one included.
    pub depth: u64,
}

/// Something in another run that a task was submitted to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedView {
    /// What.
    pub on: NeedTarget,
    /// Whether it has ended, and counts; of what has been collected since this is certain.
    pub ended: bool,
}

/// How many tasks of a run are where in their life, by the shared part they build on. Tasks that were
/// never ready, and `foreach` steps themselves, are not in it.
pub type RunTally = HashMap<u32, BTreeMap<TaskStatus, u32>>;

impl Store {
    /// Tasks that have an edge to this one, and its kind, by index. An item's group is not among them.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn predecessors(&self, run: &RunId, index: u32) -> Result<Vec<(u32, EdgeKind)>, StoreError> {
        let edges = self.edges(run).await?;
        Ok(edges.into_iter().filter(|edge| edge.to == index).map(|edge| (edge.from, edge.kind)).collect())
    }

    /// All edges of a run by where they start. Those from items to their group are not among them.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn edges(&self, run: &RunId) -> Result<Vec<EdgeView>, StoreError> {
        let mut found = Vec::new();
        for (field, edges) in self.scan_hash(&self.keys().run_edge(run)).await? {
            let from = field.split('.').next().and_then(|from| from.parse().ok());
            let from: u32 = from.ok_or_else(|| StoreError::unreadable("an edge", &field))?;
            for word in edges.trim_end_matches('>').split(' ') {
                let kind = match word.chars().next() {
                    Some('d') => EdgeKind::Needs,
                    Some('s') => EdgeKind::OnSuccess,
                    Some('f') => EdgeKind::OnFailure,
                    _ => continue,
                };
                let to = word[1..].parse().map_err(|_| StoreError::unreadable("an edge", word))?;
                found.push(EdgeView { from, to, kind });
            }
        }
        found.sort_by_key(|edge| (edge.from, edge.to));
        Ok(found)
    }

    /// What a task waits for, or waited for, in other runs.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn external_needs(&self, run: &RunId, index: u32) -> Result<Vec<NeedView>, StoreError> {
        let command = redis::cmd("HGET").arg(self.keys().run(run)).arg("needs").to_owned();
        let line: Option<String> = decode("what a run waits for", self.ask(&command).await?)?;
        let mut needs = Vec::new();
        for word in line.unwrap_or_default().split_ascii_whitespace() {
            let unreadable = || StoreError::unreadable("what a run waits for", word);
            let (task, target) = word.split_once(':').ok_or_else(unreadable)?;
            if task.parse() != Ok(index) {
                continue;
            }
            let on = match target.parse() {
                Ok(task) => NeedTarget::Task(task),
                Err(_) => NeedTarget::Run(target.parse().map_err(|_| unreadable())?),
            };
            let ended = self.has_ended(&on).await?;
            needs.push(NeedView { on, ended });
        }
        Ok(needs)
    }

    async fn has_ended(&self, on: &NeedTarget) -> Result<bool, StoreError> {
        let run_ended = self.run(on.run()).await?.is_none_or(|record| record.status.is_final());
        match on {
            NeedTarget::Task(task) if !run_ended => Ok(self.task(task).await?.status.is_final()),
            _ => Ok(run_ended),
        }
    }

    /// The `foreach` steps of a run whose items are known, by index.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn groups(&self, run: &RunId) -> Result<BTreeMap<u32, GroupView>, StoreError> {
        let mut groups = BTreeMap::new();
        for (field, line) in self.scan_hash(&self.keys().run_win(run)).await? {
            let Some(index) = field.strip_prefix('g').and_then(|index| index.parse().ok()) else { continue };
            let numbers: Vec<u32> = line.split(',').take(8).map_while(|number| number.parse().ok()).collect();
            let [first, next, end, _, limit, open, failed, cancelled] = numbers[..] else {
                return Err(StoreError::unreadable("a range of items", &line));
            };
            let group = GroupView {
                first,
                count: end - first,
                released: next - first,
                max_parallel: (limit > 0).then_some(limit),
                open,
                failed,
                cancelled,
            };
            groups.insert(index, group);
        }
        Ok(groups)
    }

    /// How many tasks of a run are where, from their records alone.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn tally(&self, run: &RunId) -> Result<RunTally, StoreError> {
        let groups = self.groups(run).await?;
        let mut tally = RunTally::new();
        for (index, line) in self.scan_hash(&self.keys().run_task(run)).await? {
            if index.parse().is_ok_and(|index| groups.contains_key(&index)) {
                continue;
            }
            let record = TaskRecord::read(&line)?;
            *tally.entry(record.shared).or_default().entry(record.status).or_default() += 1;
        }
        Ok(tally)
    }

    /// Where a queued task stands; none if it has left, or is held in front of its run's gate.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn queue_place(
        &self,
        task: &TaskId,
        record: &TaskRecord,
    ) -> Result<Option<QueuePlace>, StoreError> {
        let (Some(queue), Some(rank)) = (&record.place, record.rank) else { return Ok(None) };
        let key = self.keys().queue(queue);
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANK").arg(&key).arg(format!("{rank}:{task}"));
        pipeline.cmd("ZCARD").arg(&key);
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let before: Option<u64> = decode("a place in a queue", values.next().unwrap_or(Value::Nil))?;
        let depth = decode("a queue's depth", values.next().unwrap_or(Value::Int(0)))?;
        Ok(before.map(|before| QueuePlace { before, depth }))
    }

    /// How long a parked task still waits, on the cluster's clock; none if it is not parked.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn due_in(&self, task: &TaskId) -> Result<Option<Duration>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZSCORE").arg(self.keys().delayed()).arg(task.to_string());
        pipeline.cmd("HMGET").arg(self.keys().ctl()).arg(&["clk", "wall"]);
        pipeline.cmd("TIME");
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let due: Option<f64> = decode("when a task is due", next())?;
        let clocks: Vec<f64> = decode("the clock", next())?;
        let (seconds, micros): (f64, f64) = decode("the time", next())?;
        let [clock, wall] = clocks[..] else { return Err(StoreError::unreadable("the clock", clocks)) };
        // The clock stands between two calls; what has passed since the last is as good as on it.
        let passed = (seconds * 1000.0 + micros / 1000.0 - wall).max(0.0);
        Ok(due.map(|due| Duration::from_millis((due - clock - passed).max(0.0) as u64)))
    }

    /// Most attempts at one time across the cluster, by agent type; types without a limit are not in it.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn type_limits(&self) -> Result<HashMap<String, u32>, StoreError> {
        let command = redis::cmd("HGETALL").arg(self.keys().limits()).to_owned();
        decode("the limits", self.ask(&command).await?)
    }

    /// Tasks that hold a slot of a limited agent type.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn slots_taken(&self, slug: &str) -> Result<Vec<TaskId>, StoreError> {
        let command = redis::cmd("SMEMBERS").arg(self.keys().slots(slug)).to_owned();
        let mut holders: Vec<String> = decode("the holders of slots", self.ask(&command).await?)?;
        holders.sort();
        let read = |text: String| text.parse().map_err(|_| StoreError::unreadable("a task id", &text));
        holders.into_iter().map(read).collect()
    }

    /// The coordinator that leads, if one does.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn leader(&self) -> Result<Option<Incarnation>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.keys().leader()).arg(&["inc", "until"]);
        pipeline.cmd("HGET").arg(self.keys().ctl()).arg("clk");
        let mut values = self.ask_all(&pipeline).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let fields: (Option<String>, Option<f64>) = decode("the leader", next())?;
        let clock: f64 = decode("the clock", next())?;
        Ok(match fields {
            (Some(incarnation), Some(until)) if until >= clock => Some(Incarnation::from_stored(incarnation)),
            _ => None,
        })
    }

    /// What the cell does with work at present.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn cell_mode(&self) -> Result<CellMode, StoreError> {
        let command = redis::cmd("HGET").arg(self.keys().ctl()).arg("mode").to_owned();
        let word: String = decode("the cell's mode", self.ask(&command).await?)?;
        Ok(CellMode::read(&word))
    }

    /// All fields of a hash, read in portions; what changes meanwhile may be there in either form.
    async fn scan_hash(&self, key: &str) -> Result<HashMap<String, String>, StoreError> {
        let mut fields = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let command = redis::cmd("HSCAN").arg(key).arg(&cursor).arg("COUNT").arg(SCAN_COUNT).to_owned();
            let (next, portion): (String, Vec<(String, String)>) =
                decode("a portion of a hash", self.ask(&command).await?)?;
            fields.extend(portion);
            if next == "0" {
                return Ok(fields);
            }
            cursor = next;
        }
    }
}
