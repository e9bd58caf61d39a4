//! Archives that nobody of good will makes. All are whole and sealed: what is refused is what they bring.

use maestro_coordinator::archive::verify_archive;
use maestro_model::snapshot::{KeyType, Manifest, RedisIndex, WorkspaceRole};

use crate::maker::{FOLDER, Maker, Raw, made};

fn verdict(maker: &Maker) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = maker.write(folder.path());
    match verify_archive(&path, &mut |_| {}) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn below(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

#[test]
fn no_name_leads_out_of_its_workspace() {
    for (what, name) in [
        ("leads out of its folder", below("../x")),
        ("leads out of its folder", below("sub/../../../x")),
        ("leads out of its folder", "../x".to_owned()),
        ("is an absolute name", "/etc/passwd".to_owned()),
        ("has an empty part in its name", below("./x")),
        ("has an empty part in its name", below("sub//x")),
        ("more than 16 KiB", below(&"x".repeat(17 << 10))),
        ("264 folders deep", below(&("a/".repeat(270) + "a"))),
        ("does not belong into a snapshot", "elsewhere/x".to_owned()),
        ("does not belong into a snapshot", "maestro/other".to_owned()),
        ("does not belong into a snapshot", "maestro/workspaces/w1/.runs/x/y".to_owned()),
    ] {
        let found = verdict(&Maker::with([Raw::file(&name, b"x")]));
        assert!(found.contains(what), "{name}: {found}");
    }
    let nul = Raw { words: vec![("path", b"a\0b".to_vec())], ..Raw::file(&below("x"), b"") };
    assert!(verdict(&Maker::with([nul])).contains("NUL"));
}

#[test]
fn nothing_lies_below_a_link_or_a_file() {
    let link = [Raw::link(&below("out"), "/tmp"), Raw::file(&below("out/x"), b"x")];
    let file = [Raw::file(&below("f"), b"x"), Raw::file(&below("f/x"), b"x")];
    let nowhere = [Raw::file(&below("no/x"), b"x")];
    let through = [Raw::link(&below("one"), "sub"), Raw::folder(&below("one/deep"))];
    for entries in [link.to_vec(), file.to_vec(), nowhere.to_vec(), through.to_vec()] {
        let found = verdict(&Maker::with(entries));
        assert!(found.contains("lies below what is no folder of the archive"), "{found}");
    }
}

#[test]
fn hard_links_name_files_of_their_workspace() {
    let other = "maestro/workspaces/w1/smith/assigned/notes";
    let link = below("link");
    for target in
        ["/etc/passwd", "../../x", "maestro/agents.yaml", other, &link, &below("sub"), &below("none")]
    {
        let found = verdict(&Maker::with([Raw::hard_link(&below("h"), target)]));
        assert_ne!(found, "accepted", "{target}");
    }
    let empty = verdict(&Maker::with([Raw::hard_link(&below("h"), "")]));
    assert!(empty.contains("is a link to nothing"), "{empty}");
}

#[test]
fn only_files_folders_and_links_are_taken() {
    for kind in [b'3', b'4', b'6', b'7', b'g', b'V', b'Z'] {
        let found = verdict(&Maker::with([Raw { kind, ..Raw::file(&below("x"), b"") }]));
        assert_ne!(found, "accepted", "{}", char::from(kind));
    }
    for mode in [0o4755, 0o2755, 0o1777, 0o6755] {
        let found = verdict(&Maker::with([Raw { mode, ..Raw::file(&below("x"), b"") }]));
        assert!(found.contains("set-uid"), "{found}");
    }
}

#[test]
fn a_name_comes_once() {
    for again in [
        Raw::file(&below("a"), b"other"),
        Raw::folder(&below("sub")),
        Raw::link(&below("a"), "b"),
        Raw::file(&below("sub"), b"x"),
    ] {
        let found = verdict(&Maker::with([again]));
        assert!(found.contains("is in it twice"), "{found}");
    }
    let mut twice = Maker::good();
    let first = twice.workspaces[0].clone();
    twice.workspaces.push(first);
    assert!(verdict(&twice).contains("belongs to a workspace that was before"));
    let mut agents = Maker::good();
    agents.before.push(Raw::file("maestro/agents.yaml", b"v: 1"));
    assert!(verdict(&agents).contains("is in it twice"));
}

#[test]
fn sizes_that_lie_are_found() {
    let mut said = Raw::file(&below("x"), &[1; 600]);
    said.said = Some(8 << 30);
    assert!(verdict(&Maker::with([said])).contains("damaged"));
    let mut words = Raw::file(&below("x"), &[1; 600]);
    words.words = vec![("size", b"3".to_vec())];
    assert_ne!(verdict(&Maker::with([words])), "accepted");
    let sparse = Raw { words: vec![("GNU.sparse.major", b"1".to_vec())], ..Raw::file(&below("x"), b"x") };
    assert!(verdict(&Maker::with([sparse])).contains("has an extension that no snapshot has"));
    // A name that would fill the memory of whoever reads it.
    let bomb = Raw { kind: b'L', ..Raw::file("././@LongLink", &vec![b'a'; 2 << 20]) };
    let found = verdict(&Maker::with([bomb, Raw::file(&below("x"), b"")]));
    assert!(found.contains("bytes in front of an entry"), "{found}");
}

/// A sparse file of the old GNU form with one hole of `size`, and nothing else.
fn hole(name: &str, size: u64) -> Vec<u8> {
    let mut raw = Raw { kind: b'S', ..Raw::file(name, b"") }.bytes();
    let mut number = |at: usize, value: u64| {
        // Base 256, for what does not fit into octal digits.
        raw[at..at + 12].fill(0);
        raw[at] = 0x80;
        raw[at + 4..at + 12].copy_from_slice(&value.to_be_bytes());
    };
    number(386, size);
    number(398, 0);
    number(483, size);
    raw[148..156].fill(b' ');
    let sum: u32 = raw[..512].iter().map(|byte| u32::from(*byte)).sum();
    raw[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    raw
}

#[test]
fn holes_have_a_limit() {
    // Carried as the content of an entry that is not there: the maker knows no sparse files.
    let raw = hole(&below("x"), 1 << 50);
    let mut maker = Maker::good();
    let last = maker.workspaces[0].entries.last_mut().expect("it has entries");
    last.data = raw.clone();
    last.said = Some(0);
    let found = verdict(&maker);
    assert!(found.contains("bytes of holes"), "{found}");
}

#[test]
fn parts_stand_in_order_and_none_is_missing() {
    let late = Maker::with([Raw::file("maestro/agents.yaml", b"v: 1")]);
    assert!(verdict(&late).contains("stands in the wrong order"));
    let mut after = Maker::good();
    after.after.push(Raw::file(&below("late"), b"x"));
    assert!(verdict(&after).contains("stands in the wrong order"));
    let mut seal = Maker::good();
    seal.after.push(Raw::file("maestro/manifest.sha256", b"x"));
    assert!(verdict(&seal).contains("stands before the end"));
    let mut folder = Maker::good();
    folder.before.push(Raw::file("maestro", b"x"));
    assert!(verdict(&folder).contains("has to be a folder"));
}

#[test]
fn a_manifest_that_says_something_else_is_refused() {
    type Spoil = fn(&mut Manifest);
    let cases: [(&str, Spoil); 10] = [
        ("lists", |manifest| drop(manifest.files.pop())),
        ("where another entry stands", |manifest| manifest.files.swap(3, 4)),
        ("is not what the manifest says", |manifest| manifest.files[4].mode = 0o600),
        ("is not as large", |manifest| manifest.workspaces[0].bytes += 1),
        ("does not lie where", |manifest| manifest.workspaces[0].members.offset -= 1),
        ("does not lie where", |manifest| manifest.workspaces[1].members.length += 1),
        ("workspaces, and there are", |manifest| drop(manifest.workspaces.pop())),
        ("has no place", |manifest| {
            manifest.workspaces[1].role = WorkspaceRole::Assigned { path: "/srv/../etc".to_owned() };
        }),
        ("has no place", |manifest| manifest.workspaces[0].role = WorkspaceRole::Run),
        ("has the format 99", |manifest| manifest.format = 99),
    ];
    for (what, on_manifest) in cases {
        let found = verdict(&Maker { on_manifest, ..Maker::good() });
        assert!(found.contains(what), "{what}: {found}");
    }
    let sealed = Maker { on_seal: |seal| seal.manifest.0[0] ^= 1, ..Maker::good() };
    assert!(verdict(&sealed).contains("not the one that was sealed"));
}

#[test]
fn keys_that_maestro_does_not_have_are_refused() {
    let cell = "maestro:{1.0}:";
    for (what, key) in [
        ("maestro has no key `other`", made(&format!("{cell}other"), KeyType::Hash, 4, b"x")),
        ("is of type String, expected Stream", made(&format!("{cell}events"), KeyType::String, 0, b"x")),
        ("is none of its cluster", made("someone:else", KeyType::String, 0, b"x")),
        ("is none of its cluster", made("maestro:{2.0}:vt", KeyType::Hash, 4, b"x")),
        ("a cell that is not known", made("maestro:{1.1}:ctl", KeyType::Hash, 4, b"x")),
        ("is in the index twice", made(&format!("{cell}ctl"), KeyType::Hash, 4, b"x")),
        ("is not written as its type is", made(&format!("{cell}vt"), KeyType::Hash, 7, b"x")),
    ] {
        let mut maker = Maker::good();
        maker.keys.push(key);
        let found = verdict(&maker);
        assert!(found.contains(what), "{what}: {found}");
    }
}

#[test]
fn an_index_that_points_elsewhere_is_refused() {
    type Spoil = fn(&mut RedisIndex);
    let cases: [(&str, Spoil); 6] = [
        ("where the index says", |index| index.keys[1].offset += 1),
        ("where the index says", |index| index.keys[0].length -= 1),
        ("or before it", |index| index.keys[2].offset = 3),
        ("larger than 512 MiB", |index| index.keys[0].length = 1 << 30),
        ("where the index says", |index| index.keys[1].key = "maestro:{1.0}:xtl".to_owned()),
        ("has the format 9", |index| index.v = 9),
    ];
    for (what, on_index) in cases {
        let found = verdict(&Maker { on_index, ..Maker::good() });
        assert!(found.contains(what), "{what}: {found}");
    }
    let forged = Maker { on_dump: |dump| *dump.last_mut().expect("not empty") ^= 1, ..Maker::good() };
    assert!(verdict(&forged).contains("does not end as an RDB file does"));
    let longer = Maker { on_dump: |dump| dump.extend([0; 8]), ..Maker::good() };
    assert!(verdict(&longer).contains("does not end as an RDB file does"));
}

#[test]
fn links_that_lead_out_are_counted_and_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let maker = Maker::with([
        Raw::link(&below("etc"), "/etc/passwd"),
        Raw::link(&below("up"), "../../x"),
        Raw::link(&below("within"), "sub/.."),
    ]);
    let archive = verify_archive(&maker.write(folder.path()), &mut |_| {}).expect("links may say anything");
    assert_eq!(archive.links_out.0, 2, "{:?}", archive.links_out.1);
}
