//! What one expression reads, and what minijinja is given in its place.
//!
//! Each name becomes a variable of its own (`n0`, `n1`, …), so that minijinja sees no scope, only the values
//! that were named: a step id with `-` is no subtraction, an unknown name is reported with all its dots, and
//! nothing else can be reached. Only the role of each token is found here; what is made of them is written by
//! `code`, and everything else about the grammar is left to minijinja.

use std::ops::Range;

use super::code::{
    Code, RANK_COMPARISON, RANK_JOIN, RANK_LOGIC, RANK_POWER, RANK_PRODUCT, RANK_SUM, Role, write_code,
};
use super::filters::{FILTERS, TESTS};
use super::names::{NameUse, Root, check_path, dotted, nearest};
use super::problem::TemplateError;
use super::tokens::{EXPRESSION_DEPTH_MAX, KEYWORDS, Token, TokenKind};

/// One expression, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Analysis {
    /// The names in it, in order; the place of each is the number of its variable.
    pub(super) names: Vec<NameUse>,
    /// For each name, whether it may be missing where it stands. (`NameUse::guarded` is also true where only
    /// another use of the name is asked about with `is defined`.)
    pub(super) optional: Vec<bool>,
    /// Whether it is one name and nothing else.
    pub(super) is_one_name: bool,
    /// What minijinja reads.
    pub(super) code: Code,
}

/// Reads the tokens of an expression that stands at `whole` in `text`.
pub(super) fn analyse(text: &str, tokens: &[Token], whole: Range<usize>) -> Result<Analysis, TemplateError> {
    if tokens.is_empty() {
        return Err(TemplateError::new(whole, "expected an expression, found nothing"));
    }
    let mut reader = Reader {
        text,
        tokens,
        roles: Vec::with_capacity(tokens.len()),
        pieces: Vec::with_capacity(tokens.len()),
        open: Vec::new(),
        names: Vec::new(),
        found_at: Vec::new(),
    };
    while reader.roles.len() < tokens.len() {
        reader.read()?;
    }
    if let Some(place) = reader.open.last() {
        let message = format!("`{}` is not closed", reader.word(*place));
        return Err(TemplateError::new(tokens[*place].span.clone(), message));
    }
    let optional = reader.optional();
    reader.spread_guards(&optional);
    let is_one_name = reader.names.len() == 1
        && reader.roles.iter().all(|role| matches!(role, Role::Operand | Role::Swallowed))
        && reader.roles.iter().filter(|role| **role == Role::Operand).count() == 1;
    let code = write_code(text, tokens, &reader.roles, &reader.pieces);
    Ok(Analysis { names: reader.names, optional, is_one_name, code })
}

struct Reader<'t> {
    text: &'t str,
    tokens: &'t [Token],
    /// One per token that has been read.
    roles: Vec<Role>,
    /// What minijinja sees of each token.
    pieces: Vec<String>,
    /// The brackets that are open.
    open: Vec<usize>,
    names: Vec<NameUse>,
    /// For each name its first token and the one behind its last.
    found_at: Vec<Range<usize>>,
}

impl<'t> Reader<'t> {
    fn word(&self, place: usize) -> &'t str {
        self.tokens.get(place).map_or("", |token| &self.text[token.span.clone()])
    }

    fn is_kind(&self, place: usize, kind: TokenKind) -> bool {
        self.tokens.get(place).is_some_and(|token| token.kind == kind)
    }

    fn is_sign(&self, place: usize, sign: &str) -> bool {
        self.is_kind(place, TokenKind::Sign) && self.word(place) == sign
    }

    fn push(&mut self, role: Role, piece: impl Into<String>) {
        self.roles.push(role);
        self.pieces.push(piece.into());
    }

    fn error(&self, places: Range<usize>, message: impl Into<String>) -> TemplateError {
        let last = places.end.clamp(places.start + 1, self.tokens.len()) - 1;
        TemplateError::new(self.tokens[places.start].span.start..self.tokens[last].span.end, message)
    }

    /// Whether an operand has just ended, so that an operator may follow.
    fn is_behind_operand(&self) -> bool {
        matches!(self.roles.last(), Some(Role::Operand | Role::Swallowed | Role::Close(_) | Role::Filter))
    }

    fn read(&mut self) -> Result<(), TemplateError> {
        let place = self.roles.len();
        match self.tokens[place].kind {
            TokenKind::Number | TokenKind::Quoted => {
                // Two quoted texts side by side are one, as in minijinja.
                let continues = place > 0
                    && self.is_kind(place, TokenKind::Quoted)
                    && self.is_kind(place - 1, TokenKind::Quoted);
                if !continues {
                    self.expect_operand(place)?;
                }
                self.push(Role::Operand, self.word(place));
                Ok(())
            }
            TokenKind::Sign => self.read_sign(place),
            TokenKind::Word => self.read_word(place),
        }
    }

    /// Refuses an operand where an operator is due.
    fn expect_operand(&self, place: usize) -> Result<(), TemplateError> {
        if !self.is_behind_operand() {
            return Ok(());
        }
        let message =
            format!("expected an operator or the end of the expression, found `{}`", self.word(place));
        Err(self.error(place..place + 1, message))
    }

    fn read_sign(&mut self, place: usize) -> Result<(), TemplateError> {
        let sign = self.word(place);
        let role = match sign {
            "(" | "[" | "{" => {
                if sign == "(" && self.is_behind_operand() && self.roles.last() != Some(&Role::Filter) {
                    return Err(
                        self.error(place..place + 1, "only filters and tests take arguments in `(…)`")
                    );
                }
                self.open.push(place);
                if self.open.len() > EXPRESSION_DEPTH_MAX {
                    let message = format!("brackets are nested more than {EXPRESSION_DEPTH_MAX} deep");
                    return Err(self.error(place..place + 1, message));
                }
                // The place of the other bracket is filled in when it is found.
                Role::Open(place)
            }
            ")" | "]" | "}" => {
                let opened = self.open.pop().filter(|opened| closes(self.word(*opened), sign));
                let opened = opened.ok_or_else(|| {
                    self.error(place..place + 1, format!("`{sign}` closes nothing that is open"))
                })?;
                self.roles[opened] = Role::Open(place);
                Role::Close(opened)
            }
            "." | "|" => Role::Inner,
            "=" if self.roles.last() != Some(&Role::Label) => {
                let error = self.error(place..place + 1, "`=` does not compare");
                return Err(error.with_hint("write `==`"));
            }
            "," | ":" | "=" => Role::Operator(RANK_LOGIC),
            "==" | "!=" | "<" | "<=" | ">" | ">=" => Role::Operator(RANK_COMPARISON),
            "-" | "+" if !self.is_behind_operand() => Role::Inner,
            "-" | "+" => Role::Operator(RANK_SUM),
            "~" => Role::Operator(RANK_JOIN),
            "*" | "**" if !self.is_behind_operand() => Role::Inner,
            "**" => Role::Operator(RANK_POWER),
            _ => Role::Operator(RANK_PRODUCT),
        };
        self.push(role, sign);
        Ok(())
    }

    fn read_word(&mut self, place: usize) -> Result<(), TemplateError> {
        let word = self.word(place);
        if place > 0 && self.is_sign(place - 1, ".") {
            return self.read_field(place);
        }
        if place > 0 && self.is_sign(place - 1, "|") {
            return self.read_label(place, Role::Filter, &FILTERS, "filter");
        }
        if self.expects_test(place) {
            if word == "not" {
                self.push(Role::Inner, word);
                return Ok(());
            }
            return self.read_label(place, Role::Label, &TESTS, "test");
        }
        match word {
            "true" | "false" | "none" | "True" | "False" | "None" => {
                self.expect_operand(place)?;
                self.push(Role::Operand, word);
            }
            _ if KEYWORDS.contains(&word) => {
                let role = match word {
                    "is" => Role::Inner,
                    "in" => Role::Operator(RANK_COMPARISON),
                    // `a not in b` compares, `not a` asks.
                    "not" if self.word(place + 1) == "in" => Role::Operator(RANK_COMPARISON),
                    _ => Role::Operator(RANK_LOGIC),
                };
                self.check_keyword(place, role)?;
                self.push(role, word);
            }
            _ if self.is_sign(place + 1, "=") && !self.open.is_empty() => self.push(Role::Label, word),
            _ => return self.read_name(place),
        }
        Ok(())
    }

    /// Refuses a keyword where an operand is due: minijinja would take it for a name.
    fn check_keyword(&self, place: usize, role: Role) -> Result<(), TemplateError> {
        let word = self.word(place);
        let lawful = match (word, role, self.roles.last()) {
            ("not", Role::Operator(RANK_LOGIC), before) => {
                matches!(before, None | Some(Role::Open(_) | Role::Operator(RANK_LOGIC)))
            }
            // `not in` has been checked at its first word.
            ("in", _, Some(Role::Operator(RANK_COMPARISON))) if self.word(place - 1) == "not" => true,
            (_, _, before) => self.is_behind_operand() || before == Some(&Role::Label),
        };
        if lawful {
            return Ok(());
        }
        let expected = if self.is_behind_operand() { "an operator" } else { "a value" };
        Err(self.error(place..place + 1, format!("expected {expected}, found `{word}`")))
    }

    /// Whether `is` or `is not` stands before this token.
    fn expects_test(&self, place: usize) -> bool {
        let is_test = |at: usize| self.roles[at] == Role::Inner && self.word(at) == "is";
        let behind = |at: usize| at > 0 && is_test(at - 1);
        behind(place)
            || (place > 1
                && self.word(place - 1) == "not"
                && self.roles[place - 1] == Role::Inner
                && behind(place - 1))
    }

    /// A field of something worked out, such as `(…).name` or `vars.list[1].name`.
    fn read_field(&mut self, place: usize) -> Result<(), TemplateError> {
        let word = self.word(place);
        if self.is_sign(place + 1, "(") {
            return Err(self.no_methods(place, word));
        }
        let is_plain = word.bytes().all(|byte| byte.is_ascii_digit())
            || (!word.contains('-') && !word.starts_with(|c: char| c.is_ascii_digit()));
        if is_plain {
            self.push(Role::Operand, word);
        } else {
            self.pieces[place - 1].clear();
            self.push(Role::Operand, format!("[{word:?}]"));
        }
        Ok(())
    }

    fn read_label(
        &mut self,
        place: usize,
        role: Role,
        known: &[&'static str],
        kind: &str,
    ) -> Result<(), TemplateError> {
        let word = self.word(place);
        if !known.contains(&word) {
            let error = self.error(place..place + 1, format!("unknown {kind} `{word}`"));
            return Err(match nearest(word, known.iter().copied()) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint(format!("the {kind}s are {}", known.join(", "))),
            });
        }
        self.push(role, word);
        Ok(())
    }

    fn read_name(&mut self, place: usize) -> Result<(), TemplateError> {
        let word = self.word(place);
        self.expect_operand(place)?;
        let Some(root) = Root::from_word(word) else {
            return Err(self.unknown_word(place));
        };
        let (path, behind) = self.read_path(place, root)?;
        if let Err((message, hint)) = check_path(root, &path) {
            let error = self.error(place..behind, message);
            return Err(TemplateError { hint, ..error });
        }
        let number = self.names.len();
        let span = self.tokens[place].span.start..self.tokens[behind - 1].span.end;
        self.names.push(NameUse { root, path, span, guarded: false });
        self.found_at.push(place..behind);
        self.push(Role::Operand, format!("n{number}"));
        for _ in place + 1..behind {
            self.push(Role::Swallowed, "");
        }
        Ok(())
    }

    /// The fixed part of what follows a root, and the token behind it.
    fn read_path(&self, place: usize, root: Root) -> Result<(Vec<String>, usize), TemplateError> {
        let mut path = Vec::new();
        let mut at = place + 1;
        loop {
            if self.is_sign(at, ".") {
                if !self.is_kind(at + 1, TokenKind::Word) {
                    return Err(self.error(place..at + 1, "expected a name after `.`"));
                }
                path.push(self.word(at + 1).to_owned());
                at += 2;
            } else if self.is_sign(at, "[") {
                let fixed = self.is_sign(at + 2, "]").then(|| self.fixed_subscript(at + 1)).flatten();
                match fixed {
                    Some(part) => path.push(part),
                    None if root.is_complete(&path) => break,
                    None => return Err(self.computed_name(place, at, root, &path)),
                }
                at += 3;
            } else if self.is_sign(at, "(") {
                return Err(self.no_methods(at - 1, self.word(at - 1)));
            } else {
                break;
            }
        }
        Ok((path, at))
    }

    /// A subscript that is written out: quoted text, or an index.
    fn fixed_subscript(&self, place: usize) -> Option<String> {
        let word = self.word(place);
        match self.tokens.get(place)?.kind {
            TokenKind::Quoted => unquoted(word),
            TokenKind::Number if word.bytes().all(|byte| byte.is_ascii_digit()) => Some(word.to_owned()),
            _ => None,
        }
    }

    fn computed_name(&self, place: usize, bracket: usize, root: Root, path: &[String]) -> TemplateError {
        let owner = dotted(root, path);
        let end = (bracket..self.tokens.len()).find(|at| self.is_sign(*at, "]")).unwrap_or(bracket);
        let error = self
            .error(place..end + 1, format!("what is read of `{owner}` must be written out, not computed"));
        error.with_hint(format!("write `{owner}.name` or `{owner}[\"name\"]`"))
    }

    fn no_methods(&self, place: usize, word: &str) -> TemplateError {
        let error =
            self.error(place..place + 2, format!("`{word}(…)` is a call, and values have no methods"));
        match FILTERS.contains(&word) {
            true => error.with_hint(format!("write `| {word}`")),
            false => error.with_hint("use a filter, such as `| upper`"),
        }
    }

    fn unknown_word(&self, place: usize) -> TemplateError {
        let word = self.word(place);
        if self.is_sign(place + 1, "(") {
            let error = self.error(place..place + 2, format!("unknown function `{word}`"));
            return match FILTERS.contains(&word) {
                true => error.with_hint(format!("`{word}` is a filter: write `value | {word}`")),
                false => error.with_hint("expressions have filters and tests, but no functions"),
            };
        }
        let error = self.error(place..place + 1, format!("unknown name `{word}`"));
        match nearest(word, Root::ALL.into_iter().map(Root::word)) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint(format!(
                "a name begins with {}; text stands in quotes: `'{word}'`",
                Root::ALL.map(|root| format!("`{root}`")).join(", ")
            )),
        }
    }

    /// For each name, whether what stands behind it allows it to be missing.
    fn optional(&self) -> Vec<bool> {
        self.found_at
            .iter()
            .map(|found| {
                let (mut before, mut behind) = (found.start, found.end);
                while before > 0 && self.roles[before - 1] == Role::Open(behind) && !self.is_call(before - 1)
                {
                    before -= 1;
                    behind += 1;
                }
                let test = if self.word(behind + 1) == "not" { behind + 2 } else { behind + 1 };
                (self.is_sign(behind, "|") && matches!(self.word(behind + 1), "default" | "d"))
                    || (self.word(behind) == "is" && matches!(self.word(test), "defined" | "undefined"))
            })
            .collect()
    }

    /// Whether an opening bracket begins arguments or a subscript instead of a group.
    fn is_call(&self, place: usize) -> bool {
        let before = place.checked_sub(1).map(|before| self.roles[before]);
        self.word(place) != "(" || matches!(before, Some(Role::Filter | Role::Label))
    }

    /// A name that is asked about with `is defined` may be missing wherever else it stands.
    fn spread_guards(&mut self, optional: &[bool]) {
        for place in 0..self.names.len() {
            self.names[place].guarded = optional[place]
                || (0..self.names.len()).any(|other| {
                    optional[other]
                        && self.word(self.found_at[other].end) == "is"
                        && self.names[other].root == self.names[place].root
                        && self.names[place].path.starts_with(&self.names[other].path)
                });
        }
    }
}

fn closes(open: &str, close: &str) -> bool {
    matches!((open, close), ("(", ")") | ("[", "]") | ("{", "}"))
}

/// The text between quotes. None if it holds an escape other than of a quote or a backslash.
fn unquoted(quoted: &str) -> Option<String> {
    let inner = &quoted[1..quoted.len() - 1];
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|escaped| matches!(escaped, '\\' | '\'' | '"'))?),
            plain => text.push(plain),
        }
    }
    Some(text)
}
