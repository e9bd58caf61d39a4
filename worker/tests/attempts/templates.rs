//! A git repository as a template: what it holds is shared where the file system can, and no copy can spoil it.
//!
//! The file system is one of the test's own, XFS in a file: sharing is seen by the room that copies take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maestro_worker::attempt::AttemptOrder;
use rustix::fs::statvfs;

use crate::confined::skipped;
use crate::support::{Site, result};

/// Size of the disk; XFS wants no less than 300 MB. The file has holes: it takes what is written.
const DISK_BYTES: u64 = 400 << 20;
/// What the repository holds, bytes that cannot be packed.
const CONTENT_BYTES: usize = 16 << 20;
/// What a copy may take of the disk: folders, and what is small.
const COPY_BYTES_MAX: u64 = 4 << 20;

/// A disk that can share contents between files. It goes with the value.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn make() -> Result<Disk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount a disk".to_owned());
        }
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("room");
        let disk = Disk { folder };
        fs::create_dir(disk.path()).expect("ours");
        run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn used(&self) -> u64 {
        let disk = fs::File::open(self.path()).expect("it is mounted");
        rustix::fs::syncfs(disk).expect("it can be written");
        let found = statvfs(self.path()).expect("it is mounted");
        (found.f_blocks - found.f_bfree) * found.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _not_mounted = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", command.get_program().display())) }
}

fn git(folder: &Path, words: &[&str]) {
    let names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "safe.directory=*"];
    run(Command::new("git").arg("-C").arg(folder).args(names).args(words)).expect("git does it");
}

#[tokio::test]
async fn a_git_template_is_shared_where_the_file_system_can_and_no_copy_spoils_it() {
    let disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => return skipped(&why),
    };
    let template = disk.path().join("template");
    fs::create_dir(&template).expect("ours");
    git(&template, &["init", "--quiet"]);
    let mut random = fs::File::open("/dev/urandom").expect("it is there");
    let mut content = vec![0; CONTENT_BYTES];
    std::io::Read::read_exact(&mut random, &mut content).expect("it never ends");
    fs::write(template.join("content"), &content).expect("room");
    git(&template, &["add", "."]);
    git(&template, &["commit", "--quiet", "--message", "one"]);

    let root = disk.path().join("root");
    let site = Site::below(root.to_str().expect("UTF-8"));
    let with_template =
        |script: &str| AttemptOrder { template: Some(template.clone()), ..site.script(script) };
    let before = disk.used();
    // Nothing has changed: the link to the log is no business of the repository's.
    let kept = "git -c safe.directory='*' log --format=%s; git -c safe.directory='*' status --short";
    assert_eq!(result(&site.run(with_template(kept)).await), "one");
    let grown = disk.used().saturating_sub(before);
    assert!(grown < COPY_BYTES_MAX, "a copy of {} bytes took {grown}", 2 * CONTENT_BYTES);

    // One that writes into every object of its copy, which its owner may do, leaves the template whole.
    let spoil = "chmod -R u+w .git && find .git/objects -type f | while read file; do echo x > $file; done
        git -c safe.directory='*' fsck 2> /dev/null || echo spoilt";
    assert_eq!(result(&site.run(with_template(spoil)).await), "spoilt");
    git(&template, &["fsck", "--strict"]);
    assert_eq!(result(&site.run(with_template(kept)).await), "one");
}
