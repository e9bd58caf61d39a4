//! Secrets of an agent type: found on the worker, given to the agent, masked in whatever it writes.
//!
//! Only their sources travel through Redis. They are read for each attempt, so that a changed one counts
//! from the next.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::environment::HostEnvironment;
use crate::log_capture::SecretMask;

/// Largest secret, bytes.
pub(super) const SECRET_BYTES_MAX: usize = 64 * 1024;

/// A secret that this host cannot give. Never says anything of its value.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("secret `{name}` is to come from the variable `{variable}`, which this worker does not have")]
    NoVariable { name: String, variable: String },
    #[error("secret `{name}` cannot be read from `{path}`: {source}")]
    NoFile { name: String, path: String, source: io::Error },
    #[error("secret `{name}` cannot be passed on: expected up to 65536 bytes without a NUL in `{origin}`")]
    Unfit { name: String, origin: String },
    #[error("secret `{name}` has the source `{origin}`, expected `env://NAME` or `file://PATH`")]
    NoSource { name: String, origin: String },
}

/// The secrets of one attempt, in the order of the type's file.
#[derive(Debug, Default)]
pub(super) struct AttemptSecrets {
    /// Names and values as the agent's environment has them.
    pub(super) variables: Vec<(OsString, OsString)>,
}

impl AttemptSecrets {
    /// Finds all of them. Blocks on files.
    pub(super) fn find(
        sources: &IndexMap<String, String>,
        host: &HostEnvironment,
    ) -> Result<AttemptSecrets, SecretError> {
        let mut variables = Vec::with_capacity(sources.len());
        for (name, origin) in sources {
            let value = find_one(name, origin, host)?;
            if value.as_bytes().contains(&0) || value.len() > SECRET_BYTES_MAX {
                return Err(SecretError::Unfit { name: name.clone(), origin: origin.clone() });
            }
            variables.push((OsString::from(name), value));
        }
        Ok(AttemptSecrets { variables })
    }

    /// What hides them, if there is anything to hide.
    pub(super) fn mask(&self) -> Option<Arc<SecretMask>> {
        SecretMask::new(self.variables.iter().map(|(_, value)| value.as_bytes()))
    }
}

fn find_one(name: &str, origin: &str, host: &HostEnvironment) -> Result<OsString, SecretError> {
    if let Some(variable) = origin.strip_prefix("env://") {
        let found = host.get(variable).map(OsStr::to_owned);
        return found
            .ok_or_else(|| SecretError::NoVariable { name: name.to_owned(), variable: variable.to_owned() });
    }
    let Some(path) = origin.strip_prefix("file://") else {
        return Err(SecretError::NoSource { name: name.to_owned(), origin: origin.to_owned() });
    };
    read_secret(&host.expanded(path)).map_err(|source| SecretError::NoFile {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// The file's content without the newline that editors put at the end.
fn read_secret(path: &Path) -> io::Result<OsString> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(origin: &str) -> Result<Vec<(OsString, OsString)>, String> {
        let host = HostEnvironment::from_iter([("TOKEN".into(), "sesame".into())]);
        let sources = IndexMap::from([("NAME".to_owned(), origin.to_owned())]);
        AttemptSecrets::find(&sources, &host)
            .map(|secrets| secrets.variables)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn secrets_come_from_variables_and_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "two\nlines\n").expect("ours");
        let expected = |value: &str| Ok(vec![("NAME".into(), value.into())]);
        assert_eq!(found("env://TOKEN"), expected("sesame"));
        assert_eq!(found(&format!("file://{}", path.display())), expected("two\nlines"));
    }

    #[test]
    fn what_cannot_be_had_is_named_without_its_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "a\0b").expect("ours");
        let file = format!("file://{}", path.display());
        let expected = "secret `NAME` is to come from the variable `NOPE`, which this worker does not have";
        assert_eq!(found("env://NOPE").expect_err("not set"), expected);
        let expected = "secret `NAME` cannot be read from `/no/such`: No such file or directory (os error 2)";
        assert_eq!(found("file:///no/such").expect_err("not there"), expected);
        let expected = format!(
            "secret `NAME` cannot be passed on: expected up to 65536 bytes without a NUL in `{file}`"
        );
        assert_eq!(found(&file).expect_err("a NUL"), expected);
        std::fs::write(&path, vec![b'x'; 65_537]).expect("ours");
        assert_eq!(found(&file).expect_err("too large"), expected);
    }
}
