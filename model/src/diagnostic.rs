//! What is wrong in a file, shown with its line and a mark.
//!
//! A diagnostic carries everything needed to show it: whoever prints it needs neither the file nor
//! this crate's readers. Finding what is wrong is the readers' business (`yaml`, `agent_file`, `workflow`).

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// Most diagnostics shown at once; the rest is counted.
pub const DIAGNOSTICS_SHOWN_MAX: usize = 50;
/// Most diagnostics kept while a file is read, so that a hopeless file costs no memory to speak of.
pub const DIAGNOSTICS_KEPT_MAX: usize = 1_000;
/// Most of these that may be warnings, so that they leave room for errors.
pub const WARNINGS_KEPT_MAX: usize = 100;
/// Longest source line shown, in characters; of a longer one the part around the mark.
pub const SOURCE_LINE_CHARACTERS_MAX: usize = 120;
/// So many letters may hold one slip.
const LETTERS_PER_SLIP: usize = 3;

/// A text with its name and the places of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceText {
    /// Takes a text and the name under which it is shown. A byte order mark at its start is left out.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> SourceText {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(place, _)| place + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        SourceText { name: name.into(), text, line_starts }
    }

    /// Takes the bytes of a file.
    ///
    /// # Errors
    /// If they are not UTF-8, with a mark where that begins.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<SourceText, Diagnostics> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceText::new(name, text)),
            Err(error) => {
                let lawful = error.utf8_error().valid_up_to();
                let shown = SourceText::new(name, String::from_utf8_lossy(error.as_bytes()));
                let place = lawful.min(shown.text.len());
                let problem = shown
                    .error(place..place, "the file is not UTF-8")
                    .expecting("a byte that is no part of a character")
                    .hint("save it as UTF-8");
                Err(Diagnostics::from(problem))
            }
        }
    }

    /// The name under which it is shown.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line (from 1) that a byte lies in.
    pub fn line_of(&self, place: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= place)
    }

    /// An error at a range of bytes.
    pub fn error(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, range, message.into())
    }

    /// A warning at a range of bytes.
    pub fn warning(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, range, message.into())
    }

    fn diagnostic(&self, severity: Severity, range: Range<usize>, message: String) -> Diagnostic {
        let start = self.text.floor_char_boundary_of(range.start);
        let line = self.line_of(start);
        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let whole = self.text[line_start..line_end].trim_end_matches(['\n', '\r']);
        let mark_start = (start - line_start).min(whole.len());
        let wanted_end = self.text.floor_char_boundary_of(range.end.max(range.start));
        let mark_end = (wanted_end - line_start).clamp(mark_start, whole.len().max(mark_start));
        let column = whole[..mark_start].chars().count() + 1;
        let (source_line, mark) = clip(whole, mark_start..mark_end);
        Diagnostic {
            severity,
            file: self.name.clone(),
            line,
            column,
            message,
            expected: None,
            nearest: None,
            hint: None,
            source_line,
            mark,
        }
    }
}

trait CharBoundary {
    fn floor_char_boundary_of(&self, place: usize) -> usize;
}

impl CharBoundary for str {
    fn floor_char_boundary_of(&self, place: usize) -> usize {
        let mut place = place.min(self.len());
        while !self.is_char_boundary(place) {
            place -= 1;
        }
        place
    }
}

/// The part of a line around a mark, and the mark in it. Control characters become spaces of the same
/// number of bytes, so that a terminal shows the mark where it belongs.
fn clip(line: &str, mark: Range<usize>) -> (String, Range<usize>) {
    let plain: String = line
        .chars()
        .flat_map(|letter| {
            let (letter, times) = if letter.is_control() { (' ', letter.len_utf8()) } else { (letter, 1) };
            std::iter::repeat_n(letter, times)
        })
        .collect();
    if plain.chars().count() <= SOURCE_LINE_CHARACTERS_MAX {
        return (plain, mark);
    }
    let before = plain[..mark.start].char_indices().rev().nth(SOURCE_LINE_CHARACTERS_MAX / 3);
    let from = before.map_or(0, |(place, _)| place);
    let after = plain[from..].char_indices().nth(SOURCE_LINE_CHARACTERS_MAX);
    let to = after.map_or(plain.len(), |(place, _)| from + place);
    let (lead, tail) = (if from > 0 { "…" } else { "" }, if to < plain.len() { "…" } else { "" });
    let shift = |place: usize| place.clamp(from, to) - from + lead.len();
    (format!("{lead}{}{tail}", &plain[from..to]), shift(mark.start)..shift(mark.end))
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but probably not as meant.
    Warning,
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name as the user gave it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong, with what was found.
    pub message: String,
    /// What was expected there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The nearest known name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself, or of a very long one the part around the mark.
    pub source_line: String,
    /// The bytes of `source_line` that are marked.
    pub mark: Range<usize>,
}

impl Diagnostic {
    /// Says what was expected at the mark.
    #[must_use]
    pub fn expecting(mut self, expected: impl Into<String>) -> Diagnostic {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Names the known name that is nearest to the one found, if any is near.
    #[must_use]
    pub fn nearest<'a>(mut self, found: &str, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        self.nearest = nearest_name(found, known).map(str::to_owned);
        self
    }

    /// The hint as shown: the nearest name stands before any other advice.
    fn advice(&self) -> Option<String> {
        match (&self.nearest, &self.hint) {
            (Some(nearest), None) => Some(format!("did you mean `{nearest}`?")),
            (Some(nearest), Some(hint)) => Some(format!("did you mean `{nearest}`? {hint}")),
            (None, hint) => hint.clone(),
        }
    }

    /// Shows it with its line and mark, without an end of line.
    pub fn render(&self, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mark = AnnotationKind::Primary.span(self.mark.clone()).label(self.expected.as_deref());
        let snippet = Snippet::source(self.source_line.as_str())
            .line_start(self.line)
            .path(self.file.as_str())
            .fold(false)
            .annotation(mark);
        let advice = self.advice();
        let mut group = level.primary_title(self.message.as_str()).element(snippet);
        if let Some(advice) = &advice {
            group = group.element(Level::HELP.with_name("hint").message(advice.as_str()));
        }
        self.with_true_column(render_group(group, colour))
    }

    /// The renderer counts the column in the line it is given. If that was cut at its start, it is
    /// another than in the file, and a second element with the true one would be shown as a second file.
    fn with_true_column(&self, rendered: String) -> String {
        let shown = self.source_line[..self.mark.start].chars().count() + 1;
        if shown == self.column {
            return rendered;
        }
        let place = |column: usize| format!("{}:{}:{column}", self.file, self.line);
        rendered.replacen(&place(shown), &place(self.column), 1)
    }
}

fn render_group(group: Group<'_>, colour: Colour) -> String {
    let renderer = match colour {
        Colour::Plain => Renderer::plain(),
        Colour::Styled => Renderer::styled(),
    };
    // Lines are clipped already, to the mark and not to the terminal.
    renderer.decor_style(DecorStyle::Ascii).term_width(usize::from(u16::MAX)).render(&[group])
}

/// Whether terminal colours are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colour {
    /// No escape sequences.
    #[default]
    Plain,
    /// ANSI escape sequences.
    Styled,
}

/// All that is wrong in a file, as far as one reading finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// In order of their place once `sorted`.
    pub list: Vec<Diagnostic>,
    /// How many more there were than are kept.
    pub left_out: usize,
    /// How many errors there are, kept or not.
    errors: usize,
    /// How many warnings are kept.
    warnings: usize,
}

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let room = match diagnostic.severity {
            Severity::Error => {
                self.errors += 1;
                self.list.len() < DIAGNOSTICS_KEPT_MAX
            }
            Severity::Warning => self.warnings < WARNINGS_KEPT_MAX && self.list.len() < DIAGNOSTICS_KEPT_MAX,
        };
        if !room {
            self.left_out += 1;
            return;
        }
        self.warnings += usize::from(diagnostic.severity == Severity::Warning);
        self.list.push(diagnostic);
    }

    /// Whether nothing is wrong at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether anything forbids using the file.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The same in the order of the file, errors and warnings mixed.
    #[must_use]
    pub fn sorted(mut self) -> Diagnostics {
        self.list.sort_by_key(|one| (one.line, one.column));
        self
    }

    /// Shows the first `DIAGNOSTICS_SHOWN_MAX` of them, with a blank line between two, and counts the rest.
    pub fn render(&self, colour: Colour) -> String {
        let shown = self.list.iter().take(DIAGNOSTICS_SHOWN_MAX).map(|one| one.render(colour));
        let mut text = shown.collect::<Vec<_>>().join("\n\n");
        let more = self.list.len().saturating_sub(DIAGNOSTICS_SHOWN_MAX) + self.left_out;
        if more > 0 {
            text.push_str(&format!("\n\n... and {more} more"));
        }
        text
    }

    /// The same as data, `{"diagnostics": [...], "more": n}`, with the same limit.
    pub fn to_json(&self) -> serde_json::Value {
        let shown: Vec<&Diagnostic> = self.list.iter().take(DIAGNOSTICS_SHOWN_MAX).collect();
        let more = self.list.len() - shown.len() + self.left_out;
        serde_json::json!({ "diagnostics": shown, "more": more })
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Diagnostics {
        let mut all = Diagnostics::default();
        all.push(one);
        all
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(Colour::Plain))
    }
}

impl std::error::Error for Diagnostics {}

/// The known name nearest to one that is not known, if it is near enough to be a slip of the hand: a
/// third of the letters may be wrong, at least one, or the end is missing.
pub fn nearest_name<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = found.to_lowercase();
    let letters = lower.chars().count();
    let far = (letters / LETTERS_PER_SLIP).max(1);
    let distance = |name: &str| {
        let name = name.to_lowercase();
        if letters >= LETTERS_PER_SLIP && name.starts_with(&lower) {
            return Some(far);
        }
        // A name much longer or shorter cannot be near: its edits are not counted.
        let near = name.len().abs_diff(lower.len()) <= far * 4;
        let edits = near.then(|| strsim::damerau_levenshtein(&lower, &name))?;
        (edits <= far && edits < name.chars().count()).then_some(edits)
    };
    let found = known.into_iter().filter_map(|name| distance(name).map(|edits| (edits, name))).min();
    found.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_under_what_it_means() {
        let source = SourceText::new("demo.yaml", "name: demo\nsteps:\n  - promt: größe\n");
        let problem =
            source.error(22..27, "unknown key `promt` in a step").nearest("promt", ["id", "prompt", "agent"]);
        insta::assert_snapshot!(problem.render(Colour::Plain), @r"
        error: unknown key `promt` in a step
         --> demo.yaml:3:5
          |
        3 |   - promt: größe
          |     ^^^^^
          |
          = hint: did you mean `prompt`?
        ");
        assert!(problem.render(Colour::Styled).contains('\u{1b}'));
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark_and_keeps_its_column() {
        let source =
            SourceText::new("demo.yaml", format!("prompt: {}ERROR{}", "ä".repeat(500), "b".repeat(500)));
        let place = source.text().find("ERROR").expect("it is there");
        let problem = source.error(place..place + 5, "wrong");
        assert_eq!(problem.column, 509);
        assert_eq!(&problem.source_line[problem.mark.clone()], "ERROR");
        assert!(problem.source_line.chars().count() <= SOURCE_LINE_CHARACTERS_MAX + 2);
        assert!(problem.render(Colour::Plain).contains("demo.yaml:1:509"));
    }

    #[test]
    fn a_mark_outside_the_text_or_inside_a_character_is_moved_not_refused() {
        let source = SourceText::new("demo.yaml", "ä\n");
        for range in [0..0, 1..2, 3..3, 90..100] {
            assert!(source.error(range, "wrong").render(Colour::Plain).contains("wrong"));
        }
    }

    #[test]
    fn only_the_first_are_shown_and_the_rest_is_counted() {
        let source = SourceText::new("demo.yaml", "a: 1\n");
        let mut all = Diagnostics::default();
        for number in 0..DIAGNOSTICS_KEPT_MAX + 7 {
            all.push(source.error(0..1, format!("problem {number}")));
        }
        let text = all.render(Colour::Plain);
        assert_eq!(text.matches("error: ").count(), DIAGNOSTICS_SHOWN_MAX);
        assert!(text.ends_with("... and 957 more"));
        assert_eq!(all.to_json()["more"], 957);
    }

    #[test]
    fn many_warnings_are_no_error_and_leave_room_for_one() {
        let source = SourceText::new("demo.yaml", "a: 1\n");
        let mut all = Diagnostics::default();
        for _ in 0..DIAGNOSTICS_KEPT_MAX * 2 {
            all.push(source.warning(0..1, "odd"));
        }
        assert!(!all.has_errors());
        all.push(source.error(0..1, "wrong"));
        assert!(all.has_errors());
        assert_eq!(all.list.last().map(|one| one.severity), Some(Severity::Error));
    }

    #[test]
    fn a_file_that_is_not_text_is_refused_where_it_stops_being_text() {
        let problem =
            SourceText::from_bytes("demo.yaml", b"a: 1\nb: \xff\xfe\n".to_vec()).expect_err("not UTF-8");
        assert_eq!((problem.list[0].line, problem.list[0].column), (2, 4));
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["depends_on", "on_success", "on_failure", "prompt", "id", "when", "file"];
        for (found, nearest) in [
            ("promt", Some("prompt")),
            ("depend_on", Some("depends_on")),
            ("onsuccess", Some("on_success")),
            ("Prompt", Some("prompt")),
            ("wehn", Some("when")),
            ("colour", None),
            ("pipe", None),
            ("depends", Some("depends_on")),
            ("x", None),
        ] {
            assert_eq!(nearest_name(found, known), nearest, "{found}");
        }
    }
}
