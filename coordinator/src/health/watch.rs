//! From one look to the next: what began, and what is over.

use std::collections::BTreeMap;

use super::rules::{HealthProblem, HealthRule};

/// Which way something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It began.
    Firing,
    /// It is over.
    Resolved,
}

impl ChangeKind {
    /// The word users read.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Firing => "firing",
            ChangeKind::Resolved => "resolved",
        }
    }
}

/// A problem that began, or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    /// Which way.
    pub kind: ChangeKind,
    /// The problem as it was last seen.
    pub problem: HealthProblem,
    /// When it was first seen, ms since 1970.
    pub since_ms: u64,
    /// When it was seen to have changed, ms since 1970.
    pub at_ms: u64,
}

/// What is wrong at present, as far as somebody looked.
#[derive(Debug, Default)]
pub struct HealthWatch {
    firing: BTreeMap<(HealthRule, String), (u64, HealthProblem)>,
}

impl HealthWatch {
    /// Goes on from what was seen before, each with when that was first seen, ms since 1970.
    pub fn resume(seen: impl IntoIterator<Item = (u64, HealthProblem)>) -> HealthWatch {
        let key = |problem: &HealthProblem| (problem.rule, problem.subject.clone());
        let firing = seen.into_iter().map(|(since_ms, problem)| (key(&problem), (since_ms, problem)));
        HealthWatch { firing: firing.collect() }
    }

    /// Takes in what was found at `now_ms`, and says what has changed since the look before: each change once.
    pub fn update(&mut self, found: Vec<HealthProblem>, now_ms: u64) -> Vec<HealthChange> {
        let mut before = std::mem::take(&mut self.firing);
        let mut changes = Vec::new();
        for problem in found {
            let key = (problem.rule, problem.subject.clone());
            let since_ms = match before.remove(&key) {
                Some((since_ms, _)) => since_ms,
                None => {
                    let problem = problem.clone();
                    changes.push(HealthChange {
                        kind: ChangeKind::Firing,
                        problem,
                        since_ms: now_ms,
                        at_ms: now_ms,
                    });
                    now_ms
                }
            };
            self.firing.insert(key, (since_ms, problem));
        }
        let over = before.into_values().map(|(since_ms, problem)| HealthChange {
            kind: ChangeKind::Resolved,
            problem,
            since_ms,
            at_ms: now_ms,
        });
        changes.extend(over);
        changes
    }

    /// What is wrong at present, with when that was first seen, ms since 1970.
    pub fn firing(&self) -> impl Iterator<Item = (u64, &HealthProblem)> {
        self.firing.values().map(|(since_ms, problem)| (*since_ms, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(rule: HealthRule, subject: &str, message: &str) -> HealthProblem {
        HealthProblem {
            rule,
            subject: subject.to_owned(),
            message: message.to_owned(),
            worker: None,
            needs_person: true,
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let mut watch = HealthWatch::default();
        let full = |message| problem(HealthRule::Disk, "w0", message);
        let told = watch.update(vec![full("1 MiB free")], 10);
        assert_eq!(told.iter().map(|change| change.kind).collect::<Vec<_>>(), [ChangeKind::Firing]);
        assert_eq!(watch.update(vec![full("0 MiB free")], 20), [], "a number in the words is no change");
        let told = watch.update(vec![problem(HealthRule::Host, "w0", "no launcher")], 30);
        let kinds: Vec<_> = told.iter().map(|one| (one.kind, one.problem.rule, one.since_ms)).collect();
        let expected =
            [(ChangeKind::Firing, HealthRule::Host, 30), (ChangeKind::Resolved, HealthRule::Disk, 10)];
        assert_eq!(kinds, expected);
        assert_eq!(told[1].problem.message, "0 MiB free", "it is told as it was seen last");
        let seen: Vec<_> = watch.firing().map(|(since, problem)| (since, problem.clone())).collect();
        assert_eq!(seen.len(), 1);
        let told = HealthWatch::resume(seen).update(Vec::new(), 40);
        assert_eq!(
            (told[0].kind, told[0].since_ms),
            (ChangeKind::Resolved, 30),
            "what went on is over later"
        );
    }
}
