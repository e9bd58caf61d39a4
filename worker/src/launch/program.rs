//! Where a program is looked for.
//!
//! The same rule as `execvp`, in two uses: the paths that a launch tries in turn, and the question asked
//! beforehand whether a host has the program at all. Whether it runs is only known by running it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

/// Where programs are looked for when the worker has no PATH of its own.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The paths to try: the name itself if it has a slash, else the name in each folder of `path`.
pub(super) fn candidates(program: &OsStr, path: &OsStr) -> Vec<Vec<u8>> {
    let name = program.as_bytes();
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let in_folder = |folder: &[u8]| match folder {
        // An empty entry has always meant the working directory.
        [] => [b"./", name].concat(),
        folder => [folder, b"/", name].concat(),
    };
    path.as_bytes().split(|byte| *byte == b':').map(in_folder).collect()
}

/// The file that a command would start: on `path` (as in PATH), or the name itself if it has a slash, then
/// relative to `folder`. None if there is no such file that this user may execute.
pub fn find_program(program: &OsStr, path: &OsStr, folder: &Path) -> Option<PathBuf> {
    let found = candidates(program, path);
    found.into_iter().map(|name| folder.join(OsStr::from_bytes(&name))).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let executable = rustix::fs::accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    executable && file.is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_with_a_slash_is_not_looked_up() {
        let tried = candidates(OsStr::new("./run.sh"), OsStr::new("/bin"));
        assert_eq!(tried, [b"./run.sh".to_vec()]);
        let tried = candidates(OsStr::new("sh"), OsStr::new("/a::/b"));
        assert_eq!(tried, [b"/a/sh".to_vec(), b"./sh".to_vec(), b"/b/sh".to_vec()]);
    }

    #[test]
    fn only_a_file_that_may_be_executed_is_a_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tool");
        fs::write(&file, "#!/bin/sh\n").expect("a file");
        let path = folder.path().as_os_str();
        assert_eq!(find_program(OsStr::new("tool"), path, Path::new("/")), None, "not executable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("our file");
        assert_eq!(find_program(OsStr::new("tool"), path, Path::new("/")), Some(file.clone()));
        assert_eq!(
            find_program(OsStr::new("./tool"), OsStr::new(""), folder.path()),
            Some(folder.path().join("./tool"))
        );
        fs::create_dir(folder.path().join("folder")).expect("a folder");
        assert_eq!(find_program(OsStr::new("folder"), path, Path::new("/")), None, "a folder");
    }
}
