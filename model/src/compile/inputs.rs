//! What a run is given beside its workflow, and what can be worked out from that alone.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::plan::RunContext;
use crate::template::{Expression, NameUse, Root, Scope};
use crate::template_text::TemplateText;
use crate::workflow::Workflow;

/// The priority of a step that has none: the middle of 1 to 5.
pub const DEFAULT_PRIORITY: u8 = 3;

/// What a run is given beside its workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInputs {
    /// `--vars`: they override those of the file and may add to them.
    pub vars: IndexMap<String, Value>,
    /// `--param` and `--param-file`: `<< params.x >>`, and they override `vars` of the same name.
    pub params: IndexMap<String, Value>,
    /// Longest time of an attempt for which neither step, defaults nor agent type say one, ms.
    pub default_timeout_ms: u64,
    /// Whether a trace is kept.
    pub trace: bool,
    /// `<< run.folder >>`: where the command was typed.
    pub folder: Option<String>,
}

impl Default for RunInputs {
    fn default() -> RunInputs {
        RunInputs {
            vars: IndexMap::new(),
            params: IndexMap::new(),
            default_timeout_ms: 1_800_000,
            trace: false,
            folder: None,
        }
    }
}

/// What `vars` and `params` are in one run.
pub(super) struct Given {
    vars: IndexMap<String, Value>,
    params: IndexMap<String, Value>,
    scope: Scope,
}

impl Given {
    pub(super) fn new(workflow: &Workflow, inputs: &RunInputs) -> Given {
        let mut vars = workflow.vars.clone();
        vars.extend(inputs.vars.clone());
        for (name, value) in &inputs.params {
            if let Some(var) = vars.get_mut(name) {
                *var = value.clone();
            }
        }
        let params = inputs.params.clone();
        let object = |values: &IndexMap<String, Value>| {
            Value::Object(
                values.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
            )
        };
        let scope = Scope::new().with(Root::Vars, object(&vars)).with(Root::Params, object(&params));
        Given { vars, params, scope }
    }

    /// What templates of the run read of it.
    pub(super) fn context(&self, workflow: &Workflow) -> RunContext {
        RunContext {
            workflow: workflow.name.value.to_string(),
            version: workflow.version.clone(),
            vars: self.vars.clone(),
            params: self.params.clone(),
            folder: None,
            trace: false,
        }
    }

    /// A scope with `vars` and `params` and nothing else.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether a variable or parameter that a text reads, and must have, is not there.
    pub(super) fn lacks(&self, name: &NameUse) -> bool {
        let values = match name.root {
            Root::Vars => &self.vars,
            Root::Params => &self.params,
            _ => return false,
        };
        !name.guarded && name.path.first().is_some_and(|first| !values.contains_key(first))
    }

    /// What `when` comes to, if that is certain before the run: it reads only `vars` and `params`.
    pub(super) fn decide(&self, when: &TemplateText) -> Option<bool> {
        if !reads_only_inputs(when) {
            return None;
        }
        let expression = Expression::parse_bare_or_marked(when.text()).ok()?;
        expression.evaluate_truth(&self.scope).ok()
    }
}

/// Whether a text reads nothing that only the run will tell.
pub(super) fn reads_only_inputs(text: &TemplateText) -> bool {
    text.names.iter().all(|name| matches!(name.root, Root::Vars | Root::Params))
}

/// An error at a name of a text.
pub(super) fn refuse_name(
    workflow: &Workflow,
    text: &TemplateText,
    name: &NameUse,
    message: String,
) -> Diagnostic {
    workflow.source.error(text.place_of(&workflow.source, name.span.clone()), message)
}
