//! Text to nodes.
//!
//! The parser's events are put together here, because only here can each duplicate key, tag and
//! alias be marked and bounded.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::node::{Entry, Node, NodeContent, Notation, Scalar};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// Longest file that is read, in bytes: the limit of a definition.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of lists and maps.
pub const DEPTH_MAX: usize = 64;
/// Most nodes that all aliases of a file together may stand for.
pub const ALIAS_NODES_MAX: usize = 100_000;
/// Most bytes of text that all aliases of a file together may stand for.
pub const ALIAS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// From this many keys on a map's keys are looked up in a set.
const KEYS_SEARCHED_MAX: usize = 16;

/// Reads the one document of a file, or none with the reason among the problems.
///
/// Problems that leave a document (a duplicate key, an unknown tag) are reported as well.
pub fn load(source: &SourceText, problems: &mut Diagnostics) -> Option<Node> {
    let bytes = source.text().len();
    if bytes > DOCUMENT_BYTES_MAX {
        let message = format!(
            "the file has {bytes} bytes, more than the {DOCUMENT_BYTES_MAX} (1 MiB) a definition may have"
        );
        let hint = "move long prompts into files, or repeated steps into `foreach`";
        problems.push(source.error(0..0, message).hint(hint));
        return None;
    }
    let options = granit_parser::options! { emit_comments: false };
    let mut loader = Loader::new(source, problems);
    for next in Parser::new_from_str_with_options(source.text(), options) {
        let outcome = match next {
            Ok((event, span)) => loader.on_event(event, span),
            Err(error) => loader.stop(syntax_problem(source, &error)),
        };
        outcome.ok()?;
    }
    if loader.root.as_ref().is_none_or(Node::is_null) {
        loader.problems.push(source.error(0..0, "the file holds nothing").expecting("a map of keys"));
        return None;
    }
    loader.root
}

/// The rest of the file cannot be read; why is among the problems.
struct Unreadable;

/// What an alias stands for.
struct Anchored {
    node: Node,
    size: Size,
}

/// What copying a node costs.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Size {
    fn add(&mut self, part: Size) {
        self.nodes += part.nodes;
        self.bytes += part.bytes;
        self.height = self.height.max(part.height + 1);
    }
}

/// A list or map whose end has not been read.
struct Open {
    place: Range<usize>,
    anchor: usize,
    size: Size,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: PendingKey, merged: Vec<Node>, seen: HashSet<String> },
}

/// What is known of a map's next entry.
enum PendingKey {
    /// Nothing: the next node is a key.
    Awaited,
    /// Its key: the next node is the value.
    Read(String, Range<usize>),
    /// A key that cannot be used; the value is passed over.
    Refused,
    /// `<<`: the value is merged.
    Merge,
}

struct Loader<'a> {
    source: &'a SourceText,
    problems: &'a mut Diagnostics,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    copied: Size,
    documents: usize,
    root: Option<Node>,
}

impl<'a> Loader<'a> {
    fn new(source: &'a SourceText, problems: &'a mut Diagnostics) -> Loader<'a> {
        Loader {
            source,
            problems,
            open: Vec::new(),
            anchors: HashMap::new(),
            copied: Size::default(),
            documents: 0,
            root: None,
        }
    }

    fn stop(&mut self, problem: Diagnostic) -> Result<(), Unreadable> {
        self.problems.push(problem);
        Err(Unreadable)
    }

    fn on_event(&mut self, event: Event<'_>, span: Span) -> Result<(), Unreadable> {
        let place = span.byte_range().unwrap_or(0..0);
        match event {
            Event::DocumentStart(..) => self.on_document(place),
            Event::Scalar(text, style, anchor, tag) => {
                let tagged_text = self.is_text_tag(tag.as_deref(), &span);
                let notation = notation(style);
                let scalar = Scalar { text: text.into_owned(), notation, tagged_text };
                let size = Size { nodes: 1, bytes: scalar.text.len(), height: 0 };
                let place = trimmed_place(self.source.text(), notation, place);
                self.on_node(Node { place, content: NodeContent::Scalar(scalar) }, size, anchor);
                Ok(())
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &span);
                self.on_start(Parts::List(Vec::new()), place, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &span);
                let parts = Parts::Map {
                    entries: Vec::new(),
                    key: PendingKey::Awaited,
                    merged: Vec::new(),
                    seen: HashSet::new(),
                };
                self.on_start(parts, place, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.on_end(place);
                Ok(())
            }
            Event::Alias(anchor) => self.on_alias(anchor, place),
            _ => Ok(()),
        }
    }

    fn on_document(&mut self, place: Range<usize>) -> Result<(), Unreadable> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let problem = self.source.error(place, "a second document begins here");
        let hint = "`---` separates documents: split the file there";
        self.stop(problem.expecting("one document in a file").hint(hint))
    }

    fn on_start(&mut self, parts: Parts, place: Range<usize>, anchor: usize) -> Result<(), Unreadable> {
        self.check_depth(0, &place)?;
        let size = Size { nodes: 1, bytes: 0, height: 0 };
        self.open.push(Open { place, anchor, size, parts });
        Ok(())
    }

    fn check_depth(&mut self, height: usize, place: &Range<usize>) -> Result<(), Unreadable> {
        if self.open.len() + height < DEPTH_MAX {
            return Ok(());
        }
        let message = format!("lists and maps are nested more than {DEPTH_MAX} deep");
        self.stop(self.source.error(place.clone(), message))
    }

    fn on_end(&mut self, end: Range<usize>) {
        let Open { mut place, anchor, size, parts } =
            self.open.pop().expect("the parser ends only what it began");
        let content = match parts {
            Parts::List(items) => {
                place.end = items.last().map_or(end.end, |last| last.place.end).max(place.end);
                NodeContent::List(items)
            }
            Parts::Map { mut entries, merged, .. } => {
                place.end = entries.last().map_or(end.end, |last| last.value.place.end).max(place.end);
                self.merge(&mut entries, merged);
                NodeContent::Map(entries)
            }
        };
        self.on_node(Node { place, content }, size, anchor);
    }

    /// Puts a finished node where it belongs.
    fn on_node(&mut self, node: Node, size: Size, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), size });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        open.size.add(size);
        match &mut open.parts {
            Parts::List(items) => items.push(node),
            Parts::Map { entries, key, merged, seen } => match std::mem::replace(key, PendingKey::Awaited) {
                PendingKey::Awaited => *key = read_key(self.source, self.problems, entries, seen, node),
                PendingKey::Read(text, key_place) => {
                    entries.push(Entry { key: text, key_place, value: node });
                }
                PendingKey::Merge => merged.push(node),
                PendingKey::Refused => {}
            },
        }
    }

    fn on_alias(&mut self, anchor: usize, place: Range<usize>) -> Result<(), Unreadable> {
        let Some(Anchored { node, size }) = self.anchors.get(&anchor) else {
            let problem = self.source.error(place, "an alias inside of what it stands for");
            return self.stop(problem.expecting("an anchor that ends before this"));
        };
        let size = *size;
        self.copied.nodes += size.nodes;
        self.copied.bytes += size.bytes;
        if self.copied.nodes > ALIAS_NODES_MAX || self.copied.bytes > ALIAS_BYTES_MAX {
            let message = format!(
                "the aliases of this file stand for more than {ALIAS_NODES_MAX} values or {ALIAS_BYTES_MAX} bytes"
            );
            let problem = self.source.error(place, message);
            return self.stop(problem.hint("write fewer aliases, or use `vars` or `foreach`"));
        }
        let node = node.clone();
        self.check_depth(size.height, &place)?;
        self.on_node(node, size, 0);
        Ok(())
    }

    /// `<<: *base`: keys of the base that the map does not have itself.
    fn merge(&mut self, entries: &mut Vec<Entry>, merged: Vec<Node>) {
        let mut bases = Vec::new();
        for node in merged {
            match node.content {
                NodeContent::Map(base) => bases.push(base),
                NodeContent::List(items)
                    if items.iter().all(|item| matches!(item.content, NodeContent::Map(_))) =>
                {
                    bases.extend(items.into_iter().filter_map(|item| match item.content {
                        NodeContent::Map(base) => Some(base),
                        _ => None,
                    }));
                }
                _ => {
                    let problem =
                        self.source.error(node.place.clone(), format!("`<<` cannot merge {}", node.kind()));
                    self.problems.push(problem.expecting("a map, or a list of maps"));
                }
            }
        }
        if bases.is_empty() {
            return;
        }
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for entry in bases.into_iter().flatten() {
            if known.insert(entry.key.clone()) {
                entries.push(entry);
            }
        }
    }

    /// Whether a tag says that a value is a text. A tag nobody knows is a problem.
    fn is_text_tag(&mut self, tag: Option<&Tag>, span: &Span) -> bool {
        let Some(tag) = tag else {
            return false;
        };
        match tag.core_suffix() {
            Some("str") => true,
            Some("int" | "bool" | "null" | "float" | "map" | "seq") => false,
            _ => {
                let place = span.tag_span().and_then(|span| span.byte_range());
                let place = place.or_else(|| span.byte_range()).unwrap_or(0..0);
                let problem = self.source.error(place, format!("unknown tag `{}`", tag.original()));
                self.problems.push(problem.hint("put a text that begins with `!` in quotes"));
                false
            }
        }
    }
}

fn read_key(
    source: &SourceText,
    problems: &mut Diagnostics,
    entries: &[Entry],
    seen: &mut HashSet<String>,
    node: Node,
) -> PendingKey {
    let NodeContent::Scalar(scalar) = node.content else {
        let problem = source.error(node.place.clone(), format!("a key cannot be {}", node.kind()));
        let braces = source.text()[..node.place.start].ends_with('{');
        problems.push(problem.hint(match braces {
            true => "write `<< state.key >>`, not `{{ state.key }}`",
            false => "put a text that begins with `{` or `[` in quotes",
        }));
        return PendingKey::Refused;
    };
    if scalar.text == "<<" && scalar.notation == Notation::Plain {
        return PendingKey::Merge;
    }
    if is_duplicate(entries, seen, &scalar.text) {
        let first = entries.iter().find(|entry| entry.key == scalar.text);
        let line = first.map_or(0, |entry| source.line_of(entry.key_place.start));
        let problem = source.error(node.place, format!("`{}` is given twice", scalar.text));
        problems.push(problem.hint(format!("it stands in line {line} already")));
        return PendingKey::Refused;
    }
    PendingKey::Read(scalar.text, node.place)
}

fn is_duplicate(entries: &[Entry], seen: &mut HashSet<String>, key: &str) -> bool {
    if entries.len() < KEYS_SEARCHED_MAX {
        return entries.iter().any(|entry| entry.key == key);
    }
    if seen.is_empty() {
        seen.extend(entries.iter().map(|entry| entry.key.clone()));
    }
    !seen.insert(key.to_owned())
}

fn notation(style: ScalarStyle) -> Notation {
    match style {
        ScalarStyle::Plain => Notation::Plain,
        ScalarStyle::SingleQuoted => Notation::Single,
        ScalarStyle::DoubleQuoted => Notation::Double,
        ScalarStyle::Literal => Notation::Literal,
        ScalarStyle::Folded => Notation::Folded,
    }
}

/// The parser counts the line end after a plain value, and lines after a block, as part of it.
fn trimmed_place(text: &str, notation: Notation, place: Range<usize>) -> Range<usize> {
    let written = text.get(place.clone()).unwrap_or_default();
    match notation {
        Notation::Plain => place.start..place.start + written.trim_end().len(),
        _ => place,
    }
}

fn syntax_problem(source: &SourceText, error: &ScanError) -> Diagnostic {
    let text = source.text();
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    if let Some(tab) = tab_in_indentation(text, at, error) {
        let problem = source.error(tab..tab + 1, "a tab in the indentation");
        return problem.expecting("spaces").hint("indent with spaces; most editors can do so on their own");
    }
    let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
    let (message, hint) = syntax_message(error);
    let problem = source.error(at..end, message);
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// The tab that an error is about. It may be in a line further on: a value that goes on there is
/// marked where it begins.
fn tab_in_indentation(text: &str, at: usize, error: &ScanError) -> Option<usize> {
    let mut line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    for (number, line) in text[line_start..].split_inclusive('\n').enumerate() {
        let indentation = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(tab) = indentation.find('\t') {
            return Some(line_start + tab);
        }
        if number > 0 && !error.info().contains("tab") {
            return None;
        }
        line_start += line.len();
    }
    None
}

/// The commonest slips in words that say what to do; the rest in the parser's own.
fn syntax_message(error: &ScanError) -> (String, Option<&'static str>) {
    match error.kind() {
        ErrorKind::MappingValueNotAllowed => {
            ("`:` is not allowed here".to_owned(), Some("put a value that holds `: ` in quotes"))
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => (
            "a quote is not closed where its value ends".to_owned(),
            Some("look for the opening quote above"),
        ),
        ErrorKind::UnknownAnchor => {
            let hint = "an anchor is set with `&name`; put a text that begins with `*` in quotes";
            ("an alias without an anchor".to_owned(), Some(hint))
        }
        ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockMappingKey => {
            ("the indentation fits no line above".to_owned(), None)
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            (error.info(), Some("put a text that begins with such a character in quotes"))
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (
            "a line that is neither a key with `:` nor part of a value".to_owned(),
            Some("check the indentation of this line and the one above"),
        ),
        ErrorKind::UnknownQuotedScalarEscape => (
            "an unknown escape in a `\"` text".to_owned(),
            Some("write `\\\\` for a backslash, or use single quotes"),
        ),
        ErrorKind::RecursionLimitExceeded => {
            (format!("lists and maps are nested more than {DEPTH_MAX} deep"), None)
        }
        _ => (format!("not YAML: {}", error.info()), None),
    }
}

#[cfg(test)]
mod tests;
