//! What of `/etc` every agent may read, and a copy of it for a view.
//!
//! A copy, since neither the host's folder with its secrets covered nor its entries bound one by one hold: the
//! kernel takes a mount away when its place is renamed over, a folder shows what is put into it later, and a
//! root without capabilities owns root's files whatever their mode. What is copied was readable to every user of
//! the host at that moment; nothing that comes later can be reached through it.
//!
//! Left out: Maestro's own, what not every user may read, what is neither file, folder nor link, and what is
//! beyond the limits below.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::system::SYSTEM_FOLDERS;

/// The folder of settings.
pub(crate) const SETTINGS_FOLDER: &str = "/etc";
/// Settings that often are links to elsewhere, and without which names and times are wrong.
const LINKED_SETTINGS: [&str; 3] = ["/etc/resolv.conf", "/etc/localtime", "/etc/hosts"];
/// Maestro's own settings: the address of Redis with its password may be in them.
const OWN_SETTINGS: &str = "/etc/maestro";
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 16;
/// Most files, folders and links.
const ENTRIES_MAX: usize = 16_384;
/// Longest file, bytes.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Longest of all together, bytes; a copy takes memory.
const TOTAL_BYTES_MAX: u64 = 16 << 20;

/// One of the settings that every user of the host may read.
#[derive(Debug)]
struct PublicSetting {
    /// Where it is.
    path: PathBuf,
    kind: SettingKind,
}

#[derive(Debug)]
enum SettingKind {
    Folder,
    /// A file, and where its content lies: elsewhere for a link that leads out of the system's folders.
    File(PathBuf),
    Link,
}

/// What was found below `/etc`.
#[derive(Debug, Default)]
pub(crate) struct SettingsFound {
    public: Vec<PublicSetting>,
    hidden: Vec<PathBuf>,
    total_bytes: u64,
    mark: DefaultHasher,
}

impl SettingsFound {
    /// Looks through all of it, once.
    pub(crate) fn look() -> SettingsFound {
        let mut found = SettingsFound::default();
        found.look_into(Path::new(SETTINGS_FOLDER), 0);
        found
    }

    /// Another number whenever a setting that may be read has come, gone or changed.
    pub(crate) fn mark(&self) -> u64 {
        self.mark.finish()
    }

    /// Files that may be read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.public.iter().filter_map(|setting| match &setting.kind {
            SettingKind::File(source) => Some(source.as_path()),
            SettingKind::Folder | SettingKind::Link => None,
        })
    }

    /// What may not even be listed.
    pub(crate) fn hidden(&self) -> &[PathBuf] {
        &self.hidden
    }

    fn look_into(&mut self, folder: &Path, depth: usize) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(found) = path.symlink_metadata() else { continue };
            let is_full = self.public.len() >= ENTRIES_MAX;
            let open = if found.is_dir() { 0o005 } else { 0o004 };
            let is_public = path != Path::new(OWN_SETTINGS) && found.mode() & open == open;
            if is_full || !(is_public || found.is_symlink()) {
                self.hidden.push(path);
            } else if found.is_dir() {
                self.note(path.clone(), SettingKind::Folder, &found);
                if depth < DEPTH_MAX {
                    self.look_into(&path, depth + 1);
                }
            } else if found.is_symlink() {
                match linked_elsewhere(&path) {
                    Some((source, content)) => self.note_file(path, source, &content),
                    None => self.note(path, SettingKind::Link, &found),
                }
            } else if found.is_file() {
                self.note_file(path.clone(), path, &found);
            }
        }
    }

    fn note_file(&mut self, path: PathBuf, source: PathBuf, found: &Metadata) {
        let total = self.total_bytes.saturating_add(found.len());
        if found.len() > FILE_BYTES_MAX || total > TOTAL_BYTES_MAX {
            return self.hidden.push(path);
        }
        self.total_bytes = total;
        self.note(path, SettingKind::File(source), found);
    }

    fn note(&mut self, path: PathBuf, kind: SettingKind, found: &Metadata) {
        // A folder's own times say nothing that its entries do not say.
        let changed = if found.is_dir() { (0, 0) } else { (found.ctime(), found.ctime_nsec()) };
        (&path, found.dev(), found.ino(), found.mode(), changed).hash(&mut self.mark);
        self.public.push(PublicSetting { path, kind });
    }

    /// Copies all that may be read to where `place` says.
    ///
    /// # Errors
    /// If a place cannot be written to. What is gone or closed by now is left out.
    pub(super) fn copy(&self, place: impl Fn(&Path) -> PathBuf) -> io::Result<()> {
        for setting in &self.public {
            let target = place(&setting.path);
            match &setting.kind {
                SettingKind::Folder => fs::create_dir(&target)?,
                SettingKind::Link => {
                    if let Ok(text) = fs::read_link(&setting.path) {
                        symlink(text, &target)?;
                    }
                }
                SettingKind::File(source) => copy_file(source, &target)?,
            }
        }
        Ok(())
    }
}

/// The content of a linked setting that lies where an agent sees nothing.
fn linked_elsewhere(path: &Path) -> Option<(PathBuf, Metadata)> {
    if !LINKED_SETTINGS.iter().any(|linked| path == Path::new(linked)) {
        return None;
    }
    let target = fs::canonicalize(path).ok()?;
    let found = target.metadata().ok()?;
    let is_seen = SYSTEM_FOLDERS.iter().any(|folder| target.starts_with(folder));
    (!is_seen && found.is_file() && found.mode() & 0o004 != 0).then_some((target, found))
}

/// What counts is the file that is opened, not the one that was looked at before.
fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(source) else { return Ok(()) };
    let Ok(found) = file.metadata() else { return Ok(()) };
    if !found.is_file() || found.mode() & 0o004 == 0 {
        return Ok(());
    }
    let mut bytes = Vec::with_capacity(found.len().min(FILE_BYTES_MAX) as usize);
    if file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return Ok(());
    }
    fs::write(target, bytes)?;
    fs::set_permissions(target, Permissions::from_mode(found.mode() & 0o555 | 0o444))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_hashes_are_hidden_and_names_of_users_are_not() {
        let found = SettingsFound::look();
        let shadow = PathBuf::from("/etc/shadow");
        assert!(found.hidden().contains(&shadow), "{:?}", found.hidden());
        let files: Vec<&Path> = found.files().collect();
        assert!(!files.contains(&shadow.as_path()));
        assert!(files.contains(&Path::new("/etc/passwd")), "{files:?}");
    }

    #[test]
    fn a_copy_holds_what_all_may_read() {
        let place = tempfile::tempdir().expect("a folder");
        let found = SettingsFound::look();
        fs::create_dir(place.path().join("etc")).expect("ours");
        found.copy(|path| place.path().join(path.strip_prefix("/").expect("absolute"))).expect("room");
        let read = |folder: &Path| fs::read(folder.join("etc/passwd")).expect("it is there");
        assert_eq!(read(place.path()), read(Path::new("/")));
        assert!(!place.path().join("etc/shadow").exists());
    }
}
