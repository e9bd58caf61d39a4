//! `agents.d/<slug>.yaml`: the file of an agent type, read with a mark for all that is wrong in it.
//!
//! Whether a host has the command, the template or the resources is for its worker to find out.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::agent_type::{
    AgentLimits, AgentType, ExtraPaths, HomeChoice, Isolation, NOOP, NetworkChoice, OnDisconnect,
    OutputFormat, PromptVia, PullPolicy, Resources,
};
use crate::diagnostic::{Diagnostics, SourceText};
use crate::ids::AgentSlug;
use crate::template::Root;
use crate::template_text::{TemplateText, is_env_name, read_env, read_template};
use crate::yaml::{Fields, Marked, Node, NodeContent, YamlReader, load, quoted_list};

use self::container::{check_network, read_capabilities};

/// The keys of an agent file. `resource_limits` is another word for `resources`.
pub const AGENT_KEYS: [&str; 29] = [
    "slug",
    "description",
    "mode",
    "command",
    "prompt_via",
    "workspace_template",
    "capabilities",
    "env",
    "env_passthrough",
    "secrets",
    "isolate_with",
    "image",
    "shared_network",
    "network",
    "cap_add",
    "read_only",
    "pull",
    "resources",
    "resource_limits",
    "paths",
    "home",
    "cache_dir",
    "secrets_dir",
    "timeout",
    "stall_timeout",
    "limits",
    "worker_labels",
    "output",
    "on_disconnect",
];
const PATHS_KEYS: [&str; 2] = ["read", "write"];
const RESOURCES_KEYS: [&str; 4] = ["memory", "cpus", "pids", "required"];
const LIMITS_KEYS: [&str; 1] = ["max_concurrent"];

const PROMPT_VIA_WORDS: [(&str, PromptVia); 3] =
    [("arg", PromptVia::Arg), ("stdin", PromptVia::Stdin), ("file", PromptVia::File)];
const ISOLATION_WORDS: [(&str, Isolation); 3] =
    [("process", Isolation::Process), ("docker", Isolation::Docker), ("none", Isolation::None)];
const NETWORK_WORDS: [(&str, NetworkChoice); 2] =
    [("own", NetworkChoice::Own), ("none", NetworkChoice::None)];
const PULL_WORDS: [(&str, PullPolicy); 3] =
    [("missing", PullPolicy::Missing), ("always", PullPolicy::Always), ("never", PullPolicy::Never)];
const OUTPUT_WORDS: [(&str, OutputFormat); 5] = [
    ("text", OutputFormat::Text),
    ("claude-json", OutputFormat::ClaudeJson),
    ("codex-json", OutputFormat::CodexJson),
    ("gemini-json", OutputFormat::GeminiJson),
    ("kilo-json", OutputFormat::KiloJson),
];
const ON_DISCONNECT_WORDS: [(&str, OnDisconnect); 2] =
    [("stop", OnDisconnect::Stop), ("keep", OnDisconnect::Keep)];

/// What a template of an agent type can read. It serves every workflow, so it knows no steps of one,
/// and not every task is an item.
const AGENT_ROOTS: [Root; 10] = [
    Root::Agent,
    Root::Prompt,
    Root::Workspace,
    Root::Vars,
    Root::Params,
    Root::State,
    Root::Run,
    Root::Task,
    Root::Attempt,
    Root::Env,
];

/// An agent type without errors, and what is probably not as meant.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedAgent {
    /// The type.
    pub agent: AgentType,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Reads an agent file. Its name without folders and `.yaml` is the slug.
///
/// # Errors
/// All that is wrong with it, in the order of the file, warnings among it.
pub fn parse_agent_file(source: impl Into<Arc<SourceText>>) -> Result<ParsedAgent, Diagnostics> {
    let source = source.into();
    let mut reader = YamlReader::new(&source);
    let root = load(&source, &mut reader.problems);
    let agent = root.and_then(|root| read_agent(&mut reader, &root));
    let problems = reader.problems.sorted();
    match agent {
        Some(agent) if !problems.has_errors() => Ok(ParsedAgent { agent, warnings: problems }),
        _ => Err(problems),
    }
}

fn read_agent(reader: &mut YamlReader<'_>, root: &Node) -> Option<AgentType> {
    let fields = reader.fields("an agent type", root, &AGENT_KEYS)?;
    let slug = read_slug(reader, &fields);
    let text = |reader: &mut YamlReader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.text(key, node)).map(|text| text.value)
    };
    let command = fields.get("command").map(|node| read_command(reader, slug.as_ref(), node));
    let prompt_via = read_word(reader, &fields, "prompt_via", &PROMPT_VIA_WORDS);
    check_prompt(reader, &fields, command.as_deref(), prompt_via);
    let is_noop = slug.as_ref().is_some_and(|slug| slug.as_str() == NOOP);
    let command = command.map(|words| words.iter().map(|word| word.text().to_owned()).collect());
    let agent = AgentType {
        description: text(reader, "description").unwrap_or_default(),
        mode: text(reader, "mode").or_else(|| slug.as_ref().map(AgentSlug::to_string))?,
        command: if is_noop { Some(command.unwrap_or_default()) } else { command },
        prompt_via,
        workspace_template: text(reader, "workspace_template"),
        capabilities: read_texts(reader, &fields, "capabilities"),
        env: read_environment(reader, &fields),
        env_passthrough: read_passthrough(reader, &fields),
        secrets: read_secrets(reader, &fields),
        isolate_with: read_isolation(reader, &fields),
        image: fields.get("image").and_then(|node| read_filled(reader, "image", node)),
        shared_network: fields
            .get("shared_network")
            .and_then(|node| reader.truth("shared_network", node))
            .unwrap_or(false),
        network: read_word(reader, &fields, "network", &NETWORK_WORDS),
        cap_add: read_capabilities(reader, &fields),
        read_only: fields.get("read_only").and_then(|node| reader.truth("read_only", node)).unwrap_or(false),
        pull: read_word(reader, &fields, "pull", &PULL_WORDS),
        resources: read_resources(reader, &fields),
        paths: fields.get("paths").and_then(|node| read_paths(reader, node)).unwrap_or_default(),
        home: fields.get("home").and_then(|node| read_home(reader, node)).unwrap_or_default(),
        cache_dir: read_folder(reader, &fields, "cache_dir"),
        secrets_dir: read_folder(reader, &fields, "secrets_dir"),
        timeout_ms: fields.get("timeout").and_then(|node| reader.duration_ms("timeout", node)),
        stall_timeout_ms: fields
            .get("stall_timeout")
            .and_then(|node| reader.duration_ms("stall_timeout", node)),
        limits: fields.get("limits").and_then(|node| read_limits(reader, node)).unwrap_or_default(),
        worker_labels: read_labels(reader, &fields),
        output: read_word(reader, &fields, "output", &OUTPUT_WORDS),
        on_disconnect: read_word(reader, &fields, "on_disconnect", &ON_DISCONNECT_WORDS),
        slug: slug?,
    };
    check_network(reader, &fields, agent.shared_network);
    Some(agent)
}

/// The slug of the file's name; one in the file must be the same.
fn read_slug(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Option<AgentSlug> {
    let name = reader.source.name();
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = base.strip_suffix(".yaml").or_else(|| base.strip_suffix(".yml")).unwrap_or(base);
    let written: Option<Marked<AgentSlug>> = fields.get("slug").and_then(|node| reader.name("slug", node));
    let Ok(of_file) = stem.parse::<AgentSlug>() else {
        let problem =
            reader.source.error(0..0, format!("the file's name `{stem}` is not the slug of an agent type"));
        reader
            .problems
            .push(problem.hint("call the file `<slug>.yaml`, with letters, digits, `.`, `_` and `-`"));
        return None;
    };
    if let Some(Marked { value, place }) = written
        && value != of_file
    {
        let problem =
            reader.source.error(place, format!("`slug` is `{value}`, but the file is called `{base}`"));
        reader.problems.push(problem.expecting(format!("`{of_file}`")));
    }
    Some(of_file)
}

/// One of some words; the first of them if the key is left out.
fn read_word<T: Copy>(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str, words: &[(&str, T)]) -> T {
    let found = fields.get(key).and_then(|node| reader.word(key, node, words));
    found.unwrap_or(words[0].1)
}

fn read_texts(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str) -> Vec<String> {
    let texts = fields.get(key).map(|node| reader.texts(key, node)).unwrap_or_default();
    texts.into_iter().map(|text| text.value).collect()
}

fn read_command(reader: &mut YamlReader<'_>, slug: Option<&AgentSlug>, node: &Node) -> Vec<TemplateText> {
    let items = reader.list("command", node).unwrap_or_default();
    let empty = matches!(&node.content, NodeContent::List(items) if items.is_empty());
    if empty && slug.is_some_and(|slug| slug.as_str() != NOOP) {
        let problem = reader.source.error(node.place.clone(), "`command` holds nothing");
        reader
            .problems
            .push(problem.hint("leave it out to run kilo with `mode`; only `noop` launches nothing"));
    }
    items.iter().filter_map(|item| checked_template(reader, "command", item)).collect()
}

/// A template that reads only what an agent type knows.
fn checked_template(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Option<TemplateText> {
    let text = read_template(reader, key, node)?;
    check_roots(reader, &text);
    Some(text)
}

fn check_roots(reader: &mut YamlReader<'_>, text: &TemplateText) {
    for name in text.names.iter().filter(|name| !AGENT_ROOTS.contains(&name.root)) {
        let place = text.place_of(reader.source, name.span.clone());
        let problem = reader.source.error(place, format!("`{}` cannot be read in an agent type", name.root));
        let known = quoted_list(AGENT_ROOTS.iter().map(|root| root.word()));
        reader.problems.push(problem.expecting(format!("one of {known}")));
    }
}

/// Warns of a prompt that reaches the agent nowhere.
fn check_prompt(
    reader: &mut YamlReader<'_>,
    fields: &Fields<'_>,
    command: Option<&[TemplateText]>,
    prompt_via: PromptVia,
) {
    let (Some(entry), Some(command)) = (fields.entry("command"), command) else {
        return;
    };
    let reads = |word: &TemplateText| word.names.iter().any(|name| name.root == Root::Prompt);
    if command.is_empty() || prompt_via != PromptVia::Arg || command.iter().any(reads) {
        return;
    }
    let problem = reader.source.warning(entry.key_place.clone(), "the prompt does not reach this agent");
    let hint = "put `<< prompt >>` into `command`, or say `prompt_via: stdin` or `prompt_via: file`";
    reader.problems.push(problem.hint(hint));
}

/// A text with templates, kept as it is written.
fn read_filled(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Option<String> {
    checked_template(reader, key, node).map(|text| text.text().to_owned())
}

fn read_environment(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> IndexMap<String, String> {
    let texts = fields.get("env").map(|node| read_env(reader, node)).unwrap_or_default();
    for text in texts.values() {
        check_roots(reader, text);
    }
    texts.into_iter().map(|(name, text)| (name, text.scalar.text)).collect()
}

fn read_passthrough(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Vec<String> {
    let names = fields.get("env_passthrough").map(|node| reader.texts("env_passthrough", node));
    let mut lawful = Vec::new();
    for Marked { value, place } in names.unwrap_or_default() {
        if is_env_name(&value) {
            lawful.push(value);
        } else {
            reader.refuse(place, format!("`{value}` is not the name of an environment variable"));
        }
    }
    lawful
}

fn read_secrets(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> IndexMap<String, String> {
    let mut secrets = IndexMap::new();
    let entries = fields.get("secrets").map(|node| reader.entries("secrets", node)).unwrap_or_default();
    for entry in entries {
        if !is_env_name(&entry.key) {
            let message = format!("`{}` is not the name of an environment variable", entry.key);
            reader.refuse(entry.key_place.clone(), message);
        }
        let Some(source) = reader.text(&entry.key, &entry.value) else {
            continue;
        };
        if is_secret_source(&source.value) {
            secrets.insert(entry.key.clone(), source.value);
        } else {
            let message = format!("`{}` does not say where its value is found", entry.key);
            let mut problem = reader.source.error(entry.key_place.clone(), message);
            // It may be the secret itself, which is not to be shown, not even with its line.
            problem.source_line = problem.source_line.replace(&source.value, "…");
            reader
                .problems
                .push(problem.hint(
                    "write `env://NAME` or `file:///PATH`; the value itself never stands in this file",
                ));
        }
    }
    secrets
}

fn is_secret_source(text: &str) -> bool {
    text.strip_prefix("env://").is_some_and(is_env_name) || text.starts_with("file:///")
}

fn read_isolation(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Isolation {
    let isolation = read_word(reader, fields, "isolate_with", &ISOLATION_WORDS);
    let Some(entry) = fields.entry("isolate_with") else {
        return isolation;
    };
    let place = entry.value.place.clone();
    match isolation {
        Isolation::Docker if fields.get("image").is_none() => {
            reader.refuse(place, "`isolate_with: docker` needs an `image`");
        }
        Isolation::None => {
            let problem = reader.source.warning(place, "agents of this type are not confined");
            reader.problems.push(
                problem.hint("they can read and change what the worker can, other agents' workspaces too"),
            );
        }
        _ => {}
    }
    isolation
}

fn read_resources(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> Resources {
    if let (Some(_), Some(entry)) = (fields.entry("resources"), fields.entry("resource_limits")) {
        reader.refuse(
            entry.key_place.clone(),
            "`resource_limits` is another word for `resources`, which is given too",
        );
    }
    let node = fields.get("resources").or_else(|| fields.get("resource_limits"));
    let Some(fields) = node.and_then(|node| reader.fields("`resources`", node, &RESOURCES_KEYS)) else {
        return Resources::default();
    };
    Resources {
        memory_bytes: fields.get("memory").and_then(|node| reader.bytes("memory", node)),
        cpus: fields.get("cpus").and_then(|node| reader.number("cpus", node, 0.01..=1024.0)),
        pids: fields
            .get("pids")
            .and_then(|node| reader.count("pids", node, 1..=4_194_304))
            .map(|pids| pids as u32),
        required: fields.get("required").and_then(|node| reader.truth("required", node)).unwrap_or(false),
    }
}

fn read_paths(reader: &mut YamlReader<'_>, node: &Node) -> Option<ExtraPaths> {
    let fields = reader.fields("`paths`", node, &PATHS_KEYS)?;
    let mut paths = |key: &str| -> Vec<String> {
        let items = fields.get(key).map(|node| reader.one_or_many(node)).unwrap_or_default();
        items.iter().filter_map(|item| read_path(reader, key, item)).collect()
    };
    Some(ExtraPaths { read: paths("read"), write: paths("write") })
}

/// An absolute path, one below the home of the worker's user, or one that a template begins.
fn read_path(reader: &mut YamlReader<'_>, key: &str, node: &Node) -> Option<String> {
    let path = read_filled(reader, key, node)?;
    let lawful = path.starts_with('/') || path == "~" || path.starts_with("~/") || path.starts_with("<<");
    if !lawful {
        let problem = reader.source.error(node.place.clone(), format!("`{path}` is not an absolute path"));
        reader.problems.push(problem.expecting("a path that begins with `/` or `~/`"));
    }
    lawful.then_some(path)
}

fn read_folder(reader: &mut YamlReader<'_>, fields: &Fields<'_>, key: &str) -> Option<String> {
    fields.get(key).and_then(|node| read_path(reader, key, node))
}

fn read_home(reader: &mut YamlReader<'_>, node: &Node) -> Option<HomeChoice> {
    let text = reader.text("home", node)?;
    match text.value.as_str() {
        "workspace" => Some(HomeChoice::Workspace),
        "worker" => Some(HomeChoice::Worker),
        path if path.starts_with('/') || path == "~" || path.starts_with("~/") => {
            Some(HomeChoice::Path(text.value))
        }
        other => {
            let problem = reader.source.error(text.place, format!("`home` is `{other}`"));
            let known = ["workspace", "worker"];
            reader
                .problems
                .push(problem.expecting("`workspace`, `worker` or an absolute path").nearest(other, known));
            None
        }
    }
}

fn read_limits(reader: &mut YamlReader<'_>, node: &Node) -> Option<AgentLimits> {
    let fields = reader.fields("`limits`", node, &LIMITS_KEYS)?;
    let most = fields.get("max_concurrent");
    let most = most.and_then(|node| reader.count("max_concurrent", node, 1..=u64::from(u32::MAX)));
    Some(AgentLimits { max_concurrent: most.map(|count| count as u32) })
}

fn read_labels(reader: &mut YamlReader<'_>, fields: &Fields<'_>) -> IndexMap<String, String> {
    let mut labels = IndexMap::new();
    for entry in
        fields.get("worker_labels").map(|node| reader.entries("worker_labels", node)).unwrap_or_default()
    {
        if let Some(text) = reader.text(&entry.key, &entry.value) {
            labels.insert(entry.key.clone(), text.value);
        }
    }
    labels
}

mod container;
#[cfg(test)]
mod tests;
