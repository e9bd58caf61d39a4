//! Nodes to values, with an error for what does not fit.
//!
//! Every method reports what is wrong and answers none; the caller goes on with the next key, so that
//! one reading finds all.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use super::node::{Entry, Node, NodeContent};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText, nearest_name};
use crate::duration::parse_duration;
use crate::ids::IdError;
use crate::size::parse_size;

/// A value with its bytes in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Marked<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the file.
    pub place: Range<usize>,
}

impl<T> Marked<T> {
    /// A value at a place.
    pub fn new(value: T, place: Range<usize>) -> Marked<T> {
        Marked { value, place }
    }

    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Marked<U> {
        Marked { value: change(self.value), place: self.place }
    }
}

/// A map whose keys are known.
#[derive(Debug, Clone)]
pub struct Fields<'n> {
    entries: &'n [Entry],
    /// Known keys that unknown ones were probably meant to be.
    meant: Vec<String>,
}

impl<'n> Fields<'n> {
    /// The value of a key, if the key is there.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The whole entry of a key, if it is there.
    pub fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Reads values out of nodes and keeps what is wrong with them.
#[derive(Debug)]
pub struct YamlReader<'s> {
    /// The file.
    pub source: &'s SourceText,
    /// What is wrong so far.
    pub problems: Diagnostics,
    /// How many more names may be compared with unknown ones.
    comparisons_left: usize,
}

/// Most names compared with unknown ones for one file: a file of thousands of steps that all name a
/// wrong one is answered without advice at the end, but soon.
const COMPARISONS_MAX: usize = 500_000;

impl<'s> YamlReader<'s> {
    /// A reader of a file.
    pub fn new(source: &'s SourceText) -> YamlReader<'s> {
        YamlReader { source, problems: Diagnostics::default(), comparisons_left: COMPARISONS_MAX }
    }

    /// The known name nearest to one that is not known, as long as comparing is affordable.
    pub fn nearest<'k>(
        &mut self,
        found: &str,
        known: impl ExactSizeIterator<Item = &'k str>,
    ) -> Option<&'k str> {
        self.comparisons_left = self.comparisons_left.checked_sub(known.len())?;
        nearest_name(found, known)
    }

    /// Reports an error at a place.
    pub fn refuse(&mut self, place: Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        let problem = self.source.error(place, message);
        self.report(problem)
    }

    fn report(&mut self, problem: Diagnostic) -> &mut Diagnostic {
        self.problems.push(problem);
        self.problems.list.last_mut().expect("one was pushed, now or before")
    }

    fn unfit(&mut self, key: &str, node: &Node, wanted: &str) {
        let found = match node.scalar() {
            Some(scalar) => format!("`{}`", shortened(&scalar.text)),
            None => node.kind().to_owned(),
        };
        let problem = self.source.error(node.place.clone(), format!("`{key}` is {found}"));
        self.problems.push(problem.expecting(wanted));
    }

    /// A map with some of the known keys; `what` names it with its article. Others are reported.
    pub fn fields<'n>(&mut self, what: &str, node: &'n Node, keys: &[&str]) -> Option<Fields<'n>> {
        let NodeContent::Map(entries) = &node.content else {
            let problem = self.source.error(node.place.clone(), format!("{what} cannot be {}", node.kind()));
            self.problems.push(problem.expecting("a map of keys"));
            return None;
        };
        let mut meant = Vec::new();
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            let message = format!("unknown key `{}` in {what}", shortened(&entry.key));
            let problem = self.source.error(entry.key_place.clone(), message);
            let problem = problem.nearest(&entry.key, keys.iter().copied());
            meant.extend(problem.nearest.clone());
            let problem = match problem.nearest {
                Some(_) => problem,
                None => problem.hint(format!("known here: {}", quoted_list(keys.iter().copied()))),
            };
            self.problems.push(problem);
        }
        Some(Fields { entries, meant })
    }

    /// The value of a key that must be there; `what` names the map with its article. That it is not
    /// there is no second error if it is there with a slip.
    pub fn required<'n>(
        &mut self,
        what: &str,
        fields: &Fields<'n>,
        at: &Node,
        key: &str,
    ) -> Option<&'n Node> {
        let found = fields.get(key);
        if found.is_none() && !fields.meant.iter().any(|meant| meant == key) {
            let first = fields.entries.first().map_or(at.place.clone(), |entry| entry.key_place.clone());
            self.refuse(first, format!("{what} has no `{key}`"));
        }
        found
    }

    /// A text; numbers and truth values count as what is written.
    pub fn text(&mut self, key: &str, node: &Node) -> Option<Marked<String>> {
        match node.scalar() {
            Some(scalar) => Some(Marked::new(scalar.text.clone(), node.place.clone())),
            None => {
                self.unfit(key, node, "a text");
                None
            }
        }
    }

    /// A name that obeys a rule of its own.
    pub fn name<T: FromStr<Err = IdError>>(&mut self, key: &str, node: &Node) -> Option<Marked<T>> {
        let text = self.text(key, node)?;
        match text.value.parse() {
            Ok(name) => Some(Marked::new(name, text.place)),
            Err(error) => {
                let message = format!("`{}` is not {}", shortened(&error.text), error.wanted);
                let problem = self.source.error(text.place, message);
                self.problems.push(problem.hint(error.rule));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn truth(&mut self, key: &str, node: &Node) -> Option<bool> {
        let truth = node.scalar().and_then(|scalar| scalar.as_bool());
        if truth.is_none() {
            self.unfit(key, node, "`true` or `false`");
        }
        truth
    }

    /// A whole number in a range.
    pub fn count(&mut self, key: &str, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let number = node.scalar().and_then(|scalar| scalar.as_number()).and_then(|number| number.as_u64());
        let count = number.filter(|number| range.contains(number));
        if count.is_none() {
            let wanted = match (*range.start(), *range.end()) {
                (start, u64::MAX) => format!("a whole number, {start} or more"),
                (start, end) => format!("a whole number from {start} to {end}"),
            };
            self.unfit(key, node, &wanted);
        }
        count
    }

    /// A number, perhaps with a fraction; also in quotes.
    pub fn number(&mut self, key: &str, node: &Node, range: RangeInclusive<f64>) -> Option<f64> {
        let number = node.scalar().and_then(|scalar| scalar.text.trim().parse::<f64>().ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.unfit(key, node, &format!("a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, key: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key, node)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known = || words.iter().map(|(word, _)| *word);
            let problem = self.source.error(text.place, format!("`{key}` is `{}`", shortened(&text.value)));
            let problem = problem.expecting(quoted_choice(known())).nearest(&text.value, known());
            self.problems.push(problem);
        }
        found.map(|(_, value)| *value)
    }

    /// A duration in ms, more than nothing.
    pub fn duration_ms(&mut self, key: &str, node: &Node) -> Option<u64> {
        let ms = self.wait_ms(key, node)?;
        if ms == 0 {
            self.unfit(key, node, "more than nothing");
        }
        (ms > 0).then_some(ms)
    }

    /// A duration in ms, perhaps none at all.
    pub fn wait_ms(&mut self, key: &str, node: &Node) -> Option<u64> {
        let text = self.text(key, node)?;
        match parse_duration(&text.value) {
            Ok(duration) => Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            Err(error) => {
                let message = format!("`{key}` is `{}`, which is not a duration", shortened(&text.value));
                let hint = error.hint();
                self.problems.push(self.source.error(text.place, message).expecting(error.rule).hint(hint));
                None
            }
        }
    }

    /// A number of bytes.
    pub fn bytes(&mut self, key: &str, node: &Node) -> Option<u64> {
        let text = self.text(key, node)?;
        match parse_size(&text.value) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("`{key}` is `{}`, which is not a size", shortened(&text.value));
                let hint = error.hint();
                self.problems.push(self.source.error(text.place, message).expecting(error.rule).hint(hint));
                None
            }
        }
    }

    /// The parts of a list.
    pub fn list<'n>(&mut self, key: &str, node: &'n Node) -> Option<&'n [Node]> {
        match &node.content {
            NodeContent::List(items) => Some(items),
            _ => {
                self.unfit(key, node, "a list");
                None
            }
        }
    }

    /// One value or a list of them.
    pub fn one_or_many<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.content {
            NodeContent::List(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str, node: &Node) -> Vec<Marked<String>> {
        let items = self.list(key, node).unwrap_or_default();
        items.iter().filter_map(|item| self.text(key, item)).collect()
    }

    /// The entries of a map with keys of the user's own.
    pub fn entries<'n>(&mut self, key: &str, node: &'n Node) -> &'n [Entry] {
        match &node.content {
            NodeContent::Map(entries) => entries,
            _ => {
                self.unfit(key, node, "a map");
                &[]
            }
        }
    }

    /// Some of several words, each at most once.
    pub fn words<T: Copy + Eq + std::hash::Hash>(
        &mut self,
        key: &str,
        node: &Node,
        words: &[(&str, T)],
    ) -> Vec<T> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for item in self.one_or_many(node) {
            if let Some(word) = self.word(key, item, words)
                && seen.insert(word)
            {
                found.push(word);
            }
        }
        found
    }
}

/// Longest part of a user's text that is repeated in a message.
const REPEATED_CHARACTERS_MAX: usize = 60;

/// A text short enough for a message, on one line.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= REPEATED_CHARACTERS_MAX {
        return line;
    }
    line.chars().take(REPEATED_CHARACTERS_MAX).chain(['…']).collect()
}

/// `` `a`, `b`, `c` ``
pub(crate) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// `` `a`, `b` or `c` ``
fn quoted_choice<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [init @ .., last] if !init.is_empty() => format!("{} or {last}", init.join(", ")),
        _ => words.concat(),
    }
}
