//! Rules about what people read: documents, the changelog, white space.

use std::path::Path;

use crate::files::{Findings, Source, TEXTS, root, sources};

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = Source::read(&root().join("CHANGELOG.md"));
    let newest = changelog.text.lines().find_map(|line| line.strip_prefix("## [")?.split(']').next());
    assert_eq!(
        newest,
        Some(env!("CARGO_PKG_VERSION")),
        "CHANGELOG.md: the first `## [version]` is the version of the root Cargo.toml, so that a release says what is in it"
    );
}

#[test]
fn texts_name_no_machine() {
    // Put together here, so that this file does not find itself.
    let places = [("/wo", "rk/"), ("/root/.", "cargo"), ("/Us", "ers/")];
    let hosts = [("crates", ".io"), ("registry.npm", "js.org"), ("pypi", ".org"), ("pythonhosted", ".org")];
    let words: Vec<String> =
        places.iter().chain(&hosts).map(|(head, tail)| format!("{head}{tail}")).collect();
    let mut findings = Findings::default();
    for source in sources(&TEXTS) {
        for (line, text) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| text.contains(*word)) {
                findings.add(&source, line + 1, format!("`{word}`"));
            }
        }
    }
    findings.expect_none("a path or a package host of one machine means nothing on the next");
}

#[test]
fn texts_are_clean() {
    let mut findings = Findings::default();
    for source in sources(&TEXTS) {
        if !source.text.is_empty() && (!source.text.ends_with('\n') || source.text.ends_with("\n\n")) {
            findings.add(&source, source.text.lines().count(), "expected one newline at the end");
        }
        for (line, text) in source.text.split('\n').enumerate() {
            if text.ends_with([' ', '\t', '\r']) {
                findings.add(&source, line + 1, "white space at the end of the line");
            }
        }
    }
    findings.expect_none("changes show what changed and not what an editor did");
}

#[test]
fn documents_point_at_files_that_exist() {
    let mut findings = Findings::default();
    for source in sources(&["md"]) {
        let folder = root().join(source.path.parent().unwrap_or(Path::new("")));
        let mut fenced = false;
        for (line, text) in source.text.lines().enumerate() {
            fenced ^= text.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
                if !elsewhere && !folder.join(file).exists() {
                    findings.add(
                        &source,
                        line + 1,
                        format!("the link leads to `{file}`, which does not exist"),
                    );
                }
            }
            for path in text.split('`').skip(1).step_by(2).filter(|word| is_path_here(word)) {
                if !root().join(path).exists() {
                    findings.add(&source, line + 1, format!("`{path}` does not exist"));
                }
            }
        }
    }
    findings.expect_none("a document that points nowhere was not read when the code changed");
}

/// Whether a word in backticks means a file or folder of this repository.
fn is_path_here(word: &str) -> bool {
    let rooms =
        ["cli/", "model/", "store/", "coordinator/", "worker/", "tests/", "docs/", "scripts/", "bench/"];
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    rooms.iter().any(|room| word.starts_with(room)) && word.chars().all(plain)
}

#[test]
fn every_decision_is_in_the_list_of_decisions() {
    let list = Source::read(&root().join("docs/decisions/README.md"));
    let mut findings = Findings::default();
    for source in sources(&["md"]).iter().filter(|source| source.path.starts_with("docs/decisions")) {
        let name = source.path.file_name().unwrap_or_default().to_string_lossy();
        if name != "README.md" && !list.text.contains(&format!("]({name})")) {
            findings.add(source, 1, "docs/decisions/README.md does not list it");
        }
    }
    findings.expect_none("a decision that nobody finds is taken again");
}
