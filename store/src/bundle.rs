//! Joins a script with the parts it shares with others, so that setting it up costs little.
//!
//! Redis runs a script's text from its top each time it is called: every function that is declared is made
//! again, and what is made is garbage afterwards. For a `step` of a single task that was a quarter of all.
//! So constants become their values, and each part holds all that follows it (see `nest`). What a script
//! means is not changed; `scripts/` is what people read.

use std::collections::{BTreeMap, BTreeSet};

/// Most names that a function may share with those around it. Lua allows 60.
const SHARED_NAMES_MAX: usize = 58;

/// The shared parts, taken apart once for all scripts.
pub(crate) struct Bundler {
    constants: BTreeMap<String, String>,
    parts: BTreeMap<String, PreparedText>,
}

/// A text as it goes into a script.
struct PreparedText {
    text: String,
    /// Names it declares for all that follows.
    declared: Vec<String>,
    used: BTreeSet<String>,
}

impl Bundler {
    /// Prepares parts that scripts may share.
    ///
    /// # Panics
    /// If two parts give one constant different values.
    pub(crate) fn new(parts: &[String]) -> Bundler {
        let mut constants = BTreeMap::new();
        parts.iter().for_each(|part| add_constants(&mut constants, part));
        let prepared = parts.iter().map(|part| (part.clone(), PreparedText::new(part, &constants)));
        let parts = prepared.collect();
        Bundler { constants, parts }
    }

    /// Puts shared parts between a script's first line, which Redis reads, and its text.
    ///
    /// # Panics
    /// If a part is not one of those that were prepared, or the script gives a constant of theirs another
    /// value.
    pub(crate) fn bundle(&self, parts: &[String], script: &str) -> String {
        let (first, body) = script.split_once('\n').expect("a script has more than one line");
        let mut constants = self.constants.clone();
        add_constants(&mut constants, body);
        let body = PreparedText::new(body, &constants);
        let texts: Vec<&PreparedText> =
            parts.iter().map(|part| self.parts.get(part).expect("it was prepared")).chain([&body]).collect();
        format!("{first}\n{}", nest(&texts))
    }
}

impl PreparedText {
    fn new(text: &str, constants: &BTreeMap<String, String>) -> PreparedText {
        let text = with_values(text, constants);
        let declared = text.lines().flat_map(declared_names).map(str::to_owned).collect();
        let mut used = BTreeSet::new();
        for name in used_names(&text) {
            if !used.contains(name) {
                used.insert(name.to_owned());
            }
        }
        PreparedText { text, declared, used }
    }
}

fn add_constants(constants: &mut BTreeMap<String, String>, text: &str) {
    for (name, value) in text.lines().filter_map(declared_constants).flatten() {
        let known = constants.insert(name.to_owned(), value.to_owned());
        let same = known.as_deref().is_none_or(|known| known == value);
        assert!(same, "`{name}` has two values: `{value}` and {known:?}");
    }
}

/// Names and values of a line like `local A, B = 1, 'b'`; names of constants are in capitals.
fn declared_constants(line: &str) -> Option<Vec<(&str, &str)>> {
    let (names, values) = line.strip_prefix("local ")?.split_once(" = ")?;
    let names: Vec<&str> = names.split(", ").collect();
    let values: Vec<&str> = values.split(", ").collect();
    let is_name = |name: &&str| {
        name.starts_with(|letter: char| letter.is_ascii_uppercase())
            && name
                .chars()
                .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
    };
    let is_text = |value: &str| {
        let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        inner.is_some_and(|inner| inner.chars().all(|letter| letter.is_ascii_alphanumeric()))
    };
    let is_value = |value: &&str| value.parse::<u64>().is_ok() || is_text(value);
    let lawful = names.len() == values.len() && names.iter().all(is_name) && values.iter().all(is_value);
    lawful.then(|| names.into_iter().zip(values).collect())
}

/// A text with its constants replaced by their values, and without comments; lines keep their numbers.
fn with_values(text: &str, constants: &BTreeMap<String, String>) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        if declared_constants(line).is_none() {
            for (kind, piece) in pieces(line) {
                match kind {
                    Piece::Name => shown.push_str(constants.get(piece).map_or(piece, String::as_str)),
                    Piece::Other => shown.push_str(piece),
                    Piece::Comment => {}
                }
            }
        }
        shown.truncate(shown.trim_end_matches(' ').len());
        shown.push('\n');
    }
    shown
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A name that is no field of something.
    Name,
    Comment,
    Other,
}

/// Takes a line apart. Texts and comments of more than one line are not used in scripts.
fn pieces(line: &str) -> Vec<(Piece, &str)> {
    let mut pieces = Vec::new();
    let mut rest = line;
    let mut is_field = false;
    while let Some(first) = rest.chars().next() {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (kind, length) = if rest.starts_with("--") {
            (Piece::Comment, rest.len())
        } else if is_letter(first) {
            let length = rest.find(|letter| !is_letter(letter)).unwrap_or(rest.len());
            (if is_field { Piece::Other } else { Piece::Name }, length)
        } else if first == '\'' || first == '"' {
            (Piece::Other, length_of_text(rest, first))
        } else {
            (Piece::Other, first.len_utf8())
        };
        // `a.b`, but not `a .. b`.
        is_field = first == '.' && !line[..line.len() - rest.len()].ends_with('.');
        pieces.push((kind, &rest[..length]));
        rest = &rest[length..];
    }
    pieces
}

fn length_of_text(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return place + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Lets each text end with a tail call of a function that holds all that follows.
///
/// Lua finds what a closure shares with its own function by a walk along all that is shared there, and what
/// it shares with an outer one at once. Where more names would have to be shared than Lua allows, two texts
/// stay side by side.
fn nest(texts: &[&PreparedText]) -> String {
    let mut nested = String::with_capacity(texts.iter().map(|text| text.text.len() + 32).sum());
    let mut declared = BTreeSet::new();
    let mut open = 0;
    for (place, text) in texts.iter().enumerate() {
        nested.push_str(&text.text);
        let Some(following) = texts.get(place + 1..).filter(|following| !following.is_empty()) else { break };
        declared.extend(&text.declared);
        let is_used = |name: &&&String| following.iter().any(|text| text.used.contains(name.as_str()));
        if declared.iter().filter(is_used).count() <= SHARED_NAMES_MAX {
            nested.push_str("return (function()\n");
            open += 1;
        }
    }
    nested.push_str(&"\nend)()".repeat(open));
    nested
}

/// Names that a line declares for all that follows: those at its margin.
fn declared_names(line: &str) -> Vec<&str> {
    let Some(rest) = line.strip_prefix("local ") else { return Vec::new() };
    if let Some(function) = rest.strip_prefix("function ") {
        return function.split('(').take(1).collect();
    }
    rest.split(" = ").take(1).flat_map(|names| names.split(", ")).map(str::trim).collect()
}

fn used_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(pieces).filter(|(kind, _)| *kind == Piece::Name).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(parts: &[String], script: &str) -> String {
        Bundler::new(parts).bundle(parts, script)
    }

    #[test]
    fn constants_become_their_values_and_comments_go() {
        let parts = ["local MOST, WORD = 12, 'x'\nlocal kept = { MOST }\n".to_owned()];
        let script = "#!lua\n-- MOST of it\nreturn f(MOST, r.MOST, 'MOST', a..MOST, MOSTLY, WORD) -- end\n";
        let expected = "#!lua\n\nlocal kept = { 12 }\nreturn (function()\n\n\
                        return f(12, r.MOST, 'MOST', a..12, MOSTLY, 'x')\n\nend)()";
        assert_eq!(bundle(&parts, script), expected);
    }

    #[test]
    fn what_shares_too_many_names_stays_side_by_side() {
        let names: Vec<String> = (0..=SHARED_NAMES_MAX).map(|number| format!("n{number}")).collect();
        let parts = [format!("local {}\n", names.join(", "))];
        let script = format!("#!lua\nreturn f({})\n", names.join(", "));
        assert!(!bundle(&parts, &script).contains("function()"));
        let script = format!("#!lua\nreturn f({})\n", names[1..].join(", "));
        assert!(bundle(&parts, &script).contains("function()"));
    }

    #[test]
    #[should_panic(expected = "has two values")]
    fn a_constant_has_one_value() {
        bundle(&["local A = 1\n".to_owned(), "local A = 2\n".to_owned()], "#!lua\nreturn A\n");
    }
}
