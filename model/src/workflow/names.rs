//! Which names may stand in which text of a workflow.
//!
//! How names are found in a text is `template`'s business; what they refer to is decided here, for
//! the whole file at once, so that a slip is found before anything runs.

use std::collections::{HashMap, HashSet};

use super::definition::{Step, Workflow};
use crate::diagnostic::Diagnostic;
use crate::template::{NameUse, Root};
use crate::template_text::TemplateText;
use crate::yaml::YamlReader;

/// Where a text stands: that decides what it can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextPlace {
    /// `prompt`, or a value of a step's `env`.
    Task,
    /// A value of `publish`.
    Publish,
    /// `when`.
    When,
    /// The expression of `foreach`.
    ForeachList,
    /// An item of a literal `foreach`.
    ForeachItem,
    /// A value of `env` in `defaults`.
    Defaults,
}

impl TextPlace {
    fn name(self) -> &'static str {
        match self {
            TextPlace::Task => "a prompt or `env`",
            TextPlace::Publish => "`publish`",
            TextPlace::When => "`when`",
            TextPlace::ForeachList => "`foreach`",
            TextPlace::ForeachItem => "an item of a literal list",
            TextPlace::Defaults => "`defaults`",
        }
    }

    /// What can be read there. `when` and `foreach` may be decided by a coordinator, which knows
    /// the run but neither a workspace nor an agent's environment; a literal list is filled in
    /// before the run begins.
    fn roots(self) -> &'static [Root] {
        match self {
            TextPlace::ForeachItem => &[Root::Vars, Root::Params],
            TextPlace::When | TextPlace::ForeachList => {
                &[Root::State, Root::Vars, Root::Params, Root::Steps, Root::Run]
            }
            TextPlace::Defaults => &[
                Root::State,
                Root::Vars,
                Root::Params,
                Root::Run,
                Root::Task,
                Root::Agent,
                Root::Attempt,
                Root::Workspace,
                Root::Env,
            ],
            TextPlace::Task => &[
                Root::State,
                Root::Vars,
                Root::Params,
                Root::Steps,
                Root::Run,
                Root::Task,
                Root::Agent,
                Root::Item,
                Root::Attempt,
                Root::Workspace,
                Root::Env,
            ],
            TextPlace::Publish => &[
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
                Root::Workspace,
                Root::Env,
            ],
        }
    }

    /// What to write instead of a root that cannot be read there.
    fn advice(self, root: Root) -> Option<&'static str> {
        match (self, root) {
            (TextPlace::When | TextPlace::ForeachList, Root::Item) => {
                Some("it is decided once, before there are items")
            }
            (_, Root::Outputs) => {
                Some("a step's own outputs are known in `publish`, those of others as `steps.<id>.outputs`")
            }
            (_, Root::Prompt) => Some("`prompt` is known in the command of an agent type"),
            (TextPlace::ForeachItem, _) => {
                Some("write `foreach` as one expression to read it when the step starts")
            }
            _ => None,
        }
    }
}

/// What is known to be there.
pub(super) struct NameCheck<'a> {
    /// Steps by id.
    pub(super) steps: &'a HashMap<&'a str, u32>,
    /// Variables of the workflow and those given from outside.
    pub(super) vars: &'a HashSet<&'a str>,
}

impl NameCheck<'_> {
    /// Reports what the texts of the whole workflow cannot read.
    pub(super) fn check(&self, reader: &mut YamlReader<'_>, workflow: &Workflow) {
        for text in workflow.defaults.env.values() {
            self.check_text(reader, TextPlace::Defaults, None, text);
        }
        for step in &workflow.steps {
            for (place, text) in texts_of(step) {
                self.check_text(reader, place, Some(step), text);
            }
        }
    }

    fn check_text(
        &self,
        reader: &mut YamlReader<'_>,
        place: TextPlace,
        step: Option<&Step>,
        text: &TemplateText,
    ) {
        for name in &text.names {
            if let Some(problem) = self.problem(reader, place, step, text, name) {
                reader.problems.push(problem);
            }
        }
    }

    fn problem(
        &self,
        reader: &mut YamlReader<'_>,
        place: TextPlace,
        step: Option<&Step>,
        text: &TemplateText,
        name: &NameUse,
    ) -> Option<Diagnostic> {
        // Finding a place in the file costs a walk over the text; it is needed only if something is wrong.
        let refuse =
            |message: String| reader.source.error(text.place_of(reader.source, name.span.clone()), message);
        if !place.roots().contains(&name.root) {
            let known = place.roots().iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", ");
            let problem = refuse(format!("`{}` cannot be read in {}", name.root, place.name()));
            let problem = problem.expecting(format!("one of {known}"));
            return Some(match place.advice(name.root) {
                Some(advice) => problem.hint(advice),
                None => problem,
            });
        }
        let first = name.path.first().map(String::as_str);
        match (name.root, first) {
            (Root::Item, _) if step.is_some_and(|step| step.foreach.is_none()) => {
                let problem = refuse("`item` is read in a step without `foreach`".to_owned());
                Some(problem.hint("`item` is known in a step with `foreach`"))
            }
            (Root::Vars, Some(first)) if !name.guarded && !self.vars.contains(first) => {
                let problem = refuse(format!("unknown name `vars.{first}`"));
                Some(match reader.nearest(first, self.vars.iter().copied()) {
                    Some(near) => Diagnostic { nearest: Some(format!("vars.{near}")), ..problem },
                    None => problem.hint(self.known_vars()),
                })
            }
            (Root::Steps, Some(first)) if !self.steps.contains_key(first) => {
                let problem = refuse(format!("unknown step `{first}`"));
                let nearest = reader.nearest(first, self.steps.keys().copied());
                Some(Diagnostic { nearest: nearest.map(str::to_owned), ..problem })
            }
            (Root::Steps, Some(first)) if step.is_some_and(|step| step.id.value.as_str() == first) => {
                let problem = refuse(format!("step `{first}` reads itself"));
                Some(problem.hint("in `publish` its own outputs are known as `outputs`"))
            }
            _ => None,
        }
    }

    fn known_vars(&self) -> String {
        if self.vars.is_empty() {
            return "the workflow has no `vars`".to_owned();
        }
        let mut names: Vec<&str> = self.vars.iter().copied().collect();
        names.sort_unstable();
        names.truncate(NAMES_LISTED_MAX);
        format!("known: {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    }
}

/// Most names listed in a hint.
const NAMES_LISTED_MAX: usize = 20;

/// Every text of a step with templates in it.
fn texts_of(step: &Step) -> impl Iterator<Item = (TextPlace, &TemplateText)> {
    let task = step.prompt.iter().chain(step.env.values()).map(|text| (TextPlace::Task, text));
    let publish = step.publish.values().flat_map(|value| &value.templates);
    let publish = publish.map(|text| (TextPlace::Publish, text));
    let when = step.when.iter().map(|text| (TextPlace::When, text));
    let foreach = step.foreach.iter().flat_map(|list| {
        let place = match list {
            super::definition::ForeachList::Literal { .. } => TextPlace::ForeachItem,
            super::definition::ForeachList::Expression(_) => TextPlace::ForeachList,
        };
        list.texts().iter().map(move |text| (place, text))
    });
    task.chain(publish).chain(when).chain(foreach)
}

/// Every step that the texts of a step read, with the text and the place in it.
pub(super) fn steps_read(step: &Step) -> impl Iterator<Item = (&TemplateText, &NameUse)> {
    let texts = texts_of(step).map(|(_, text)| text);
    texts.flat_map(|text| {
        text.names.iter().filter(|name| name.root == Root::Steps).map(move |name| (text, name))
    })
}
