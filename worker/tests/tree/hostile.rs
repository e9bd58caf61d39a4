//! Archives that nobody of good will makes: each is refused, and nothing is written outside.

use std::fs;
use std::io::Read;
use std::path::Path;

use maestro_worker::tree::{TreePacker, UnpackError, UnpackLimits, unpack_tree};
use tar::{Builder, EntryType, Header};

const LIMITS: UnpackLimits = UnpackLimits { bytes: 1 << 20, entries: 100 };

/// An entry whose name is written into the header as it is, which no library does of itself.
fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    archive.append(&header, data).expect("written to memory");
}

fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    fill(&mut archive);
    archive.into_inner().expect("written to memory")
}

/// Unpacks below a folder with a neighbour that must not change; what came of it.
fn outcome(archive: &[u8]) -> String {
    let place = tempfile::tempdir().expect("a folder");
    let neighbour = place.path().join("neighbour");
    fs::create_dir(&neighbour).expect("a folder");
    fs::write(neighbour.join("file"), "mine").expect("a file");
    let into = place.path().join("staging");
    fs::create_dir(&into).expect("a folder");
    let outcome = unpack_tree(archive, &into, LIMITS);
    assert_eq!(fs::read_to_string(neighbour.join("file")).expect("there"), "mine");
    assert_eq!(fs::read_dir(&neighbour).expect("there").count(), 1, "nothing was put beside");
    assert_eq!(fs::read_dir(place.path()).expect("there").count(), 2, "nothing was put above");
    match outcome {
        Ok(summary) => format!("{summary:?}"),
        Err(error) => error.to_string(),
    }
}

use EntryType as Kind;

#[test]
fn each_kind_of_hostile_entry_is_refused() {
    type Fill = fn(&mut Builder<Vec<u8>>);
    let cases: [(&str, Fill); 14] = [
        ("leads out of its folder", |a| entry(a, Kind::Regular, "../neighbour/new", "", 0o644, b"x")),
        ("leads out of its folder", |a| entry(a, Kind::Regular, "a/../../new", "", 0o644, b"x")),
        ("is an absolute name", |a| entry(a, Kind::Regular, "/tmp/maestro-hostile", "", 0o644, b"x")),
        ("lies below what is no folder", |a| {
            entry(a, Kind::Regular, "a", "", 0o644, b"x");
            entry(a, Kind::Regular, "a/b", "", 0o644, b"x");
        }),
        ("is in it twice", |a| {
            entry(a, Kind::Symlink, "out", "../neighbour", 0o777, b"");
            entry(a, Kind::Regular, "out/file", "", 0o644, b"yours");
        }),
        ("is in it twice", |a| {
            entry(a, Kind::Symlink, "file", "../neighbour/file", 0o777, b"");
            entry(a, Kind::Regular, "file", "", 0o644, b"yours");
        }),
        ("is in it twice", |a| {
            entry(a, Kind::Regular, "a", "", 0o644, b"x");
            entry(a, Kind::Regular, "./a", "", 0o644, b"y");
        }),
        ("is a link to what is no file of the archive", |a| {
            entry(a, Kind::Link, "mine", "neighbour/file", 0o644, b"");
        }),
        ("leads out of its folder", |a| entry(a, Kind::Link, "mine", "../neighbour/file", 0o644, b"")),
        ("is a link to what is no file of the archive", |a| {
            entry(a, Kind::Symlink, "out", "../neighbour/file", 0o777, b"");
            entry(a, Kind::Link, "mine", "out", 0o644, b"");
        }),
        ("has a set-uid or set-gid bit", |a| entry(a, Kind::Regular, "su", "", 0o4755, b"x")),
        ("is neither file, folder nor link", |a| entry(a, Kind::Block, "disk", "", 0o644, b"")),
        ("is neither file, folder nor link", |a| entry(a, Kind::Fifo, "pipe", "", 0o644, b"")),
        ("is a link to nothing that can be", |a| entry(a, Kind::Symlink, "empty", "", 0o777, b"")),
    ];
    for (expected, fill) in cases {
        let outcome = outcome(&archive(fill));
        assert!(outcome.ends_with(expected), "expected `{expected}`, found `{outcome}`");
    }
    assert!(!Path::new("/tmp/maestro-hostile").exists());
}

#[test]
fn an_archive_may_bring_no_more_than_was_announced() {
    let large = archive(|a| entry(a, Kind::Regular, "a", "", 0o644, &vec![1; (1 << 20) + 1]));
    assert_eq!(outcome(&large), "the archive is refused: it has more than 1048576 bytes");
    let many = archive(|a| {
        for number in 0..101 {
            entry(a, Kind::Regular, &number.to_string(), "", 0o644, b"");
        }
    });
    assert_eq!(outcome(&many), "the archive is refused: it has more than 100 entries");
    // The size that a header claims counts, before a byte of it is read.
    let mut claims = archive(|a| entry(a, Kind::Regular, "a", "", 0o644, b""));
    let mut header = Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&claims[..512]);
    header.set_size(1 << 40);
    header.set_cksum();
    claims[..512].copy_from_slice(header.as_bytes());
    assert_eq!(outcome(&claims), "the archive is refused: it has more than 1048576 bytes");
}

#[test]
fn an_archive_that_was_cut_short_is_noticed_wherever_it_was_cut() {
    let place = tempfile::tempdir().expect("a folder");
    fs::write(place.path().join("a"), vec![1; 5000]).expect("a file");
    fs::write(place.path().join("b"), vec![2; 3000]).expect("a file");
    let mut packer = TreePacker::new(Vec::new());
    packer.add(place.path(), Path::new("")).expect("packed");
    let (whole, _) = packer.finish().expect("packed");
    // The two blocks of zeros that end an archive may be missing: its last entry is whole without them.
    let end = whole.len() - 1024;
    let mut lengths: Vec<usize> = (1..end).step_by(97).collect();
    lengths.extend([end - 1, end - 511]);
    let cut_between_entries = |length: usize| {
        let mut archive = tar::Archive::new(&whole[..]);
        let entries = archive.entries().expect("an archive").raw(true);
        entries.map(|entry| entry.expect("whole").raw_header_position() as usize).any(|at| at == length)
    };
    for length in lengths.into_iter().filter(|length| !cut_between_entries(*length)) {
        let into = tempfile::tempdir().expect("a folder");
        let outcome = unpack_tree(whole[..length].take(u64::MAX), into.path(), LIMITS);
        assert!(matches!(outcome, Err(UnpackError::Unreadable(_))), "cut at {length}: {outcome:?}");
    }
}
