//! The exit codes of the command: all of them, and the table that `--help` shows.
//!
//! A command returns an `Exit`, or a `Failure` that carries one; only `main` hands it to the system.

use std::process::ExitCode;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// The command worked; the work it was about failed.
    WorkFailed,
    /// The command line, the environment or a configuration file is wrong.
    Usage,
    /// A file given to the command is not what it has to be.
    FileInvalid,
    /// What was named does not exist.
    NotFound,
    /// Redis, Docker or an agent's binary is not there.
    Unavailable,
    /// Nothing can run it now; later something may.
    NothingToRunIt,
    /// Refused: an unsafe path, active agents, a rule.
    Refused,
    /// It took longer than it may.
    TimedOut,
    /// Cancelled, or interrupted by a signal.
    Cancelled,
    /// What an agent's own process ended with; not in the table, since only the agent knows what it means.
    Passed(u8),
}

/// One row per code, as users read it.
const TABLE: [(Exit, &str); 10] = [
    (Exit::Done, "done"),
    (Exit::WorkFailed, "the work failed"),
    (Exit::Usage, "usage or configuration"),
    (Exit::FileInvalid, "a file is invalid"),
    (Exit::NotFound, "no such thing"),
    (Exit::Unavailable, "Redis, Docker or an agent's binary is unavailable"),
    (Exit::NothingToRunIt, "nothing can run it now"),
    (Exit::Refused, "refused (unsafe path, active agents, policy)"),
    (Exit::TimedOut, "timed out"),
    (Exit::Cancelled, "cancelled or interrupted"),
];

impl Exit {
    /// The number the system gets.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::WorkFailed => 1,
            Exit::Usage => 2,
            Exit::FileInvalid => 65,
            Exit::NotFound => 66,
            Exit::Unavailable => 69,
            Exit::NothingToRunIt => 75,
            Exit::Refused => 77,
            Exit::TimedOut => 124,
            Exit::Cancelled => 130,
            Exit::Passed(code) => code,
        }
    }

    /// The word that stands in `error.kind` of a JSON error.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::WorkFailed | Exit::Passed(_) => "failed",
            Exit::Usage => "usage",
            Exit::FileInvalid => "invalid_file",
            Exit::NotFound => "not_found",
            Exit::Unavailable => "unavailable",
            Exit::NothingToRunIt => "nothing_to_run_it",
            Exit::Refused => "refused",
            Exit::TimedOut => "timed_out",
            Exit::Cancelled => "cancelled",
        }
    }

    /// The table of all codes, one per line, for `--help`.
    pub(crate) fn table() -> String {
        let rows = TABLE.map(|(exit, meaning)| format!("  {:>3}  {meaning}", exit.code()));
        format!("{}\n`task dispatch --sync` and `task wait` pass on the agent's own code.", rows.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_every_kind_stands_for_one_thing() {
        let mut codes: Vec<u8> = TABLE.iter().map(|(exit, _)| exit.code()).collect();
        let mut kinds: Vec<&str> = TABLE.iter().map(|(exit, _)| exit.kind()).collect();
        assert!(codes.is_sorted(), "the table is read from top to bottom: {codes:?}");
        codes.dedup();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!((codes.len(), kinds.len()), (TABLE.len(), TABLE.len()));
    }
}
