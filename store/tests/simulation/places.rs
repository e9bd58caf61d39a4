//! What must hold across runs: every task stands in exactly one place, limits and leases are kept, and
//! no key is without an owner.

use std::collections::{BTreeMap, BTreeSet};

use maestro_model::task::TaskStatus;
use maestro_store::record::TaskRecord;

use super::again::check_waiters;
use super::agents::AgentsAtWork;
use super::audit::origin;
use super::dump::Dump;
use super::plans::{BETA_LIMIT, ShadowRun};
use super::{Violation, hold};

/// Most tokens of a bell.
const BELL_TOKENS: usize = 32;

/// Checks all rules that concern more than one run.
pub fn check(dump: &Dump, runs: &[ShadowRun]) -> Result<(), Violation> {
    let mut expected = Expected::default();
    for shadow in runs {
        expected.add_run(dump, shadow)?;
    }
    compare("places of tasks", &expected.places, &found_places(dump)?)?;
    let deadlines = dump.zset("deadlines").map(|(member, _)| member.clone()).collect();
    expected.forgive_passed_run_limits(dump, &deadlines);
    compare_sets("limits of time", &expected.deadlines, &deadlines)?;
    let none = BTreeSet::new();
    let slots = dump.sets.get("slots:beta").unwrap_or(&none);
    compare_sets("slots of the limited type", &expected.slots, slots)?;
    expected.agents.check(dump)?;
    hold!(slots.len() <= BETA_LIMIT, "{} attempts of a type that allows {BETA_LIMIT}", slots.len());
    check_processes(dump)?;
    check_pins(dump)?;
    check_waiters(dump)?;
    check_keys(dump)
}

/// What the records say should stand elsewhere.
#[derive(Default)]
struct Expected {
    places: BTreeMap<String, Vec<String>>,
    deadlines: BTreeSet<String>,
    slots: BTreeSet<String>,
    agents: AgentsAtWork,
}

impl Expected {
    fn add_run(&mut self, dump: &Dump, shadow: &ShadowRun) -> Result<(), Violation> {
        let id = shadow.id.as_str();
        for (index, record) in dump.records(id)? {
            let step = origin(shadow, dump, index)?;
            let task = format!("{id}.{index}");
            if let Some(place) = place_of(&record, &task)? {
                self.places.entry(task.clone()).or_default().push(place);
            }
            if let Some(agent) = &shadow.shared(step).assigned {
                self.agents.add(agent, &task, &record);
            }
            let waits = record.status == TaskStatus::Queued && record.attempt.0 == 0;
            if waits && shadow.shared(step).queue_timeout_ms.is_some() {
                self.deadlines.insert(format!("q{task}"));
            }
            let held = matches!(record.status, TaskStatus::Running | TaskStatus::Cancelling);
            hold!(held || !record.flags.contains('d'), "task {task} has ended and is said to have a limit");
            if held && record.owner.is_some() {
                // It has a limit from the first beat of its worker on, and a flag that says so.
                if record.flags.contains('d') {
                    self.deadlines.insert(format!("a{task}.{}", record.attempt));
                }
                if shadow.shared(step).agent.as_str() == "beta" && !record.flags.contains('x') {
                    self.slots.insert(task);
                }
            }
        }
        let status = dump.run_field(id, "status");
        if shadow.plan.policy.timeout_ms.is_some() && matches!(status, "running" | "cancelling") {
            self.deadlines.insert(format!("r{id}"));
        }
        let ended = matches!(status, "completed" | "failed" | "cancelled");
        let listed = |key: &str| dump.zset(key).any(|(member, _)| member == id);
        hold!(ended == listed("done"), "run {id} is {status}; in `done`: {}", listed("done"));
        hold!((status == "loading") == listed("loading"), "run {id} is {status}; `loading` disagrees");
        hold!(status.is_empty() != listed("runs"), "run {id} is `{status}`; `runs` disagrees");
        Ok(())
    }

    /// A run's limit that has passed is taken out, also if the run was being stopped before.
    fn forgive_passed_run_limits(&mut self, dump: &Dump, found: &BTreeSet<String>) {
        self.deadlines.retain(|entry| {
            let stopped = entry.strip_prefix('r').is_some_and(|run| !dump.run_field(run, "stop").is_empty());
            found.contains(entry) || !stopped
        });
    }
}

fn place_of(record: &TaskRecord, task: &str) -> Result<Option<String>, Violation> {
    let place = record.place.as_deref();
    Ok(match (record.status, place, &record.owner) {
        (TaskStatus::Queued, Some("held"), _) => Some("held".to_owned()),
        (TaskStatus::Queued, Some(queue), _) => Some(format!("q:{queue} at {:?}", record.rank)),
        (TaskStatus::Running | TaskStatus::Cancelling, None, Some(owner)) => Some(format!("own:{owner}")),
        (TaskStatus::Running | TaskStatus::Cancelling, None, None) => None,
        (TaskStatus::Blocked, None, None) => None,
        (TaskStatus::Parked, None, _) => Some("delayed".to_owned()),
        (status, None, _) if status.is_final() => None,
        _ => return Err(Violation(format!("task {task} stands where its state does not allow: {record:?}"))),
    })
}

fn found_places(dump: &Dump) -> Result<BTreeMap<String, Vec<String>>, Violation> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |task: &str, place: String| found.entry(task.to_owned()).or_default().push(place);
    for (key, members) in &dump.zsets {
        if key.starts_with("q:") {
            for member in members.keys() {
                let (rank, task) = member.split_once(':').unwrap_or_default();
                add(task, format!("{key} at {:?}", rank.parse::<u64>().ok()));
            }
        } else if let Some(run) = key.strip_prefix("r:").and_then(|rest| rest.strip_suffix(":held")) {
            members.keys().for_each(|index| add(&format!("{run}.{index}"), "held".to_owned()));
        } else if key == "delayed" {
            members.keys().for_each(|task| add(task, key.clone()));
        }
    }
    for (key, members) in dump.sets.iter().filter(|(key, _)| key.starts_with("own:")) {
        members.iter().for_each(|task| add(task, key.clone()));
    }
    Ok(found)
}

fn compare(
    what: &str,
    expected: &BTreeMap<String, Vec<String>>,
    found: &BTreeMap<String, Vec<String>>,
) -> Result<(), Violation> {
    for (task, places) in found {
        let right = expected.get(task);
        hold!(right == Some(places), "{what}: {task} stands in {places:?}, its record says {right:?}");
    }
    for (task, places) in expected {
        hold!(found.contains_key(task), "{what}: {task} should stand in {places:?} and stands nowhere");
    }
    Ok(())
}

fn compare_sets(what: &str, expected: &BTreeSet<String>, found: &BTreeSet<String>) -> Result<(), Violation> {
    let missing: Vec<_> = expected.difference(found).collect();
    let surplus: Vec<_> = found.difference(expected).collect();
    hold!(missing.is_empty() && surplus.is_empty(), "{what}: missing {missing:?}, too many {surplus:?}");
    Ok(())
}

/// Leases, records, names and holdings of processes belong together.
fn check_processes(dump: &Dump) -> Result<(), Violation> {
    let leases: BTreeSet<&str> = dump.zset("leases").map(|(member, _)| member.as_str()).collect();
    for key in dump.hashes.keys().filter_map(|key| key.strip_prefix("w:")) {
        hold!(leases.contains(key), "process {key} is known and has no lease");
    }
    for lease in &leases {
        hold!(dump.hashes.contains_key(&format!("w:{lease}")), "a lease without a process: {lease}");
    }
    for (name, holder) in dump.hash("names").into_iter().flatten() {
        hold!(leases.contains(holder.as_str()), "name {name} is held by {holder}, who is gone");
    }
    for key in dump.sets.keys().filter_map(|key| key.strip_prefix("own:")) {
        hold!(leases.contains(key), "{key} is gone and still holds tasks");
    }
    Ok(())
}

/// Runs bound to a worker are known under its name, and the other way round.
fn check_pins(dump: &Dump) -> Result<(), Violation> {
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for run in dump.runs() {
        let pin = dump.run_field(run, "pin");
        let goes_on = matches!(dump.run_field(run, "status"), "running" | "cancelling");
        let stays = matches!(dump.run_field(run, "stop"), "" | "fail_fast");
        if !pin.is_empty() && goes_on && stays {
            expected.insert(format!("{pin} {run}"));
        }
    }
    for (key, members) in dump.sets.iter() {
        let Some(name) = key.strip_prefix("pins:") else { continue };
        for run in members {
            hold!(dump.run_field(run, "pin") == name, "run {run} is said to be bound to {name}");
            let goes_on = matches!(dump.run_field(run, "status"), "running" | "cancelling");
            hold!(goes_on, "run {run} has ended and is still bound to {name}");
            expected.remove(&format!("{name} {run}"));
        }
    }
    hold!(expected.is_empty(), "bound runs that their worker's name does not know: {expected:?}");
    for entry in dump.runs() {
        let pin = dump.run_field(entry, "pin");
        let waits = dump.run_field(entry, "status") == "running" && dump.run_field(entry, "stop").is_empty();
        let there = dump.hash("names").is_some_and(|names| names.contains_key(pin));
        hold!(pin.is_empty() || !waits || there, "run {entry} waits for {pin}, who is gone");
    }
    Ok(())
}

/// Every key has an owner that is there.
fn check_keys(dump: &Dump) -> Result<(), Violation> {
    let runs: BTreeSet<&str> = dump.runs().collect();
    let leases: BTreeSet<&str> = dump.zset("leases").map(|(member, _)| member.as_str()).collect();
    let names = dump.hash("names");
    let named = |name: &str| names.is_some_and(|names| names.contains_key(name));
    let keys = dump.hashes.keys().chain(dump.zsets.keys()).chain(dump.sets.keys()).chain(dump.lists.keys());
    for key in keys.chain(&dump.fixed) {
        let (kind, rest) = key.split_once(':').unwrap_or((key, ""));
        let owned = match kind {
            "ctl" | "vt" | "deadlines" | "delayed" | "leases" | "names" | "runs" | "done" | "loading" => true,
            "assignments" => true,
            "dispatch" => {
                dump.hash(key).and_then(|text| text.get("")).is_some_and(|run| runs.contains(run.as_str()))
            }
            "short" => dump.hashes.contains_key("assignments"),
            "todo" | "lost" | "limits" | "agents" | "combined" | "leader" | "states" | "state" => true,
            "r" => runs.contains(rest.split(':').next().unwrap_or_default()),
            "w" | "own" => leases.contains(rest),
            "owing" => dump.sets[key].iter().all(|worker| leases.contains(worker.as_str())),
            "pins" => named(rest),
            "q" | "slots" => true,
            "bell" => match rest.strip_prefix("w:") {
                Some(name) => leases.contains(name) || named(name),
                None => true,
            },
            _ => false,
        };
        hold!(owned, "key `{key}` belongs to nobody");
    }
    for (name, _) in dump.zset("lost") {
        hold!(!named(name), "worker {name} is there and counts as lost");
    }
    for (key, tokens) in dump.lists.iter().filter(|(key, _)| key.starts_with("bell:")) {
        hold!(tokens.len() <= BELL_TOKENS, "{key} holds {} tokens", tokens.len());
    }
    Ok(())
}
