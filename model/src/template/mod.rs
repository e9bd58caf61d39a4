//! Templates: text with `<< … >>` in it, and the expressions inside.
//!
//! What counts as an expression is decided by `scan`: only text that begins with a known root. What an
//! expression may say is decided by `analysis`, which also lists the names it reads; minijinja works it out.
//! A template is rendered once: what comes out of a value is never looked at again.
//!
//! | question | module |
//! |---|---|
//! | what went wrong, where, and what to do | `problem` |
//! | which roots there are, and what a name refers to | `names` |
//! | the values that names stand for | `scope` |
//! | the words of one expression | `tokens` |
//! | filters, and the limit of what they may make | `filters` |
//! | what minijinja is given instead of it | `code` |
//! | which names it reads, and what its words are | `analysis` |
//! | one expression: `when`, `foreach` | `expression` |
//! | where in a text the expressions are | `scan` |
//! | a text, or a value full of texts | `render` |

mod analysis;
mod code;
mod expression;
mod filters;
mod names;
mod problem;
mod render;
mod scan;
mod scope;
mod tokens;

pub use expression::Expression;
pub use filters::{EVALUATION_BYTES_MAX, FILTERS, TESTS};
pub use names::{NameUse, Root, STEP_FIELDS};
pub use problem::{RenderError, TemplateError};
pub use render::{RENDERED_BYTES_MAX, Template, render_text_map, render_value, render_value_map};
pub use scan::is_plain_text;
pub use scope::{Scope, shown_text};
pub use tokens::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_OPERATORS_MAX};

#[cfg(test)]
mod tests;
