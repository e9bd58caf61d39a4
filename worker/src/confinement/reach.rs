//! Which paths of the host one agent may read and write.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use maestro_model::agent_type::{AgentType, HomeChoice};

use super::package::{Package, ProgramSearch};
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
    rights: BTreeMap<PathBuf, Right>,
    links: BTreeMap<PathBuf, PathBuf>,
    hidden: Vec<PathBuf>,
}

impl Reach {
    pub(crate) fn of(facts: &ReachFacts<'_>) -> Reach {
        let mut reach = Reach { rights: BTreeMap::new(), links: BTreeMap::new(), hidden: Vec::new() };
        reach.hide(facts.root);
        reach.add_program(facts);
        let agent = facts.agent;
        let readable = agent.paths.read.iter().map(String::as_str);
        let readable = readable.chain(agent.cache_dir.as_deref()).chain(agent.secrets_dir.as_deref());
        for path in readable {
            reach.allow(&expanded(path, facts.home), Right::Read);
        }
        for path in &agent.paths.write {
            reach.allow(&expanded(path, facts.home), Right::Write);
        }
        let paths = facts.paths;
        for path in facts.template.into_iter().chain(facts.door) {
            reach.allow(path, Right::Read);
        }
        reach.allow(&paths.own, Right::Read);
        for path in [&paths.folder, &paths.tmp(), &paths.out()] {
            reach.allow(path, Right::Write);
        }
        if agent.home == HomeChoice::Workspace {
            reach.allow(&paths.home(), Right::Write);
        }
        reach
    }

    /// The program with what belongs to it, and this one, by which agents speak with their side door.
    fn add_program(&mut self, facts: &ReachFacts<'_>) {
        let guarded = [facts.home, facts.root];
        let search = ProgramSearch { path: facts.path, folder: &facts.paths.folder, guarded: &guarded };
        let package = Package::of(facts.program, &search);
        for path in package.paths.iter().chain(std::env::current_exe().ok().as_ref()) {
            if !is_of_system(path) {
                self.allow(path, Right::Read);
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

    /// What is not there is passed over: nothing can be shown of it. So is a relative path, an
    /// address, and the whole host.
    fn allow(&mut self, path: &Path, right: Right) {
        if !path.is_absolute() || path == Path::new("/") {
            return;
        }
        let is_plain = path.components().all(|part| part != Component::ParentDir);
        let path = if is_plain { Ok(path.to_owned()) } else { fs::canonicalize(path) };
        let Some(path) = path.ok().filter(|path| path.exists()) else { return };
        let known = self.rights.entry(path).or_insert(right);
        *known = right.max(*known);
    }

    /// What is to be seen in a view, a folder before what lies in it.
    pub(crate) fn entries(&self) -> Vec<ViewEntry> {
        let entry = |kind, path: &Path, text: &Path| {
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            ViewEntry { kind, path: bytes(path), text: bytes(text) }
        };
        let mut entries = BTreeMap::new();
        for (path, right) in self.rights.iter().filter(|(path, _)| !is_own_world(path)) {
            let kind = if *right == Right::Write { ViewKind::Write } else { ViewKind::Read };
            entries.insert(path.as_path(), entry(kind, path, Path::new("")));
        }
        for (path, text) in &self.links {
            entries.entry(path).or_insert_with(|| entry(ViewKind::Link, path, text));
        }
        for hidden in &self.hidden {
            let shown = self.rights.keys().map(PathBuf::as_path).filter(|path| !is_own_world(path));
            let shown = SYSTEM_FOLDERS.iter().map(Path::new).chain(shown);
            if shown.into_iter().any(|shown| hidden.starts_with(shown)) {
                entries.insert(hidden, entry(ViewKind::Hidden, hidden, Path::new("")));
            }
        }
        entries.into_values().collect()
    }

    /// What Landlock is to allow of the host. An agent that sees the host as it is has nothing else to keep it
    /// from what is hidden: there a folder that holds something hidden is allowed piece by piece, without itself,
    /// and of `/etc` only files that every user may read, one by one: others may come, or be renamed into place.
    pub(crate) fn allowed(&self, sees_host: bool) -> Vec<(PathBuf, Right)> {
        let settings = Path::new(SETTINGS_FOLDER);
        let system = SYSTEM_FOLDERS.iter().map(PathBuf::from).filter(|folder| folder != settings);
        let all = system.map(|path| (path, Right::Read));
        let all = all.chain(self.rights.iter().map(|(path, right)| (path.clone(), *right)));
        if !sees_host {
            return all.collect();
        }
        let found = SettingsFound::look();
        let mut allowed: Vec<_> = found.files().map(|file| (file.to_owned(), Right::Read)).collect();
        let hidden: Vec<&Path> = found.hidden().iter().map(PathBuf::as_path).collect();
        split(settings.to_owned(), &hidden, SPLIT_DEPTH_MAX, &mut |path| allowed.push((path, Right::List)));
        let hidden: Vec<&Path> = self.hidden.iter().map(PathBuf::as_path).collect();
        for (path, right) in all {
            split(path, &hidden, SPLIT_DEPTH_MAX, &mut |path| allowed.push((path, right)));
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
