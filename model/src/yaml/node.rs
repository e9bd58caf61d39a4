//! What a YAML document consists of, each part with its place in the file.
//!
//! Values keep their text as well as their kind: `version: 1.10` is a version, not a number.

use std::ops::Range;

use serde_json::{Map, Number, Value};

/// A part of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its bytes in the file; of a list or map, from its first to its last part.
    pub place: Range<usize>,
    /// What it is.
    pub content: NodeContent,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeContent {
    /// A text, number, truth value or nothing.
    Scalar(Scalar),
    /// `- a` or `[a]`
    List(Vec<Node>),
    /// `a: b` or `{a: b}`; each key once.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key as text.
    pub key: String,
    /// Its bytes in the file.
    pub key_place: Range<usize>,
    /// What it stands for.
    pub value: Node,
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// After folding and escapes.
    pub text: String,
    /// How it is written.
    pub notation: Notation,
    /// Whether a tag says that it is a text, whatever it looks like.
    pub tagged_text: bool,
}

/// How a single value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// As it is.
    Plain,
    /// In `'`.
    Single,
    /// In `"`, with escapes.
    Double,
    /// After `|`, line by line.
    Literal,
    /// After `>`, lines joined.
    Folded,
}

impl Scalar {
    /// Whether it is nothing: an empty place, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.is_plain() && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The truth value it is, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.is_plain() => Some(true),
            "false" | "False" | "FALSE" if self.is_plain() => Some(false),
            _ => None,
        }
    }

    /// The number it is, if it is one (YAML 1.2: `0x1f` and `0o17` count, `017` and `1_000` do not).
    pub fn as_number(&self) -> Option<Number> {
        if !self.is_plain() {
            return None;
        }
        let digits = self.text.strip_prefix('+').unwrap_or(&self.text);
        let radix = |prefix: &str, radix: u32| {
            let digits = self.text.strip_prefix(prefix)?;
            let lawful = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
            lawful.then(|| u64::from_str_radix(digits, radix).ok())?.map(Number::from)
        };
        let looks_decimal = digits.bytes().any(|byte| byte.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return Some(number);
        }
        if !looks_decimal {
            return None;
        }
        let bare = digits.trim_start_matches('-');
        // A leading zero makes a code, a date or a phone number; it would be lost in a number.
        if bare.len() > 1 && bare.starts_with('0') && bare.as_bytes()[1].is_ascii_digit() {
            return None;
        }
        if let Ok(number) = digits.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = digits.parse::<u64>() {
            return Some(number.into());
        }
        digits.parse::<f64>().ok().and_then(Number::from_f64)
    }

    fn is_plain(&self) -> bool {
        self.notation == Notation::Plain && !self.tagged_text
    }

    /// Where in the file a range of bytes of its text stands, if it stands at a place itself; all of
    /// that place if it cannot be told.
    pub fn place_of(&self, file: &str, place: &Range<usize>, range: Range<usize>) -> Range<usize> {
        let Some(written) = file.get(place.clone()) else {
            return place.clone();
        };
        let offsets = Alignment::of(self, written);
        match (offsets.find(range.start), offsets.find(range.end)) {
            (Some(start), Some(end)) if start <= end => place.start + start..place.start + end,
            (Some(start), _) => place.start + start..place.start + start + 1,
            _ => place.clone(),
        }
    }

    /// Its value as JSON.
    pub fn to_json(&self) -> Value {
        if self.is_null() {
            Value::Null
        } else if let Some(truth) = self.as_bool() {
            Value::Bool(truth)
        } else if let Some(number) = self.as_number() {
            Value::Number(number)
        } else {
            Value::String(self.text.clone())
        }
    }
}

impl Node {
    /// The kind of thing it is, with its article.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            NodeContent::List(_) => "a list",
            NodeContent::Map(_) => "a map",
            NodeContent::Scalar(scalar) if scalar.is_null() => "nothing",
            NodeContent::Scalar(_) => "a single value",
        }
    }

    /// The single value it is, if it is one and not nothing.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            NodeContent::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, NodeContent::Scalar(scalar) if scalar.is_null())
    }

    /// All of it as JSON.
    pub fn to_json(&self) -> Value {
        match &self.content {
            NodeContent::Scalar(scalar) => scalar.to_json(),
            NodeContent::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            NodeContent::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// Every text in it, with its node: what may hold templates.
    pub fn scalars(&self) -> Vec<(&Node, &Scalar)> {
        match &self.content {
            NodeContent::Scalar(scalar) => vec![(self, scalar)],
            NodeContent::List(items) => items.iter().flat_map(Node::scalars).collect(),
            NodeContent::Map(entries) => entries.iter().flat_map(|entry| entry.value.scalars()).collect(),
        }
    }
}

/// Which byte of the file each byte of a value comes from.
///
/// The parser does not say, so both are walked side by side: where they differ, the file has the
/// indentation, line end, quote or escape that the notation allows there. A wrong guess would only
/// move a mark.
struct Alignment {
    /// (byte of the value, byte of the written text), rising in both.
    pairs: Vec<(usize, usize)>,
    value_length: usize,
    written_length: usize,
}

impl Alignment {
    fn of(scalar: &Scalar, written: &str) -> Alignment {
        let mut alignment =
            Alignment { pairs: Vec::new(), value_length: scalar.text.len(), written_length: written.len() };
        let mut at = start_of_content(scalar.notation, written);
        let block = matches!(scalar.notation, Notation::Literal | Notation::Folded);
        let mut line_start = false;
        // Blank lines before the first line of a block belong to the value but not to its place.
        let blank = if block { scalar.text.len() - scalar.text.trim_start_matches('\n').len() } else { 0 };
        for (place, letter) in scalar.text.char_indices().skip(blank) {
            let Some(found) = alignment.step(scalar.notation, written, at, letter, line_start) else {
                break;
            };
            alignment.pairs.push((place, found.start));
            at = found.end;
            line_start = block && letter == '\n';
        }
        alignment
    }

    /// The written bytes that one letter of the value stands for, at or soon after a place.
    fn step(
        &self,
        notation: Notation,
        written: &str,
        mut at: usize,
        letter: char,
        line_start: bool,
    ) -> Option<Range<usize>> {
        if line_start {
            at = skip_indentation(written, at, letter);
        }
        loop {
            let found = written[at..].chars().next()?;
            let next = at + found.len_utf8();
            if found == '\\' && notation == Notation::Double {
                let length = escape_length(&written[at..]);
                if written[at..].starts_with("\\\n") {
                    at += length;
                    continue;
                }
                return Some(at..at + length);
            }
            if found == letter {
                let doubled = notation == Notation::Single && written[at..].starts_with("''");
                return Some(at..if doubled { next + 1 } else { next });
            }
            let folded = letter == ' ' && found == '\n';
            if folded {
                let rest = written[next..].trim_start_matches([' ', '\t']);
                return Some(at..written.len() - rest.len());
            }
            if !matches!(found, ' ' | '\t' | '\n' | '\r') {
                return None;
            }
            at = next;
        }
    }

    fn find(&self, place: usize) -> Option<usize> {
        match self.pairs.binary_search_by_key(&place, |pair| pair.0) {
            Ok(found) => Some(self.pairs[found].1),
            Err(_) if place >= self.value_length => {
                let (_, last) = *self.pairs.last()?;
                Some((last + 1).min(self.written_length))
            }
            Err(_) => None,
        }
    }
}

fn start_of_content(notation: Notation, written: &str) -> usize {
    match notation {
        Notation::Single | Notation::Double => 1.min(written.len()),
        // The place of a block begins behind its header and the indentation of its first line.
        Notation::Plain | Notation::Literal | Notation::Folded => 0,
    }
}

/// Past the indentation of a line in a block; of the spaces before a letter that is itself a space,
/// the walk may only be sure of those that the first line does not share.
fn skip_indentation(written: &str, at: usize, letter: char) -> usize {
    let rest = &written[at..];
    let spaces = rest.len() - rest.trim_start_matches(' ').len();
    match letter {
        ' ' => at + block_indentation(written).min(spaces),
        _ => at + spaces,
    }
}

fn block_indentation(written: &str) -> usize {
    let lines = written.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines.map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0)
}

fn escape_length(written: &str) -> usize {
    let extra = match written.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        Some(_) => 1 + written[1..].chars().next().map_or(0, char::len_utf8),
        None => 1,
    };
    extra.min(written.len())
}
