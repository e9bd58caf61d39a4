//! The one environment that works expressions out, with our own filters and a limit on what they may make.
//!
//! minijinja knows no limit on memory, and a replaced or repeated text grows by multiplication. So whatever
//! makes more than it is given pays from one budget per evaluation. Functions such as `range` do not exist.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::scope::{kind, shown_text};

/// The most that filters may make during one evaluation, and the largest result, bytes.
pub const EVALUATION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an element of a list costs beside its text, bytes.
const ELEMENT_BYTES: usize = 16;
/// How deep a result may be nested.
const RESULT_DEPTH_MAX: usize = 100;
/// The widest column `format` and `indent` make.
const WIDTH_MAX: usize = 1_000;

/// The filters an expression may use: minijinja's, and `sh`, `json`, `fromjson`.
pub const FILTERS: [&str; 48] = [
    "sh",
    "json",
    "fromjson",
    "default",
    "d",
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

/// The tests an expression may use: minijinja's.
pub const TESTS: [&str; 34] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
    "filter",
    "test",
];

/// The environment that compiles and works out every expression.
pub(super) static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    for function in ["range", "dict", "debug", "namespace"] {
        engine.remove_global(function);
    }
    engine.add_filter("sh", sh);
    engine.add_filter("json", json);
    engine.add_filter("tojson", json);
    engine.add_filter("fromjson", from_json);
    engine.add_filter("string", |value: &Value| text_of(value));
    engine.add_filter("_text", |value: &Value| text_of(value));
    engine.add_filter("_number", number);
    engine.add_filter("_flag", flag);
    engine.add_filter("_left", left);
    engine.add_filter("_right", right);
    engine.add_filter("replace", replace);
    engine.add_filter("join", join);
    bound_growing_filters(&mut engine);
    engine
});

/// Puts a price on minijinja's own filters that make more than they are given.
fn bound_growing_filters(engine: &mut Environment<'static>) {
    use minijinja::filters;

    engine.add_filter("_indent", filters::indent);
    engine.add_filter("indent", |state: &mut State, args: Rest<Value>| {
        let width = args.get(1).map_or(WIDTH_MAX, |width| width.as_usize().unwrap_or(WIDTH_MAX));
        if width > WIDTH_MAX {
            return Err(refused(format!("`indent` makes at most {WIDTH_MAX} columns")));
        }
        let lines = args.first().and_then(Value::as_str).map_or(0, |text| 1 + text.matches('\n').count());
        spend(lines.saturating_mul(width))?;
        state.apply_filter("_indent", &args)
    });
    engine.add_filter("_format", filters::format);
    engine.add_filter("format", |state: &mut State, args: Rest<Value>| {
        spend(format_price(&args)?)?;
        state.apply_filter("_format", &args)
    });
    engine.add_filter("_batch", filters::batch);
    engine.add_filter("batch", |state: &mut State, args: Rest<Value>| {
        spend(count_price(&args))?;
        state.apply_filter("_batch", &args)
    });
    engine.add_filter("_slice", filters::slice);
    engine.add_filter("slice", |state: &mut State, args: Rest<Value>| {
        spend(count_price(&args))?;
        state.apply_filter("_slice", &args)
    });
    engine.add_filter("_chain", filters::chain);
    engine.add_filter("chain", |state: &mut State, args: Rest<Value>| {
        spend(args.iter().map(length_price).sum())?;
        state.apply_filter("_chain", &args)
    });
    engine.add_filter("_list", filters::list);
    engine.add_filter("list", |state: &mut State, args: Rest<Value>| {
        spend(args.iter().map(length_price).sum())?;
        state.apply_filter("_list", &args)
    });
}

fn refused(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

thread_local! {
    /// What is left of the budget of the evaluation this thread is at.
    static BUDGET: Cell<usize> = const { Cell::new(0) };
}

/// Begins an evaluation with a full budget.
pub(super) fn refill() {
    BUDGET.set(EVALUATION_BYTES_MAX);
    LEFT_KINDS.with_borrow_mut(Vec::clear);
}

/// Takes from the budget, or refuses.
fn spend(bytes: usize) -> Result<(), Error> {
    let left = BUDGET.get().checked_sub(bytes);
    BUDGET.set(left.unwrap_or(0));
    left.map(|_| ()).ok_or_else(|| refused(format!("it makes more than {EVALUATION_BYTES_MAX} bytes")))
}

fn length_price(value: &Value) -> usize {
    value.len().unwrap_or(0).saturating_mul(ELEMENT_BYTES)
}

/// `batch` and `slice` may make as many elements as their number says.
fn count_price(args: &[Value]) -> usize {
    let count = args.get(1).and_then(Value::as_usize).unwrap_or(0);
    count.saturating_mul(ELEMENT_BYTES).saturating_add(args.first().map_or(0, length_price))
}

/// Every `%` in a format may bring the longest argument, or the widest column.
fn format_price(args: &[Value]) -> Result<usize, Error> {
    let format = args.first().and_then(Value::as_str).unwrap_or_default();
    let mut digits = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    if format.contains('*') || digits.any(|width| width.parse::<usize>().is_ok_and(|width| width > WIDTH_MAX))
    {
        return Err(refused(format!("`format` makes at most {WIDTH_MAX} columns, written as a number")));
    }
    let mut longest = WIDTH_MAX;
    for argument in args.iter().skip(1) {
        longest = longest.max(to_json(argument)?.to_string().len());
    }
    Ok(format.matches('%').count().saturating_mul(longest).saturating_add(format.len()))
}

/// `| sh`: quoted so that a POSIX shell reads it as one word. A list gives one word per element.
fn sh(value: &Value) -> Result<String, Error> {
    match to_json(value)? {
        serde_json::Value::Array(elements) => {
            let words: Result<Vec<_>, _> =
                elements.iter().map(|element| quoted_for_shell(&shown_text(element))).collect();
            Ok(words?.join(" "))
        }
        plain => quoted_for_shell(&shown_text(&plain)),
    }
}

fn quoted_for_shell(text: &str) -> Result<String, Error> {
    if text.contains('\0') {
        return Err(refused("text with a NUL cannot be given to a shell"));
    }
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+:,./-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_safe) {
        return Ok(text.to_owned());
    }
    spend(text.len())?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// `| json`: compact JSON, or with `indent=true` over several lines.
fn json(value: &Value, indent: Option<Value>, arguments: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => arguments.get::<Option<Value>>("indent")?,
    };
    arguments.assert_all_used()?;
    let value = to_json(value)?;
    if indent.is_some_and(|indent| indent.is_true()) {
        return serde_json::to_string_pretty(&value).map_err(|error| refused(error.to_string()));
    }
    Ok(value.to_string())
}

/// `| fromjson`: what a text holds as JSON.
fn from_json(text: &str) -> Result<Value, Error> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| refused(format!("the text is not JSON: {error}")))?;
    spend(text.len())?;
    Ok(from_json_value(&value))
}

/// The text form of a value, the same wherever a value becomes text.
fn text_of(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => {
            spend(text.len())?;
            Ok(text.to_owned())
        }
        None => Ok(shown_text(&to_json(value)?)),
    }
}

/// `*` multiplies numbers; repeating a text or a list would know no limit.
fn number(value: &Value) -> Result<Value, Error> {
    if value.is_number() {
        return Ok(value.clone());
    }
    Err(match value.as_str() {
        Some(_) => refused("`*` multiplies numbers, found text; `| int` makes a number of it"),
        None => refused(format!("`*` multiplies numbers, found {}", kind(&to_json(value)?))),
    })
}

/// Where a truth is asked for, the text `false` counts as false: outputs and parameters are often text.
fn flag(value: Value) -> Value {
    if value.as_str() == Some("false") { Value::from(false) } else { value }
}

thread_local! {
    /// The kinds of the left operands of orderings, each with the number of its operator.
    static LEFT_KINDS: RefCell<Vec<(usize, ValueKind)>> = const { RefCell::new(Vec::new()) };
}

/// Remembers what kind of value is compared with the right operand that comes next.
fn left(value: Value, operator: usize) -> Value {
    LEFT_KINDS.with_borrow_mut(|kinds| {
        kinds.retain(|(other, _)| *other != operator);
        kinds.push((operator, value.kind()));
    });
    value
}

/// Refuses a comparison of different kinds of values, which would have an answer but no sense.
fn right(value: Value, operator: usize) -> Result<Value, Error> {
    let left = LEFT_KINDS.with_borrow(|kinds| kinds.iter().find(|(other, _)| *other == operator).copied());
    let kinds = [left.map_or(value.kind(), |(_, kind)| kind), value.kind()];
    let shown = kinds.map(|kind| match kind {
        ValueKind::String => "text".to_owned(),
        ValueKind::Number => "a number".to_owned(),
        ValueKind::None => "null".to_owned(),
        other => other.to_string(),
    });
    let mixed = kinds[0] != kinds[1];
    if mixed && kinds.contains(&ValueKind::String) && kinds.contains(&ValueKind::Number) {
        return Err(refused("text is neither less nor more than a number; `| int` makes a number of it"));
    }
    if mixed {
        return Err(refused(format!("{} is neither less nor more than {}", shown[0], shown[1])));
    }
    Ok(value)
}

fn replace(text: &Value, from: &Value, to: &Value) -> Result<String, Error> {
    let (text, from, to) = (text_of(text)?, text_of(from)?, text_of(to)?);
    spend(text.matches(&from).count().saturating_mul(to.len()))?;
    Ok(text.replace(&from, &to))
}

fn join(list: &Value, separator: Option<Value>, arguments: Kwargs) -> Result<String, Error> {
    let separator = separator.map_or_else(|| Ok(String::new()), |separator| text_of(&separator))?;
    let attribute = arguments.get::<Option<Value>>("attribute")?;
    arguments.assert_all_used()?;
    let mut joined = String::new();
    for (place, element) in list.try_iter()?.enumerate() {
        if place > 0 {
            spend(separator.len())?;
            joined.push_str(&separator);
        }
        let element = match &attribute {
            Some(name) => element.get_item(name)?,
            None => element,
        };
        joined.push_str(&text_of(&element)?);
    }
    Ok(joined)
}

/// A JSON value as minijinja knows it.
pub(super) fn from_json_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(elements) => elements.iter().map(from_json_value).collect(),
        serde_json::Value::Object(members) => {
            Value::from_pairs(members.iter().map(|(name, member)| (name.as_str(), from_json_value(member))))
        }
    }
}

/// A value that minijinja worked out, as JSON.
pub(super) fn to_json(value: &Value) -> Result<serde_json::Value, Error> {
    to_json_within(value, RESULT_DEPTH_MAX)
}

fn to_json_within(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    use serde_json::Value as Json;

    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| refused(format!("the result is nested more than {RESULT_DEPTH_MAX} levels deep")))?;
    spend(ELEMENT_BYTES)?;
    match value.kind() {
        ValueKind::Undefined => Err(Error::new(ErrorKind::UndefinedError, "a part of it has no value")),
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::String => {
            let text = value.as_str().expect("a value of this kind is text");
            spend(text.len())?;
            Ok(Json::String(text.to_owned()))
        }
        ValueKind::Number => {
            serde_json::to_value(value).map_err(|error| refused(format!("the number does not fit: {error}")))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let elements = value.try_iter()?.map(|element| to_json_within(&element, depth));
            Ok(Json::Array(elements.collect::<Result<_, _>>()?))
        }
        ValueKind::Map => {
            let mut members = serde_json::Map::new();
            for key in value.try_iter()? {
                let member = to_json_within(&value.get_item(&key)?, depth)?;
                members.insert(text_of(&key)?, member);
            }
            Ok(Json::Object(members))
        }
        // An error that was waiting inside a lazy list comes out here.
        ValueKind::Invalid => serde_json::to_value(value).map_err(|error| refused(error.to_string())),
        _ => Ok(Json::String(value.to_string())),
    }
}
