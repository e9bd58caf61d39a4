//! Nodes to the types of `definition`, key by key.
//!
//! Here is what one key alone can tell; what needs the rest of the file is in `check`. Everything is
//! reported, and a step that lacks something is left out: its id is kept, so that those who name it
//! are not reported too.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::definition::{
    ForeachList, PROMPT_BYTES_MAX, PublishValue, RetryRules, SnapshotMoment, Step, StepDefaults, Workflow,
    WorkspaceName,
};
use crate::agent_type::NOOP;
use crate::diagnostic::SourceText;
use crate::ids::{AgentSlug, StepId};
use crate::output_file::OUTPUT_VALUE_BYTES_MAX;
use crate::plan::ContinueOn;
use crate::retry::RetryOn;
use crate::template::Template;
use crate::template_text::{TemplateText, read_env, read_expression, read_template, read_templates};
use crate::yaml::{Fields, Marked, Node, NodeContent, YamlReader, shortened};

pub(super) const WORKFLOW_KEYS: [&str; 9] =
    ["name", "version", "description", "vars", "defaults", "concurrency", "timeout", "fail_fast", "steps"];
pub(super) const DEFAULTS_KEYS: [&str; 8] =
    ["agent", "timeout", "queue_timeout", "stall_timeout", "workspace", "retry", "priority", "env"];
pub(super) const STEP_KEYS: [&str; 21] = [
    "id",
    "agent",
    "prompt",
    "description",
    "depends_on",
    "on_success",
    "on_failure",
    "when",
    "foreach",
    "max_parallel",
    "retry",
    "timeout",
    "queue_timeout",
    "stall_timeout",
    "publish",
    "env",
    "workspace",
    "priority",
    "continue_on",
    "snapshot",
    "role",
];
pub(super) const RETRY_KEYS: [&str; 6] = ["max_attempts", "delay", "backoff", "max_delay", "jitter", "on"];

const RETRY_ON_WORDS: [(&str, RetryOn); 5] = [
    ("exit", RetryOn::Exit),
    ("timeout", RetryOn::Timeout),
    ("stalled", RetryOn::Stalled),
    ("oom", RetryOn::Oom),
    ("budget", RetryOn::Budget),
];

/// Most tries of one task.
const ATTEMPTS_MAX: u64 = 1_000;
/// Keys of shared state that begin so are Maestro's own.
const RESERVED_STATE_PREFIX: &str = "task:";

/// A workflow that has been read but not checked.
pub(super) struct DraftWorkflow {
    /// All that could be read.
    pub(super) workflow: Workflow,
    /// The ids of all steps, also of those that could not be read.
    pub(super) ids: Vec<Marked<StepId>>,
    /// Whether a step could not be read.
    pub(super) steps_missing: bool,
}

/// Reads the whole; none if there is no telling what the steps are.
pub(super) fn read_workflow(
    reader: &mut YamlReader<'_>,
    source: &Arc<SourceText>,
    root: &Node,
) -> Option<DraftWorkflow> {
    const WHAT: &str = "a workflow";
    let fields = reader.fields(WHAT, root, &WORKFLOW_KEYS)?;
    let name = reader.required(WHAT, &fields, root, "name");
    let name = name.and_then(|node| reader.name("name", node));
    let version = fields.get("version").and_then(|node| reader.text("version", node));
    let description = fields.get("description").and_then(|node| reader.text("description", node));
    let vars = fields.get("vars").map(|node| read_vars(reader, node)).unwrap_or_default();
    let defaults = fields.get("defaults").and_then(|node| read_defaults(reader, node)).unwrap_or_default();
    let concurrency = read_positive(reader, &fields, "concurrency");
    let timeout_ms = read_duration(reader, &fields, "timeout");
    let fail_fast = fields.get("fail_fast").and_then(|node| reader.truth("fail_fast", node));
    let steps = reader
        .required(WHAT, &fields, root, "steps")
        .and_then(|node| reader.list("steps", node).map(|list| (node, list)));
    let (steps_node, nodes) = steps?;
    if nodes.is_empty() {
        reader.refuse(steps_node.place.clone(), "`steps` holds nothing: a workflow has at least one step");
    }
    let mut ids = Vec::new();
    let mut steps = Vec::new();
    for node in nodes {
        let step = read_step(reader, node, &defaults, &mut ids);
        steps.extend(step);
    }
    let steps_missing = steps.len() < nodes.len();
    let workflow = Workflow {
        name: name?,
        version: version.map(|text| text.value),
        description: description.map(|text| text.value),
        vars,
        defaults,
        concurrency,
        timeout_ms,
        fail_fast: fail_fast.unwrap_or(false),
        steps,
        edges: Vec::new(),
        source: source.clone(),
    };
    Some(DraftWorkflow { workflow, ids, steps_missing })
}

fn read_vars(reader: &mut YamlReader<'_>, node: &Node) -> IndexMap<String, Value> {
    let entries = reader.entries("vars", node);
    for (node, scalar) in node.scalars() {
        let reads = Template::parse(&scalar.text).is_ok_and(|template| !template.names().is_empty());
        if reads {
            let problem = reader.source.warning(node.place.clone(), "`vars` are taken as they are");
            reader.problems.push(
                problem.hint("`<< >>` is filled in in prompts, `env`, `publish`, `when` and `foreach`"),
            );
        }
    }
    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
}

fn read_defaults(reader: &mut YamlReader<'_>, node: &Node) -> Option<StepDefaults> {
    let fields = reader.fields("`defaults`", node, &DEFAULTS_KEYS)?;
    Some(StepDefaults {
        agent: fields.get("agent").and_then(|node| reader.name("agent", node)),
        timeout_ms: read_duration(reader, &fields, "timeout"),
        queue_timeout_ms: read_duration(reader, &fields, "queue_timeout"),
        stall_timeout_ms: read_duration(reader, &fields, "stall_timeout"),
        workspace: fields.get("workspace").and_then(|node| read_workspace(reader, node)),
        retry: fields.get("retry").and_then(|node| read_retry(reader, node)).unwrap_or_default(),
        priority: read_priority(reader, &fields),
        env: fields.get("env").map(|node| read_env(reader, node)).unwrap_or_default(),
    })
}

fn read_step(
    reader: &mut YamlReader<'_>,
    node: &Node,
    defaults: &StepDefaults,
    ids: &mut Vec<Marked<StepId>>,
) -> Option<Step> {
    const WHAT: &str = "a step";
    let fields = reader.fields(WHAT, node, &STEP_KEYS)?;
    let id: Option<Marked<StepId>> =
        reader.required(WHAT, &fields, node, "id").and_then(|node| reader.name("id", node));
    ids.extend(id.clone());
    let what = id.as_ref().map_or_else(|| WHAT.to_owned(), |id| format!("step `{}`", id.value));
    let agent: Option<Marked<AgentSlug>> = match (fields.get("agent"), &defaults.agent) {
        (Some(node), _) => reader.name("agent", node),
        (None, Some(agent)) => Some(agent.clone()),
        (None, None) => {
            reader.required(&what, &fields, node, "agent").and_then(|node| reader.name("agent", node))
        }
    };
    let is_noop = agent.as_ref().is_some_and(|agent| agent.value.as_str() == NOOP);
    let prompt = match fields.get("prompt") {
        None if is_noop || agent.is_none() => None,
        _ => reader.required(&what, &fields, node, "prompt").and_then(|node| read_prompt(reader, node)),
    };
    let foreach = fields.get("foreach").and_then(|node| read_foreach(reader, node));
    if let (None, Some(entry)) = (fields.get("foreach"), fields.entry("max_parallel")) {
        reader.refuse(entry.key_place.clone(), "`max_parallel` without `foreach`");
    }
    let depends_on = read_step_ids(reader, &fields, "depends_on");
    let on_success = read_step_ids(reader, &fields, "on_success");
    let on_failure = read_step_ids(reader, &fields, "on_failure");
    let step = Step {
        id: id?,
        agent: agent?,
        prompt,
        description: fields
            .get("description")
            .and_then(|node| reader.text("description", node))
            .map(|text| text.value),
        depends_on,
        on_success,
        on_failure,
        when: fields.get("when").and_then(|node| read_expression(reader, "when", node)),
        foreach,
        max_parallel: read_positive(reader, &fields, "max_parallel"),
        retry: fields.get("retry").and_then(|node| read_retry(reader, node)).unwrap_or_default(),
        timeout_ms: read_duration(reader, &fields, "timeout"),
        queue_timeout_ms: read_duration(reader, &fields, "queue_timeout"),
        stall_timeout_ms: read_duration(reader, &fields, "stall_timeout"),
        publish: fields.get("publish").map(|node| read_publish(reader, node)).unwrap_or_default(),
        env: fields.get("env").map(|node| read_env(reader, node)).unwrap_or_default(),
        workspace: fields.get("workspace").and_then(|node| read_workspace(reader, node)),
        priority: read_priority(reader, &fields),
        continue_on: fields.get("continue_on").map(|node| read_continue_on(reader, node)).unwrap_or_default(),
        snapshot: fields.get("snapshot").and_then(|node| read_snapshot(reader, node)),
        role: fields.get("role").and_then(|node| reader.text("role", node)).map(|text| text.value),
        makes_snapshot: None,
    };
    Some(step)
}

fn read_prompt(reader: &mut YamlReader<'_>, node: &Node) -> Option<TemplateText> {
    let text = read_template(reader, "prompt", node)?;
    let bytes = text.text().len();
    if bytes > PROMPT_BYTES_MAX {
        let message =
            format!("the prompt has {bytes} bytes, more than the {PROMPT_BYTES_MAX} (256 KiB) it may have");
        let problem = reader.source.error(node.place.clone(), message);
        reader
            .problems
            .push(problem.hint("put the text into a file of the workspace, and its name into the prompt"));
        return None;
    }
    Some(text)
}

fn read_step_ids(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str) -> Vec<Marked<StepId>> {
    let Some(node) = fields.get(key) else {
        return Vec::new();
    };
    reader.one_or_many(node).iter().filter_map(|item| reader.name(key, item)).collect()
}

fn read_foreach(reader: &mut YamlReader<'_>, node: &Node) -> Option<ForeachList> {
    match &node.content {
        NodeContent::List(nodes) => {
            let templates = read_templates(reader, "foreach", node);
            let items = nodes.iter().map(Node::to_json).collect();
            Some(ForeachList::Literal { items, templates, place: node.place.clone() })
        }
        NodeContent::Scalar(scalar) if !scalar.is_null() => {
            read_expression(reader, "foreach", node).map(ForeachList::Expression)
        }
        _ => {
            let problem = reader.source.error(node.place.clone(), format!("`foreach` is {}", node.kind()));
            reader.problems.push(problem.expecting("a list, or an expression that gives one"));
            None
        }
    }
}

fn read_publish(reader: &mut YamlReader<'_>, node: &Node) -> IndexMap<String, PublishValue> {
    let mut values = IndexMap::new();
    for entry in reader.entries("publish", node) {
        // The audit stream is made of lines and tabs, in which a key stands as it is.
        let unlawful = entry.key.is_empty() || entry.key.contains(char::is_control);
        if unlawful || entry.key.starts_with(RESERVED_STATE_PREFIX) {
            let message = format!("`{}` is not a key that a step can publish", entry.key.escape_debug());
            let problem = reader.source.error(entry.key_place.clone(), message);
            reader.problems.push(problem.hint(if unlawful {
                "a key is not empty and has no control characters"
            } else {
                "keys that begin with `task:` are results of tasks"
            }));
            continue;
        }
        let templates = read_templates(reader, "publish", &entry.value);
        let value = entry.value.to_json();
        let bytes = value.as_str().map_or_else(|| value.to_string().len(), str::len);
        if templates.is_empty() && bytes > OUTPUT_VALUE_BYTES_MAX {
            let message = format!(
                "the value has {bytes} bytes, more than the {OUTPUT_VALUE_BYTES_MAX} (64 KiB) of a state value"
            );
            reader.refuse(entry.value.place.clone(), message);
        }
        values.insert(entry.key.clone(), PublishValue { value, templates });
    }
    values
}

fn read_retry(reader: &mut YamlReader<'_>, node: &Node) -> Option<RetryRules> {
    let fields = reader.fields("`retry`", node, &RETRY_KEYS)?;
    let attempts = fields.get("max_attempts");
    let attempts = attempts.and_then(|node| reader.count("max_attempts", node, 1..=ATTEMPTS_MAX));
    Some(RetryRules {
        max_attempts: attempts.map(|count| count as u32),
        delay_ms: fields.get("delay").and_then(|node| reader.wait_ms("delay", node)),
        backoff: fields.get("backoff").and_then(|node| reader.number("backoff", node, 1.0..=100.0)),
        max_delay_ms: fields.get("max_delay").and_then(|node| reader.wait_ms("max_delay", node)),
        jitter: fields.get("jitter").and_then(|node| reader.truth("jitter", node)),
        on: fields.get("on").map(|node| reader.words("on", node, &RETRY_ON_WORDS)),
    })
}

fn read_workspace(reader: &mut YamlReader<'_>, node: &Node) -> Option<Marked<WorkspaceName>> {
    let text = reader.text("workspace", node)?;
    let name = match text.value.as_str() {
        "task" => WorkspaceName::Task,
        "run" => WorkspaceName::Run,
        other => match other.parse() {
            Ok(step) => WorkspaceName::Step(step),
            Err(_) => {
                let problem =
                    reader.source.error(text.place, format!("`workspace` is `{}`", shortened(other)));
                reader.problems.push(problem.expecting("`task`, `run` or the id of a step"));
                return None;
            }
        },
    };
    Some(Marked::new(name, text.place))
}

fn read_continue_on(reader: &mut YamlReader<'_>, node: &Node) -> ContinueOn {
    let words = reader.words("continue_on", node, &[("failed", true), ("skipped", false)]);
    ContinueOn { failed: words.contains(&true), skipped: words.contains(&false) }
}

fn read_snapshot(reader: &mut YamlReader<'_>, node: &Node) -> Option<Marked<SnapshotMoment>> {
    let moments = [("before", SnapshotMoment::Before), ("after", SnapshotMoment::After)];
    reader.word("snapshot", node, &moments).map(|moment| Marked::new(moment, node.place.clone()))
}

fn read_priority(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Option<u8> {
    let node = fields.get("priority")?;
    reader.count("priority", node, 1..=5).map(|number| number as u8)
}

fn read_positive(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str) -> Option<u32> {
    let node = fields.get(key)?;
    reader.count(key, node, 1..=u64::from(u32::MAX)).map(|number| number as u32)
}

fn read_duration(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str) -> Option<u64> {
    let node = fields.get(key)?;
    reader.duration_ms(key, node)
}
