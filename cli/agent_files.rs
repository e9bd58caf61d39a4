//! Where agent types come from on this host: the folders of the settings, then those that are shipped.
//!
//! The file name is the slug; of several files of one name the first counts. What is registered in the
//! cluster is the store's to know. Files are looked for at once and read only when asked for, so that
//! one wrong file does not stop the work of others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maestro_model::agent_file::{ParsedAgent, parse_agent_file};
use maestro_model::diagnostic::{Colour, Diagnostics, SourceText};
use maestro_model::ids::AgentSlug;

use crate::failure::Failure;

/// Most files looked at in one folder.
const FILES_MAX: usize = 10_000;
/// Most bytes read of one file: enough to say how far it is over its limit.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Declares the agent types that are part of the program.
macro_rules! shipped {
    ($($slug:literal),+ $(,)?) => {
        &[$(($slug, include_str!(concat!("../agents.d/", $slug, ".yaml")))),+]
    };
}

/// The files of `agents.d` in this repository.
const SHIPPED: &[(&str, &str)] = shipped![
    "auditor",
    "claude",
    "code-reviewer",
    "codex",
    "flick-devops",
    "flickclaw-bot",
    "frontend-specialist",
    "gemini",
    "img-ops",
    "noop",
    "rpgclaw-ops",
    "shell",
    "test-engineer",
    "threejs-ops",
    "vps-ops",
];

/// The agent types that can be found on this host, by slug.
#[derive(Debug, Clone)]
pub(crate) struct AgentFiles {
    files: BTreeMap<String, AgentSource>,
}

/// Where the text of an agent type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentSource {
    /// In a file.
    File(PathBuf),
    /// In the program.
    Shipped(&'static str),
}

impl AgentFiles {
    /// Looks into the folders, strongest first. A folder that is not there or cannot be read holds nothing.
    pub(crate) fn find(folders: &[PathBuf]) -> AgentFiles {
        let mut files = BTreeMap::new();
        for folder in folders {
            for (slug, path) in yaml_files(folder) {
                files.entry(slug).or_insert(AgentSource::File(path));
            }
        }
        for (slug, text) in SHIPPED {
            files.entry((*slug).to_owned()).or_insert(AgentSource::Shipped(text));
        }
        AgentFiles { files }
    }

    /// All slugs, in order.
    pub(crate) fn slugs(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Where a type is, if it is anywhere.
    pub(crate) fn source(&self, slug: &str) -> Option<&AgentSource> {
        self.files.get(slug)
    }

    /// Reads one type; none if there is none of that slug.
    ///
    /// # Errors
    /// 65 with every error marked if its file is wrong.
    pub(crate) fn load(&self, slug: &str) -> Result<Option<ParsedAgent>, Failure> {
        let Some(source) = self.source(slug) else { return Ok(None) };
        let text = match source {
            AgentSource::Shipped(text) => SourceText::new(format!("{slug}.yaml"), *text),
            AgentSource::File(path) => read_agent_file(path)?,
        };
        let name = text.name().to_owned();
        parse_agent_file(text).map(Some).map_err(|problems| wrong_agent(&name, &problems))
    }
}

/// Reads one file, whatever folder it is in.
///
/// # Errors
/// 65 with every error marked if it is wrong.
pub(crate) fn read_agent(path: &Path) -> Result<ParsedAgent, Failure> {
    let text = read_agent_file(path)?;
    let name = text.name().to_owned();
    parse_agent_file(text).map_err(|problems| wrong_agent(&name, &problems))
}

/// Files of agent types in a folder, in the order of their slugs.
pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    yaml_files(folder).into_values().collect()
}

/// The files of a folder that are named like an agent type, by slug and in order.
fn yaml_files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let Ok(entries) = folder.read_dir() else { return BTreeMap::new() };
    let paths = entries.flatten().take(FILES_MAX).map(|entry| entry.path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    let with_slug = yaml.filter_map(|path| {
        let slug: AgentSlug = path.file_stem()?.to_str()?.parse().ok()?;
        Some((slug.to_string(), path))
    });
    with_slug.collect()
}

fn read_agent_file(path: &Path) -> Result<SourceText, Failure> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)).map_err(|error| {
        Failure::invalid_file(format!("cannot read the agent type `{name}`")).caused_by(&error)
    })?;
    SourceText::from_bytes(name.clone(), bytes).map_err(|problems| wrong_agent(&name, &problems))
}

fn wrong_agent(name: &str, problems: &Diagnostics) -> Failure {
    let first = problems.list.first();
    let first = first.map(|one| format!("line {}, column {}: {}", one.line, one.column, one.message));
    Failure::invalid_file(format!("`{name}` is not an agent type"))
        .cause(first.unwrap_or_default())
        .details(problems.to_json())
        .shown_as(problems.render(Colour::Plain))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn every_file_of_the_repository_is_shipped_and_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents.d");
        let files: Vec<String> = yaml_files(&folder).into_keys().collect();
        let shipped: Vec<String> = SHIPPED.iter().map(|(slug, _)| (*slug).to_owned()).collect();
        assert_eq!(shipped, files);
        let found = AgentFiles::find(&[]);
        assert_eq!(found.slugs(), files);
        for slug in files {
            let agent = found.load(&slug).expect("lawful").expect("there").agent;
            assert_eq!(agent.slug.as_str(), slug);
        }
    }

    #[test]
    fn the_first_folder_counts_and_shipped_types_come_last() {
        let root = tempfile::tempdir().expect("a folder");
        let folders: Vec<PathBuf> = ["near", "far"].map(|name| root.path().join(name)).to_vec();
        for folder in &folders {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join("mine.yaml"), "command: [echo]\n").expect("a file");
        }
        fs::write(folders[1].join("shell.yaml"), "command: [sh]\n").expect("a file");
        fs::write(folders[1].join("notes.txt"), "no type").expect("a file");
        fs::write(folders[1].join("not a slug.yaml"), "no type").expect("a file");
        let found = AgentFiles::find(&[folders[0].clone(), root.path().join("missing"), folders[1].clone()]);
        assert_eq!(found.source("mine"), Some(&AgentSource::File(folders[0].join("mine.yaml"))));
        assert_eq!(found.source("shell"), Some(&AgentSource::File(folders[1].join("shell.yaml"))));
        assert!(matches!(found.source("noop"), Some(AgentSource::Shipped(_))));
        assert_eq!(found.slugs().len(), SHIPPED.len() + 1);
        assert!(found.load("nope").expect("no error").is_none());
    }

    #[test]
    fn a_wrong_file_is_only_an_error_for_who_asks_for_it() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("bad.yaml"), "comand: [echo]\n").expect("a file");
        let found = AgentFiles::find(&[root.path().to_owned()]);
        assert!(found.load("noop").is_ok());
        let failure = found.load("bad").expect_err("a wrong key");
        assert_eq!(failure.exit(), Exit::FileInvalid);
        assert!(failure.block().is_some_and(|block| block.contains("bad.yaml:1:1")), "{failure:?}");
    }
}
