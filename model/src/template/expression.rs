//! One expression: a `when`, a `foreach`, or what stands between `<<` and `>>`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::Object;
use minijinja::{Error, ErrorKind};
use serde_json::Value;

use super::analysis::{Analysis, analyse};
use super::code::Code;
use super::filters::{ENGINE, from_json_value, refill, to_json};
use super::names::NameUse;
use super::problem::{RenderError, TemplateError};
use super::scope::{Scope, kind};
use super::tokens::{ExpressionEnd, Token, read_tokens};

/// An expression that has been read and can be worked out often, on any thread. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Expression(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As it is written, for messages.
    source: String,
    names: Vec<NameUse>,
    /// For each name, whether it may be missing where it stands.
    optional: Vec<bool>,
    /// None if the expression is one name and nothing else.
    compiled: Option<minijinja::Expression<'static, 'static>>,
}

impl Expression {
    /// Reads a text that is one expression, without marks around it.
    pub fn parse(text: &str) -> Result<Expression, TemplateError> {
        let (tokens, _) = read_tokens(text, 0, ExpressionEnd::WithText)?;
        Expression::from_tokens(text, &tokens, 0..text.len())
    }

    /// Reads a `when` or a `foreach`: one expression, with or without `<< >>` around it.
    pub fn parse_bare_or_marked(text: &str) -> Result<Expression, TemplateError> {
        let opened_at = text.len() - text.trim_start().len();
        if !text[opened_at..].starts_with("<<") {
            return Expression::parse(text);
        }
        let (expression, end) = Expression::parse_marked(text, opened_at)?;
        if text[end..].trim().is_empty() {
            return Ok(expression);
        }
        let message = "expected one expression, found more behind its `>>`";
        let hint = "put all of it between one `<<` and one `>>`, or leave both out";
        Err(TemplateError::new(end..text.trim_end().len(), message).with_hint(hint))
    }

    /// Reads the expression whose `<<` stands at `opened_at`. Gives it and the byte behind its `>>`.
    pub(super) fn parse_marked(text: &str, opened_at: usize) -> Result<(Expression, usize), TemplateError> {
        let (tokens, end) = read_tokens(text, opened_at + 2, ExpressionEnd::Marked { opened_at })?;
        Ok((Expression::from_tokens(text, &tokens, opened_at..end)?, end))
    }

    fn from_tokens(text: &str, tokens: &[Token], whole: Range<usize>) -> Result<Expression, TemplateError> {
        let Analysis { names, optional, is_one_name, code } = analyse(text, tokens, whole)?;
        let inside = match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => first.span.start..last.span.end,
            _ => unreachable!("the analysis refuses an empty expression"),
        };
        let compiled = if is_one_name { None } else { Some(compile(&code, inside.clone())?) };
        let source = text[inside].to_owned();
        Ok(Expression(Arc::new(Inner { source, names, optional, compiled })))
    }

    /// The names it reads, in order.
    pub fn names(&self) -> &[NameUse] {
        &self.0.names
    }

    /// The expression as it is written, without marks.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Works it out. The result keeps its type.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, RenderError> {
        let inner = &*self.0;
        let Some(compiled) = &inner.compiled else {
            let name = &inner.names[0];
            return scope
                .find(name.root, &name.path)
                .cloned()
                .ok_or_else(|| scope.unknown(name.root, &name.path));
        };
        refill();
        let variables = Arc::new(Variables::of(inner, scope));
        let result = compiled.eval(minijinja::Value::from_dyn_object(variables.clone()));
        let result =
            result.and_then(|value| if value.is_undefined() { Ok(None) } else { to_json(&value).map(Some) });
        match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(RenderError::NoValue { expression: inner.source.clone() }),
            Err(error) => Err(match variables.missed() {
                Some(number) => {
                    let name = &inner.names[number];
                    scope.unknown(name.root, &name.path)
                }
                None => RenderError::Failed { expression: inner.source.clone(), problem: problem_of(&error) },
            }),
        }
    }

    /// Works it out and asks whether it is true, as `when` does.
    ///
    /// False are `false`, null, zero, empty text, an empty list or object, and the text `false`, because
    /// outputs and parameters are often text. Everything else is true.
    pub fn evaluate_truth(&self, scope: &Scope) -> Result<bool, RenderError> {
        Ok(match self.evaluate(scope)? {
            Value::Null => false,
            Value::Bool(truth) => truth,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty() && text != "false",
            Value::Array(elements) => !elements.is_empty(),
            Value::Object(members) => !members.is_empty(),
        })
    }

    /// Works it out to a list, as `foreach` does: a list, or text that is a JSON array.
    pub fn evaluate_list(&self, scope: &Scope) -> Result<Vec<Value>, RenderError> {
        let found = match self.evaluate(scope)? {
            Value::Array(elements) => return Ok(elements),
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(Value::Array(elements)) => return Ok(elements),
                Ok(other) => format!("text that is {} in JSON", kind(&other)),
                Err(_) => "text that is not JSON".to_owned(),
            },
            other => kind(&other).to_owned(),
        };
        Err(RenderError::NotAList { expression: self.0.source.clone(), found })
    }
}

/// The values of an expression's names, under the names `n0`, `n1`, ….
#[derive(Debug)]
struct Variables {
    /// None for a name that stands for nothing and may not.
    values: Vec<Option<minijinja::Value>>,
    /// The first name that was asked for and stands for nothing.
    missed: AtomicUsize,
}

const NONE_MISSED: usize = usize::MAX;

impl Variables {
    fn of(inner: &Inner, scope: &Scope) -> Variables {
        let value_of = |(name, optional): (&NameUse, &bool)| match scope.find(name.root, &name.path) {
            Some(value) => Some(from_json_value(value)),
            None => optional.then_some(minijinja::Value::UNDEFINED),
        };
        let values = inner.names.iter().zip(&inner.optional).map(value_of).collect();
        Variables { values, missed: AtomicUsize::new(NONE_MISSED) }
    }

    fn missed(&self) -> Option<usize> {
        let missed = self.missed.load(Ordering::Relaxed);
        (missed != NONE_MISSED).then_some(missed)
    }
}

impl Object for Variables {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let number: usize = key.as_str()?.strip_prefix('n')?.parse().ok()?;
        match self.values.get(number)? {
            Some(value) => Some(value.clone()),
            None => {
                self.missed.store(number, Ordering::Relaxed);
                // Asking for such a value ends the evaluation.
                Some(Error::new(ErrorKind::UndefinedError, "unknown name").into())
            }
        }
    }
}

fn compile(
    code: &Code,
    inside: Range<usize>,
) -> Result<minijinja::Expression<'static, 'static>, TemplateError> {
    ENGINE.compile_expression_owned(code.text.clone()).map_err(|error| {
        let span = error.range().and_then(|range| code.source_span(range)).unwrap_or(inside);
        TemplateError::new(span, problem_of(&error))
    })
}

/// What minijinja says, without where: its places are not the user's.
fn problem_of(error: &Error) -> String {
    match error.detail() {
        Some("template exceeds maximum recursion limits") => "the expression is nested too deep".to_owned(),
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}
