//! The references of workflows and agent types against the code: the same keys, and examples that are right.
//!
//! What the sentences say is not checked here; the tests of the language are in `model`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use maestro_model::agent_file::{AGENT_KEYS, parse_agent_file};
use maestro_model::diagnostic::SourceText;
use maestro_model::workflow::{KnownNames, parse_workflow, workflow_schema};
use serde_json::Value;

#[test]
fn the_workflow_reference_lists_every_key_and_no_other() {
    let schema = workflow_schema();
    let reference = document("workflow-reference.md");
    for (heading, definition) in [
        ("Keys of a workflow", None),
        ("Keys of `defaults`", Some("StepDefaults")),
        ("Keys of a step", Some("Step")),
        ("`retry`", Some("RetryRules")),
    ] {
        let object = definition.map_or(&schema, |name| &schema["$defs"][name]);
        let documented = first_column(&reference, heading);
        assert_eq!(
            documented,
            keys(object),
            "left: docs/workflow-reference.md, `## {heading}`; right: the schema"
        );
    }
}

#[test]
fn every_example_of_the_workflow_reference_is_right() {
    let reference = document("workflow-reference.md");
    let examples = yaml_blocks(&reference);
    assert!(examples.len() >= 3, "found {} examples", examples.len());
    for example in examples {
        // A fragment begins with its steps.
        let text = if example.starts_with("steps:") {
            format!("name: example\n{example}")
        } else {
            example.to_owned()
        };
        if let Err(problems) = parse_workflow(SourceText::new("example", text), KnownNames::default()) {
            panic!("docs/workflow-reference.md: {problems}");
        }
    }
}

#[test]
fn the_readme_shows_a_right_workflow() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README.md");
    for example in yaml_blocks(&readme) {
        if let Err(problems) = parse_workflow(SourceText::new("example", example), KnownNames::default()) {
            panic!("README.md: {problems}");
        }
    }
}

#[test]
fn the_reference_of_agent_types_lists_every_key_and_no_other() {
    let documented = first_column(&document("agent-types.md"), "Keys");
    let keys: BTreeSet<String> = AGENT_KEYS.into_iter().map(str::to_owned).collect();
    assert_eq!(documented, keys, "left: docs/agent-types.md; right: the keys that are read");
}

#[test]
fn every_example_of_an_agent_type_is_right() {
    let reference = document("agent-types.md");
    let examples = yaml_blocks(&reference);
    assert!(!examples.is_empty(), "no example was found");
    for example in examples {
        if let Err(problems) = parse_agent_file(SourceText::new("code-reviewer.yaml", example)) {
            panic!("docs/agent-types.md: {problems}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    let path = root().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn yaml_blocks(document: &str) -> Vec<&str> {
    document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    let properties = object["properties"].as_object().expect("the schema describes an object with its keys");
    properties.keys().cloned().collect()
}

/// The words in backticks that begin the rows of a section's table.
fn first_column(reference: &str, heading: &str) -> BTreeSet<String> {
    let start =
        reference.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading `## {heading}`"));
    let section = &reference[start + 1..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(key, _)| key.to_owned()).collect()
}
