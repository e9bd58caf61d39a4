//! What of the confinement a host can enforce, found out by trying.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landlock::RulesetError;
use maestro_store::worker::IsolationRecord;

use super::groups::{ControlGroups, Limited};
use super::reach::{Reach, ReachFacts};
use super::rules::RulesVersion;
use crate::launch::{LaunchError, Launcher, WallKind, WallPlan, can_refuse_keyrings};

/// What holds the agents of this worker.
#[derive(Debug, Clone)]
pub struct Confinement {
    namespaces: NamespacesFound,
    rules: Option<RulesVersion>,
    groups: ControlGroups,
    /// Folders to which agents of this worker could write, outside of its workspace root.
    written: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Most folders that are remembered as written to by agents.
const WRITTEN_MAX: usize = 256;

/// Whether agents have namespaces of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacesFound {
    /// Yes, of this kind.
    Built(WallKind),
    /// No, and why.
    Refused(String),
}

impl Confinement {
    /// Tries what the worker may: namespaces by its own rights, then within a user namespace, and Landlock.
    pub async fn find(launcher: &Launcher) -> Confinement {
        let is_root = rustix::process::geteuid().is_root();
        let kinds: &[WallKind] = if is_root {
            &[WallKind::Namespaces, WallKind::UserNamespaces]
        } else {
            &[WallKind::UserNamespaces]
        };
        Confinement::find_among(launcher, kinds).await
    }

    /// The same with these kinds of namespaces only, the best first.
    pub async fn find_among(launcher: &Launcher, kinds: &[WallKind]) -> Confinement {
        let mut refused = "not asked for".to_owned();
        let rules = RulesVersion::of_this_host();
        for kind in kinds {
            match launcher.try_walls(*kind).await {
                Ok(()) => return Confinement::with(NamespacesFound::Built(*kind), rules),
                Err(error) => refused = error.to_string(),
            }
        }
        Confinement::with(NamespacesFound::Refused(refused), rules)
    }

    fn with(namespaces: NamespacesFound, rules: Option<RulesVersion>) -> Confinement {
        Confinement { namespaces, rules, groups: ControlGroups::default(), written: Arc::default() }
    }

    /// The same with limits by control groups.
    #[must_use]
    pub fn with_groups(self, groups: ControlGroups) -> Confinement {
        Confinement { groups, ..self }
    }

    /// The control groups of this worker.
    pub fn groups(&self) -> &ControlGroups {
        &self.groups
    }

    /// Whether agents have namespaces of their own.
    pub fn namespaces(&self) -> &NamespacesFound {
        &self.namespaces
    }

    /// Landlock's version; 0 = there is none.
    pub fn landlock_version(&self) -> u32 {
        self.rules.map_or(0, RulesVersion::number)
    }

    /// What is in force, as one line: `confined by namespaces, landlock 7`.
    pub fn said(&self) -> String {
        let words = self.words();
        match (&self.namespaces, self.rules) {
            (NamespacesFound::Refused(_), None) => "not confined: no namespaces, no landlock".to_owned(),
            (NamespacesFound::Refused(_), _) => {
                format!("confined by {}, without namespaces", words.join(", "))
            }
            _ => format!("confined by {}", words.join(", ")),
        }
    }

    /// What is in force, a word or two each, for people.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match &self.namespaces {
            NamespacesFound::Built(WallKind::UserNamespaces) => words.push("user namespaces".to_owned()),
            NamespacesFound::Built(_) => words.push("namespaces".to_owned()),
            NamespacesFound::Refused(_) => {}
        }
        words.extend(self.rules.map(|rules| format!("landlock {}", rules.number())));
        if let Some(name) = self.groups.name() {
            let can = Limited::ALL.into_iter().filter(|limited| self.groups.can_limit(*limited));
            let can: Vec<&str> = can.map(Limited::key).collect();
            words.push(format!("{name} ({})", can.join(" ")));
        }
        words
    }

    /// What limits something here; none = nothing does.
    pub fn limiter(&self, limited: Limited) -> Option<&'static str> {
        match self.groups.name().filter(|_| self.groups.can_limit(limited)) {
            None if limited == Limited::Memory => Some("rlimit"),
            found => found,
        }
    }

    /// The record of it that the cluster keeps.
    pub fn record(&self) -> IsolationRecord {
        let namespaces = match &self.namespaces {
            NamespacesFound::Built(WallKind::UserNamespaces) => "user",
            NamespacesFound::Built(_) => "own",
            NamespacesFound::Refused(_) => "none",
        };
        let limits = Limited::ALL.into_iter();
        let limits = limits.filter_map(|one| Some((one.key().to_owned(), self.limiter(one)?.to_owned())));
        IsolationRecord {
            version: IsolationRecord::VERSION,
            namespaces: namespaces.to_owned(),
            landlock: self.landlock_version(),
            limits: limits.collect(),
            gaps: self.gaps().into_iter().map(str::to_owned).collect(),
            docker: None,
        }
    }

    /// What an agent can still reach of others', in words; empty if nothing is known.
    pub fn gaps(&self) -> Vec<&'static str> {
        let has_scopes = self.rules.is_some_and(RulesVersion::has_scopes);
        let mut gaps = Vec::new();
        if let NamespacesFound::Refused(_) = self.namespaces {
            gaps.extend(["path-named sockets", "the process list", "modes and times of files"]);
            gaps.extend([
                "System V shared memory",
                "priorities and resource limits of processes of the same user",
            ]);
            if !has_scopes {
                gaps.push("signals to processes of the same user");
            }
            if self.rules.is_none() {
                gaps.push("files of the worker's user");
            }
        }
        if !has_scopes {
            gaps.push("abstract sockets");
        }
        if !can_refuse_keyrings() {
            gaps.push("keyrings of the worker's user");
        }
        gaps.push("loopback");
        gaps
    }

    /// The walls of one agent.
    ///
    /// # Errors
    /// `PathRefused` for a path that its type may not name, `Confinement` if the host cannot build them.
    pub(crate) fn plan(&self, facts: &ReachFacts<'_>) -> Result<WallPlan, LaunchError> {
        let known: Vec<PathBuf> = self.written().iter().cloned().collect();
        let reach = Reach::of(facts, &known)?;
        self.remember(reach.writable());
        let kind = match self.namespaces {
            NamespacesFound::Built(kind) => kind,
            NamespacesFound::Refused(_) => WallKind::Open,
        };
        let sees_host = kind == WallKind::Open;
        let failed = |error: RulesetError| LaunchError::Confinement { source: std::io::Error::other(error) };
        let rules = self.rules.map(|rules| rules.ruleset(&reach, sees_host)).transpose().map_err(failed)?;
        Ok(WallPlan {
            kind,
            entries: if sees_host { Vec::new() } else { reach.entries() },
            named: reach.named().map(Path::to_owned).collect(),
            rules: rules.flatten().map(Arc::new),
            handled: self.rules.map_or(0, RulesVersion::handled),
        })
    }

    fn written(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links that an agent makes there are not to lead the agents of another type astray.
    fn remember<'a>(&self, folders: impl Iterator<Item = &'a Path>) {
        let mut written = self.written();
        for folder in folders {
            if written.len() < WRITTEN_MAX && !written.contains(folder) {
                written.insert(folder.to_owned());
            }
        }
    }
}
