//! How a plan lies in Redis: fields of a handful of hashes, packed into chunks.
//!
//! What scripts need stands in a short line in front of the JSON that workers need, so that no script
//! parses JSON. `docs/protocol.md` describes the lines.

use maestro_model::plan::{EdgeKind, Plan, PlannedTask, References, SharedSpec, TaskKind, WorkspaceChoice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Edges stored in one field, and walked in one portion.
pub const EDGES_PER_FIELD: usize = 64;
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
}

impl Section {
    pub(crate) const ALL: [Section; 5] =
        [Section::Run, Section::Spec, Section::Left, Section::Edge, Section::Win];
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
    flag(matches!(task.kind, TaskKind::Expand { .. }), 'x');
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
    };
    format!("i {shared_index} g{group} {flags} \n{}", json(&own))
}

fn task_field(plan: &Plan, task: &PlannedTask, window: &str) -> String {
    let shared = &plan.shared[task.shared as usize];
    let mut own = OwnSpec {
        step: task.step.to_string(),
        prompt: task.prompt.clone(),
        number: None,
        item: None,
        list: None,
        max_parallel: None,
        references: task.references.clone(),
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

struct Packer {
    chunks: Vec<Chunk>,
    bytes: usize,
    hasher: Sha256,
}

impl Packer {
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

/// Packs a plan. `lost_max` is `MAESTRO_MAX_ATTEMPTS`.
pub(crate) fn encode_plan(plan: &Plan, lost_max: u32) -> EncodedPlan {
    let mut packer = Packer { chunks: Vec::new(), bytes: 0, hasher: Sha256::new() };
    let steps = plan.tasks.iter().filter(|task| !matches!(task.kind, TaskKind::Item { .. })).count();
    let bound = plan.bound_agents.iter().map(|slug| slug.as_str()).collect::<Vec<_>>().join("+");
    let policy = &plan.policy;
    let fields = [
        ("v", "1".to_owned()),
        ("name", plan.context.workflow.clone()),
        ("n", plan.tasks.len().to_string()),
        ("steps", steps.to_string()),
        ("open", steps.to_string()),
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
    packer.add(Section::Spec, "run".to_owned(), json(&plan.context));
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
    packer.add(Section::Spec, index.to_string(), task_field(plan, task, &window));
    if task.triggers > 0 {
        let left = format!("{};{};0", task.dependencies, task.triggers);
        packer.add(Section::Left, index.to_string(), left);
    } else if task.dependencies > 0 {
        packer.add(Section::Left, index.to_string(), task.dependencies.to_string());
    }
    if let TaskKind::Group { first, count, max_parallel } = &task.kind {
        packer.add(Section::Win, format!("g{index}"), window_field(*first, *count, *max_parallel));
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
