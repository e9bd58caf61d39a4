//! The settings of this process: every place is asked, the strongest counts, and all values are typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maestro_worker::container::EngineAddress;
use maestro_worker::failsafe::FailsafeMode;

use super::file::read_config;
use super::folders;
use super::layers::{Chosen, Layer, Origin, strongest};
use super::surroundings::Surroundings;
use super::value::SettingValue;
use super::variables::{self, Variable};
use crate::failure::Failure;
use crate::up_file::UpFile;

/// What the global flags say about settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingFlags {
    /// `--redis-url`
    pub(crate) redis_url: Option<String>,
    /// `--namespace`
    pub(crate) namespace: Option<String>,
    /// `--config`: stands in place of the files that would be looked for.
    pub(crate) config: Option<PathBuf>,
}

/// Every setting, with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    chosen: Vec<Chosen>,
    short_folders: Vec<PathBuf>,
    /// `DOCKER_HOST` and `XDG_RUNTIME_DIR`: whoever has the one or the other means them for every program.
    engine: (Option<String>, Option<PathBuf>),
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// Asks every place.
    ///
    /// # Errors
    /// If one of them says something that cannot be meant (2).
    pub(crate) fn load(flags: &SettingFlags, surroundings: &Surroundings) -> Result<Settings, Failure> {
        let mut layers = vec![flag_layer(flags, surroundings)?, environment_layer(surroundings)?];
        layers.extend(file_layers(flags, surroundings)?);
        let defaults = default_layer(surroundings);
        // Which cluster was started here depends on the namespace, which that cluster does not set.
        let namespace = namespace_of(layers.iter().chain([&defaults]));
        layers.push(up_layer(&namespace, surroundings));
        layers.push(defaults);
        Ok(Settings {
            chosen: strongest(&layers),
            short_folders: folders::short_folders(surroundings),
            engine: (
                surroundings.variable("DOCKER_HOST")?.map(str::to_owned),
                surroundings.folder("XDG_RUNTIME_DIR"),
            ),
        })
    }

    /// Where a container engine is looked for; no setting of ours either.
    pub(crate) fn container_engine(&self) -> EngineAddress {
        EngineAddress::find(self.engine.0.as_deref(), self.engine.1.as_deref())
    }

    /// Folders for sockets that need a short path; no setting, but found in the same surroundings.
    pub(crate) fn short_folders(&self) -> Vec<PathBuf> {
        self.short_folders.clone()
    }

    /// Every setting, in the order in which they are shown.
    pub(crate) fn all(&self) -> &[Chosen] {
        &self.chosen
    }

    /// One setting.
    pub(crate) fn chosen(&self, variable: &'static Variable) -> &Chosen {
        let found = self.chosen.iter().find(|chosen| chosen.variable == variable);
        found.expect("the layer of defaults has every setting")
    }

    /// Where Redis is. Passwords are in it.
    pub(crate) fn redis_url(&self) -> String {
        self.chosen(variables::REDIS_URL).value.text()
    }

    /// Whether somebody chose a Redis; otherwise `up` and `--local` start their own.
    pub(crate) fn redis_is_given(&self) -> bool {
        self.chosen(variables::REDIS_URL).origin.is_given()
    }

    /// Whether a cluster started here by `maestro up` is what the settings lead to.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.chosen(variables::REDIS_URL).origin, Origin::Up(_))
    }

    /// Prefix of every key.
    pub(crate) fn namespace(&self) -> String {
        self.chosen(variables::NAMESPACE).value.text()
    }

    /// The folder below which agents work.
    pub(crate) fn workspace_root(&self) -> PathBuf {
        self.path(variables::WORKSPACE_ROOT)
    }

    /// Where agent types are found, strongest first.
    pub(crate) fn agents_dirs(&self) -> Vec<PathBuf> {
        match &self.chosen(variables::AGENTS_DIR).value {
            SettingValue::Paths(paths) => paths.clone(),
            other => unreachable!("agents_dir is read as paths, not as {other:?}"),
        }
    }

    /// What workers and coordinators log.
    pub(crate) fn log_level(&self) -> tracing::Level {
        match self.word(variables::LOG_LEVEL) {
            "DEBUG" => tracing::Level::DEBUG,
            "WARN" => tracing::Level::WARN,
            "ERROR" => tracing::Level::ERROR,
            _ => tracing::Level::INFO,
        }
    }

    /// How they log.
    pub(crate) fn log_format(&self) -> LogFormat {
        if self.word(variables::LOG_FORMAT) == "json" { LogFormat::Json } else { LogFormat::Text }
    }

    /// Most tasks of one worker at a time.
    pub(crate) fn max_concurrent(&self) -> u32 {
        self.count(variables::MAX_CONCURRENT)
    }

    /// Longest time of one attempt, unless a step or an agent type says otherwise.
    pub(crate) fn agent_timeout(&self) -> Duration {
        self.duration(variables::AGENT_TIMEOUT)
    }

    /// Time between two heartbeats of a worker.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.duration(variables::HEARTBEAT)
    }

    /// How long a worker keeps its tasks without a heartbeat.
    pub(crate) fn lease(&self) -> Duration {
        self.duration(variables::LEASE)
    }

    /// How often a task may be lost with its worker before it fails.
    pub(crate) fn max_attempts(&self) -> u32 {
        self.count(variables::MAX_ATTEMPTS)
    }

    /// How long shared state lives unless it is said.
    pub(crate) fn state_ttl(&self) -> Duration {
        self.duration(variables::STATE_TTL)
    }

    /// How long finished runs are kept.
    pub(crate) fn run_retention(&self) -> Duration {
        self.duration(variables::RUN_RETENTION)
    }

    /// Most memory of finished runs in Redis, bytes.
    pub(crate) fn run_bytes(&self) -> u64 {
        match self.chosen(variables::RUN_BYTES).value {
            SettingValue::Size(bytes) => bytes,
            ref other => unreachable!("run_bytes is read as a size, not as {other:?}"),
        }
    }

    /// The program of agent types without a command of their own, and whether somebody chose it.
    pub(crate) fn kilocode_bin(&self) -> (PathBuf, bool) {
        let given = self.chosen(variables::KILOCODE_BIN).origin.is_given();
        (self.path(variables::KILOCODE_BIN), given)
    }

    /// Where snapshots and safety copies go.
    pub(crate) fn snapshot_dir(&self) -> PathBuf {
        self.path(variables::SNAPSHOT_DIR)
    }

    /// How long snapshots are kept.
    pub(crate) fn snapshot_retention(&self) -> Duration {
        self.duration(variables::SNAPSHOT_RETENTION)
    }

    /// Time between two snapshots that nobody asks for; nothing = there are none.
    pub(crate) fn snapshot_interval(&self) -> Duration {
        self.duration(variables::SNAPSHOT_INTERVAL)
    }

    /// Time between SIGTERM and SIGKILL of an agent.
    pub(crate) fn grace_period(&self) -> Duration {
        self.duration(variables::GRACE_PERIOD)
    }

    /// How long a worker that was told to end lets its tasks go on.
    pub(crate) fn drain_deadline(&self) -> Duration {
        self.duration(variables::DRAIN_DEADLINE)
    }

    /// Where this process is to be watched, if anywhere.
    pub(crate) fn metrics_port(&self) -> Option<u16> {
        match self.chosen(variables::METRICS_PORT).value {
            SettingValue::Port(port) => port,
            ref other => unreachable!("metrics_port is read as a port, not as {other:?}"),
        }
    }

    /// What alerts are signed with, if anything.
    ///
    /// # Errors
    /// 2 if the file that it stands in cannot be read, or is empty.
    pub(crate) fn alert_secret(&self) -> Result<Option<String>, Failure> {
        let text = self.chosen(variables::ALERT_SECRET).value.text();
        let Some(path) = text.strip_prefix("file:") else { return Ok((text != "none").then_some(text)) };
        let cannot = || Failure::usage(format!("cannot read `{path}`, which `MAESTRO_ALERT_SECRET` names"));
        let secret = std::fs::read_to_string(path).map_err(|error| cannot().caused_by(&error))?;
        // A file that an editor wrote ends with a line break, which is no part of it.
        match secret.trim_end_matches(['\n', '\r']) {
            "" => Err(cannot().cause("the file is empty")),
            secret => Ok(Some(secret.to_owned())),
        }
    }

    /// What happens to a folder in which a task has failed. The mode `cluster` is refused by `check_failsafe`.
    pub(crate) fn failsafe(&self) -> FailsafeMode {
        if self.word(variables::FAILSAFE_MODE) == "true" {
            FailsafeMode::Workspace
        } else {
            FailsafeMode::Off
        }
    }

    /// Refuses (2) a mode that this version does not have, before anything relies on it.
    pub(crate) fn check_failsafe(&self) -> Result<(), Failure> {
        if self.word(variables::FAILSAFE_MODE) != "cluster" {
            return Ok(());
        }
        Err(Failure::usage("`MAESTRO_FAILSAFE_MODE=cluster` cannot be used: this version restores no cluster by itself")
            .hint("`true` rolls the failed agent's folder back; `maestro state rollback latest` restores the cluster"))
    }

    /// Refuses (2) a lease so short that a worker could lose its tasks while all is well: it has to end
    /// its agents before the lease does, and may miss two beats before that.
    pub(crate) fn check_lease(&self) -> Result<(), Failure> {
        let least = self.grace_period() + self.heartbeat() * 3 + Duration::from_secs(5);
        if self.lease() >= least {
            return Ok(());
        }
        let shown = |variable: &'static Variable| self.chosen(variable).value.text();
        Err(Failure::usage(format!("the lease of {} is too short", shown(variables::LEASE)))
            .cause(format!(
                "it has to last at least {}: the grace period of {}, three heartbeats of {} and 5s",
                SettingValue::Duration(least).text(),
                shown(variables::GRACE_PERIOD),
                shown(variables::HEARTBEAT),
            ))
            .hint("raise `MAESTRO_LEASE`, or lower `MAESTRO_GRACE_PERIOD` or `MAESTRO_HEARTBEAT`"))
    }

    fn path(&self, variable: &'static Variable) -> PathBuf {
        match &self.chosen(variable).value {
            SettingValue::Path(path) => path.clone(),
            other => unreachable!("{} is read as a path, not as {other:?}", variable.key),
        }
    }

    fn count(&self, variable: &'static Variable) -> u32 {
        match self.chosen(variable).value {
            SettingValue::Count(count) => count,
            ref other => unreachable!("{} is read as a number, not as {other:?}", variable.key),
        }
    }

    fn duration(&self, variable: &'static Variable) -> Duration {
        match self.chosen(variable).value {
            SettingValue::Duration(duration) => duration,
            ref other => unreachable!("{} is read as a duration, not as {other:?}", variable.key),
        }
    }

    fn word(&self, variable: &'static Variable) -> &'static str {
        match self.chosen(variable).value {
            SettingValue::Word(word) => word,
            ref other => unreachable!("{} is read as a word, not as {other:?}", variable.key),
        }
    }
}

fn flag_layer(flags: &SettingFlags, surroundings: &Surroundings) -> Result<Layer, Failure> {
    let given = [
        (variables::REDIS_URL, "--redis-url", &flags.redis_url),
        (variables::NAMESPACE, "--namespace", &flags.namespace),
    ];
    let said = given.into_iter().filter_map(|(variable, flag, text)| Some((variable, flag, text.as_ref()?)));
    said.map(|(variable, flag, text)| read_here(variable, text, Origin::Flag(flag), flag, surroundings))
        .collect()
}

fn environment_layer(surroundings: &Surroundings) -> Result<Layer, Failure> {
    let mut layer = Layer::new();
    for variable in variables::ALL {
        if let Some(text) = surroundings.variable(variable.name)? {
            layer.push(read_here(variable, text, Origin::Environment, variable.name, surroundings)?);
        }
    }
    Ok(layer)
}

/// Reads what was said on the command line or in the environment; relative paths start where it was called.
fn read_here(
    variable: &'static Variable,
    text: &str,
    origin: Origin,
    place: &str,
    surroundings: &Surroundings,
) -> Result<Chosen, Failure> {
    let home = surroundings.home();
    match SettingValue::read(variable, text, surroundings.current_folder(), home.as_deref()) {
        Ok(value) => Ok(Chosen { variable, value, origin }),
        Err(rule) => Err(Failure::usage(format!("cannot use the value of `{place}`"))
            .cause(rule)
            .hint(variable.expectation())),
    }
}

fn file_layers(flags: &SettingFlags, surroundings: &Surroundings) -> Result<Vec<Layer>, Failure> {
    let home = surroundings.home();
    if let Some(path) = &flags.config {
        let path = surroundings.current_folder().join(path);
        let layer = read_config(&path, home.as_deref())?.ok_or_else(|| no_such_config(&path))?;
        return Ok(vec![layer]);
    }
    let mut layers = Vec::new();
    for path in folders::config_files(surroundings) {
        layers.extend(read_config(&path, home.as_deref())?);
    }
    Ok(layers)
}

fn no_such_config(path: &Path) -> Failure {
    Failure::usage(format!("there is no configuration file `{}`", path.display()))
        .hint("name another with `--config`, or leave the flag out")
}

fn namespace_of<'a>(layers: impl Iterator<Item = &'a Layer>) -> String {
    let said = layers.flatten().find(|chosen| chosen.variable == variables::NAMESPACE);
    said.expect("the layer of defaults has every setting").value.text()
}

fn up_layer(namespace: &str, surroundings: &Surroundings) -> Layer {
    let folder = folders::runtime_folder(surroundings);
    let Some(up) = UpFile::read_living(&folder, namespace, surroundings.uid()) else {
        return Layer::new();
    };
    let value = SettingValue::Text(up.record.address);
    vec![Chosen { variable: variables::REDIS_URL, value, origin: Origin::Up(up.path) }]
}

fn default_layer(surroundings: &Surroundings) -> Layer {
    let of = |variable: &&'static Variable| {
        let value = if *variable == variables::SNAPSHOT_DIR {
            SettingValue::Path(folders::snapshot_folder(surroundings))
        } else {
            SettingValue::read(variable, variable.default, surroundings.current_folder(), None)
                .expect("every default can be read: a test reads them all")
        };
        Chosen { variable, value, origin: Origin::Default }
    };
    variables::ALL.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(flags: &SettingFlags, variables: &[(&str, &str)], folder: &Path) -> Result<Settings, Failure> {
        let mut variables = variables.to_vec();
        let folder_text = folder.to_str().expect("text");
        variables.extend([("XDG_CONFIG_HOME", folder_text), ("XDG_RUNTIME_DIR", folder_text)]);
        Settings::load(flags, &Surroundings::made_up(&variables, folder, rustix::process::geteuid().as_raw()))
    }

    #[test]
    fn every_setting_has_a_value_of_its_own_type() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = load(&SettingFlags::default(), &[], folder.path()).expect("defaults");
        assert_eq!(settings.all().len(), variables::ALL.len());
        assert_eq!(settings.redis_url(), "redis://localhost:6379");
        assert!(!settings.redis_is_given());
        assert_eq!(settings.namespace(), "maestro");
        assert_eq!(settings.workspace_root(), Path::new("/tmp/maestro-workspaces"));
        assert_eq!(settings.agents_dirs(), [folder.path().join("agents.d"), "/etc/maestro/agents.d".into()]);
        assert_eq!(settings.log_level(), tracing::Level::INFO);
        assert_eq!(settings.log_format(), LogFormat::Text);
        assert_eq!((settings.max_concurrent(), settings.max_attempts()), (4, 3));
        assert_eq!(settings.agent_timeout(), Duration::from_secs(1800));
        assert_eq!(
            (settings.heartbeat(), settings.lease()),
            (Duration::from_secs(5), Duration::from_secs(30))
        );
        assert_eq!(settings.state_ttl(), Duration::from_secs(86_400));
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(settings.run_retention(), week);
        assert_eq!(settings.run_bytes(), 1 << 30);
        assert_eq!(settings.kilocode_bin(), (PathBuf::from("/usr/local/bin/kilo"), false));
        assert_eq!(settings.grace_period(), Duration::from_secs(10));
        assert_eq!(settings.drain_deadline(), Duration::from_secs(30));
        assert_eq!(settings.check_lease(), Ok(()));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_files() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("maestro.yaml"), "namespace: project\nlease: 1m\nmax_concurrent: 7\n")
            .expect("a file");
        fs::create_dir(folder.path().join("maestro")).expect("a folder");
        fs::write(folder.path().join("maestro/config.yaml"), "max_concurrent: 8\nheartbeat: 2\n")
            .expect("a file");
        let flags = SettingFlags { namespace: Some("flag".to_owned()), ..SettingFlags::default() };
        let environment =
            [("MAESTRO_NAMESPACE", "environment"), ("MAESTRO_LEASE", "2m"), ("MAESTRO_STATE_TTL", "")];
        let settings = load(&flags, &environment, folder.path()).expect("lawful");
        assert_eq!(settings.namespace(), "flag");
        assert_eq!(settings.lease(), Duration::from_secs(120));
        assert_eq!(settings.max_concurrent(), 7);
        assert_eq!(settings.heartbeat(), Duration::from_secs(2));
        assert_eq!(settings.chosen(variables::STATE_TTL).origin, Origin::Default, "empty is not set");
        let origin = settings.chosen(variables::MAX_CONCURRENT).origin.to_string();
        assert_eq!(origin, format!("{}:3", folder.path().join("maestro.yaml").display()));
    }

    #[test]
    fn a_named_file_stands_in_place_of_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("maestro.yaml"), "namespace: project\n").expect("a file");
        fs::write(folder.path().join("other.yaml"), "lease: 1m\n").expect("a file");
        let named = |name: &str| SettingFlags { config: Some(name.into()), ..SettingFlags::default() };
        let settings = load(&named("other.yaml"), &[], folder.path()).expect("lawful");
        assert_eq!((settings.namespace(), settings.lease()), ("maestro".to_owned(), Duration::from_secs(60)));
        let missing = load(&named("missing.yaml"), &[], folder.path()).expect_err("it is not there");
        assert_eq!(missing.exit(), crate::exit::Exit::Usage);
    }

    #[test]
    fn a_lease_too_short_for_the_grace_period_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings =
            load(&SettingFlags::default(), &[("MAESTRO_LEASE", "29s")], folder.path()).expect("read");
        let refused = settings.check_lease().expect_err("30s are needed");
        insta::assert_snapshot!(refused.one_line(), @"the lease of 29s is too short: it has to last at least 30s: the grace period of 10s, three heartbeats of 5s and 5s");
    }
}
