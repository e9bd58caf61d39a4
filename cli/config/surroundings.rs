//! What the process finds around itself: environment, folder, user. Read once, then passed in, so that
//! everything decided from it can be tested.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Environment, current folder and user of a process.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    environment: HashMap<OsString, OsString>,
    current_folder: PathBuf,
    uid: u32,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Result<Surroundings, Failure> {
        let current_folder = env::current_dir().map_err(|error| {
            Failure::usage("cannot tell the current folder")
                .caused_by(&error)
                .hint("change to one that exists")
        })?;
        Ok(Surroundings {
            environment: env::vars_os().collect(),
            current_folder,
            uid: rustix::process::geteuid().as_raw(),
        })
    }

    /// Made-up ones.
    #[cfg(test)]
    pub(crate) fn made_up(variables: &[(&str, &str)], current_folder: &Path, uid: u32) -> Surroundings {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Surroundings { environment, current_folder: current_folder.to_owned(), uid }
    }

    /// A variable that is set to something; an empty one counts as not set.
    ///
    /// # Errors
    /// If it is no text.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.environment.get(&OsString::from(name)) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text)),
                None => Err(Failure::usage(format!("`{name}` is not UTF-8"))
                    .hint("set it to plain text, or unset it")),
            },
        }
    }

    /// A folder named by a variable. The XDG rules want a relative one ignored.
    pub(crate) fn folder(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.environment.get(&OsString::from(name))?);
        path.is_absolute().then_some(path)
    }

    /// The user's home, if there is one.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.folder("HOME")
    }

    /// Where the command was called.
    pub(crate) fn current_folder(&self) -> &Path {
        &self.current_folder
    }

    /// The user it runs as.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }
}
