//! The words of one expression, and where it ends.
//!
//! This reads what minijinja reads, with one difference: after a dot a name may hold `-`, as the ids of steps
//! do. What the words mean is for `analysis`.

use std::ops::Range;

use super::problem::TemplateError;

/// The longest expression, bytes.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// The most operators, filters, dots and opening brackets in one expression. It bounds how deep an expression can be,
/// and with that the stack it takes to read one.
pub const EXPRESSION_OPERATORS_MAX: usize = 200;
/// How deep brackets may stand in brackets. minijinja takes a dozen calls for each level.
pub const EXPRESSION_DEPTH_MAX: usize = 16;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A word: a root, a keyword, a filter, or what follows a dot.
    Word,
    /// A number.
    Number,
    /// A quoted text.
    Quoted,
    /// An operator or bracket.
    Sign,
}

/// One token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
}

/// Where an expression ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpressionEnd {
    /// At the next `>>` outside quotes; the opening `<<` stands at this byte.
    Marked {
        /// Where the `<<` stands.
        opened_at: usize,
    },
    /// With the text.
    WithText,
}

/// The signs of two characters, which are looked for first.
const LONG_SIGNS: [&str; 6] = ["//", "**", "==", "!=", ">=", "<="];
/// The signs of one character.
const SHORT_SIGNS: &str = "+-*/%.,:~|=><()[]{}";

/// The words that are operators.
pub(super) const KEYWORDS: [&str; 7] = ["and", "or", "not", "in", "is", "if", "else"];

/// What is written in other languages, and what is meant.
const FOREIGN: [(&str, &str); 5] =
    [("&&", "and"), ("||", "or"), ("??", "| default('…')"), ("!", "not"), ("?", "a if condition else b")];

/// Reads an expression that begins at `start`. Gives its tokens and the byte behind it, with its `>>`.
pub(super) fn read_tokens(
    text: &str,
    start: usize,
    ending: ExpressionEnd,
) -> Result<(Vec<Token>, usize), TemplateError> {
    let mut reader = Reader { text, at: start, start, ending, tokens: Vec::new(), operators: 0 };
    while !reader.has_ended()? {
        reader.read_token()?;
    }
    Ok((reader.tokens, reader.at))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    start: usize,
    ending: ExpressionEnd,
    tokens: Vec<Token>,
    operators: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Skips white space and, at the end, the closing marks.
    fn has_ended(&mut self) -> Result<bool, TemplateError> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        if self.at - self.start > EXPRESSION_BYTES_MAX {
            let message = format!("the expression has more than {EXPRESSION_BYTES_MAX} bytes");
            return Err(TemplateError::new(self.start..self.at, message));
        }
        let rest = self.rest();
        match self.ending {
            ExpressionEnd::WithText => Ok(rest.is_empty()),
            ExpressionEnd::Marked { .. } if rest.starts_with(">>") => {
                self.at += 2;
                Ok(true)
            }
            ExpressionEnd::Marked { opened_at } if rest.is_empty() || rest.starts_with("<<") => {
                Err(not_closed(self.text, opened_at))
            }
            ExpressionEnd::Marked { .. } => Ok(false),
        }
    }

    fn read_token(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        let first = rest.chars().next().expect("the expression has not ended");
        let behind_dot = self.tokens.last().is_some_and(|token| &self.text[token.span.clone()] == ".");
        let (kind, length) = if behind_dot && (first.is_ascii_alphanumeric() || first == '_') {
            (TokenKind::Word, dotted_word_length(rest))
        } else if first.is_ascii_alphabetic() || first == '_' {
            (TokenKind::Word, word_length(rest))
        } else if first.is_ascii_digit() {
            (TokenKind::Number, number_length(rest))
        } else if first == '\'' || first == '"' {
            (TokenKind::Quoted, self.quoted_length(first)?)
        } else {
            (TokenKind::Sign, self.sign_length(first)?)
        };
        let span = self.at..self.at + length;
        if nests(kind, &self.text[span.clone()]) {
            self.operators += 1;
        }
        if self.operators > EXPRESSION_OPERATORS_MAX {
            let message = format!("the expression has more than {EXPRESSION_OPERATORS_MAX} operators");
            return Err(TemplateError::new(self.start..span.end, message));
        }
        self.at = span.end;
        self.tokens.push(Token { kind, span });
        Ok(())
    }

    fn quoted_length(&self, quote: char) -> Result<usize, TemplateError> {
        let mut escaped = false;
        for (place, character) in self.rest().char_indices().skip(1) {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == quote => return Ok(place + 1),
                _ => {}
            }
        }
        let line_end = self.rest().find('\n').map_or(self.text.len(), |place| self.at + place);
        let error =
            TemplateError::new(self.at..line_end, format!("the text that begins with `{quote}` has no end"));
        Err(match self.ending {
            ExpressionEnd::Marked { .. } => error.with_hint(PLAIN_MARKS_HINT),
            ExpressionEnd::WithText => error,
        })
    }

    fn sign_length(&self, first: char) -> Result<usize, TemplateError> {
        let rest = self.rest();
        if let Some(sign) = LONG_SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            return Ok(sign.len());
        }
        let foreign = FOREIGN.into_iter().find(|(sign, _)| rest.starts_with(sign));
        if foreign.is_none() && SHORT_SIGNS.contains(first) {
            return Ok(1);
        }
        let length = foreign.map_or(first.len_utf8(), |(sign, _)| sign.len());
        let found = &rest[..length];
        let error = TemplateError::new(
            self.at..self.at + length,
            format!("`{}` is not part of an expression", found.escape_debug()),
        );
        Err(match (foreign, self.ending) {
            (Some((_, meant)), _) => error.with_hint(format!("write `{meant}`")),
            (None, ExpressionEnd::Marked { .. }) => error.with_hint(PLAIN_MARKS_HINT),
            (None, ExpressionEnd::WithText) => error,
        })
    }
}

/// Whether a token can make an expression deeper.
fn nests(kind: TokenKind, text: &str) -> bool {
    match kind {
        TokenKind::Word => KEYWORDS.contains(&text),
        TokenKind::Sign => !matches!(text, "," | ":" | ")" | "]" | "}"),
        TokenKind::Number | TokenKind::Quoted => false,
    }
}

/// What to do if `<<` was not meant to begin an expression.
pub(super) const PLAIN_MARKS_HINT: &str = "an expression ends with `>>`; write `\\<<` for a plain `<<`";

fn not_closed(text: &str, opened_at: usize) -> TemplateError {
    let opened = &text[opened_at..];
    let end = opened.find('\n').unwrap_or(opened.len());
    let second = opened[2..].find("<<").map_or(end, |place| place + 2);
    let shown = opened[..end.min(second)].trim_end();
    TemplateError::new(opened_at..opened_at + shown.len(), "the expression that begins here has no `>>`")
        .with_hint(PLAIN_MARKS_HINT)
}

/// The length of the word a text begins with.
pub(super) fn word_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// The same behind a dot, where `-` between other characters belongs to the word.
fn dotted_word_length(text: &str) -> usize {
    let length = text
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-')
        .count();
    text[..length].trim_end_matches('-').len()
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let plain = |from: usize| {
        bytes[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
    };
    let digits_follow = |from: usize| bytes.get(from).is_some_and(u8::is_ascii_digit);
    let mut length = plain(0);
    if bytes.get(length) == Some(&b'.') && digits_follow(length + 1) {
        length += 1 + plain(length + 1);
    }
    let has_exponent = matches!(bytes[length - 1], b'e' | b'E') && !text.starts_with("0x");
    if has_exponent && matches!(bytes.get(length), Some(b'+' | b'-')) && digits_follow(length + 1) {
        length += 1 + plain(length + 1);
    }
    length
}
