//! What minijinja is given for an expression: its tokens, with our own filters around some operands.
//!
//! All that must be known of the grammar for this is where operands begin and end. What is wrong with the
//! rest minijinja reports, and `Code` knows where in the source that is.

use std::cmp::Reverse;
use std::ops::Range;

use super::tokens::Token;

/// The expression as minijinja reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Code {
    /// The text.
    pub(super) text: String,
    /// For each token: where it begins in the text, and where it stands in the source.
    places: Vec<(usize, Range<usize>)>,
}

impl Code {
    /// The part of the source that a part of the text came from.
    pub(super) fn source_span(&self, in_text: Range<usize>) -> Option<Range<usize>> {
        let first = self.places.iter().rev().find(|(at, _)| *at <= in_text.start)?;
        let last = self.places.iter().rev().find(|(at, _)| *at < in_text.end.max(in_text.start + 1))?;
        Some(first.1.start..last.1.end.max(first.1.end))
    }
}

/// What a token turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The first token of a name, or a literal, or a field of something worked out.
    Operand,
    /// A further token of a name; minijinja does not see it.
    Swallowed,
    /// A filter: its operand may end here, or with its arguments.
    Filter,
    /// A test, or the name of an argument.
    Label,
    /// An opening bracket, with the place of the closing one.
    Open(usize),
    /// A closing bracket, with the place of the opening one.
    Close(usize),
    /// An operator with its rank; a lower rank binds less. Operands never reach across an operator of their
    /// own rank or less.
    Operator(u8),
    /// `-` before an operand, `.`, `|`, `is`: part of an operand.
    Inner,
}

/// Between parts of lists and calls, and `and`, `or`, `not`, `if`, `else`.
pub(super) const RANK_LOGIC: u8 = 0;
pub(super) const RANK_COMPARISON: u8 = 1;
pub(super) const RANK_SUM: u8 = 2;
pub(super) const RANK_JOIN: u8 = 3;
pub(super) const RANK_PRODUCT: u8 = 4;
pub(super) const RANK_POWER: u8 = 5;

/// Writes the expression for minijinja. `pieces` holds what it sees of each token.
pub(super) fn write_code(text: &str, tokens: &[Token], roles: &[Role], pieces: &[String]) -> Code {
    let mut before = vec![String::new(); tokens.len()];
    let mut behind = vec![String::new(); tokens.len()];
    for (operand, filter) in wraps(text, tokens, roles) {
        // A filter binds closer than every operator, so where there is none no brackets are needed; each
        // would take stack.
        if has_operator(roles, operand.clone()) {
            before[operand.start].push('(');
            behind[operand.end - 1].push(')');
        }
        behind[operand.end - 1].push('|');
        behind[operand.end - 1].push_str(&filter);
    }
    let mut code = Code { text: String::new(), places: Vec::with_capacity(tokens.len()) };
    for (place, piece) in pieces.iter().enumerate() {
        if !code.text.is_empty() && !piece.is_empty() {
            code.text.push(' ');
        }
        code.text.push_str(&before[place]);
        code.places.push((code.text.len(), tokens[place].span.clone()));
        code.text.push_str(piece);
        code.text.push_str(&behind[place]);
    }
    code
}

/// The operands that get a filter, inner ones first.
fn wraps(text: &str, tokens: &[Token], roles: &[Role]) -> Vec<(Range<usize>, String)> {
    let mut wraps: Vec<(Range<usize>, String)> = Vec::new();
    for (place, role) in roles.iter().enumerate() {
        let Role::Operator(rank) = *role else { continue };
        let word = &text[tokens[place].span.clone()];
        let Some((left, right)) = operand_filters(word, place, rank) else { continue };
        let operands =
            [(operand_before(roles, place, rank), left), (operand_behind(roles, place, rank), right)];
        for wrap in operands {
            if !wrap.0.is_empty() && !wrap.1.is_empty() && !wraps.contains(&wrap) {
                wraps.push(wrap);
            }
        }
    }
    // Of operands with the same end the shorter lies inside and must be closed first.
    wraps.sort_by_key(|(operand, _)| (operand.end, Reverse(operand.start)));
    wraps
}

/// The filters put around the operands of an operator; empty for none.
///
/// `~` makes texts as everywhere else, `*` refuses to repeat, the logical ones know the text `false`, and an
/// ordering compares only what is of one kind: minijinja would say that every text is more than any number.
fn operand_filters(word: &str, place: usize, rank: u8) -> Option<(String, String)> {
    let both = |filter: &str| Some((filter.to_owned(), filter.to_owned()));
    match word {
        "~" => both("_text"),
        "*" => both("_number"),
        "and" | "or" => both("_flag"),
        "not" | "if" if rank == RANK_LOGIC => Some((String::new(), "_flag".to_owned())),
        "<" | "<=" | ">" | ">=" => Some((format!("_left({place})"), format!("_right({place})"))),
        _ => None,
    }
}

fn operand_before(roles: &[Role], place: usize, rank: u8) -> Range<usize> {
    let mut start = place;
    while start > 0 {
        match roles[start - 1] {
            Role::Close(opened) => start = opened,
            Role::Open(_) => break,
            Role::Operator(other) if other <= rank => break,
            _ => start -= 1,
        }
    }
    start..place
}

fn operand_behind(roles: &[Role], place: usize, rank: u8) -> Range<usize> {
    let mut end = place + 1;
    while end < roles.len() {
        match roles[end] {
            Role::Open(closed) => end = closed + 1,
            Role::Close(_) => break,
            Role::Operator(other) if other <= rank => break,
            _ => end += 1,
        }
    }
    place + 1..end
}

/// Whether an operator stands in an operand, outside of brackets.
fn has_operator(roles: &[Role], operand: Range<usize>) -> bool {
    let mut at = operand.start;
    while at < operand.end {
        match roles[at] {
            Role::Operator(_) => return true,
            Role::Open(closed) => at = closed + 1,
            _ => at += 1,
        }
    }
    false
}
