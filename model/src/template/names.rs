//! The names an expression may use: thirteen roots, and what may follow each.
//!
//! Whether a step, variable or parameter of that name exists is for the validator, which knows the workflow.

use std::fmt;
use std::ops::Range;

/// The first word of a name: where the value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// Shared state: `state.<key>`.
    State,
    /// Variables of the workflow: `vars.<name>`.
    Vars,
    /// Parameters of the run: `params.<name>`.
    Params,
    /// Earlier steps: `steps.<id>.outputs.<name>` and the other `STEP_FIELDS`.
    Steps,
    /// The outputs of this very task, known in `publish`.
    Outputs,
    /// This run.
    Run,
    /// This task.
    Task,
    /// The agent, or its type.
    Agent,
    /// The item of a `foreach`.
    Item,
    /// The number of this attempt.
    Attempt,
    /// The rendered prompt, known in an agent type.
    Prompt,
    /// The path of the workspace.
    Workspace,
    /// The task's environment.
    Env,
}

/// What can be read of a step after its id.
pub const STEP_FIELDS: [&str; 6] = ["result", "outputs", "status", "reason", "exit_code", "message"];

const RUN_FIELDS: [&str; 4] = ["id", "workflow", "version", "folder"];
const TASK_FIELDS: [&str; 4] = ["id", "step", "index", "priority"];
const AGENT_FIELDS: [&str; 5] = ["id", "type", "mode", "role", "priority"];

/// What may follow a root.
enum Shape {
    /// Nothing: it is a plain value.
    Plain,
    /// Anything, or nothing.
    Free,
    /// A key at least.
    Keyed,
    /// One of these, and nothing more.
    Fields(&'static [&'static str]),
    /// The id of a step and one of `STEP_FIELDS`.
    Step,
}

impl Root {
    /// All of them.
    pub const ALL: [Root; 13] = [
        Root::State,
        Root::Vars,
        Root::Params,
        Root::Steps,
        Root::Outputs,
        Root::Run,
        Root::Task,
        Root::Agent,
        Root::Item,
        Root::Attempt,
        Root::Prompt,
        Root::Workspace,
        Root::Env,
    ];

    /// The word users write.
    pub fn word(self) -> &'static str {
        match self {
            Root::State => "state",
            Root::Vars => "vars",
            Root::Params => "params",
            Root::Steps => "steps",
            Root::Outputs => "outputs",
            Root::Run => "run",
            Root::Task => "task",
            Root::Agent => "agent",
            Root::Item => "item",
            Root::Attempt => "attempt",
            Root::Prompt => "prompt",
            Root::Workspace => "workspace",
            Root::Env => "env",
        }
    }

    /// The root a word stands for.
    pub fn from_word(word: &str) -> Option<Root> {
        Root::ALL.into_iter().find(|root| root.word() == word)
    }

    /// The fields a root has, if it has a fixed set: what a scope may hold for it.
    pub fn fields(self) -> Option<&'static [&'static str]> {
        match self.shape() {
            Shape::Fields(fields) => Some(fields),
            _ => None,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Root::State => Shape::Keyed,
            Root::Vars | Root::Params | Root::Outputs | Root::Item | Root::Env => Shape::Free,
            Root::Steps => Shape::Step,
            Root::Run => Shape::Fields(&RUN_FIELDS),
            Root::Task => Shape::Fields(&TASK_FIELDS),
            Root::Agent => Shape::Fields(&AGENT_FIELDS),
            Root::Attempt | Root::Prompt | Root::Workspace => Shape::Plain,
        }
    }

    /// Where a root is known, for whoever used it elsewhere.
    pub(super) fn where_known(self) -> &'static str {
        match self {
            Root::State => "`state` is known while a run goes on",
            Root::Vars | Root::Params => "`vars` and `params` are known in a workflow",
            Root::Steps => "`steps` is known in a step of a workflow",
            Root::Outputs => "`outputs` is known in `publish`; elsewhere write `steps.<id>.outputs`",
            Root::Run | Root::Task => "`run` and `task` are known once a task starts",
            Root::Agent => "`agent` is known once a task starts, and in an agent type",
            Root::Item => "`item` is known in a step with `foreach`, but not in its `when`",
            Root::Attempt => "`attempt` is known once a task starts",
            Root::Prompt => "`prompt` is known in the command of an agent type",
            Root::Workspace => "`workspace` is known once a task starts",
            Root::Env => "`env` is known once a task starts",
        }
    }

    /// Whether `path` says enough for a value to be picked. Until it does, a computed subscript would be a
    /// computed name; after that it only picks something inside a value.
    pub(super) fn is_complete(self, path: &[String]) -> bool {
        match self.shape() {
            Shape::Plain => true,
            Shape::Free => self == Root::Item || !path.is_empty(),
            Shape::Keyed | Shape::Fields(_) => !path.is_empty(),
            Shape::Step => {
                path.len() >= if path.get(1).is_some_and(|field| field == "outputs") { 3 } else { 2 }
            }
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One use of a name in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameUse {
    /// Its first word.
    pub root: Root,
    /// What follows, as far as it is fixed: keys, fields, and indices in digits.
    pub path: Vec<String>,
    /// Where it stands, in bytes of the whole text.
    pub span: Range<usize>,
    /// Whether it may be missing: `default` stands behind it, or `is defined` asks for it in the same
    /// expression.
    pub guarded: bool,
}

impl NameUse {
    /// The step it reads, for `steps.<id>…`.
    pub fn step(&self) -> Option<&str> {
        (self.root == Root::Steps).then(|| self.path.first().map(String::as_str)).flatten()
    }

    /// The output it reads of a step, for `steps.<id>.outputs.<name>…`.
    pub fn step_output(&self) -> Option<&str> {
        let of_outputs = self.step().is_some() && self.path.get(1).is_some_and(|field| field == "outputs");
        of_outputs.then(|| self.path.get(2).map(String::as_str)).flatten()
    }

    /// The key of shared state it reads, for `state.<key>…`. What follows the key is inside the value.
    pub fn state_key(&self) -> Option<&str> {
        (self.root == Root::State).then(|| self.path.first().map(String::as_str)).flatten()
    }
}

impl fmt::Display for NameUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(self.root, &self.path))
    }
}

/// A name as users write it: dots where they suffice, else `["…"]`.
pub(super) fn dotted(root: Root, path: &[String]) -> String {
    let mut text = root.word().to_owned();
    for part in path {
        let simple = !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if simple {
            text.push('.');
            text.push_str(part);
        } else {
            text.push_str(&format!("[{part:?}]"));
        }
    }
    text
}

/// Checks what follows a root. The error is a message and a hint.
pub(super) fn check_path(root: Root, path: &[String]) -> Result<(), (String, Option<String>)> {
    let one_of =
        |fields: &[&str]| fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    match root.shape() {
        Shape::Free => Ok(()),
        Shape::Plain if path.is_empty() => Ok(()),
        Shape::Plain => Err((format!("unknown name `{}`: `{root}` has no parts", dotted(root, path)), None)),
        Shape::Keyed if path.is_empty() => Err((
            format!("`{root}` alone is not a value: expected a key"),
            Some(format!("write `{root}.key`")),
        )),
        Shape::Keyed => Ok(()),
        Shape::Fields(fields) => match path {
            [] => Err((format!("`{root}` alone is not a value: expected one of {}", one_of(fields)), None)),
            [field] if fields.contains(&field.as_str()) => Ok(()),
            [first, ..] => {
                let name = dotted(root, path);
                let hint = nearest(first, fields.iter().copied())
                    .map(|near| format!("did you mean `{root}.{near}`?"));
                Err((format!("unknown name `{name}`: `{root}` has {}", one_of(fields)), hint))
            }
        },
        Shape::Step => match path {
            [] => Err((
                "`steps` alone is not a value: expected the id of a step".to_owned(),
                Some("write `steps.<id>.result` or `steps.<id>.outputs.<name>`".to_owned()),
            )),
            [_] => Err((
                format!(
                    "`{}` alone is not a value: expected one of {}",
                    dotted(root, path),
                    one_of(&STEP_FIELDS)
                ),
                Some(format!("write `{}.result`", dotted(root, path))),
            )),
            [step, field, rest @ ..] => {
                let known = STEP_FIELDS.contains(&field.as_str());
                let scalar = matches!(field.as_str(), "status" | "reason" | "exit_code" | "message");
                let steps = dotted(root, std::slice::from_ref(step));
                if known && (!scalar || rest.is_empty()) {
                    return Ok(());
                }
                let name = dotted(root, path);
                if known {
                    return Err((format!("unknown name `{name}`: `{steps}.{field}` has no parts"), None));
                }
                let hint = match nearest(field, STEP_FIELDS.into_iter()) {
                    Some(near) => format!("did you mean `{steps}.{near}`?"),
                    None => format!("what a step writes is read as `{steps}.outputs.{field}`"),
                };
                Err((format!("unknown name `{name}`: a step has {}", one_of(&STEP_FIELDS)), Some(hint)))
            }
        },
    }
}

/// The known word nearest to one that is not known, if any is near enough to be meant.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_ascii_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed_distance(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A third of the letters may be wrong, but at least one and at most three.
fn allowed_distance(word: &str) -> usize {
    (word.chars().count() / 3).clamp(1, 3)
}
