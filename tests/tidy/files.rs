//! The files that rules look at, and what a rule found in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that people write, by the end of their name.
pub(crate) const TEXTS: [&str; 9] = ["rs", "lua", "md", "yaml", "yml", "toml", "sh", "Makefile", "run"];

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file with its path below the root.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Source {
        let text = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let path = path.strip_prefix(root()).unwrap_or(path).to_path_buf();
        Source { path, text: String::from_utf8_lossy(&text).into_owned() }
    }

    pub(crate) fn stem(&self) -> String {
        self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether the whole file is about tests.
    pub(crate) fn is_test(&self) -> bool {
        self.stem() == "tests" || self.path.iter().any(|part| part == "tests")
    }

    /// Lines up to the unit tests at the end of the file.
    pub(crate) fn lines_outside_tests(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        // `mod tests;` stands among the other modules at the top and cuts nothing off.
        let is_start = |at: &usize| {
            let module =
                lines.get(at + 1).is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
            lines[*at] == "#[cfg(test)]" && module
        };
        let end = (0..lines.len()).find(is_start).unwrap_or(lines.len());
        lines[..end].to_vec()
    }

    /// The same, numbered and without comments.
    pub(crate) fn code_outside_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered =
            self.lines_outside_tests().into_iter().enumerate().map(|(line, text)| (line + 1, text));
        numbered.filter(|(_, text)| !is_comment(text))
    }
}

/// Whether the line is a comment.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// All files below the root whose name ends so, in order. What is built, hidden or recorded is left out.
pub(crate) fn sources(ends: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        for entry in entries.map(|entry| entry.expect("the folder was just opened")) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci" && name != ".config";
            // Files may come and go while tests of other crates run: only folders that stay are entered.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && !hidden && name != "target" && name != "snapshots" {
                folders.push(path);
            } else if !is_folder
                && !hidden
                && ends.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file ends with any of {ends:?}: a rule that sees nothing checks nothing");
    found.iter().map(|path| Source::read(path)).collect()
}

/// What a rule found, as `file:line: what`.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn add(&mut self, source: &Source, line: usize, what: impl Into<String>) {
        self.push(format!("{}:{line}: {}", source.path.display(), what.into()));
    }

    pub(crate) fn push(&mut self, finding: String) {
        self.0.push(finding);
    }

    pub(crate) fn expect_none(self, reason: &str) {
        assert!(self.0.is_empty(), "{} (why: {reason})\n  {}", self.0.len(), self.0.join("\n  "));
    }
}
