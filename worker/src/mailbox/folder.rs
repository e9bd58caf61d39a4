//! Whether an agent may work in a folder, and whether that folder is as it must be.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use maestro_model::ids::AgentId;
use maestro_model::mailbox::WorkerAnswer;

use super::answering::{MailDesk, off_the_loop};

/// Who may change what is in a folder: nobody but its owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Links followed on the way to a folder.
const LINKS_MAX: u32 = 40;

/// Why no agent may be assigned to a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathRefusal {
    /// What is wrong with it.
    pub(crate) message: String,
    /// What to do instead.
    pub(crate) hint: String,
}

impl MailDesk {
    pub(super) async fn prepare_path(
        &self,
        agent: AgentId,
        path: String,
        names: Vec<String>,
    ) -> WorkerAnswer {
        let root = self.root.path().to_owned();
        off_the_loop(move || {
            let judged = judge_path(&root, Path::new(&path), &names);
            match judged.map(|warnings| make(Path::new(&path), warnings)) {
                Ok(Ok(answer)) => {
                    tracing::info!(%agent, path, "ready for the agent");
                    answer
                }
                Ok(Err(message)) => WorkerAnswer::Failed { message },
                Err(PathRefusal { message, hint }) => WorkerAnswer::Refused { message, hint: Some(hint) },
            }
        })
        .await
    }
}

/// Whether a folder may be assigned; with what is unusual about it.
///
/// # Errors
/// The workspace root, what it lies in, and what belongs to Maestro below it.
pub(crate) fn judge_path(root: &Path, path: &Path, names: &[String]) -> Result<Vec<String>, PathRefusal> {
    let shown = path.display();
    let refused = |message: String, hint: &str| Err(PathRefusal { message, hint: hint.to_owned() });
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain {
        return refused(format!("`{shown}` is not an absolute path without `..`"), "name the folder itself");
    }
    let (root, path) = (resolved(root), resolved(path));
    let elsewhere = "choose a folder outside of the workspace root";
    if root == path {
        return refused(format!("`{shown}` is the workspace root of this worker"), elsewhere);
    }
    if root.starts_with(&path) {
        return refused(format!("`{shown}` contains the workspace root of this worker"), elsewhere);
    }
    let Ok(below) = path.strip_prefix(&root) else { return Ok(Vec::new()) };
    let first = below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = first.unwrap_or_default();
    if first.starts_with('.') {
        return refused(format!("`{shown}` lies in `{first}`, which is Maestro's own"), elsewhere);
    }
    if names.contains(&first) {
        let message = format!("`{shown}` lies where Maestro keeps the task folders of `{first}`");
        return refused(message, elsewhere);
    }
    if below.components().skip(1).any(|part| is_task_folder(&part.as_os_str().to_string_lossy())) {
        return refused(format!("`{shown}` lies in the folder of a task"), elsewhere);
    }
    Ok(vec![format!("`{shown}` lies below the workspace root; a folder elsewhere is safer")])
}

/// Whether a name is that of a task's folder, or of Maestro's own beside it.
fn is_task_folder(name: &str) -> bool {
    crate::janitor::read_stem(name.strip_suffix(".maestro").unwrap_or(name)).is_some()
}

/// Where a path leads, as far as it exists: two ways to one folder are one.
fn resolved(path: &Path) -> PathBuf {
    let mut tail = Vec::new();
    let mut head = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Ok(found) = fs::canonicalize(&head) {
            return tail.iter().rev().fold(found, |path, part| path.join(part));
        }
        let Some(name) = head.file_name().map(ToOwned::to_owned) else { break };
        // A link that leads nowhere is followed by hand.
        head = match fs::read_link(&head) {
            Ok(target) => head.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => {
                tail.push(name);
                head.parent().unwrap_or(Path::new("/")).to_owned()
            }
        };
    }
    path.to_owned()
}

/// Makes the folder if it is missing, and looks at it.
fn make(path: &Path, mut warnings: Vec<String>) -> Result<WorkerAnswer, String> {
    let failed = |error: io::Error| format!("cannot make the folder `{}`: {error}", path.display());
    let made = match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            warnings.extend(problems_of(path, &found));
            if found.mode() & 0o077 != 0 && found.mode() & WRITABLE_BY_OTHERS == 0 {
                warnings.push(format!(
                    "`{}` has mode {:03o}: other users of the host can look into it",
                    path.display(),
                    found.mode() & 0o777
                ));
            }
            false
        }
        Ok(_) => return Err(format!("`{}` is there, and is not a folder", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            true
        }
        Err(error) => return Err(failed(error)),
    };
    takes_files(path).map_err(|error| format!("cannot write to `{}`: {error}", path.display()))?;
    Ok(WorkerAnswer::Path { made, warnings })
}

/// Whether this worker may write there; nothing of it stays.
fn takes_files(path: &Path) -> io::Result<()> {
    let probe = path.join(format!(".maestro-probe-{:016x}", rand::random::<u64>()));
    fs::write(&probe, [])?;
    fs::remove_file(&probe)
}

/// What is wrong with an assigned folder; nothing, if it is as it must be.
pub(crate) fn folder_problems(path: &Path) -> (Option<String>, Vec<String>) {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let shown = format!("mode {:03o}, user {}", found.mode() & 0o777, found.uid());
            (Some(shown), problems_of(path, &found))
        }
        Ok(_) => (None, vec![format!("workspace is not a folder: `{}`", path.display())]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (None, vec![format!("workspace missing: `{}`", path.display())])
        }
        Err(error) => (None, vec![format!("workspace cannot be reached: `{}`: {error}", path.display())]),
    }
}

fn problems_of(path: &Path, found: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    let mode = found.mode() & 0o777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        problems.push(format!(
            "workspace is writable by others: `{}` has mode {mode:03o} (run `chmod go-w` on it)",
            path.display()
        ));
    }
    let user = rustix::process::geteuid().as_raw();
    if user != 0 && found.uid() != user {
        problems.push(format!(
            "workspace belongs to somebody else: `{}` is of user {}, the worker runs as user {user}",
            path.display(),
            found.uid()
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refusal(root: &Path, path: &str) -> Option<String> {
        let names = ["shell".to_owned(), "smith".to_owned()];
        judge_path(root, Path::new(path), &names).err().map(|refusal| refusal.message)
    }

    #[test]
    fn what_is_maestros_own_is_not_assigned() {
        let place = tempfile::tempdir().expect("a folder");
        let base = fs::canonicalize(place.path()).expect("there");
        let root = base.join("root");
        fs::create_dir(&root).expect("a folder");
        symlink(&root, base.join("way-in")).expect("a link");
        symlink("root/.runs", base.join("dangling")).expect("a link");
        let base = base.display();
        for path in [
            format!("{base}/root"),
            format!("{base}"),
            "/".to_owned(),
            format!("{base}/way-in"),
            format!("{base}/way-in/shell/x"),
            format!("{base}/dangling"),
            format!("{base}/root/.runs/x"),
            format!("{base}/root/shell"),
            format!("{base}/root/smith/work"),
            format!("{base}/root/other/0k3v9x2mqf1a.7/deep"),
            format!("{base}/root/other/0k3v9x2mqf1a.7.2"),
            format!("{base}/root/other/0k3v9x2mqf1a.7.maestro"),
            format!("{base}/x/../root"),
            "relative".to_owned(),
        ] {
            assert!(refusal(&root, &path).is_some(), "{path}");
        }
    }

    #[test]
    fn elsewhere_is_fine_and_below_the_root_is_warned_about() {
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().join("root");
        let judge = |path: PathBuf| judge_path(&root, &path, &["shell".to_owned()]).expect("accepted");
        assert_eq!(judge(place.path().join("elsewhere")), [] as [String; 0]);
        assert_eq!(judge(place.path().join("root-too/x")), [] as [String; 0]);
        assert_eq!(judge(root.join("mine")).len(), 1);
    }

    #[test]
    fn a_missing_folder_is_made_closed_and_a_wide_open_one_is_a_problem() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("a/b");
        assert_eq!(make(&path, Vec::new()), Ok(WorkerAnswer::Path { made: true, warnings: Vec::new() }));
        assert_eq!(make(&path, Vec::new()), Ok(WorkerAnswer::Path { made: false, warnings: Vec::new() }));
        assert_eq!(fs::metadata(&path).expect("made").mode() & 0o777, 0o700);
        assert_eq!(folder_problems(&path).1, [] as [String; 0]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(folder_problems(&path).1[0].starts_with("workspace is writable by others"));
        fs::remove_dir(&path).expect("empty");
        assert_eq!(folder_problems(&path).1, [format!("workspace missing: `{}`", path.display())]);
        fs::write(&path, "").expect("a file");
        assert!(make(&path, Vec::new()).is_err());
        assert!(folder_problems(&path).1[0].starts_with("workspace is not a folder"));
    }
}
