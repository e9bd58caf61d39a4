//! What belongs to an agent's program: the file itself, links on the way to it, the folder it was installed
//! in, and the same of the interpreter that its first line names.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::ground::Ground;
use crate::launch::find_program;

/// Longest chain of links, and of interpreters of interpreters.
const CHAIN_MAX: usize = 8;
/// As much of a first line as the kernel reads.
const FIRST_LINE_BYTES_MAX: u64 = 256;

/// Where a program is found and what it may bring along.
pub(super) struct ProgramSearch<'a> {
    /// The folders of PATH.
    pub(super) path: &'a OsStr,
    /// The agent's working directory.
    pub(super) folder: &'a Path,
    /// Folders of which no folder that holds them is taken for a package: the home, the workspace root.
    pub(super) guarded: &'a [&'a Path],
    /// Where agents may write.
    pub(super) ground: &'a Ground,
}

/// What belongs to a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    /// Files and folders to be read.
    pub(super) paths: Vec<PathBuf>,
    /// Links, and where they lead.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

impl Package {
    /// That of a command's first word; empty if there is no such program.
    pub(super) fn of(program: &OsStr, search: &ProgramSearch<'_>) -> Package {
        let mut package = Package::default();
        let mut next = find_program(program, search.path, search.folder);
        // One that cannot be executed is to be seen all the same: the kernel's word says more than ours.
        if next.is_none() && program.as_bytes().contains(&b'/') {
            package.paths.push(search.folder.join(program));
        }
        for _ in 0..CHAIN_MAX {
            let Some(file) = next else { break };
            // Where an agent may have made a link, it is no way to what else the host has.
            let Ok(found) = search.ground.find(&file) else { break };
            let real = found.real;
            package.follow_links(&file);
            package.paths.push(package_folder(&real, search.guarded));
            let word = interpreter(&real);
            // Nor is a path in the first line of what an agent may have written; a name is looked for on PATH.
            let word = word.filter(|word| !(found.is_agents && word.as_bytes().contains(&b'/')));
            next = word.and_then(|word| find_program(&word, search.path, search.folder));
        }
        package
    }

    fn follow_links(&mut self, file: &Path) {
        let mut at = file.to_owned();
        for _ in 0..CHAIN_MAX {
            let Ok(text) = fs::read_link(&at) else { break };
            let target = plain(&at.parent().unwrap_or(Path::new("/")).join(&text));
            self.links.push((at, text));
            at = target;
        }
        self.paths.push(at);
    }
}

/// A path without `.` and `..`, as far as that can be told from its text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The folder of packages that a program lies in, its virtual environment, its own folder, or the file alone
/// where that folder is nobody's in particular.
fn package_folder(real: &Path, guarded: &[&Path]) -> PathBuf {
    let parts: Vec<Component<'_>> = real.components().collect();
    if let Some(at) = parts.iter().position(|part| part.as_os_str() == "node_modules") {
        return parts[..=at].iter().collect();
    }
    let Some(folder) = real.parent() else { return real.to_owned() };
    if folder.file_name() == Some(OsStr::new("bin")) {
        return match folder.parent() {
            Some(environment) if environment.join("pyvenv.cfg").is_file() => environment.to_owned(),
            _ => real.to_owned(),
        };
    }
    let shared = [Path::new("/"), Path::new("/tmp"), Path::new("/var/tmp")];
    let is_broad = shared.contains(&folder) || guarded.iter().any(|guarded| guarded.starts_with(folder));
    if is_broad { real.to_owned() } else { folder.to_owned() }
}

/// The program that a script's first line names, looked for on PATH if it is named through `env`.
fn interpreter(script: &Path) -> Option<OsString> {
    let mut head = Vec::new();
    fs::File::open(script).ok()?.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let program = words.next()?;
    if !program.ends_with(b"/env") {
        return Some(OsString::from_vec(program.to_vec()));
    }
    let named = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    Some(OsStr::from_bytes(named).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn program(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn find(name: &str, folders: &[&Path], home: &Path) -> Package {
        let path = std::env::join_paths(folders).expect("no colon");
        let search = ProgramSearch {
            path: &path,
            folder: Path::new("/"),
            guarded: &[home],
            ground: &Ground::default(),
        };
        Package::of(OsStr::new(name), &search)
    }

    #[test]
    fn a_linked_script_brings_its_packages_and_its_interpreter() {
        let place = tempfile::tempdir().expect("a folder");
        let home = fs::canonicalize(place.path()).expect("it is there");
        let (bin, node) = (home.join("bin"), home.join("runtime/node"));
        let script = home.join("lib/node_modules/tool/cli.js");
        program(&script, "#!/usr/bin/env -S node --quiet\n");
        program(&node, "\x7fELF");
        fs::create_dir(&bin).expect("a folder");
        symlink("../lib/node_modules/tool/cli.js", bin.join("tool")).expect("a link");
        let package = find("tool", &[&bin, &home.join("runtime")], &home);
        assert_eq!(package.links, [(bin.join("tool"), "../lib/node_modules/tool/cli.js".into())]);
        let expected = [script, home.join("lib/node_modules"), node, home.join("runtime")];
        assert_eq!(package.paths, expected);
    }

    #[test]
    fn what_agents_may_have_written_brings_nothing_of_the_host() {
        let place = tempfile::tempdir().expect("a folder");
        let home = fs::canonicalize(place.path()).expect("it is there");
        let (work, tool) = (home.join("work"), home.join("tool/run"));
        program(&tool, "");
        program(&work.join("script"), &format!("#!{}\n", tool.display()));
        program(&work.join("named"), "#!/usr/bin/env run\n");
        symlink(&tool, work.join("link")).expect("a link");
        let mut ground = Ground::default();
        ground.add(&work);
        let path = std::env::join_paths([tool.parent().expect("it has a folder")]).expect("no colon");
        let paths = |name: &str| {
            let search = ProgramSearch { path: &path, folder: &work, guarded: &[&home], ground: &ground };
            Package::of(OsStr::new(name), &search).paths
        };
        assert_eq!(paths("./link"), Vec::<PathBuf>::new());
        assert_eq!(paths("./script"), [work.join("script"), work.clone()]);
        let found = paths("./named");
        assert!(found.contains(&home.join("tool")), "PATH is the worker's word: {found:?}");
    }

    #[test]
    fn a_folder_that_is_nobodys_in_particular_is_not_taken_for_a_package() {
        let place = tempfile::tempdir().expect("a folder");
        let home = fs::canonicalize(place.path()).expect("it is there");
        program(&home.join("tool"), "");
        program(&home.join(".local/bin/other"), "");
        program(&home.join("venv/bin/third"), "");
        fs::write(home.join("venv/pyvenv.cfg"), "").expect("a file");
        let folder = |name: &str| {
            let folders = [home.clone(), home.join(".local/bin"), home.join("venv/bin")];
            find(name, &folders.each_ref().map(PathBuf::as_path), &home).paths.pop()
        };
        assert_eq!(folder("tool"), Some(home.join("tool")), "the home itself is not a package");
        assert_eq!(folder("other"), Some(home.join(".local/bin/other")));
        assert_eq!(folder("third"), Some(home.join("venv")));
        assert_eq!(folder("missing"), None);
    }
}
