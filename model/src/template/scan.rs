//! Where in a text the expressions are: `<<` counts only if a known root follows.
//!
//! Here-documents, shifts and merge keys stay as they are, and so does everything that only looks like an
//! expression; what looks *much* like one is kept as a suspicion, which the validator makes an error.

use super::expression::Expression;
use super::names::{Root, nearest};
use super::problem::TemplateError;
use super::tokens::word_length;

/// How far behind its beginning a slip is looked for the end it would have, bytes. Long lines of code cost no
/// more than short ones.
const SLIP_BYTES_MAX: usize = 400;
/// How many slips of one text are kept. Who has seen these has something to do.
const SLIPS_MAX: usize = 20;

/// A part of a template.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Written as it is.
    Text(String),
    /// Worked out.
    Expression(Expression),
}

/// What a text is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Scanned {
    pub(super) parts: Vec<Part>,
    pub(super) suspicions: Vec<TemplateError>,
}

/// Whether a text certainly holds no expression and no escape, so that rendering would give it back
/// unchanged. This is the cheap question, for texts that need not be kept as a template.
pub fn is_plain_text(text: &str) -> bool {
    next_mark(text.as_bytes(), 0).is_none()
}

/// Takes a text apart.
pub(super) fn scan(text: &str) -> Result<Scanned, TemplateError> {
    let mut scanner = Scanner { text, literal: String::new(), kept_from: 0, scanned: Scanned::default() };
    let mut at = 0;
    while let Some(mark) = next_mark(text.as_bytes(), at) {
        at = if text.as_bytes()[mark] == b'<' { scanner.on_angles(mark)? } else { scanner.on_braces(mark) };
    }
    scanner.keep_until(text.len(), text.len());
    scanner.end_literal();
    Ok(scanner.scanned)
}

/// The next `<<` or `{{`.
fn next_mark(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'<' | b'{'))?;
        if bytes.get(at + 1) == Some(&bytes[at]) {
            return Some(at);
        }
        at += 1;
    }
}

struct Scanner<'t> {
    text: &'t str,
    /// The text since the last expression, as far as it has been kept.
    literal: String,
    /// Where the text that has not been kept yet begins.
    kept_from: usize,
    scanned: Scanned,
}

impl Scanner<'_> {
    /// Keeps the text up to `end` and goes on from `next`.
    fn keep_until(&mut self, end: usize, next: usize) {
        self.literal.push_str(&self.text[self.kept_from..end]);
        self.kept_from = next;
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.scanned.parts.push(Part::Text(std::mem::take(&mut self.literal)));
        }
    }

    fn is_escaped(&self, mark: usize) -> bool {
        mark > self.kept_from && self.text.as_bytes()[mark - 1] == b'\\'
    }

    /// Two or more `<`. Gives where to look next.
    fn on_angles(&mut self, mark: usize) -> Result<usize, TemplateError> {
        let count = self.text[mark..].bytes().take_while(|byte| *byte == b'<').count();
        if self.is_escaped(mark) {
            self.keep_until(mark - 1, mark);
            return Ok(mark + count);
        }
        // `<<<` is the shell's here-string: `grep x <<< state` is no expression.
        if count > 2 {
            return Ok(mark + count);
        }
        let Some(root_at) = word_at(self.text, mark + 2) else {
            let suspicion = self.bracket_suspicion(mark);
            self.keep_suspicion(suspicion);
            return Ok(mark + 2);
        };
        let word = whole_word(self.text, root_at);
        if Root::from_word(word).is_none() {
            let suspicion = self.suspicion(mark, root_at, word);
            self.keep_suspicion(suspicion);
            return Ok(mark + 2);
        }
        let (expression, end) = Expression::parse_marked(self.text, mark)?;
        self.keep_until(mark, end);
        self.end_literal();
        self.scanned.parts.push(Part::Expression(expression));
        Ok(end)
    }

    fn keep_suspicion(&mut self, suspicion: Option<TemplateError>) {
        if self.scanned.suspicions.len() < SLIPS_MAX {
            self.scanned.suspicions.extend(suspicion);
        }
    }

    /// What was perhaps meant as an expression but begins with a bracket: `<< (vars.a or vars.b) >>`.
    fn bracket_suspicion(&self, mark: usize) -> Option<TemplateError> {
        let closed = closed_on_line(self.text, mark, ">>")?;
        let inside = self.text[mark + 2..].trim_start().trim_start_matches('(').trim_start();
        let start = self.text.len() - inside.len();
        let word = whole_word(self.text, start);
        if start == word_at(self.text, mark + 2).unwrap_or(start + 1) || Root::from_word(word).is_none() {
            return None;
        }
        let message = "expected a name first, found `(`, so this is no expression but plain text";
        let hint = format!("begin with `<< {word}`; write `\\<<` for a plain `<<`");
        Some(TemplateError::new(mark..closed, message).with_hint(hint))
    }

    /// What was perhaps meant as an expression: `<< sate.x >>`, or `<< not vars.x >>`.
    fn suspicion(&self, mark: usize, word_start: usize, word: &str) -> Option<TemplateError> {
        let closed = closed_on_line(self.text, mark, ">>")?;
        let behind = &self.text[word_start + word.len()..];
        if word == "not" {
            let root = whole_word(self.text, word_at(self.text, word_start + word.len())?);
            Root::from_word(root)?;
            let message = "expected a name first, found `not`, so this is no expression but plain text";
            let hint = format!("write `<< {root}… == false >>`; write `\\<<` for a plain `<<`");
            return Some(TemplateError::new(mark..closed, message).with_hint(hint));
        }
        if !behind.starts_with(['.', '[']) {
            return None;
        }
        let near = nearest(word, Root::ALL.into_iter().map(Root::word))?;
        let message = format!("unknown name `{word}`, so this is no expression but plain text");
        let hint = format!("did you mean `<< {near}{}`? write `\\<<` for a plain `<<`", &behind[..1]);
        Some(TemplateError::new(word_start..word_start + word.len(), message).with_hint(hint))
    }

    /// Two or more `{`. Gives where to look next.
    fn on_braces(&mut self, mark: usize) -> usize {
        let Some(end) = foreign_expression(self.text, mark) else { return mark + 1 };
        if self.is_escaped(mark) {
            self.keep_until(mark - 1, mark);
            return mark + 2;
        }
        let inner = self.text[mark + 2..end - 2].trim();
        let message = "`{{ }}` does not mark an expression, so this is plain text";
        let hint = format!("write `<< {inner} >>`; write `\\{{{{` for a plain `{{{{`");
        self.keep_suspicion(Some(TemplateError::new(mark..end, message).with_hint(hint)));
        mark + 2
    }
}

/// The end of a `{{ root… }}` that begins at `mark`. A root followed by `:` or `,` is code of another
/// language, `style={{ item: 1 }}`.
fn foreign_expression(text: &str, mark: usize) -> Option<usize> {
    let start = word_at(text, mark + 2)?;
    let word = whole_word(text, start);
    Root::from_word(word)?;
    let behind = text[start + word.len()..].trim_start();
    if behind.starts_with([':', ',']) {
        return None;
    }
    closed_on_line(text, mark, "}}")
}

/// The end of the closing marks on the same line, without which nothing looks like an expression.
fn closed_on_line(text: &str, mark: usize, closing: &str) -> Option<usize> {
    let near = text.as_bytes()[mark..].iter().take(SLIP_BYTES_MAX).take_while(|byte| **byte != b'\n').count();
    let line = &text.as_bytes()[mark..mark + near];
    let close = line.windows(2).position(|pair| pair == closing.as_bytes())?;
    Some(mark + close + 2)
}

/// Where the next thing behind white space is a word.
fn word_at(text: &str, from: usize) -> Option<usize> {
    let rest = text[from..].trim_start();
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then(|| text.len() - rest.len())
}

/// The word at `start` with all that belongs to it: `env-file` is one word, and not the root `env`.
fn whole_word(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    let mut length = word_length(rest);
    while rest[length..].starts_with('-') && word_length(&rest[length + 1..]) > 0 {
        length += 1 + word_length(&rest[length + 1..]);
    }
    // A letter of another script goes on with the word.
    if rest[length..].starts_with(char::is_alphanumeric) {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        return &rest[..end.max(length)];
    }
    &rest[..length]
}
