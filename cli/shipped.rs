//! Workflows that come with the program, and can be run by their name. Agent types: see `agent_files`.

/// A workflow that comes with the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShippedWorkflow {
    /// The name of its file, without `.yaml`.
    pub(crate) file: &'static str,
    /// Its text.
    pub(crate) text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(ShippedWorkflow { file: $name, text: include_str!(concat!("../workflows/", $name, ".yaml")) }),+]
    };
}

/// All of them.
pub(crate) const WORKFLOWS: &[ShippedWorkflow] =
    shipped!["deploy-rpgclaw", "fan-out", "hello", "parallel-feature", "pr-review", "repo-audit"];

/// The one of that name: its file's, or the one it gives itself.
pub(crate) fn shipped_workflow(name: &str) -> Option<&'static ShippedWorkflow> {
    WORKFLOWS.iter().find(|workflow| workflow.file == name || declared_name(workflow.text) == Some(name))
}

/// The `name:` of a definition, without reading the rest.
fn declared_name(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("name:")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_workflow_of_the_folder_is_shipped() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
        let there: BTreeSet<String> = folder
            .read_dir()
            .expect("the folder is in the source")
            .filter_map(|entry| entry.expect("readable").path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        let shipped: BTreeSet<String> = WORKFLOWS.iter().map(|workflow| workflow.file.to_owned()).collect();
        assert_eq!(shipped, there);
    }

    #[test]
    fn a_workflow_is_found_by_its_file_and_by_its_name() {
        let by_name = shipped_workflow("rpgclaw-deploy").expect("there");
        assert_eq!(by_name.file, "deploy-rpgclaw");
        assert!(shipped_workflow("deploy-rpgclaw").is_some());
        assert!(shipped_workflow("no-such").is_none());
    }
}
