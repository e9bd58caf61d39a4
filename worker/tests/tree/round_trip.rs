//! What comes back is what went in.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use maestro_worker::tree::{PackSummary, PackTrouble, TreePacker, UnpackLimits, UnpackSummary, unpack_tree};

use crate::likeness::picture;

const LIMITS: UnpackLimits = UnpackLimits { bytes: 4 << 30, entries: 200_000 };

fn pack(folder: &Path) -> (Vec<u8>, PackSummary) {
    let mut packer = TreePacker::new(Vec::new());
    packer.add(folder, Path::new("")).expect("packed");
    packer.finish().expect("packed")
}

fn unpack(archive: &[u8], into: &Path) -> UnpackSummary {
    fs::create_dir(into).expect("a folder");
    unpack_tree(archive, into, LIMITS).expect("unpacked")
}

/// A tree with one of everything that is to survive.
fn odd_tree(at: &Path) -> PathBuf {
    let root = at.join("tree");
    fs::create_dir_all(root.join("a/b/c")).expect("folders");
    fs::create_dir(root.join("empty")).expect("a folder");
    fs::write(root.join("a/nothing"), "").expect("a file");
    fs::write(root.join("a/text"), "words\n".repeat(1000)).expect("a file");
    fs::write(root.join("a/b/run"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(root.join("a/b/run"), Permissions::from_mode(0o751)).expect("ours");
    fs::write(root.join("x".repeat(255)), "a long name").expect("a file");
    let deep: PathBuf = std::iter::repeat_n("deeper-and-deeper", 30).collect();
    fs::create_dir_all(root.join(&deep)).expect("folders");
    fs::write(root.join(deep).join("bottom"), "a long path").expect("a file");
    fs::write(root.join(OsStr::from_bytes(b"no \xff UTF-8\n\t")), "odd name").expect("a file");
    symlink("a/text", root.join("relative")).expect("a link");
    symlink("/etc/hostname", root.join("absolute")).expect("a link");
    symlink("no//such/./file", root.join("dangling")).expect("a link");
    symlink("y".repeat(300), root.join("long link")).expect("a link");
    fs::hard_link(root.join("a/text"), root.join("a/b/c/same text")).expect("a second name");
    let mut sparse = File::create(root.join("sparse")).expect("a file");
    for stretch in 0..40 {
        sparse.seek(SeekFrom::Start(stretch << 18)).expect("a place");
        sparse.write_all(format!("stretch {stretch}").as_bytes()).expect("written");
    }
    sparse.set_len(12 << 20).expect("a hole at the end");
    File::create(root.join("hole")).expect("a file").set_len(2 << 20).expect("nothing but a hole");
    for (path, seconds) in [("a/text", 1_000_000_000), ("empty", 1), ("a/b", 1_500_000_000)] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, 123_456_789);
        File::open(root.join(path)).expect("there").set_modified(time).expect("set");
    }
    fs::set_permissions(root.join("a/b/c"), Permissions::from_mode(0o500)).expect("ours");
    root
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let place = tempfile::tempdir().expect("a folder");
    let root = odd_tree(place.path());
    let (archive, packed) = pack(&root);
    let back = place.path().join("back");
    let unpacked = unpack(&archive, &back);
    assert_eq!(picture(&back), picture(&root));
    assert_eq!((packed.odd, packed.links, packed.files), (0, 4, unpacked.files), "{packed:?}");
    let blocks = |name: &str| fs::metadata(back.join(name)).expect("there").blocks() * 512;
    assert!(blocks("sparse") < 4 << 20, "holes are holes again: {} bytes", blocks("sparse"));
    assert!(archive.len() < 1 << 20, "holes are not sent: {} bytes", archive.len());
}

#[test]
fn one_tree_gives_one_archive() {
    let place = tempfile::tempdir().expect("a folder");
    let root = odd_tree(place.path());
    assert!(pack(&root).0 == pack(&root).0);
}

#[test]
fn plain_tar_reads_what_was_packed() {
    let place = tempfile::tempdir().expect("a folder");
    let root = odd_tree(place.path());
    let file = place.path().join("tree.tar");
    fs::write(&file, pack(&root).0).expect("written");
    let back = place.path().join("back");
    fs::create_dir(&back).expect("a folder");
    let tar = Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&back).output().expect("tar is there");
    assert!(tar.status.success() && tar.stderr.is_empty(), "{tar:?}");
    assert_eq!(picture(&back), picture(&root));
}

#[test]
fn what_plain_tar_packed_is_read() {
    let place = tempfile::tempdir().expect("a folder");
    let root = odd_tree(place.path());
    let file = place.path().join("tree.tar");
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "--format=gnu", "-cf"]).arg(&file).arg("-C").arg(&root).arg(".");
    assert!(tar.status().expect("tar is there").success());
    let back = place.path().join("back");
    fs::create_dir(&back).expect("a folder");
    unpack_tree(File::open(&file).expect("there"), &back, LIMITS).expect("unpacked");
    // This format has whole seconds; the rest is the same.
    let coarse =
        |root: &Path| -> Vec<String> { picture(root).values().map(|text| whole_seconds(text)).collect() };
    assert_eq!(coarse(&back), coarse(&root));
}

fn whole_seconds(text: &str) -> String {
    let words = text.split(' ').map(|word| word.split_once('.').map_or(word, |(whole, _)| whole));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_means_nothing_elsewhere_is_left_out_and_said() {
    let place = tempfile::tempdir().expect("a folder");
    let root = place.path().join("tree");
    fs::create_dir(&root).expect("a folder");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).expect("a pipe");
    fs::write(root.join("suid"), "x").expect("a file");
    fs::set_permissions(root.join("suid"), Permissions::from_mode(0o4755)).expect("ours");
    let (archive, packed) = pack(&root);
    let troubles: Vec<_> = packed.notes.iter().map(|note| (note.path.to_str(), note.trouble)).collect();
    assert_eq!(troubles, [(Some("pipe"), PackTrouble::Special), (Some("socket"), PackTrouble::Special)]);
    let back = place.path().join("back");
    unpack(&archive, &back);
    assert_eq!(fs::metadata(back.join("suid")).expect("there").mode() & 0o7777, 0o755);
}

/// Does something to the tree as soon as the first byte of a file's data has been written.
struct Meddler<'a> {
    written: Vec<u8>,
    after: usize,
    act: Option<Box<dyn FnOnce() + 'a>>,
}

impl Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.extend_from_slice(bytes);
        if self.written.len() > self.after
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_shrinks_or_grows_meanwhile_spoils_nothing_else() {
    for new_size in [10, 10 << 20] {
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().join("tree");
        fs::create_dir(&root).expect("a folder");
        let restless = root.join("a");
        fs::write(&restless, vec![7; 1 << 20]).expect("a file");
        fs::write(root.join("b"), "calm").expect("a file");
        let resize = || {
            let file = File::options().write(true).open(&restless).expect("there");
            file.set_len(new_size).expect("set");
        };
        let meddler = Meddler { written: Vec::new(), after: 10_000, act: Some(Box::new(resize)) };
        let mut packer = TreePacker::new(meddler);
        packer.add(&root, Path::new("")).expect("packed");
        let (meddler, packed) = packer.finish().expect("packed");
        assert_eq!(packed.odd, 1, "{packed:?}");
        assert_eq!(packed.notes[0].trouble, PackTrouble::Changed);
        let back = place.path().join("back");
        unpack(&meddler.written, &back);
        assert_eq!(fs::metadata(back.join("a")).expect("there").len(), 1 << 20, "as long as announced");
        assert_eq!(fs::read_to_string(back.join("b")).expect("there"), "calm");
    }
}
