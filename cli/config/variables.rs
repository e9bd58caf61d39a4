//! Every environment variable that Maestro reads, declared once: name, default, meaning.
//!
//! `--help`, `config show`, the file that `config reset` writes and the documents are made from or tested
//! against this table. How values are read is in `settings`. What an agent finds in its own environment
//! (`MAESTRO_TASK_ID` and so on) is set by the worker and no setting.

/// One setting: an environment variable, and a key of the same name in a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The environment variable.
    pub(crate) name: &'static str,
    /// The key in a configuration file.
    pub(crate) key: &'static str,
    /// What holds if nobody says otherwise, as it could be written.
    pub(crate) default: &'static str,
    /// What it means, with what may be written.
    pub(crate) meaning: &'static str,
    /// What kind of value it takes.
    pub(crate) kind: ValueKind,
}

impl Variable {
    /// What may be written, for the hint of an error.
    pub(crate) fn expectation(&self) -> String {
        match self.kind {
            ValueKind::Text => self.meaning.to_owned(),
            ValueKind::Path => "a path".to_owned(),
            ValueKind::Paths => "paths, joined by `:`".to_owned(),
            ValueKind::Count => "a whole number from 1 to 1000000".to_owned(),
            ValueKind::Duration | ValueKind::Delay => {
                "a duration: `90s`, `1h30m`, or bare seconds".to_owned()
            }
            ValueKind::Retention => "a duration: `36h`, or bare days".to_owned(),
            ValueKind::Port => "a port from 1 to 65535, or `off`".to_owned(),
            ValueKind::Secret => "the secret itself, `file:` and the path of a file, or `none`".to_owned(),
            ValueKind::Size => "a size: `512m`, `1g`, or bare bytes".to_owned(),
            ValueKind::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("one of {}", words.join(", "))
            }
        }
    }
}

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// Any text.
    Text,
    /// A path; a relative one in a file starts at the file's folder.
    Path,
    /// Paths, joined by `:` or a YAML list.
    Paths,
    /// A whole number of at least 1.
    Count,
    /// A duration longer than nothing; a bare number is seconds.
    Duration,
    /// A duration that may be nothing; a bare number is seconds.
    Delay,
    /// A duration; a bare number is days.
    Retention,
    /// A size in bytes.
    Size,
    /// A port to listen on, or `off`.
    Port,
    /// A secret: itself, `file:` and where it stands, or `none`. It is never shown.
    Secret,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// Declares the variables, one constant each, and `ALL` in the same order.
macro_rules! variables {
    ($($constant:ident $name:literal $key:literal $kind:expr, $default:literal, $meaning:literal;)+) => {
        $(
            #[doc = $meaning]
            pub(crate) const $constant: &Variable =
                &Variable { name: $name, key: $key, default: $default, meaning: $meaning, kind: $kind };
        )+

        /// All of them, in the order in which they are shown.
        pub(crate) const ALL: &[&Variable] = &[$($constant),+];
    };
}

variables! {
    REDIS_URL "MAESTRO_REDIS_URL" "redis_url" ValueKind::Text, "redis://localhost:6379",
        "where Redis is: `redis://`, `rediss://`, `unix://`, `redis-sentinel://` or `redis-cluster://`";
    NAMESPACE "MAESTRO_NAMESPACE" "namespace" ValueKind::Text, "maestro",
        "prefix of every key, so that a shared Redis is safe";
    WORKSPACE_ROOT "MAESTRO_WORKSPACE_ROOT" "workspace_root" ValueKind::Path, "/tmp/maestro-workspaces",
        "the folder below which agents work";
    AGENTS_DIR "MAESTRO_AGENTS_DIR" "agents_dir" ValueKind::Paths, "./agents.d:/etc/maestro/agents.d",
        "where agent types are found; the first file of a name counts";
    LOG_LEVEL "MAESTRO_LOG_LEVEL" "log_level" ValueKind::Choice(&["DEBUG", "INFO", "WARN", "ERROR"]), "INFO",
        "what workers and coordinators log: DEBUG, INFO, WARN, ERROR";
    LOG_FORMAT "MAESTRO_LOG_FORMAT" "log_format" ValueKind::Choice(&["text", "json"]), "text",
        "how they log: text, json";
    MAX_CONCURRENT "MAESTRO_MAX_CONCURRENT" "max_concurrent" ValueKind::Count, "4",
        "most tasks of one worker at a time";
    AGENT_TIMEOUT "MAESTRO_AGENT_TIMEOUT" "agent_timeout" ValueKind::Duration, "1800s",
        "longest time of one attempt, unless the step or the agent type says otherwise";
    HEARTBEAT "MAESTRO_HEARTBEAT" "heartbeat" ValueKind::Duration, "5s",
        "time between two heartbeats of a worker";
    LEASE "MAESTRO_LEASE" "lease" ValueKind::Duration, "30s",
        "how long a worker keeps its tasks without a heartbeat";
    MAX_ATTEMPTS "MAESTRO_MAX_ATTEMPTS" "max_attempts" ValueKind::Count, "3",
        "how often a task may be lost with its worker before it fails";
    STATE_TTL "MAESTRO_STATE_TTL" "state_ttl" ValueKind::Duration, "24h",
        "how long shared state lives unless it is said";
    SNAPSHOT_DIR "MAESTRO_SNAPSHOT_DIR" "snapshot_dir" ValueKind::Path, "/var/lib/maestro/snapshots",
        "where snapshots go; by default below the data folder if that is not writable";
    SNAPSHOT_RETENTION "MAESTRO_SNAPSHOT_RETENTION" "snapshot_retention" ValueKind::Retention, "7d",
        "how long snapshots are kept; a bare number is days";
    SNAPSHOT_INTERVAL "MAESTRO_SNAPSHOT_INTERVAL" "snapshot_interval" ValueKind::Delay, "0s",
        "time between two snapshots that the leading coordinator takes by itself; 0 = none";
    RUN_RETENTION "MAESTRO_RUN_RETENTION" "run_retention" ValueKind::Retention, "7d",
        "how long finished runs are kept, at most 10,000; a bare number is days";
    RUN_BYTES "MAESTRO_RUN_BYTES" "run_bytes" ValueKind::Size, "1GiB",
        "most memory of finished runs in Redis, at most 25 % of its maxmemory";
    FAILSAFE_MODE "MAESTRO_FAILSAFE_MODE" "failsafe_mode"
        ValueKind::Choice(&["false", "true", "cluster"]), "false",
        "true: roll a failed agent's folder back; cluster is refused by this version";
    KILOCODE_BIN "MAESTRO_KILOCODE_BIN" "kilocode_bin" ValueKind::Path, "/usr/local/bin/kilo",
        "the program of agent types without a command of their own";
    GRACE_PERIOD "MAESTRO_GRACE_PERIOD" "grace_period" ValueKind::Delay, "10s",
        "time between SIGTERM and SIGKILL of an agent";
    DRAIN_DEADLINE "MAESTRO_DRAIN_DEADLINE" "drain_deadline" ValueKind::Delay, "30s",
        "how long a worker that was told to end lets its tasks go on";
    METRICS_PORT "MAESTRO_METRICS_PORT" "metrics_port" ValueKind::Port, "off",
        "port of workers, coordinators and monitors for /metrics, /healthz and /readyz, or off";
    ALERT_SECRET "MAESTRO_ALERT_SECRET" "alert_secret" ValueKind::Secret, "none",
        "what alerts are signed with: the secret, `file:PATH`, or none";
}

/// The variable behind a key of a configuration file.
pub(crate) fn by_key(key: &str) -> Option<&'static Variable> {
    ALL.iter().find(|variable| variable.key == key).copied()
}

/// All variables with default and meaning, for `--help`: two lines each, which no terminal has to wrap.
pub(crate) fn table() -> String {
    let row = |variable: &&Variable| {
        format!("  {}={}\n      {}", variable.name, variable.default, variable.meaning)
    };
    ALL.iter().map(row).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_variable_in_lower_case() {
        for variable in ALL {
            assert_eq!(format!("MAESTRO_{}", variable.key.to_uppercase()), variable.name);
            assert_eq!(by_key(variable.key), Some(*variable));
        }
    }

    #[test]
    fn meanings_have_the_form_of_a_fragment() {
        for variable in ALL {
            assert!(!variable.meaning.ends_with('.'), "{}", variable.name);
            let bare = variable.kind == ValueKind::Retention;
            assert_eq!(variable.name.ends_with("_RETENTION"), bare, "bare days are for retentions");
        }
    }
}
