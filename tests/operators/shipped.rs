//! What the repository ships: every workflow and agent type can be read, and they fit each other.
//!
//! Whether the workflows do what they say is not here: see the tests that run them.

use std::fs;
use std::path::{Path, PathBuf};

use maestro_model::agent_file::parse_agent_file;
use maestro_model::diagnostic::SourceText;
use maestro_model::workflow::{KnownNames, parse_workflow};

#[test]
fn every_shipped_workflow_is_right_and_names_shipped_agents() {
    let agents: Vec<String> = files("agents.d").iter().map(|path| stem(path)).collect();
    let workflows = files("workflows");
    assert!(workflows.len() >= 6, "{workflows:?}");
    for path in workflows {
        let text = fs::read_to_string(&path).expect("the file was just listed");
        let known = KnownNames { agents: Some(&agents), vars: &[] };
        let source = SourceText::new(stem(&path), text);
        match parse_workflow(source, known) {
            Ok(parsed) => assert!(parsed.warnings.is_empty(), "{}: {}", path.display(), parsed.warnings),
            Err(problems) => panic!("{}: {problems}", path.display()),
        }
    }
}

#[test]
fn every_shipped_agent_type_is_right() {
    let agents = files("agents.d");
    assert!(agents.len() >= 14, "{agents:?}");
    for path in agents {
        let text = fs::read_to_string(&path).expect("the file was just listed");
        match parse_agent_file(SourceText::new(path.display().to_string(), text)) {
            Ok(parsed) => {
                assert!(parsed.warnings.is_empty(), "{}: {}", path.display(), parsed.warnings);
                assert!(!parsed.agent.description.is_empty(), "{} has no description", path.display());
            }
            Err(problems) => panic!("{}: {problems}", path.display()),
        }
    }
}

/// The YAML files of a folder, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder was just opened").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}
