//! What a restore would do, as users see it.

use maestro_coordinator::restoring::RestorePlan;
use serde::Serialize;

use crate::output::shape::{Column, Field, Shape};

/// One thing that a restore would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PlanEntry {
    /// `added`, `changed`, `removed`, `replaced`, `ended`, `cannot be placed`.
    pub(super) change: &'static str,
    /// `state`, `run`, `workflow`, `log`, `key`, `workspace`, `task`.
    pub(super) what: &'static str,
    pub(super) name: String,
    /// More about it, for people.
    pub(super) note: Option<String>,
}

/// Many of them.
pub(super) const PLAN_ROWS: Shape<PlanEntry> = Shape {
    columns: &[
        Column::new("CHANGE", |one| one.change.into()),
        Column::new("WHAT", |one| one.what.into()),
        Column::new("NAME", |one| one.name.clone().into()),
        Column::new("NOTE", |one| Field::or_none(one.note.clone())),
    ],
    name: |one| one.name.clone(),
    none: "nothing would change",
};

/// All of a plan, keys first. Several keys of one run are one line.
pub(super) fn entries_of(plan: &RestorePlan) -> Vec<PlanEntry> {
    let mut entries = Vec::new();
    for (change, keys) in [("added", &plan.added), ("changed", &plan.changed), ("removed", &plan.removed)] {
        for key in keys {
            let (what, name) = subject_of(key);
            let entry = PlanEntry { change, what, name, note: None };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
    }
    for folder in &plan.folders {
        let change = if folder.obstacle.is_some() { "cannot be placed" } else { "replaced" };
        let name = folder.path.clone().unwrap_or_else(|| folder.workspace.clone());
        let note = folder.obstacle.clone().or_else(|| Some(format!("on {}", folder.worker)));
        entries.push(PlanEntry { change, what: "workspace", name, note });
    }
    for task in &plan.active {
        let note = Some(format!("on {}", task.worker));
        entries.push(PlanEntry { change: "ended", what: "task", name: task.task.clone(), note });
    }
    entries
}

/// What a key is about.
pub(super) fn subject_of(key: &str) -> (&'static str, String) {
    let (what, name) = match key.split_once(':') {
        Some(("state", name)) => ("state", name),
        Some(("r", rest)) => ("run", rest.split(':').next().unwrap_or(rest)),
        Some(("workflow", name)) => ("workflow", name),
        Some(("log", name)) => ("log", name),
        _ => ("key", key),
    };
    (what, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_as_what_they_are_about() {
        assert_eq!(subject_of("state:a:b"), ("state", "a:b".to_owned()));
        assert_eq!(subject_of("r:0k3v9x2mqf1a:task"), ("run", "0k3v9x2mqf1a".to_owned()));
        assert_eq!(subject_of("assignments"), ("key", "assignments".to_owned()));
    }
}
