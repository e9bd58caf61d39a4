//! Who may import whom: between crates, and between the modules of one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::files::{Findings, Source, root, sources};

/// The crates and, for each, those it may name. Coordinator and worker never meet: they speak through Redis.
const EDGES: [(&str, &[&str]); 6] = [
    ("model", &[]),
    ("vitals", &[]),
    ("store", &["maestro-model", "maestro-vitals"]),
    ("coordinator", &["maestro-model", "maestro-vitals", "maestro-store"]),
    ("worker", &["maestro-model", "maestro-vitals", "maestro-store"]),
    (".", &["maestro-model", "maestro-vitals", "maestro-store", "maestro-coordinator", "maestro-worker"]),
];

/// Crates in which no two modules may import each other, also not by way of others.
const WITHOUT_CIRCLES: [&str; 5] = ["model", "vitals", "store", "coordinator", "worker"];

#[test]
fn crates_name_only_those_below_them() {
    let mut findings = Findings::default();
    for (folder, allowed) in EDGES {
        let manifest = Source::read(&root().join(folder).join("Cargo.toml"));
        for (line, section, name) in dependencies(&manifest) {
            let ours = name.starts_with("maestro-");
            if ours && !allowed.contains(&name) {
                findings.add(
                    &manifest,
                    line,
                    format!("`{folder}` names `{name}`, expected one of {allowed:?}"),
                );
            }
            // Tests look at a real Redis from outside.
            let may_speak_redis = folder == "store" || section == "dev-dependencies";
            if name == "redis" && !may_speak_redis {
                findings.add(&manifest, line, "only `store` speaks to Redis");
            }
            if ["anyhow", "eyre", "color-eyre"].contains(&name) {
                findings.add(&manifest, line, format!("`{name}`: an error says what its caller can do"));
            }
        }
    }
    findings.expect_none("imports run one way: cli → coordinator, worker → store → model, vitals");
}

#[test]
fn modules_of_a_crate_do_not_go_round_in_circles() {
    let mut findings = Findings::default();
    for name in WITHOUT_CIRCLES {
        let edges = module_edges(&root().join(name).join("src"));
        if let Some(circle) = circle(&edges) {
            findings.push(format!("{name}/src: {}", circle.join(" → ")));
        }
    }
    findings
        .expect_none("imports go downwards, so that a module can be understood with those below it alone");
}

/// Line, section and name of each dependency in a manifest.
fn dependencies(manifest: &Source) -> Vec<(usize, &str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for (line, text) in manifest.text.lines().enumerate() {
        if let Some(name) = text.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
            let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') {
                found.push((line + 1, section, name));
            }
        }
    }
    found
}

/// Which top-level modules of a crate name which others, outside of tests.
fn module_edges(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let below = folder.strip_prefix(root()).expect("crates lie below the root").to_path_buf();
    let module_of = |path: &Path| -> Option<String> {
        let inside = path.strip_prefix(&below).ok()?;
        let first = inside.iter().next()?;
        Some(Path::new(first).file_stem()?.to_string_lossy().into_owned())
    };
    let files: Vec<Source> =
        sources(&["rs"]).into_iter().filter(|source| source.path.starts_with(&below)).collect();
    let modules: BTreeSet<String> = files.iter().filter_map(|source| module_of(&source.path)).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &files {
        let Some(module) = module_of(&source.path).filter(|module| module != "lib") else { continue };
        for (_, text) in source.code_outside_tests() {
            for name in text.split("crate::").skip(1) {
                let name: String =
                    name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
                if name != module && modules.contains(&name) {
                    edges.entry(module.clone()).or_default().insert(name);
                }
            }
        }
    }
    edges
}

/// A way from some module back to itself.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        at: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = way.iter().position(|step| step == at) {
            way.drain(..start);
            way.push(at.to_owned());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at.to_owned());
        if edges.get(at).into_iter().flatten().any(|next| visit(next, edges, way, done)) {
            return true;
        }
        way.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|start| {
        let mut way = Vec::new();
        visit(start, edges, &mut way, &mut done).then_some(way)
    })
}
