//! A problem as users see it.

use maestro_coordinator::health::{ChangeKind, HealthChange, HealthProblem};
use serde::Serialize;

use crate::output::moment::{as_optional_rfc3339, clock};
use crate::output::shape::{Column, Field, Shape};
use crate::output::tone::Tone;

/// Something that is wrong, or that was.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProblemEntry {
    /// `firing` or `resolved`.
    pub(crate) status: &'static str,
    /// Which health rule.
    pub(crate) rule: &'static str,
    /// With what: a worker, an agent, or a task.
    pub(crate) subject: String,
    pub(crate) worker: Option<String>,
    pub(crate) message: String,
    /// Whether it stays until a person does something.
    pub(crate) needs_person: bool,
    /// When it was first seen; none where nobody looked before.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) since: Option<u64>,
    /// When it was seen to have changed.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub(crate) at: Option<u64>,
}

impl ProblemEntry {
    /// As it is at one look.
    pub(crate) fn of(problem: HealthProblem) -> ProblemEntry {
        ProblemEntry {
            status: ChangeKind::Firing.word(),
            rule: problem.rule.word(),
            subject: problem.subject,
            worker: problem.worker,
            message: problem.message,
            needs_person: problem.needs_person,
            since: None,
            at: None,
        }
    }

    /// As it changed between two.
    pub(crate) fn of_change(change: HealthChange) -> ProblemEntry {
        ProblemEntry {
            status: change.kind.word(),
            since: Some(change.since_ms),
            at: Some(change.at_ms),
            ..ProblemEntry::of(change.problem)
        }
    }

    /// The line that people read of a change.
    pub(crate) fn line(&self) -> String {
        let at = self.at.map(clock).unwrap_or_default();
        format!("{at}  {:<8}  {:<9}  {}", self.status, self.rule, self.message)
    }
}

/// Problems as a table.
pub(crate) const PROBLEM_ROWS: Shape<ProblemEntry> = Shape {
    columns: &[
        Column::new("RULE", |one| Field::toned(one.rule.to_owned(), Tone::Bad)),
        Column::new("SUBJECT", |one| one.subject.clone().into()),
        Column::new("WORKER", |one| Field::or_none(one.worker.clone())),
        Column::new("PERSON", |one| if one.needs_person { "yes" } else { "no" }.into()),
        Column::new("PROBLEM", |one| one.message.clone().into()),
    ],
    name: |one| one.subject.clone(),
    none: "no problems",
};
