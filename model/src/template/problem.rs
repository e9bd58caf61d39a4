//! What can be wrong with a template: as it is written, and as it is rendered.
//!
//! Lines and columns are not here; a span in bytes is, and whoever read the file knows where the text began.

use std::ops::Range;

use super::names::Root;

/// A template that cannot be right as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// What was expected and what was found.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl TemplateError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> TemplateError {
        TemplateError { span, message: message.into(), hint: None }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> TemplateError {
        TemplateError { hint: Some(hint.into()), ..self }
    }
}

/// A template that could not be rendered. Trying again does not help: the task fails with `config`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// It cannot be right as it is written.
    #[error(transparent)]
    Malformed(#[from] TemplateError),
    /// A name stands for nothing.
    #[error("unknown name `{name}`")]
    UnknownName {
        /// All of it, with its dots.
        name: String,
        /// What to do.
        hint: String,
    },
    /// A root does not exist here at all.
    #[error("`{root}` is not known here")]
    OutOfScope {
        /// The root.
        root: Root,
    },
    /// The expression came to nothing, though each of its names stands for something.
    #[error("`{expression}` has no value")]
    NoValue {
        /// As it is written.
        expression: String,
    },
    /// The expression does not fit the values.
    #[error("cannot work out `{expression}`: {problem}")]
    Failed {
        /// As it is written.
        expression: String,
        /// Why.
        problem: String,
    },
    /// The result is too large.
    #[error("the rendered text has more than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// A list was wanted.
    #[error("`{expression}` is not a list: expected a list or text that is a JSON array, found {found}")]
    NotAList {
        /// As it is written.
        expression: String,
        /// What it was instead.
        found: String,
    },
    /// A value holds lists in lists, deeper than is looked into.
    #[error("a value is nested more than {limit} levels deep")]
    TooDeep {
        /// What is allowed.
        limit: usize,
    },
}

impl RenderError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RenderError::Malformed(error) => error.hint.clone(),
            RenderError::UnknownName { hint, .. } => Some(hint.clone()),
            RenderError::OutOfScope { root } => Some(root.where_known().to_owned()),
            RenderError::NoValue { .. } => Some(
                "write `| default('…')` behind what may be missing, and `else` behind an `if`".to_owned(),
            ),
            RenderError::Failed { .. } => None,
            RenderError::TooLarge { .. } => {
                Some("put large data into a file of the workspace, and its name into the text".to_owned())
            }
            RenderError::NotAList { .. } => None,
            RenderError::TooDeep { .. } => None,
        }
    }
}
