//! The modes of Kilo that come with Maestro, as Kilo's own agent definitions.
//!
//! Kilo looks for them in its user's HOME; each agent's own HOME gets them before its launch (`attempt::own_home`).
//! The text is in `agents.d/kilo`, and in the binary, so that a worker needs no files.

/// A mode, and the Markdown that defines it.
#[derive(Debug, Clone, Copy)]
pub struct KiloMode {
    /// Its name, as `--agent` takes it.
    pub name: &'static str,
    /// The definition.
    pub text: &'static str,
}

/// Where Kilo looks for definitions, below HOME.
pub const DEFINITIONS_FOLDER: &str = ".config/kilo/agent";

macro_rules! modes {
    ($($name:literal),+ $(,)?) => {
        &[$(KiloMode { name: $name, text: include_str!(concat!("../../agents.d/kilo/", $name, ".md")) }),+]
    };
}

/// All of them.
pub const KILO_MODES: &[KiloMode] = modes![
    "code-reviewer",
    "flick-devops",
    "flickclaw-bot",
    "frontend-specialist",
    "img-ops",
    "rpgclaw-ops",
    "test-engineer",
    "threejs-ops",
    "vps-ops",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_definition_of_the_folder_comes_with_the_worker_and_is_a_primary_mode() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents.d/kilo");
        let entries = folder.read_dir().expect("the folder is in the source");
        let there: BTreeSet<String> = entries
            .filter_map(|entry| entry.expect("readable").path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        let known: BTreeSet<String> = KILO_MODES.iter().map(|mode| mode.name.to_owned()).collect();
        assert_eq!(known, there);
        for mode in KILO_MODES {
            let head = mode.text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
            let (head, body) = head.unwrap_or_else(|| panic!("`{}` begins with its settings", mode.name));
            assert!(head.lines().any(|line| line == "mode: primary"), "{}", mode.name);
            assert!(!body.trim().is_empty(), "{}", mode.name);
        }
    }
}
