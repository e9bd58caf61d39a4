//! How a plan lies in Redis: fields of a handful of hashes, packed into chunks.
//!
//! What scripts need stands in a short line in front of the JSON that workers need, so that no script
//! parses JSON. `docs/protocol.md` describes the lines.

use std::collections::BTreeMap;
use std::ops::Range;

use maestro_model::ids::TaskId;
use maestro_model::plan::{
    EdgeKind, Plan, PlannedTask, References, SharedSpec, TaskKind, TaskSeed, WorkspaceChoice,
};
use maestro_model::task::{Reason, TaskStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Edges stored in one field, and walked in one portion.
pub const EDGES_PER_FIELD: usize = 64;
/// Fewest tasks of a window whose common head is worth a field.
const SAME_HEAD_MIN: usize = 8;
/// Most fields and bytes of one chunk of a submission.
const CHUNK_FIELDS: usize = 750;
const CHUNK_BYTES: usize = 256 * 1024;

/// Which hash of a run a field belongs to; the order in which `submit` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Run,
    Spec,
    Left,
    Edge,
    Win,
    Task,
    Out,
}

impl Section {
    pub(crate) const ALL: [Section; 7] = [
        Section::Run,
        Section::Spec,
        Section::Left,
        Section::Edge,
        Section::Win,
        Section::Task,
        Section::Out,
    ];
}

/// One chunk: fields by section.
pub(crate) type Chunk = Vec<(Section, String, String)>;

/// A plan as it is sent, and the digest of all of it.
pub(crate) struct EncodedPlan {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) digest: String,
}

/// The part of a task that is its own, as workers read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnSpec {
    /// The step.
    #[serde(rename = "s")]
    pub step: String,
    /// Its own prompt.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Of an item: its number.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Of an item: its value.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// Of a `foreach` that is still to be expanded: its list.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// Of a `foreach`: most items at one time.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// What its own prompt reads.
    #[serde(rename = "r", default, skip_serializing_if = "References::is_empty")]
    pub references: References,
    /// Of a snapshot: its label.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Taken over from another run: the task that did the work.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<TaskId>,
}

impl OwnSpec {
    /// The name people see: the step, and of an item its number too.
    pub fn label(&self) -> String {
        match self.number {
            Some(number) => format!("{}[{number}]", self.step),
            None => self.step.clone(),
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plans hold nothing that JSON cannot say")
}

/// State keys may hold anything; what would end a word is written as `%xx`.
fn escape_key(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
    }
    escaped
}

fn needs(plan_tasks: &[PlannedTask], references: &References) -> String {
    let steps = references.steps.values().map(|index| {
        let group = plan_tasks
            .get(*index as usize)
            .is_some_and(|task| matches!(task.kind, TaskKind::Group { .. } | TaskKind::Expand { .. }));
        format!("{}{index}", if group { 'g' } else { 'o' })
    });
    let state = references.state.iter().map(|key| format!("s{}", escape_key(key)));
    steps.chain(state).collect::<Vec<_>>().join(" ")
}

fn shared_field(plan: &Plan, shared: &SharedSpec) -> String {
    format!(
        "{} {} {} {} {} {} {} {}\n{}",
        shared.agent,
        shared.queue.as_str(),
        shared.priority,
        shared.timeout_ms,
        shared.queue_timeout_ms.unwrap_or(0),
        shared.retry.max_attempts,
        shared.retry.delay_ms,
        needs(&plan.tasks, &shared.references),
        json(shared),
    )
}

/// The flags of a task: what the scripts must know to end it or to let it start.
fn flags(task: &PlannedTask, shared: &SharedSpec) -> String {
    let mut flags = String::new();
    let mut flag = |set: bool, letter: char| {
        if set {
            flags.push(letter);
        }
    };
    flag(task.handled, 'h');
    flag(task.handler, 'H');
    flag(shared.workspace == WorkspaceChoice::Run, 'b');
    flag(shared.continue_on.failed, 'f');
    flag(shared.continue_on.skipped, 's');
    flag(shared.assigned.is_some(), 'i');
    flag(matches!(task.kind, TaskKind::Expand { .. } | TaskKind::Snapshot { .. }), 'x');
    flags
}

/// The field of an item that a coordinator adds to a running `foreach`.
pub fn expanded_item(
    group: u32,
    shared_index: u32,
    flags: &str,
    step: &str,
    number: u32,
    item: Value,
) -> String {
    let own = OwnSpec {
        step: step.to_owned(),
        prompt: None,
        number: Some(number),
        item: Some(item),
        list: None,
        max_parallel: None,
        references: References::default(),
        snapshot: None,
        origin: None,
    };
    format!("i {shared_index} g{group} {flags} \n{}", json(&own))
}

fn task_field(plan: &Plan, index: u32, window: &str) -> String {
    let task = &plan.tasks[index as usize];
    let shared = &plan.shared[task.shared as usize];
    let mut own = OwnSpec {
        step: task.step.to_string(),
        prompt: task.prompt.clone(),
        number: None,
        item: None,
        list: None,
        max_parallel: None,
        references: task.references.clone(),
        snapshot: None,
        origin: plan.seeds.get(&index).map(|seed| seed.origin.clone()),
    };
    let letter = match &task.kind {
        TaskKind::Agent => 'a',
        TaskKind::Item { number, item, .. } => {
            own.number = Some(*number);
            own.item = Some(item.clone());
            'i'
        }
        TaskKind::Group { max_parallel, .. } => {
            own.max_parallel = *max_parallel;
            'g'
        }
        TaskKind::Expand { list, max_parallel } => {
            own.list = Some(list.clone());
            own.max_parallel = *max_parallel;
            'x'
        }
        TaskKind::Snapshot { label } => {
            own.snapshot = Some(label.clone());
            's'
        }
    };
    let needs = needs(&plan.tasks, &task.references);
    format!("{letter} {} {window} {} {needs}\n{}", task.shared, flags(task, shared), json(&own))
}

fn edge_letter(edge: EdgeKind) -> Option<char> {
    match edge {
        EdgeKind::Needs => Some('d'),
        EdgeKind::OnSuccess => Some('s'),
        EdgeKind::OnFailure => Some('f'),
        // An item knows its group by its window.
        EdgeKind::Item => None,
    }
}

fn window_field(first: u32, count: u32, limit: Option<u32>) -> String {
    format!("{first},{first},{},0,{},0,0,0,", first + count, limit.unwrap_or(0))
}

/// The range of a `foreach` that another run has carried out: all of it released, none of it open.
fn ended_window(plan: &Plan, first: u32, count: u32, limit: Option<u32>) -> String {
    let end = first + count;
    let items = || plan.seeds.range(first..end).map(|(_, seed)| seed);
    let of = |status: TaskStatus| items().filter(|seed| seed.status == status).count();
    let failed = of(TaskStatus::Failed) + of(TaskStatus::Skipped);
    let reason = items().find_map(|seed| seed.reason).map_or("", Reason::word);
    format!("{first},{end},{end},0,{},0,{failed},{},{reason}", limit.unwrap_or(0), of(TaskStatus::Cancelled))
}

/// The items that another run made of a list, which stand in a row.
fn known_items(plan: &Plan, group: u32) -> Option<Range<u32>> {
    let is_own = |index: &u32| matches!(plan.tasks[*index as usize].kind, TaskKind::Item { group: of, .. } if of == group);
    // Only what was taken over can be an item of a list that is not known by itself.
    let first = plan.seeds.keys().copied().find(is_own)?;
    let count = (first..plan.tasks.len() as u32).take_while(is_own).count();
    Some(first..first + count as u32)
}

/// The record of a task that another run has carried out. Flag `o`: its edges are walked from the commit on.
fn seed_record(task: &PlannedTask, shared: &SharedSpec, seed: &TaskSeed, window: &str) -> String {
    let optional = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    format!(
        "{},{},{},{},{},0,0,{},{},{},{},{},{},{window},{}o,,",
        seed.status.letter(),
        seed.attempt,
        seed.owner.as_ref().map_or("", |owner| owner.as_str()),
        seed.failures,
        seed.losses,
        optional(seed.queued_at_ms),
        optional(seed.started_at_ms),
        optional(seed.finished_at_ms),
        seed.exit_code.map(|code| code.to_string()).unwrap_or_default(),
        seed.reason.map_or("", Reason::word),
        task.shared,
        // What has its items is not expanded again.
        flags(task, shared).replace('x', ""),
    )
}

#[derive(Default)]
struct Packer {
    chunks: Vec<Chunk>,
    bytes: usize,
    hasher: Sha256,
    /// The head that all tasks of a window have so far, and how many they are; none where two differ.
    heads: BTreeMap<String, (Option<String>, usize)>,
}

impl Packer {
    fn note_head(&mut self, window: &str, spec: &str) {
        if window.is_empty() {
            return;
        }
        let head = spec.lines().next().unwrap_or_default();
        match self.heads.get_mut(window) {
            Some((known, count)) => {
                *count += 1;
                known.take_if(|known| known != head);
            }
            None => drop(self.heads.insert(window.to_owned(), (Some(head.to_owned()), 1))),
        }
    }

    fn add(&mut self, section: Section, field: String, value: String) {
        let size = field.len() + value.len();
        let full = match self.chunks.last() {
            Some(chunk) => {
                !chunk.is_empty() && (chunk.len() >= CHUNK_FIELDS || self.bytes + size > CHUNK_BYTES)
            }
            None => true,
        };
        if full {
            self.chunks.push(Chunk::new());
            self.bytes = 0;
        }
        self.bytes += size;
        self.hasher.update([section as u8]);
        self.hasher.update((field.len() as u64).to_le_bytes());
        self.hasher.update(&field);
        self.hasher.update((value.len() as u64).to_le_bytes());
        self.hasher.update(&value);
        self.chunks.last_mut().expect("one was pushed if there was none").push((section, field, value));
    }
}

fn is_item(task: &PlannedTask) -> bool {
    matches!(task.kind, TaskKind::Item { .. })
}

/// What tasks wait for in other runs: `<index>:<run>` or `<index>:<task>`, in one line.
pub(crate) fn external_needs(plan: &Plan) -> String {
    let words = plan.waits_for.iter().map(|need| format!("{}:{}", need.task, need.on));
    words.collect::<Vec<_>>().join(" ")
}

/// Packs a plan. `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
pub(crate) fn encode_plan(plan: &Plan, lost_max: u32) -> EncodedPlan {
    let mut packer = Packer::default();
    let steps = plan.tasks.iter().filter(|task| !is_item(task)).count();
    let bound = plan.bound_agents.iter().map(|slug| slug.as_str()).collect::<Vec<_>>().join("+");
    let policy = &plan.policy;
    let ended =
        |status: TaskStatus| plan.seeds.values().filter(|seed| seed.status == status).count().to_string();
    let seeded_steps = plan.seeds.iter().filter(|(index, _)| !is_item(&plan.tasks[**index as usize]));
    let unhandled = seeded_steps
        .clone()
        .filter(|(index, seed)| seed.status == TaskStatus::Failed && !plan.tasks[**index as usize].handled);
    let fields = [
        ("v", "1".to_owned()),
        ("name", plan.context.workflow.clone()),
        ("n", plan.tasks.len().to_string()),
        ("steps", steps.to_string()),
        ("open", (steps - seeded_steps.count()).to_string()),
        ("C", ended(TaskStatus::Completed)),
        ("F", ended(TaskStatus::Failed)),
        ("K", ended(TaskStatus::Skipped)),
        ("N", ended(TaskStatus::Cancelled)),
        ("bad", unhandled.count().to_string()),
        ("conc", policy.concurrency.unwrap_or(0).to_string()),
        ("ff", if policy.fail_fast { "1" } else { "" }.to_owned()),
        ("lostmax", lost_max.to_string()),
        ("bound", bound),
        ("timeout", policy.timeout_ms.unwrap_or(0).to_string()),
        ("roots", plan.roots.len().to_string()),
        ("trace", if policy.trace { "1" } else { "" }.to_owned()),
    ];
    for (field, value) in fields {
        packer.add(Section::Run, field.to_owned(), value);
    }
    if let Some(key) = &plan.key {
        packer.add(Section::Run, "key".to_owned(), key.clone());
    }
    if !plan.waits_for.is_empty() {
        packer.add(Section::Run, "needs".to_owned(), external_needs(plan));
    }
    if !plan.seeds.is_empty() {
        packer.add(Section::Run, "seeds".to_owned(), plan.seeds.len().to_string());
        // Records before their tasks are ready: see `marked` in `scripts/runs.lua`.
        packer.add(Section::Run, "marks".to_owned(), "a".to_owned());
    }
    packer.add(Section::Spec, "run".to_owned(), json(&plan.context));
    if let Some(text) = &plan.definition {
        packer.add(Section::Spec, "def".to_owned(), text.clone());
    }
    for (slug, agent) in &plan.agents {
        packer.add(Section::Spec, format!("a:{slug}"), json(agent));
    }
    for (number, shared) in plan.shared.iter().enumerate() {
        packer.add(Section::Spec, format!("s{number}"), shared_field(plan, shared));
    }
    for (number, range) in plan.roots.iter().enumerate() {
        packer.add(Section::Win, format!("q{number}"), window_field(range.first, range.count, None));
    }
    for index in 0..plan.tasks.len() {
        add_task(&mut packer, plan, index as u32);
    }
    // Scripts need not read what they know.
    for (window, (head, count)) in std::mem::take(&mut packer.heads) {
        if let Some(head) = head.filter(|_| count >= SAME_HEAD_MIN) {
            packer.add(Section::Win, format!("h:{window}"), head);
        }
    }
    let digest = packer.hasher.finalize();
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    EncodedPlan { chunks: packer.chunks, digest }
}

fn add_task(packer: &mut Packer, plan: &Plan, index: u32) {
    let task = &plan.tasks[index as usize];
    let root = plan.roots.iter().position(|range| (range.first..range.first + range.count).contains(&index));
    let window = match (&task.kind, root) {
        (TaskKind::Item { group, .. }, _) => format!("g{group}"),
        (_, Some(number)) => format!("q{number}"),
        (_, None) => String::new(),
    };
    let spec = task_field(plan, index, &window);
    packer.note_head(&window, &spec);
    packer.add(Section::Spec, index.to_string(), spec);
    let seed = plan.seeds.get(&index);
    let external = plan.waits_for.iter().filter(|need| need.task == index).count() as u32;
    let needs = task.dependencies + external;
    if seed.is_some() {
        // It waits for nothing any more.
    } else if task.triggers > 0 {
        packer.add(Section::Left, index.to_string(), format!("{needs};{};0", task.triggers));
    } else if needs > 0 {
        packer.add(Section::Left, index.to_string(), needs.to_string());
    }
    let field = match (&task.kind, seed) {
        (TaskKind::Group { first, count, max_parallel }, None) => {
            Some(window_field(*first, *count, *max_parallel))
        }
        (TaskKind::Group { first, count, max_parallel }, Some(_)) => {
            Some(ended_window(plan, *first, *count, *max_parallel))
        }
        (TaskKind::Expand { max_parallel, .. }, Some(_)) => known_items(plan, index)
            .map(|items| ended_window(plan, items.start, items.end - items.start, *max_parallel)),
        _ => None,
    };
    if let Some(field) = field {
        packer.add(Section::Win, format!("g{index}"), field);
    }
    if let Some(seed) = seed {
        let shared = &plan.shared[task.shared as usize];
        packer.add(Section::Task, index.to_string(), seed_record(task, shared, seed, &window));
        if let Some(output) = &seed.output {
            packer.add(Section::Out, index.to_string(), output.clone());
        }
    }
    let words: Vec<String> = task
        .dependents
        .iter()
        .filter_map(|dependent| Some(format!("{}{}", edge_letter(dependent.edge)?, dependent.index)))
        .collect();
    let portions = words.len().div_ceil(EDGES_PER_FIELD);
    for (number, portion) in words.chunks(EDGES_PER_FIELD).enumerate() {
        let field = if number == 0 { index.to_string() } else { format!("{index}.{number}") };
        let more = if number + 1 < portions { ">" } else { "" };
        packer.add(Section::Edge, field, format!("{}{more}", portion.join(" ")));
    }
}
