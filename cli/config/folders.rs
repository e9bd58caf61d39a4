//! Where Maestro's own files are: configuration, data, and what lives only as long as a process.
//!
//! Never `~/.maestro`: that belongs to another program. Nothing is created here, except the runtime
//! folder, which must be ours alone before anything is put into it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::surroundings::Surroundings;
use crate::failure::Failure;

/// The data folder of a whole machine.
const SYSTEM_DATA: &str = "/var/lib/maestro";
/// The configuration file of a whole machine.
const SYSTEM_CONFIG: &str = "/etc/maestro/config.yaml";
/// A configuration file in or above the current folder.
const PROJECT_CONFIG: &str = "maestro.yaml";

/// The folder for what stays: `$XDG_DATA_HOME/maestro` if that is set, else `/var/lib/maestro` where it is
/// writable (root), else `~/.local/share/maestro`.
pub(crate) fn data_folder(surroundings: &Surroundings) -> PathBuf {
    if let Some(data) = surroundings.folder("XDG_DATA_HOME") {
        return data.join("maestro");
    }
    if can_be_written(Path::new(SYSTEM_DATA)) {
        return PathBuf::from(SYSTEM_DATA);
    }
    match surroundings.home() {
        Some(home) => home.join(".local/share/maestro"),
        None => temporary_folder(surroundings).join("data"),
    }
}

/// Where snapshots go by default: on the machine's own place if that is writable, else in the data folder.
pub(crate) fn snapshot_folder(surroundings: &Surroundings) -> PathBuf {
    let system = Path::new(SYSTEM_DATA).join("snapshots");
    if can_be_written(&system) { system } else { data_folder(surroundings).join("snapshots") }
}

/// Where the user's own configuration is or would be.
pub(crate) fn user_config(surroundings: &Surroundings) -> Option<PathBuf> {
    let base = surroundings.folder("XDG_CONFIG_HOME");
    let base = base.or_else(|| Some(surroundings.home()?.join(".config")))?;
    Some(base.join("maestro/config.yaml"))
}

/// The configuration files that count, strongest first, whether they exist or not.
/// `maestro.yaml` is looked for upwards, and only the nearest counts.
pub(crate) fn config_files(surroundings: &Surroundings) -> Vec<PathBuf> {
    let above = surroundings.current_folder().ancestors().map(|folder| folder.join(PROJECT_CONFIG));
    let nearest = above.into_iter().find(|path| path.is_file());
    let system = PathBuf::from(SYSTEM_CONFIG);
    nearest.into_iter().chain(user_config(surroundings)).chain([system]).collect()
}

/// Where sockets and `up-<namespace>.json` are: `$XDG_RUNTIME_DIR/maestro`, else `/tmp/maestro-<uid>`.
pub(crate) fn runtime_folder(surroundings: &Surroundings) -> PathBuf {
    match surroundings.folder("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("maestro"),
        None => temporary_folder(surroundings),
    }
}

/// Folders whose paths are short enough for sockets, best first; whoever uses one makes it and checks it.
pub(crate) fn short_folders(surroundings: &Surroundings) -> Vec<PathBuf> {
    vec![runtime_folder(surroundings), temporary_folder(surroundings)]
}

fn temporary_folder(surroundings: &Surroundings) -> PathBuf {
    PathBuf::from(format!("/tmp/maestro-{}", surroundings.uid()))
}

/// Makes the runtime folder if it is not there, and refuses (77) one that others could have filled:
/// `/tmp` is open to all, and whoever owns the folder decides which Redis we speak to.
pub(crate) fn own_runtime_folder(surroundings: &Surroundings) -> Result<PathBuf, Failure> {
    let folder = runtime_folder(surroundings);
    let cannot = |error: &std::io::Error| {
        Failure::usage(format!("cannot make the folder `{}`", folder.display()))
            .caused_by(error)
            .hint("set `XDG_RUNTIME_DIR` to a folder of your own")
    };
    if let Err(error) = DirBuilder::new().mode(0o700).create(&folder)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(cannot(&error));
    }
    match foreign_hand(&folder, surroundings.uid()) {
        None => Ok(folder),
        Some(reason) => Err(Failure::refused(format!("cannot trust the folder `{}`", folder.display()))
            .cause(reason)
            .hint("remove it, or set `XDG_RUNTIME_DIR` to a folder of your own")),
    }
}

/// Why a folder is not ours alone, or nothing if it is. A folder that is missing is nobody's.
pub(crate) fn foreign_hand(folder: &Path, uid: u32) -> Option<String> {
    let metadata = match fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    if !metadata.is_dir() {
        return Some("it is not a folder".to_owned());
    }
    if metadata.uid() != uid {
        return Some(format!("it belongs to user {}, not to user {uid}", metadata.uid()));
    }
    let mode = metadata.mode() & 0o777;
    (mode & 0o022 != 0).then(|| format!("others may write to it (mode {mode:o})"))
}

/// Whether a folder could be used, or made, by this process. Asks the nearest ancestor that exists.
fn can_be_written(folder: &Path) -> bool {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|ancestor| {
        ancestor.is_dir() && rustix::fs::access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn xdg_folders_win_over_the_home() {
        let here = Path::new("/");
        let set =
            [("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "/c"), ("XDG_RUNTIME_DIR", "/r")];
        let given = Surroundings::made_up(&set, here, 7);
        assert_eq!(data_folder(&given), Path::new("/d/maestro"));
        assert_eq!(user_config(&given), Some(PathBuf::from("/c/maestro/config.yaml")));
        assert_eq!(runtime_folder(&given), Path::new("/r/maestro"));

        let bare = Surroundings::made_up(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "not/absolute")], here, 7);
        assert_eq!(user_config(&bare), Some(PathBuf::from("/h/.config/maestro/config.yaml")));
        assert_eq!(runtime_folder(&bare), Path::new("/tmp/maestro-7"));
    }

    #[test]
    fn the_nearest_file_above_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let deep = root.path().join("a/b/c");
        fs::create_dir_all(&deep).expect("folders");
        let surroundings = Surroundings::made_up(&[("XDG_CONFIG_HOME", "/c")], &deep, 7);
        for (written, found) in [("maestro.yaml", "maestro.yaml"), ("a/b/maestro.yaml", "a/b/maestro.yaml")] {
            fs::write(root.path().join(written), "").expect("a file");
            let files = config_files(&surroundings);
            let expected = [root.path().join(found), "/c/maestro/config.yaml".into(), SYSTEM_CONFIG.into()];
            assert_eq!(files, expected);
        }
    }

    #[test]
    fn a_folder_that_others_could_fill_is_not_trusted() {
        let root = tempfile::tempdir().expect("a folder");
        let uid = rustix::process::geteuid().as_raw();
        let folder = root.path().join("maestro");
        assert!(foreign_hand(&folder, uid).is_some(), "missing");

        let surroundings = Surroundings::made_up(
            &[("XDG_RUNTIME_DIR", root.path().to_str().expect("text"))],
            root.path(),
            uid,
        );
        assert_eq!(own_runtime_folder(&surroundings), Ok(folder.clone()));
        assert_eq!(fs::metadata(&folder).expect("made").mode() & 0o777, 0o700);
        assert_eq!(own_runtime_folder(&surroundings), Ok(folder.clone()), "a second time");

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(own_runtime_folder(&surroundings).is_err());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(foreign_hand(&folder, uid + 1).is_some(), "another user");

        let link = root.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).expect("a link");
        assert!(foreign_hand(&link, uid).is_some(), "a link");
    }
}
