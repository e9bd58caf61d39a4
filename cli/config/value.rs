//! The value of one setting: read from text, whoever wrote it, and shown again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maestro_model::duration::{BareNumber, ShownDuration, parse_duration_with};
use maestro_model::size::{ShownSize, parse_size};
use maestro_store::address::{RedisAddress, without_password};
use serde::{Serialize, Serializer};

use super::variables::{self, ValueKind, Variable};

/// Largest number a setting that counts something takes.
const COUNT_MAX: u32 = 1_000_000;
/// Longest namespace, in bytes: it is part of every key, and of the name of a socket.
const NAMESPACE_BYTES_MAX: usize = 40;

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingValue {
    /// Any text.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// Paths, strongest first.
    Paths(Vec<PathBuf>),
    /// A number of at least 1.
    Count(u32),
    /// A duration.
    Duration(Duration),
    /// Bytes.
    Size(u64),
    /// A port; none = off.
    Port(Option<u16>),
    /// One of the words of its `Choice`.
    Word(&'static str),
}

impl SettingValue {
    /// Reads a value. Relative paths start at `base`, `~/` at `home`.
    ///
    /// # Errors
    /// The rule it breaks, with the text in backticks.
    pub(crate) fn read(
        variable: &Variable,
        text: &str,
        base: &Path,
        home: Option<&Path>,
    ) -> Result<SettingValue, String> {
        if text.trim().is_empty() {
            return Err("the value is empty".to_owned());
        }
        let nothing = || format!("`{text}` is not longer than nothing");
        match variable.kind {
            ValueKind::Text => check_text(variable, text).map(|()| SettingValue::Text(text.to_owned())),
            ValueKind::Path => Ok(SettingValue::Path(absolute(text, base, home))),
            ValueKind::Paths => {
                let paths = text.split(':').filter(|part| !part.is_empty());
                Ok(SettingValue::Paths(paths.map(|part| absolute(part, base, home)).collect()))
            }
            ValueKind::Count => match text.trim().parse() {
                Ok(count @ 1..=COUNT_MAX) => Ok(SettingValue::Count(count)),
                _ => Err(format!("`{text}` is not a whole number from 1 to {COUNT_MAX}")),
            },
            ValueKind::Duration => match read_duration(text, BareNumber::Seconds)? {
                Duration::ZERO => Err(nothing()),
                duration => Ok(SettingValue::Duration(duration)),
            },
            ValueKind::Delay => read_duration(text, BareNumber::Seconds).map(SettingValue::Duration),
            ValueKind::Retention => read_duration(text, BareNumber::Days).map(SettingValue::Duration),
            ValueKind::Port => match text.trim() {
                "off" => Ok(SettingValue::Port(None)),
                text => match text.parse() {
                    Ok(port @ 1..) => Ok(SettingValue::Port(Some(port))),
                    _ => Err(format!("`{text}` is not a port from 1 to 65535")),
                },
            },
            ValueKind::Secret => Ok(SettingValue::Text(text.to_owned())),
            ValueKind::Size => parse_size(text).map(SettingValue::Size).map_err(|error| error.to_string()),
            ValueKind::Choice(words) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
                known.map(|word| SettingValue::Word(word)).ok_or_else(|| format!("`{text}` is not known"))
            }
        }
    }

    /// The value as it could be written in the environment. Passwords are in it: see `masked`.
    pub(crate) fn text(&self) -> String {
        match self {
            SettingValue::Text(text) => text.clone(),
            SettingValue::Path(path) => path.display().to_string(),
            SettingValue::Paths(paths) => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<String>>().join(":")
            }
            SettingValue::Count(count) => count.to_string(),
            SettingValue::Duration(duration) => ShownDuration(*duration).to_string(),
            SettingValue::Size(bytes) => ShownSize(*bytes).to_string(),
            SettingValue::Port(port) => port.map_or_else(|| "off".to_owned(), |port| port.to_string()),
            SettingValue::Word(word) => (*word).to_owned(),
        }
    }

    /// The same value fit to be shown: no password.
    #[must_use]
    pub(crate) fn masked(&self, variable: &Variable) -> SettingValue {
        match self {
            SettingValue::Text(text) if variable == variables::REDIS_URL => {
                SettingValue::Text(without_password(text))
            }
            SettingValue::Text(text) if variable.kind == ValueKind::Secret => {
                let is_shown = text == "none" || text.starts_with("file:");
                SettingValue::Text(if is_shown { text.clone() } else { "***".to_owned() })
            }
            value => value.clone(),
        }
    }
}

/// In JSON a duration is a number of seconds and a size a number of bytes.
impl Serialize for SettingValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SettingValue::Count(count) => serializer.serialize_u32(*count),
            SettingValue::Size(bytes) => serializer.serialize_u64(*bytes),
            SettingValue::Port(Some(port)) => serializer.serialize_u16(*port),
            SettingValue::Port(None) => serializer.serialize_none(),
            SettingValue::Duration(duration) if duration.subsec_nanos() == 0 => {
                serializer.serialize_u64(duration.as_secs())
            }
            SettingValue::Duration(duration) => serializer.serialize_f64(duration.as_secs_f64()),
            SettingValue::Paths(paths) => {
                serializer.collect_seq(paths.iter().map(|path| path.display().to_string()))
            }
            SettingValue::Text(_) | SettingValue::Path(_) | SettingValue::Word(_) => {
                serializer.serialize_str(&self.text())
            }
        }
    }
}

fn read_duration(text: &str, bare: BareNumber) -> Result<Duration, String> {
    parse_duration_with(text, bare).map_err(|error| error.to_string())
}

fn check_text(variable: &Variable, text: &str) -> Result<(), String> {
    if variable == variables::REDIS_URL {
        RedisAddress::read(text).map_err(|error| error.to_string())?;
    }
    if variable == variables::NAMESPACE {
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if !starts_well || text.len() > NAMESPACE_BYTES_MAX || !text.bytes().all(lawful) {
            return Err(format!(
                "`{text}` is not a namespace: it begins with a letter or digit and has up to \
                 {NAMESPACE_BYTES_MAX} letters, digits, `.`, `_` and `-`"
            ));
        }
    }
    Ok(())
}

fn absolute(text: &str, base: &Path, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => base.join(text.strip_prefix("./").unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variable: &Variable, text: &str) -> Result<SettingValue, String> {
        SettingValue::read(variable, text, Path::new("/base"), Some(Path::new("/home/me")))
    }

    #[test]
    fn every_default_can_be_read() {
        for variable in variables::ALL {
            assert!(read(variable, variable.default).is_ok(), "{}", variable.name);
        }
    }

    #[test]
    fn a_bare_number_is_days_in_a_retention_and_seconds_elsewhere() {
        let day = Duration::from_secs(86_400);
        assert_eq!(read(variables::RUN_RETENTION, "7"), Ok(SettingValue::Duration(day * 7)));
        assert_eq!(read(variables::STATE_TTL, "7"), Ok(SettingValue::Duration(Duration::from_secs(7))));
    }

    #[test]
    fn paths_start_where_they_are_written() {
        let table = [("a", "/base/a"), ("./a", "/base/a"), ("/a", "/a"), ("~/a", "/home/me/a")];
        for (text, path) in table {
            assert_eq!(read(variables::WORKSPACE_ROOT, text), Ok(SettingValue::Path(path.into())));
        }
        let both = SettingValue::Paths(vec!["/base/a".into(), "/b".into()]);
        assert_eq!(read(variables::AGENTS_DIR, "a:/b:"), Ok(both));
    }

    #[test]
    fn a_secret_is_not_shown_but_where_it_stands_is() {
        let shown =
            |text| read(variables::ALERT_SECRET, text).expect("any text").masked(variables::ALERT_SECRET);
        assert_eq!(shown("hunter2"), SettingValue::Text("***".to_owned()));
        assert_eq!(shown("file:/run/secret"), SettingValue::Text("file:/run/secret".to_owned()));
        assert_eq!(shown("none"), SettingValue::Text("none".to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = [
            (variables::MAX_CONCURRENT, "0"),
            (variables::MAX_CONCURRENT, "-1"),
            (variables::MAX_CONCURRENT, "1.5"),
            (variables::LEASE, "0"),
            (variables::LEASE, "soon"),
            (variables::RUN_BYTES, "much"),
            (variables::LOG_LEVEL, "LOUD"),
            (variables::FAILSAFE_MODE, "yes"),
            (variables::REDIS_URL, "localhost:6379"),
            (variables::METRICS_PORT, "0"),
            (variables::METRICS_PORT, "65536"),
            (variables::METRICS_PORT, "on"),
            (variables::NAMESPACE, "a:b"),
            (variables::NAMESPACE, "{a}"),
            (variables::NAMESPACE, "../a"),
            (variables::NAMESPACE, " "),
        ];
        for (variable, text) in table {
            assert!(read(variable, text).is_err(), "{} {text}", variable.name);
        }
        assert_eq!(read(variables::GRACE_PERIOD, "0"), Ok(SettingValue::Duration(Duration::ZERO)));
        assert_eq!(read(variables::LOG_LEVEL, "debug"), Ok(SettingValue::Word("DEBUG")));
    }
}
