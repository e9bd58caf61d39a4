//! Asking before something is lost: on a terminal a question, elsewhere `--yes` or a refusal.

use std::io::{self, BufRead, IsTerminal, Read};

use crate::commands::CommandContext;
use crate::failure::Failure;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Whether `--yes` was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// It was.
    Given,
    /// It was not: somebody has to be asked.
    Asked,
}

impl Consent {
    /// From the flag.
    pub(crate) fn of_flag(yes: bool) -> Consent {
        if yes { Consent::Given } else { Consent::Asked }
    }

    /// Goes on if somebody agrees. `what` is a sentence without its end: what is about to happen.
    ///
    /// # Errors
    /// 77 if nobody can be asked, or whoever was asked said no.
    pub(crate) fn require(self, what: &str, context: &CommandContext) -> Result<(), Failure> {
        if self == Consent::Given {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::refused(format!("{what}, and nobody can be asked whether that is meant"))
                .hint("say `--yes` if it is"));
        }
        context.printer.question(&format!("{what}. Go on? [y/N] "));
        let mut answer = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::refused("nothing was done"))
    }
}
