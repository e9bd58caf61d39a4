//! All that a cell holds, read in one request.

use std::collections::{BTreeMap, BTreeSet};

use maestro_store::record::TaskRecord;
use redis::Value;

use super::{Violation, hold};

/// Reads every key below a prefix; of the events only those after a given one, and of what never
/// changes after the submission only that it is there.
const DUMP: &str = r"
local out = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local short = string.sub(key, #ARGV[1] + 1)
  local kind = redis.call('TYPE', key).ok
  local value = {}
  if string.match(short, '^r:%w+:edge$') or (ARGV[3] == '' and string.match(short, '^r:%w+:spec$')) then
    kind = 'fixed'
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'string' then value = { '', redis.call('GET', key) }
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'stream' then
    for _, entry in ipairs(redis.call('XRANGE', key, '(' .. ARGV[2], '+')) do
      value[#value + 1] = entry[1]
      value[#value + 1] = entry[2][2]
    end
  end
  out[#out + 1] = { short, kind, value }
end
return out";

/// What a cell held at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dump {
    pub hashes: BTreeMap<String, BTreeMap<String, String>>,
    pub zsets: BTreeMap<String, BTreeMap<String, f64>>,
    pub sets: BTreeMap<String, BTreeSet<String>>,
    pub lists: BTreeMap<String, Vec<String>>,
    /// Keys whose content was not read.
    pub fixed: BTreeSet<String>,
    /// Lines of the audit stream since the dump before.
    pub events: Vec<EventLine>,
    /// The last entry of the stream that was read.
    pub position: String,
}

/// One line of the audit stream, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    pub kind: String,
    pub subject: String,
    pub attempt: String,
    pub who: String,
    pub detail: String,
}

/// A range of tasks as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub first: u32,
    pub next: u32,
    pub end: u32,
    pub here: i64,
    pub limit: i64,
    pub open: i64,
    pub failed: i64,
    pub cancelled: i64,
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Without what never changes.
    Quick,
    /// With the specs.
    Whole,
}

impl Dump {
    /// Reads a cell; events after `position`.
    pub fn read(
        raw: &mut redis::Connection,
        prefix: &str,
        position: &str,
        depth: Depth,
    ) -> Result<Dump, Violation> {
        let mut command = redis::cmd("EVAL");
        command.arg(DUMP).arg(0).arg(prefix).arg(position).arg(if depth == Depth::Whole { "1" } else { "" });
        let keys: Vec<(String, String, Vec<Value>)> =
            command.query(raw).map_err(|error| Violation(format!("the cell cannot be read: {error}")))?;
        let mut dump = Dump { position: position.to_owned(), ..Dump::default() };
        for (key, kind, values) in keys {
            let words: Vec<String> = values.into_iter().map(word).collect();
            dump.add(key, &kind, words)?;
        }
        Ok(dump)
    }

    fn add(&mut self, key: String, kind: &str, words: Vec<String>) -> Result<(), Violation> {
        let pairs = || words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        match kind {
            // A text is kept as a hash with one field without a name.
            "hash" | "string" => drop(self.hashes.insert(key, pairs().collect())),
            "zset" => {
                let scored = pairs().map(|(member, score)| (member, score.parse().unwrap_or(f64::NAN)));
                self.zsets.insert(key, scored.collect());
            }
            "set" => drop(self.sets.insert(key, words.into_iter().collect())),
            "list" => drop(self.lists.insert(key, words)),
            "stream" => {
                for (id, lines) in pairs() {
                    for line in lines.lines() {
                        self.events.extend(EventLine::read(line)?);
                    }
                    self.position = id;
                }
            }
            "fixed" => drop(self.fixed.insert(key)),
            other => return Err(Violation(format!("key `{key}` is a {other}"))),
        }
        Ok(())
    }

    /// A field of `ctl` as a number.
    pub fn ctl(&self, field: &str) -> i64 {
        self.hash("ctl").and_then(|ctl| ctl.get(field)).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn hash(&self, key: &str) -> Option<&BTreeMap<String, String>> {
        self.hashes.get(key)
    }

    pub fn zset(&self, key: &str) -> impl Iterator<Item = (&String, f64)> {
        self.zsets.get(key).into_iter().flatten().map(|(member, score)| (member, *score))
    }

    /// Ids of the runs that are stored.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().filter_map(|key| key.strip_prefix("r:")).filter(|rest| !rest.contains(':'))
    }

    /// A field of a run.
    pub fn run_field(&self, run: &str, field: &str) -> &str {
        self.hashes.get(&format!("r:{run}")).and_then(|fields| fields.get(field)).map_or("", String::as_str)
    }

    /// A field of a run as a number.
    pub fn run_number(&self, run: &str, field: &str) -> i64 {
        self.run_field(run, field).parse().unwrap_or(0)
    }

    /// A task's record.
    pub fn record(&self, run: &str, index: u32) -> Result<Option<TaskRecord>, Violation> {
        let line = self.hashes.get(&format!("r:{run}:task")).and_then(|tasks| tasks.get(&index.to_string()));
        line.map(|line| TaskRecord::read(line).map_err(|error| Violation(error.to_string()))).transpose()
    }

    /// All records of a run.
    pub fn records(&self, run: &str) -> Result<BTreeMap<u32, TaskRecord>, Violation> {
        let lines = self.hashes.get(&format!("r:{run}:task")).into_iter().flatten();
        lines
            .map(|(index, line)| {
                let record = TaskRecord::read(line).map_err(|error| Violation(error.to_string()))?;
                let index = index.parse().map_err(|_| Violation(format!("task index `{index}`")))?;
                Ok((index, record))
            })
            .collect()
    }

    /// The windows of a run by name.
    pub fn windows(&self, run: &str) -> Result<BTreeMap<String, Window>, Violation> {
        let lines = self.hashes.get(&format!("r:{run}:win")).into_iter().flatten();
        let windows = lines.filter(|(name, _)| !name.starts_with("h:"));
        windows.map(|(name, line)| Ok((name.clone(), Window::read(line)?))).collect()
    }

    /// The same dump without what every request changes: clock and events.
    pub fn timeless(mut self) -> Dump {
        self.events.clear();
        self.position.clear();
        if let Some(ctl) = self.hashes.get_mut("ctl") {
            ctl.remove("clk");
            ctl.remove("wall");
            ctl.remove("test_wall");
        }
        self
    }
}

fn word(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

impl EventLine {
    /// One event, or one for each task where it is what happens to many.
    fn read(line: &str) -> Result<Vec<EventLine>, Violation> {
        let fields: Vec<&str> = line.split('\t').collect();
        hold!(fields.len() == 5, "an event has five fields: `{line}`");
        let text = |place: usize| fields[place].to_owned();
        let event = |subject: &str| EventLine {
            kind: text(0),
            subject: subject.to_owned(),
            attempt: text(2),
            who: text(3),
            detail: text(4),
        };
        let many = matches!(fields[0], "queued" | "started" | "completed");
        Ok(if many { fields[1].split(' ').map(event).collect() } else { vec![event(fields[1])] })
    }
}

impl Window {
    fn read(line: &str) -> Result<Window, Violation> {
        let fields: Vec<&str> = line.splitn(9, ',').collect();
        hold!(fields.len() == 9, "a window has nine fields: `{line}`");
        let number = |place: usize| -> Result<i64, Violation> {
            fields[place].parse().map_err(|_| Violation(format!("a window of numbers: `{line}`")))
        };
        Ok(Window {
            first: number(0)? as u32,
            next: number(1)? as u32,
            end: number(2)? as u32,
            here: number(3)?,
            limit: number(4)?,
            open: number(5)?,
            failed: number(6)?,
            cancelled: number(7)?,
        })
    }
}
