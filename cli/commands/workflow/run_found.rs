//! Which workflow a text means: a file, a stored definition, or one that comes with the program.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use maestro_model::diagnostic::{Colour, Diagnostics, SourceText};
use maestro_model::ids::WorkflowName;
use maestro_model::workflow::{KnownNames, Workflow, parse_workflow};
use maestro_store::Store;
use maestro_store::definitions::StoredDefinition;
use serde_json::Value;

use super::source::read_definition;
use crate::cluster::store_failure;
use crate::commands::CommandContext;
use crate::failure::Failure;
use crate::shipped;

/// A workflow that is to be run.
pub(super) struct FoundWorkflow {
    /// What it says.
    pub(super) workflow: Arc<Workflow>,
    /// Values that override its own.
    pub(super) vars: IndexMap<String, Value>,
}

/// Looks for it.
pub(super) struct WorkflowFinder<'a> {
    /// What the user wrote.
    pub(super) text: &'a str,
    /// Prints warnings.
    pub(super) context: &'a CommandContext,
}

impl WorkflowFinder<'_> {
    /// Whether the text can only be a file.
    pub(super) fn is_a_file(&self) -> bool {
        let text = self.text;
        let looks_like_one =
            text == "-" || text.contains('/') || text.ends_with(".yaml") || text.ends_with(".yml");
        looks_like_one || Path::new(text).is_file()
    }

    /// A file, a stored definition, or one that comes with the program, in that order.
    pub(super) async fn find(&self, store: Option<&Store>) -> Result<FoundWorkflow, Failure> {
        let text = self.text;
        if self.is_a_file() {
            let path = Path::new(text);
            let registered = self.registered(store).await?;
            let parsed = read_definition(path, &registered, &[], self.context)?.parsed;
            let warnings = parsed.warnings.list.len() + parsed.warnings.left_out;
            if warnings > 0 {
                self.context
                    .printer
                    .note(&format!("{warnings} warnings: see them with `maestro workflow validate {text}`"));
            }
            return Ok(FoundWorkflow { workflow: Arc::new(parsed.workflow), vars: IndexMap::new() });
        }
        let name: WorkflowName = text.parse().map_err(|_| self.no_such_workflow())?;
        if let Some(store) = store
            && let Some(stored) = store.definition(&name, None).await.map_err(store_failure)?
        {
            return self.stored(&name, stored);
        }
        match shipped::shipped_workflow(text) {
            Some(shipped) => {
                let workflow = self.parse(&format!("{}.yaml", shipped.file), shipped.text.to_owned(), &[])?;
                Ok(FoundWorkflow { workflow: Arc::new(workflow), vars: IndexMap::new() })
            }
            None => Err(self.no_such_workflow()),
        }
    }

    fn no_such_workflow(&self) -> Failure {
        let text = self.text;
        let names = shipped::WORKFLOWS.iter().map(|workflow| workflow.file);
        Failure::not_found(format!("there is no file and no workflow `{text}`")).hint(format!(
            "store it with `maestro workflow create {text} --definition FILE`, or run a shipped one: {}",
            names.collect::<Vec<_>>().join(", ")
        ))
    }

    /// Agents and agent types a definition may name beside the types of this host.
    async fn registered(&self, store: Option<&Store>) -> Result<Vec<String>, Failure> {
        let Some(store) = store else { return Ok(Vec::new()) };
        let types = store.agent_types().await.map_err(store_failure)?;
        let agents = store.assignments().await.map_err(store_failure)?;
        Ok(types.keys().map(ToString::to_string).chain(agents.keys().map(ToString::to_string)).collect())
    }

    /// A stored definition runs under the name it was stored under, with the variables stored beside it.
    fn stored(&self, name: &WorkflowName, stored: StoredDefinition) -> Result<FoundWorkflow, Failure> {
        let vars: IndexMap<String, Value> = match stored.vars.as_str() {
            "" => IndexMap::new(),
            text => serde_json::from_str(text).map_err(|error| {
                Failure::unavailable(format!("cannot read the variables stored with `{name}`"))
                    .caused_by(&error)
            })?,
        };
        let names: Vec<String> = vars.keys().cloned().collect();
        let mut workflow =
            self.parse(&format!("{name} (version {})", stored.version), stored.text, &names)?;
        workflow.name.value = name.clone();
        Ok(FoundWorkflow { workflow: Arc::new(workflow), vars })
    }

    fn parse(&self, name: &str, text: String, vars: &[String]) -> Result<Workflow, Failure> {
        let wrong = |problems: Diagnostics| {
            Failure::invalid_file(format!("`{name}` is not a workflow"))
                .details(problems.to_json())
                .shown_as(problems.render(Colour::Plain))
        };
        let source = SourceText::from_bytes(name, text.into_bytes()).map_err(wrong)?;
        let parsed = parse_workflow(source, KnownNames { agents: None, vars }).map_err(wrong)?;
        Ok(parsed.workflow)
    }
}
