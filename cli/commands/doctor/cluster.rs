//! Checks of the cluster: who is alive, who leads, whether work is taken.

use maestro_store::step::CellMode;
use maestro_store::worker::{AttachedProcess, ProcessRole};
use maestro_store::{Store, StoreError};

use super::CheckEntry;

/// Looks at it.
///
/// # Errors
/// What the store says.
pub(super) async fn checks(store: &Store) -> Result<Vec<CheckEntry>, StoreError> {
    let processes = store.processes().await?;
    let leads = store.leader().await?;
    let of_role = |role: ProcessRole| -> Vec<&AttachedProcess> {
        processes.iter().filter(|one| one.about.role == role).collect()
    };
    let mut entries = vec![workers(&of_role(ProcessRole::Worker))];
    let coordinators = of_role(ProcessRole::Coordinator);
    let alive: Vec<&&AttachedProcess> = coordinators.iter().filter(|one| one.alive).collect();
    let leader = alive.iter().find(|one| leads.as_ref() == Some(&one.incarnation));
    entries.push(match (alive.len(), leader) {
        (0, _) => CheckEntry::warn(
            "coordinators",
            "none is alive: a `foreach` over an output waits, and old runs are not collected",
            "`maestro coordinator start`, or `maestro up`",
        ),
        (count, Some(leader)) => {
            CheckEntry::ok("coordinators", format!("{count} alive, `{}` leads", leader.name))
        }
        (count, None) => CheckEntry::warn(
            "coordinators",
            format!("{count} alive, none leads"),
            "wait 15 s and look again; then look at their logs",
        ),
    });
    if store.cell_mode().await? != CellMode::Run {
        entries.push(CheckEntry::warn(
            "intake",
            "paused: nothing new is started",
            "see `maestro queue status`",
        ));
    }
    Ok(entries)
}

fn workers(workers: &[&AttachedProcess]) -> CheckEntry {
    let alive: Vec<&&AttachedProcess> = workers.iter().filter(|one| one.alive).collect();
    let slots: u32 = alive.iter().map(|one| one.about.slots).sum();
    let used: u32 = alive.iter().map(|one| one.holds).sum();
    let lost = workers.len() - alive.len();
    let lost_note = if lost == 0 { String::new() } else { format!(", {lost} lost") };
    if alive.is_empty() {
        return CheckEntry::warn(
            "workers",
            format!("none is alive{lost_note}: what is submitted waits"),
            "`maestro worker start`, or `maestro up`",
        );
    }
    let found = format!("{} alive{lost_note}, {used} of {slots} slots taken", alive.len());
    let troubled = alive.iter().find_map(|one| Some((&one.name, one.status.trouble.as_ref()?)));
    match troubled {
        Some((name, trouble)) => CheckEntry::warn(
            "workers",
            format!("{found}; `{name}` says: {trouble}"),
            "run `maestro doctor` on that worker's host",
        ),
        None => CheckEntry::ok("workers", found),
    }
}
