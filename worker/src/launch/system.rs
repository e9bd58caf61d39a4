//! The folders of the host that every agent may read, and what in them it may not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders of programs, libraries and settings.
pub(crate) const SYSTEM_FOLDERS: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc", "/sys"];
/// Settings that often are links to elsewhere, and without which names and times are wrong.
const LINKED_SETTINGS: [&str; 3] = ["/etc/resolv.conf", "/etc/localtime", "/etc/hosts"];
/// Maestro's own settings: the address of Redis with its password may be in them.
const OWN_SETTINGS: &str = "maestro";
/// Deepest folder below `/etc` that is looked at.
const ETC_DEPTH_MAX: usize = 4;

/// Files that settings lead to and that lie in none of the system's folders.
pub(crate) fn targets_outside() -> Vec<PathBuf> {
    let targets = LINKED_SETTINGS.iter().filter_map(|name| fs::canonicalize(name).ok());
    targets.filter(|target| !SYSTEM_FOLDERS.iter().any(|folder| target.starts_with(folder))).collect()
}

/// What below `/etc` no agent may see: Maestro's own, and whatever not every user of the host may read, such
/// as password hashes and private keys. To an agent of root these would be open, capabilities or not.
pub(crate) fn hidden_below_etc() -> Vec<PathBuf> {
    let mut hidden = Vec::new();
    look_for_hidden(Path::new("/etc"), 1, &mut hidden);
    hidden
}

fn look_for_hidden(folder: &Path, depth: usize, hidden: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_symlink() {
            continue;
        }
        let open = if found.is_dir() { 0o005 } else { 0o004 };
        let is_own = depth == 1 && entry.file_name() == OWN_SETTINGS;
        if is_own || found.mode() & open != open {
            hidden.push(path);
        } else if found.is_dir() && depth < ETC_DEPTH_MAX {
            look_for_hidden(&path, depth + 1, hidden);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_hashes_are_hidden_and_names_of_users_are_not() {
        let hidden = hidden_below_etc();
        assert!(hidden.contains(&PathBuf::from("/etc/shadow")), "{hidden:?}");
        for open in ["/etc", "/etc/passwd", "/etc/ssl", "/etc/hosts"] {
            assert!(!hidden.contains(&PathBuf::from(open)), "{open} is for everybody");
        }
    }
}
