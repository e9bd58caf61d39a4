//! A good archive is accepted; changed anywhere, or cut short anywhere, it is not.

use std::fs;
use std::path::Path;

use maestro_coordinator::archive::{ArchiveReadError, read_outline, read_values, verify_archive};
use maestro_model::snapshot::ArchivedKind;

use crate::maker::Maker;

/// What becomes of these bytes as an archive.
fn verdict(folder: &Path, bytes: &[u8]) -> Result<(), ArchiveReadError> {
    let path = folder.join("changed.tar.gz");
    fs::write(&path, bytes).expect("our folder");
    verify_archive(&path, &mut |_| {}).map(drop)
}

#[test]
fn a_good_archive_is_read_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Maker::good().write(folder.path());
    let mut seen = Vec::new();
    let archive = verify_archive(&path, &mut |progress| seen.push(progress)).expect("it is good");
    assert_eq!((archive.index.keys.len(), archive.workspaces.len()), (3, 2));
    assert_eq!(archive.bytes, fs::metadata(&path).expect("there").len());
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert_eq!(seen.last().map(|progress| progress.done), Some(archive.bytes));
    let links =
        archive.manifest.files.iter().filter(|file| matches!(file.kind, ArchivedKind::HardLink { .. }));
    assert_eq!(links.count(), 1);
    let mut values = Vec::new();
    read_values::<ArchiveReadError>(&archive, &mut |value| {
        values.push((value.entry.key.clone(), value.payload[1..value.payload.len() - 10].to_vec()));
        Ok(())
    })
    .expect("as before");
    assert_eq!(values[2], ("maestro:{1.0}:dispatch:once".to_owned(), b"three".to_vec()));
}

#[test]
fn an_outline_says_what_the_whole_says_or_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Maker::good().write(folder.path());
    let good = fs::read(&path).expect("there");
    let whole = verify_archive(&path, &mut |_| {}).expect("it is good");
    let says_the_same = || match read_outline(&path) {
        Err(_) => false,
        Ok(outline) => {
            assert_eq!((outline.digest, outline.bytes), (whole.digest, whole.bytes));
            assert_eq!((&outline.manifest, &outline.links_out), (&whole.manifest, &whole.links_out));
            assert_eq!((&outline.workspaces, &outline.agents), (&whole.workspaces, &whole.agents));
            assert_eq!(outline.index.keys, whole.index.keys);
            true
        }
    };
    assert!(says_the_same());
    for at in (0..200).map(|_| rand::random_range(0..good.len())) {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, &changed).expect("ours");
        says_the_same();
    }
    for _ in 0..50 {
        let length = rand::random_range(0..good.len());
        fs::write(&path, &good[..length]).expect("ours");
        assert!(!says_the_same(), "cut to {length} of {}", good.len());
    }
}

#[test]
fn plain_tar_and_gzip_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Maker::good().write(folder.path());
    let run = |program: &str, words: &[&str]| {
        let mut command = std::process::Command::new(program);
        let output = command.args(words).arg(&path).current_dir(folder.path()).output().expect("it is there");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("gzip", &["-t"]);
    let names = run("tar", &["-tzf"]);
    assert!(names.ends_with("maestro/manifest.json\nmaestro/manifest.sha256\n"), "{names}");
    run("tar", &["-xzf"]);
    let mut check = std::process::Command::new("sha256sum");
    let checked = check.args(["-c", "maestro/manifest.sha256"]).current_dir(folder.path()).output();
    assert!(checked.expect("it is there").status.success());
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = Maker::good().bytes();
    assert!(verdict(folder.path(), &good).is_ok());
    // The seal follows from the bytes before it, so one place is as good as another; the first are the decoder's.
    let places = (0..40).chain((0..400).map(|_| rand::random_range(0..good.len())));
    for at in places {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verdict(folder.path(), &changed).is_err(), "byte {at} of {}", good.len());
    }
}

#[test]
fn cut_short_or_made_longer_it_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = Maker::good().bytes();
    for _ in 0..50 {
        let length = rand::random_range(0..good.len());
        assert!(verdict(folder.path(), &good[..length]).is_err(), "cut to {length} of {}", good.len());
    }
    for more in [&b"\0"[..], &[0; 512], &good] {
        assert!(verdict(folder.path(), &[&good, more].concat()).is_err(), "{} bytes more", more.len());
    }
}

#[test]
fn what_is_no_archive_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = verify_archive(&folder.path().join("none"), &mut |_| {}).expect_err("there is none");
    assert!(matches!(gone, ArchiveReadError::Open { .. }), "{gone}");
    let no_file = verify_archive(folder.path(), &mut |_| {}).expect_err("a folder is none");
    assert!(matches!(no_file, ArchiveReadError::Open { .. }), "{no_file}");
    for bytes in [&b""[..], b"hello", &[0; 10_000], &[0x1f; 10_000]] {
        let refused = verdict(folder.path(), bytes).expect_err("it is none");
        assert!(matches!(refused, ArchiveReadError::Fault(_)), "{refused}");
    }
}
