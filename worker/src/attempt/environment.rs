//! What an agent finds in its environment: this and nothing else of the worker's.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use maestro_model::agent_type::{HomeChoice, Isolation, PromptVia};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::order::AttemptOrder;
use super::secrets::AttemptSecrets;
use crate::launch::DEFAULT_PATH;
use crate::workspace::{WorkspacePaths, WorkspacePlace};

/// What LANG is where the worker has none: text is UTF-8 to every agent.
const DEFAULT_LANG: &str = "C.UTF-8";
/// Names that Maestro alone sets for agents. None of the worker's own reaches them: its Redis address is one.
const OWN_PREFIX: &str = "MAESTRO_";

/// The worker's own environment, read once when it starts.
#[derive(Debug, Clone, Default)]
pub struct HostEnvironment {
    variables: HashMap<OsString, OsString>,
}

impl HostEnvironment {
    /// That of this process.
    pub fn of_this_process() -> HostEnvironment {
        std::env::vars_os().collect()
    }

    /// Closes `/proc` of this process to others of its user, agents above all: its environment may hold the
    /// password of Redis, and its descriptors lead there. Root, and who may trace everything, still sees it.
    pub fn hide_from_agents() {
        if let Err(errno) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!("agents may read this worker's environment: {errno}");
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The HOME of the worker's user.
    pub(super) fn home(&self) -> &OsStr {
        self.get("HOME").unwrap_or(OsStr::new("/"))
    }

    /// A path in which `~` at the beginning is the home of the worker's user.
    pub(super) fn expanded(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/") {
            Some(rest) => Path::new(self.home()).join(rest),
            None if path == "~" => self.home().into(),
            None => path.into(),
        }
    }

    /// PATH as agents get it: the worker's, or the usual folders.
    pub fn path(&self) -> &OsStr {
        self.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH))
    }

    /// The agent's whole environment. Later entries replace earlier ones: the host's, what the type lets
    /// through, what type and step set, the type's secrets, and last what Maestro says, which nobody can replace.
    ///
    /// `MAESTRO_DEADLINE` is in seconds since 1970, UTC, so that a shell can calculate with it.
    pub(super) fn of_agent(
        &self,
        order: &AttemptOrder,
        secrets: AttemptSecrets,
        paths: &WorkspacePaths,
        door: Option<&Path>,
        now: SystemTime,
    ) -> Vec<(OsString, OsString)> {
        let mut env = AgentEnvironment(Vec::with_capacity(32));
        // An image says itself where its programs are.
        if order.agent.isolate_with != Isolation::Docker {
            env.set("PATH", self.path());
        }
        match &order.agent.home {
            HomeChoice::Workspace => env.set("HOME", paths.home()),
            HomeChoice::Worker => env.set("HOME", self.home()),
            HomeChoice::Path(path) => env.set("HOME", self.expanded(path)),
        }
        env.set("TMPDIR", paths.tmp());
        env.set("LANG", self.get("LANG").unwrap_or(OsStr::new(DEFAULT_LANG)));
        // Without one the host's time zone holds, as for every other program on it.
        if let Some(zone) = self.get("TZ") {
            env.set("TZ", zone);
        }
        for name in &order.agent.env_passthrough {
            if let Some(value) = self.get(name).filter(|_| !name.starts_with(OWN_PREFIX)) {
                env.set(name, value);
            }
        }
        for (name, value) in &order.env {
            env.set(name, value);
        }
        for (name, value) in secrets.variables {
            env.set(name, value);
        }
        let deadline = (now + order.timeout).duration_since(UNIX_EPOCH).unwrap_or_default();
        env.set("MAESTRO_RUN_ID", order.task.run.as_str());
        env.set("MAESTRO_TASK_ID", order.task.to_string());
        env.set("MAESTRO_STEP_ID", order.step.as_str());
        env.set("MAESTRO_ATTEMPT", order.attempt.to_string());
        env.set("MAESTRO_WORKFLOW", &order.workflow);
        env.set(
            "MAESTRO_AGENT",
            match &order.place {
                WorkspacePlace::Assigned(assigned) => assigned.agent.as_str(),
                WorkspacePlace::Task | WorkspacePlace::Run => order.agent.slug.as_str(),
            },
        );
        env.set("MAESTRO_WORKER", order.worker.as_str());
        env.set("MAESTRO_WORKSPACE", &paths.folder);
        env.set("MAESTRO_DEADLINE", deadline.as_secs().to_string());
        if let Some(socket) = door {
            env.set("MAESTRO_SOCKET", socket);
        }
        env.set("MAESTRO_OUTPUT_FILE", paths.output());
        env.set("MAESTRO_ERROR_FILE", paths.error());
        if order.agent.prompt_via == PromptVia::File {
            env.set("MAESTRO_PROMPT_FILE", paths.prompt());
        }
        env.0
    }
}

impl FromIterator<(OsString, OsString)> for HostEnvironment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> HostEnvironment {
        HostEnvironment { variables: variables.into_iter().collect() }
    }
}

struct AgentEnvironment(Vec<(OsString, OsString)>);

impl AgentEnvironment {
    fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref(), value.as_ref().to_owned());
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_of_the_workers_user() {
        let host = HostEnvironment::from_iter([("HOME".into(), "/home/w".into())]);
        assert_eq!(host.expanded("~"), Path::new("/home/w"));
        assert_eq!(host.expanded("~/x/y"), Path::new("/home/w/x/y"));
        assert_eq!(host.expanded("/~/x"), Path::new("/~/x"));
        assert_eq!(host.expanded("~other"), Path::new("~other"), "other users' homes are not looked up");
    }

    #[test]
    fn a_worker_is_hidden_from_processes_of_its_own_user() {
        HostEnvironment::hide_from_agents();
        let behavior = rustix::process::dumpable_behavior().expect("this is Linux");
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
    }
}
