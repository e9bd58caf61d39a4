//! What the command says when it cannot do what it was asked: the one error type of `cli/`.
//!
//! Errors of the crates below become a `Failure` where a command calls them, because only the command
//! knows what the user wanted and which exit code that is. Printing is `output`'s business.

use std::error::Error;
use std::fmt::Display;
use std::io;

use serde_json::Value;

use crate::exit::Exit;

/// Most causes shown for one failure; a chain longer than this is a circle or noise.
const CAUSES_MAX: usize = 8;

/// Why a command ends without having done what it was asked.
///
/// `message` is a lower-case sentence without a full stop, with the user's own words in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(Box<FailureParts>);

/// Boxed, because nearly every function of the command can fail and nearly none does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailureParts {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    block: Option<String>,
    hint: Option<String>,
    details: Option<Value>,
    silent: bool,
}

impl Failure {
    /// A failure that ends the command with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure(Box::new(FailureParts {
            exit,
            message: message.into(),
            causes: Vec::new(),
            block: None,
            hint: None,
            details: None,
            silent: false,
        }))
    }

    /// The command line, the environment or a configuration file is wrong (2).
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// A file given to the command is not what it has to be (65).
    pub(crate) fn invalid_file(message: impl Into<String>) -> Failure {
        Failure::new(Exit::FileInvalid, message)
    }

    /// What was named does not exist (66).
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, message)
    }

    /// Redis, Docker or a binary is not there (69).
    pub(crate) fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Unavailable, message)
    }

    /// A rule forbids it (77).
    pub(crate) fn refused(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, message)
    }

    /// The reader of our output went away: `maestro … | head` has what it wanted, so this is success.
    pub(crate) fn reader_gone() -> Failure {
        let mut failure = Failure::new(Exit::Done, "nobody reads standard output any more");
        failure.0.silent = true;
        failure
    }

    /// Output could not be written; a reader that went away is no error.
    pub(crate) fn from_output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::reader_gone();
        }
        Failure::new(Exit::WorkFailed, "cannot write the output").caused_by(error)
    }

    /// Adds one line to `caused by:`.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Display) -> Failure {
        if self.0.causes.len() < CAUSES_MAX {
            self.0.causes.push(cause.to_string());
        }
        self
    }

    /// Adds an error and everything it comes from. A source that only repeats the line above it is left out.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &(dyn Error + 'static)) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            let line = error.to_string();
            if self.0.causes.last() != Some(&line) {
                self = self.cause(line);
            }
            next = error.source();
            if self.0.causes.len() >= CAUSES_MAX {
                break;
            }
        }
        self
    }

    /// Says what the user can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.0.hint = Some(hint.into());
        self
    }

    /// Replaces all that people read by a text of several lines that already has the form of an error:
    /// marked lines of a file. `message` stays what JSON carries.
    #[must_use]
    pub(crate) fn shown_as(mut self, block: impl Into<String>) -> Failure {
        self.0.block = Some(block.into());
        self
    }

    /// Adds data for programs: `error.details` of a JSON error.
    #[must_use]
    pub(crate) fn details(mut self, details: Value) -> Failure {
        self.0.details = Some(details);
        self
    }

    /// Data for programs.
    pub(crate) fn details_value(&self) -> Option<&Value> {
        self.0.details.as_ref()
    }

    /// The exit code it asks for.
    pub(crate) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.silent
    }

    /// The first line, without `error:`.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The lines after `caused by:`, outermost first.
    pub(crate) fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// Text that replaces message, causes and hint for people.
    pub(crate) fn block(&self) -> Option<&str> {
        self.0.block.as_deref()
    }

    /// What the user can do about it.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Message and causes in one line, for JSON and logs.
    pub(crate) fn one_line(&self) -> String {
        let mut line = self.0.message.clone();
        for cause in &self.0.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer rule is broken")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the inner rule is broken")]
    struct Inner;

    #[test]
    fn causes_come_outermost_first() {
        let failure = Failure::usage("cannot go on").caused_by(&Outer(Inner));
        assert_eq!(failure.causes(), ["the outer rule is broken", "the inner rule is broken"]);
        assert_eq!(failure.one_line(), "cannot go on: the outer rule is broken: the inner rule is broken");
    }

    #[test]
    fn a_chain_of_causes_has_an_end() {
        let failure = (0..100).fold(Failure::usage("cannot go on"), |failure, n| failure.cause(n));
        assert_eq!(failure.causes().len(), CAUSES_MAX);
    }

    #[test]
    fn a_reader_that_went_away_is_success() {
        let gone = Failure::from_output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.exit(), gone.is_silent()), (Exit::Done, true));
        let full = Failure::from_output(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.exit(), full.is_silent()), (Exit::WorkFailed, false));
    }
}
