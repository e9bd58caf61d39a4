//! House rules that neither the compiler nor clippy checks, each with its reason beside it.
//!
//! A rule looks at the files of this folder as they are, whatever is committed. An exception stands in the
//! rule, with a reason, and is itself refused once it is not needed any more. What can be a lint is a lint
//! (`Cargo.toml`, `clippy.toml`); how things are written is not checked here but read by people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/texts.rs"]
mod texts;

use files::{Findings, Source, is_comment, root, sources};

/// At this length a file is split by subject.
const LINES_MAX: usize = 500;

/// Longer files, and why each is still one subject.
const LONG_FILES: [(&str, &str); 0] = [];

/// At this length a function no longer fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// A pause between two looks at a condition has its deadline so near above.
const DEADLINE_LINES: usize = 10;

/// Names that say nothing: everything ends up in such a room.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "misc", "manager", "imp"];

#[test]
fn every_file_says_what_it_is_for() {
    let mut findings = Findings::default();
    for source in sources(&["rs"]) {
        if !source.text.starts_with("//! ") {
            findings.add(&source, 1, "expected `//! ` with the file's purpose and what is not in it");
        }
    }
    findings.expect_none("whoever opens a file knows after ten lines what it is for");
}

#[test]
fn every_script_says_what_it_takes_and_answers() {
    let list = Source::read(&root().join("store/src/scripts.rs"));
    let mut findings = Findings::default();
    for source in sources(&["lua"]) {
        let name = source.stem();
        let first = source.text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        if !first.starts_with(&format!("-- {name}: ")) {
            findings.add(&source, 1, format!("expected `-- {name}: ` and what it does"));
        }
        if !list.text.contains(&format!("scripts/{name}.lua")) {
            findings.add(&source, 1, "store/src/scripts.rs does not bundle it");
        }
        // What others include is no script of its own and has no interface.
        let entry = format!("(\"{name}\", &[");
        if list.text.lines().any(|line| line.trim_start().starts_with(&entry)) {
            check_interface(&source, &mut findings);
        }
    }
    findings.expect_none("a script's header is its interface: keys, arguments, from → to, replies");
}

fn check_interface(source: &Source, findings: &mut Findings) {
    let is_header = |line: &&str| line.starts_with("#!") || line.starts_with("--");
    let header: Vec<&str> = source.text.lines().take_while(is_header).collect();
    let has = |word: &str| header.iter().any(|line| line.starts_with(&format!("-- {word} ")));
    if !has("reply") {
        findings.add(source, 1, "the header has no line `-- reply`");
    }
    if has("from") != has("to") {
        findings.add(source, 1, "the header has one of `-- from` and `-- to`, expected both or none");
    }
    for (line, text) in source.text.lines().enumerate().skip(header.len()) {
        for array in ["KEYS[", "ARGV["] {
            for (at, _) in text.match_indices(array) {
                let number = text[at + array.len()..].split(']').next().unwrap_or_default();
                let entry = format!("-- {array}{number}] ");
                let computed = number.parse::<u32>().is_err();
                if !computed && !header.iter().any(|line| line.starts_with(&entry)) {
                    findings.add(source, line + 1, format!("`{array}{number}]` is not in the header"));
                }
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_its_subject() {
    let mut findings = Findings::default();
    let mut unneeded: BTreeSet<&str> = LONG_FILES.iter().map(|(path, _)| *path).collect();
    for source in sources(&["rs", "lua", "sh"]) {
        let lines = source.text.lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| Path::new(path) == source.path);
        if lines > LINES_MAX && excused {
            unneeded.retain(|path| Path::new(path) != source.path);
        } else if lines > LINES_MAX {
            findings.add(
                &source,
                LINES_MAX,
                format!("{lines} lines, expected at most {LINES_MAX}: split it by subject"),
            );
        }
    }
    for path in unneeded {
        findings.push(format!("{path}: is not that long any more, take it off the list"));
    }
    findings.expect_none("files that grow without end are where order ends");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut findings = Findings::default();
    for source in sources(&["rs"]) {
        // A table in a test may be as long as it likes.
        if source.is_test() {
            continue;
        }
        let lines = source.lines_outside_tests();
        for (start, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            if !starts_function(line.trim_start()) || line.ends_with(';') {
                continue;
            }
            let end = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
            if length > FUNCTION_LINES_MAX {
                findings.add(
                    &source,
                    start + 1,
                    format!("{length} lines, expected at most {FUNCTION_LINES_MAX}"),
                );
            }
        }
    }
    findings.expect_none("a function that cannot be seen whole cannot be checked by reading");
}

fn starts_function(line: &str) -> bool {
    let mut words = line.split(' ').skip_while(|word| {
        word.starts_with("pub")
            || word.ends_with("super)")
            || ["async", "unsafe", "const", "extern", "\"C\""].contains(word)
    });
    words.next() == Some("fn")
}

#[test]
fn no_name_says_nothing() {
    let mut findings = Findings::default();
    for source in sources(&["rs", "lua", "sh"]) {
        for part in source.path.iter().filter_map(|part| Path::new(part).file_stem()) {
            if EMPTY_NAMES.iter().any(|name| part == *name) {
                findings.add(&source, 1, format!("`{}` names no subject", part.display()));
            }
        }
    }
    findings.expect_none("a room called like that collects what nobody found a place for");
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file does not find itself.
    let words = [
        ("to", "do!("),
        ("unimple", "mented!("),
        ("db", "g!("),
        ("#[ig", "nore"),
        ("FIX", "ME"),
        ("XX", "X"),
    ];
    let mut findings = Findings::default();
    for source in sources(&["rs", "lua"]) {
        for (line, text) in source.text.lines().enumerate() {
            for word in words.map(|(head, tail)| format!("{head}{tail}")) {
                // A process that a test starts is marked like that too, and says so.
                if text.contains(&word) && !text.contains("= \"not a test: ") {
                    findings.add(&source, line + 1, format!("`{word}`"));
                }
            }
        }
    }
    findings.expect_none("what is in the tree works; a plan belongs into an issue");
}

#[test]
fn one_place_ends_the_process() {
    let mut findings = Findings::default();
    for source in sources(&["rs"]) {
        let example = source.path.iter().any(|part| part == "examples");
        if example || source.path == Path::new("cli/main.rs") || source.is_test() {
            continue;
        }
        for (line, text) in source.code_outside_tests() {
            if text.contains("process::exit(") {
                findings.add(
                    &source,
                    line,
                    "only `cli/main.rs` ends the process, with a code of `cli/exit.rs`",
                );
            }
        }
    }
    findings.expect_none("who ends the process skips everybody's clearing up");
}

#[test]
fn code_outside_tests_does_not_unwrap() {
    let mut findings = Findings::default();
    for source in sources(&["rs"]) {
        if source.path.starts_with("tests")
            || source.path.iter().any(|part| part == "tests" || part == "examples")
        {
            continue;
        }
        for (line, text) in source.code_outside_tests() {
            if text.contains(".unwrap()") {
                findings.add(&source, line, "expected an error, or `expect(\"why it holds\")`");
            }
        }
    }
    findings.expect_none("a panic states the broken rule; bad input, a dead peer and old data never panic");
}

#[test]
fn tests_wait_for_a_condition_and_do_not_sleep() {
    let mut findings = Findings::default();
    for source in sources(&["rs"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        let tests_from = if source.is_test() { 0 } else { source.lines_outside_tests().len() };
        for (line, text) in lines.iter().enumerate().skip(tests_from) {
            let sleeps = ["thread::sleep(", "time::sleep(", " sleep("].iter().any(|call| text.contains(call));
            if !sleeps || is_comment(text) || text.contains('"') {
                continue;
            }
            // Either it is the pause between two looks, or a comment says why time itself is the subject.
            let above = &lines[line.saturating_sub(DEADLINE_LINES)..line];
            let explained = above.last().is_some_and(|above| is_comment(above));
            if !explained
                && !above.iter().any(|above| above.contains("deadline") || above.contains(".elapsed()"))
            {
                findings.add(&source, line + 1, "expected a loop with a condition and a deadline");
            }
        }
    }
    findings.expect_none("a sleep is too long on one machine and too short on another");
}

#[test]
fn type_names_are_unique() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources(&["rs"]) {
        if source.is_test() {
            continue;
        }
        for (line, text) in source.code_outside_tests() {
            let mut words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let public = words.next() == Some("pub");
            let kind = words
                .find(|word| ["struct", "enum", "trait", "fn", "const", "use", "type", "mod"].contains(word));
            if public && matches!(kind, Some("struct" | "enum" | "trait")) {
                let name = words.next().unwrap_or_default().to_owned();
                places.entry(name).or_default().push(format!("{}:{line}", source.path.display()));
            }
        }
    }
    let mut findings = Findings::default();
    for (name, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
        findings.push(format!("`{name}`: {}", places.join(", ")));
    }
    findings.expect_none("one word for one thing: a search for a type finds that type");
}
