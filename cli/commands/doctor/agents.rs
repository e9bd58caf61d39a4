//! Checks of agent types: whether this host could serve them, and if not, why not.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::ids::AgentSlug;
use maestro_worker::confinement::Confinement;
use maestro_worker::service::servable;
use maestro_worker::settings::WorkerSettings;

use super::CheckEntry;
use crate::agent_files::AgentFiles;
use crate::config::settings::Settings;
use crate::engine::worker_settings;

/// Looks at every type that is registered or lies on this host; registered ones count first, as for a worker.
pub(super) fn checks(
    settings: &Settings,
    registered: IndexMap<AgentSlug, AgentType>,
    confinement: &Confinement,
) -> Vec<CheckEntry> {
    let mut entries = Vec::new();
    let files = AgentFiles::find(&settings.agents_dirs());
    let mut known = registered;
    for slug in files.slugs() {
        match files.load(&slug) {
            Ok(Some(parsed)) => {
                known.entry(parsed.agent.slug.clone()).or_insert(parsed.agent);
            }
            Ok(None) => {}
            Err(failure) => entries.push(CheckEntry::fail(
                format!("agent {slug}"),
                failure.one_line(),
                "correct the file, or remove it",
            )),
        }
    }
    known.sort_keys();
    let worker = worker_settings(settings, IndexMap::new());
    let worker = WorkerSettings { confinement: Some(confinement.clone()), ..worker };
    let (served, unserved) = servable(&worker, &known);
    for (slug, agent) in &known {
        let check = format!("agent {slug}");
        if served.iter().any(|one| one == slug.as_str()) {
            entries.push(CheckEntry::ok(check, program(settings, agent)));
        } else if let Some((_, reason)) = unserved.iter().find(|(one, _)| one == slug.as_str()) {
            let (found, mend) = split_mend(reason);
            entries.push(CheckEntry::warn(check, found, mend));
        }
    }
    entries
}

/// What it launches.
fn program(settings: &Settings, agent: &AgentType) -> String {
    match agent.command.as_deref() {
        Some([]) => "launches nothing".to_owned(),
        Some([program, ..]) => format!("`{program}` is there"),
        None => format!("`{}` is there", settings.kilocode_bin().0.display()),
    }
}

/// A worker says its reason with the way to mend it in brackets behind. Both may hold brackets of their own, so
/// that the last one is followed back to where it was opened.
pub(super) fn split_mend(reason: &str) -> (String, String) {
    match opened_by_the_last(reason).and_then(|at| Some((reason[..at].strip_suffix(' ')?, at))) {
        Some((found, at)) => (found.to_owned(), reason[at + 1..reason.len() - 1].to_owned()),
        None => (reason.to_owned(), "other workers may serve it".to_owned()),
    }
}

/// Where the bracket opens that closes a text.
fn opened_by_the_last(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.strip_suffix(')').map(|_| text)?.char_indices().rev() {
        match letter {
            ')' => depth += 1,
            '(' if depth == 1 => return Some(at),
            '(' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_mend_is_told_from_the_reason() {
        let (found, mend) = split_mend("binary not found: `kilo` (install it, or put it on PATH)");
        assert_eq!(
            (found.as_str(), mend.as_str()),
            ("binary not found: `kilo`", "install it, or put it on PATH")
        );
        let (found, mend) = split_mend("no engine (os error 13) (start it (as root), or name another)");
        assert_eq!(
            (found.as_str(), mend.as_str()),
            ("no engine (os error 13)", "start it (as root), or name another")
        );
        for plain in ["of no use)", "(all of it)", "opened (and not closed"] {
            assert_eq!(split_mend(plain).0, plain);
        }
        assert_eq!(split_mend("containers are not supported").0, "containers are not supported");
    }
}
