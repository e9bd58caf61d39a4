//! Which paths of the host one agent may read and write.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use maestro_model::agent_type::{AgentType, HomeChoice};

use super::ground::{Astray, Ground, Place};
use super::package::{Package, ProgramSearch};
use crate::launch::LaunchError;
use crate::launch::{SETTINGS_FOLDER, SYSTEM_FOLDERS, SettingsFound, ViewEntry, ViewKind};
use crate::workspace::WorkspacePaths;

/// Deepest way from an allowed folder to a hidden one in it that is walked.
const SPLIT_DEPTH_MAX: usize = 16;

/// What an agent may do with a path, and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    /// List folders, and no more.
    List,
    /// Read, list, execute.
    Read,
    /// And write, make, remove.
    Write,
}

/// Where one agent works, and what its type asks for.
pub(crate) struct ReachFacts<'a> {
    /// Its type; templates in its paths are rendered.
    pub(crate) agent: &'a AgentType,
    /// Its folders.
    pub(crate) paths: &'a WorkspacePaths,
    /// The root below which all workspaces lie.
    pub(crate) root: &'a Path,
    /// The program it launches.
    pub(crate) program: &'a OsStr,
    /// The folders of its PATH.
    pub(crate) path: &'a OsStr,
    /// The template its workspace began with.
    pub(crate) template: Option<&'a Path>,
    /// The socket of its side door.
    pub(crate) door: Option<&'a Path>,
    /// The home of the worker's user.
    pub(crate) home: &'a Path,
}

/// All that an agent may reach beside the system's folders.
#[derive(Debug)]
pub(crate) struct Reach {
    rights: BTreeMap<PathBuf, Granted>,
    links: BTreeMap<PathBuf, PathBuf>,
    hidden: Vec<PathBuf>,
}

/// A right to a path.
#[derive(Debug)]
struct Granted {
    right: Right,
    /// Where it is, without links.
    real: PathBuf,
    /// Whether its type names it.
    is_named: bool,
}

/// A piece of the host that Landlock is to allow.
pub(super) struct Allowed {
    pub(super) path: PathBuf,
    pub(super) right: Right,
    /// Whether a link on the way is one of the system's, and no agent's.
    pub(super) follows_links: bool,
}

impl Reach {
    /// `known` are folders that agents could write to before.
    ///
    /// # Errors
    /// `PathRefused` for a path of the type's that no agent can be given.
    pub(crate) fn of(facts: &ReachFacts<'_>, known: &[PathBuf]) -> Result<Reach, LaunchError> {
        let mut reach = Reach { rights: BTreeMap::new(), links: BTreeMap::new(), hidden: Vec::new() };
        reach.hide(facts.root);
        let (agent, paths) = (facts.agent, facts.paths);
        let writable: Vec<PathBuf> =
            agent.paths.write.iter().map(|path| expanded(path, facts.home)).collect();
        let mut ground = Ground::default();
        let own = [facts.root, paths.folder.as_path(), paths.own.as_path()].into_iter();
        for folder in own.chain(known.iter().chain(&writable).map(PathBuf::as_path)) {
            ground.add(folder);
        }
        reach.add_program(facts, &ground);
        let readable = agent.paths.read.iter().map(String::as_str);
        let readable = readable.chain(agent.cache_dir.as_deref()).chain(agent.secrets_dir.as_deref());
        for path in readable {
            reach.allow_named(&expanded(path, facts.home), Right::Read, &ground)?;
        }
        for path in &writable {
            reach.allow_named(path, Right::Write, &ground)?;
        }
        for path in facts.template.into_iter().chain(facts.door) {
            reach.allow(path, Right::Read, &ground);
        }
        reach.allow(&paths.own, Right::Read, &ground);
        for path in [&paths.folder, &paths.tmp(), &paths.out()] {
            reach.allow(path, Right::Write, &ground);
        }
        if agent.home == HomeChoice::Workspace {
            reach.allow(&paths.home(), Right::Write, &ground);
        }
        Ok(reach)
    }

    /// The program with what belongs to it, and this one, by which agents speak with their side door.
    fn add_program(&mut self, facts: &ReachFacts<'_>, ground: &Ground) {
        let guarded = [facts.home, facts.root];
        let (path, folder) = (facts.path, facts.paths.folder.as_path());
        let search = ProgramSearch { path, folder, guarded: &guarded, ground };
        let package = Package::of(facts.program, &search);
        for path in package.paths.iter().chain(std::env::current_exe().ok().as_ref()) {
            if !is_of_system(path) {
                self.allow(path, Right::Read, ground);
            }
        }
        let links = package.links.into_iter().filter(|(link, _)| !is_of_system(link));
        self.links.extend(links);
    }

    /// Keeps a folder out of reach, also where it lies in one that may be read.
    fn hide(&mut self, folder: &Path) {
        self.hidden.push(folder.to_owned());
        self.hidden.extend(fs::canonicalize(folder).ok().filter(|real| real != folder));
    }

    /// What is not there is passed over: nothing can be shown of it.
    fn allow(&mut self, path: &Path, right: Right, ground: &Ground) {
        if is_lawful(path)
            && let Ok(place) = ground.find(path)
        {
            self.grant(path, place, right, false);
        }
    }

    /// The same for a path that the type names.
    ///
    /// # Errors
    /// `PathRefused` if an agent may have led it elsewhere, or the workspaces of all lie there.
    fn allow_named(&mut self, path: &Path, right: Right, ground: &Ground) -> Result<(), LaunchError> {
        if !is_lawful(path) {
            return Ok(());
        }
        let refused = |rule: String| LaunchError::PathRefused { path: path.to_owned(), rule };
        match ground.find(path) {
            Ok(place) if self.hidden.contains(&place.real) => {
                Err(refused("the workspaces of others lie there".to_owned()))
            }
            Ok(place) => {
                self.grant(path, place, right, true);
                Ok(())
            }
            Err(Astray::Host(_)) => Ok(()),
            Err(astray) => Err(refused(astray.to_string())),
        }
    }

    fn grant(&mut self, path: &Path, place: Place, right: Right, is_named: bool) {
        let is_plain = path.components().all(|part| part != Component::ParentDir);
        let path = if is_plain { path.to_owned() } else { place.real.clone() };
        let granted = Granted { right, real: place.real, is_named };
        let known = self.rights.entry(path).or_insert(granted);
        (known.right, known.is_named) = (right.max(known.right), is_named && known.is_named);
    }

    /// Folders outside of the workspace root in which its agent may write.
    pub(super) fn writable(&self) -> impl Iterator<Item = &Path> {
        let hidden = &self.hidden;
        let writable = self.rights.values().filter(|granted| granted.right == Right::Write);
        let writable = writable.map(|granted| granted.real.as_path());
        writable.filter(|path| !hidden.iter().any(|hidden| path.starts_with(hidden)))
    }

    /// The paths that its type names, and nothing else asks for.
    pub(super) fn named(&self) -> impl Iterator<Item = &Path> {
        self.rights.iter().filter(|(_, granted)| granted.is_named).map(|(path, _)| path.as_path())
    }

    /// What is to be seen in a view, a folder before what lies in it.
    pub(crate) fn entries(&self) -> Vec<ViewEntry> {
        let entry = |kind, path: &Path, text: &Path| {
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            ViewEntry { kind, path: bytes(path), text: bytes(text) }
        };
        let mut entries = BTreeMap::new();
        for (path, granted) in self.rights.iter().filter(|(path, _)| !is_own_world(path)) {
            let kind = if granted.right == Right::Write { ViewKind::Write } else { ViewKind::Read };
            entries.insert(path.clone(), entry(kind, path, &granted.real));
        }
        for (path, text) in &self.links {
            entries.entry(path.clone()).or_insert_with(|| entry(ViewKind::Link, path, text));
        }
        for hidden in self.hidden.iter().flat_map(|hidden| self.shown_at(hidden)) {
            entries.insert(hidden.clone(), entry(ViewKind::Hidden, &hidden, Path::new("")));
        }
        entries.into_values().collect()
    }

    /// Where a view would show a folder: at its own path, and below every name of a folder that holds it.
    fn shown_at(&self, hidden: &Path) -> Vec<PathBuf> {
        let shown = self.rights.iter().filter(|(path, _)| !is_own_world(path));
        let shown = shown.map(|(path, granted)| (path.as_path(), granted.real.as_path()));
        let system = SYSTEM_FOLDERS.iter().map(|folder| (Path::new(folder), Path::new(folder)));
        let by_name = |(path, real): (&Path, &Path)| {
            let places =
                [path, real].map(|folder| hidden.strip_prefix(folder).ok().map(|rest| path.join(rest)));
            places.into_iter().flatten().collect::<Vec<_>>()
        };
        system.chain(shown).flat_map(by_name).collect()
    }

    /// What Landlock is to allow of the host. An agent that sees the host as it is has nothing else to keep it
    /// from what is hidden: there a folder that holds something hidden is allowed piece by piece, without itself,
    /// and of `/etc` only files that every user may read, one by one: others may come, or be renamed into place.
    pub(super) fn allowed(&self, sees_host: bool) -> Vec<Allowed> {
        let settings = Path::new(SETTINGS_FOLDER);
        let system = SYSTEM_FOLDERS.iter().map(PathBuf::from).filter(|folder| folder != settings);
        let system = system.map(|path| Allowed { path, right: Right::Read, follows_links: true });
        let plain = |path, right| Allowed { path, right, follows_links: false };
        let all =
            system.chain(self.rights.values().map(|granted| plain(granted.real.clone(), granted.right)));
        if !sees_host {
            return all.collect();
        }
        let found = SettingsFound::look();
        let mut allowed: Vec<_> = found.files().map(|file| plain(file.to_owned(), Right::Read)).collect();
        let hidden: Vec<&Path> = found.hidden().iter().map(PathBuf::as_path).collect();
        split(settings.to_owned(), &hidden, SPLIT_DEPTH_MAX, &mut |path| {
            allowed.push(plain(path, Right::List))
        });
        let hidden: Vec<&Path> = self.hidden.iter().map(PathBuf::as_path).collect();
        for Allowed { path, right, follows_links } in all {
            split(path, &hidden, SPLIT_DEPTH_MAX, &mut |path| {
                allowed.push(Allowed { path, right, follows_links });
            });
        }
        allowed
    }
}

/// Gives all that lies in a folder but what is hidden, in as few pieces as that takes.
fn split(path: PathBuf, hidden: &[&Path], depth: usize, give: &mut impl FnMut(PathBuf)) {
    if hidden.contains(&path.as_path()) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(&path)) {
        return give(path);
    }
    if depth > 0 {
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        // Where a link leads is allowed by itself, or not at all.
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink())) {
            split(entry.path(), hidden, depth - 1, give);
        }
    }
}

/// Neither a relative path, nor an address, nor the whole host.
fn is_lawful(path: &Path) -> bool {
    path.is_absolute() && path != Path::new("/")
}

fn is_of_system(path: &Path) -> bool {
    SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// What is every agent's own in its view, and not shown to it from the host.
fn is_own_world(path: &Path) -> bool {
    ["/proc", "/tmp", "/dev/shm", "/dev", "/"].iter().any(|own| path == Path::new(own))
        || path.starts_with("/proc")
        || path.starts_with("/dev/pts")
}

fn expanded(path: &str, home: &Path) -> PathBuf {
    let path = path.strip_prefix("file://").unwrap_or(path);
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if path == "~" => home.to_owned(),
        None => path.into(),
    }
}
