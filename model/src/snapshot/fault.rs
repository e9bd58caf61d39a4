//! Why an archive is refused.

/// A rule that an archive breaks. None of it may pass: another copy of the archive may be whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// An entry that no archive of ours has.
    #[error("`{entry}` {what}")]
    Entry {
        /// Its name, readable.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// It does not agree with its own manifest or index.
    #[error("the archive contradicts itself: {what}")]
    Contradiction {
        /// How.
        what: String,
    },
    /// It was changed or cut short after it was written.
    #[error("the archive is damaged: {what}")]
    Damaged {
        /// What shows that.
        what: String,
    },
    /// More than any archive may have.
    #[error("the archive has more than {most} {of}")]
    TooLarge {
        /// Of what.
        of: &'static str,
        /// How much is allowed.
        most: u64,
    },
    /// A later version wrote it.
    #[error("{of} has the format {found}, and this version reads up to {known}")]
    Newer {
        /// What.
        of: &'static str,
        /// Its format.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// Something that has to be in it is not.
    #[error("the archive has no `{what}`")]
    Missing {
        /// Which entry.
        what: String,
    },
}

impl ArchiveFault {
    /// An entry that breaks a rule.
    pub fn entry(entry: impl std::fmt::Display, what: impl Into<String>) -> ArchiveFault {
        ArchiveFault::Entry { entry: entry.to_string(), what: what.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ArchiveFault::Newer { .. } => "use the version of maestro that wrote it, or a later one",
            ArchiveFault::Damaged { .. } | ArchiveFault::Missing { .. } => {
                "fetch it again from where it came, or take another snapshot: `maestro state snapshots` lists them"
            }
            _ => {
                "it was not written by maestro, or changed since; take another: `maestro state snapshots` lists them"
            }
        }
    }
}
