//! One scenario: some hundred random operations, then all is healed and must come to its end.

use std::collections::BTreeSet;

use maestro_store::worker::ProcessRole;
use rand::Rng;

use super::actor::Health;
use super::delivery::{Delivery, unexpected};
use super::dump::{Depth, Dump};
use super::operations::Temper;
use super::statistics::Statistics;
use super::world::{Portions, World};
use super::{Violation, hold};
use crate::support::TestRedis;

/// Operations of one scenario, about.
const OPERATIONS: std::ops::Range<usize> = 60..180;
/// Rounds within which a healed cluster must have ended all runs.
const ROUNDS_TO_END: usize = 300;
/// Runs submitted in one scenario.
const RUNS_MAX: usize = 5;
/// Processes alive at one time.
const ACTORS_MAX: usize = 5;

/// Plays one scenario. `edits` change the scripts.
pub async fn play(redis: &TestRedis, seed: u64, edits: &[(&str, &str)]) -> Result<Statistics, String> {
    let portions = if seed.is_multiple_of(3) { Portions::AsShipped } else { Portions::Small };
    let mut world = World::new(redis, seed, portions, edits).await.map_err(|Violation(rule)| rule)?;
    let played = play_in(&mut world).await;
    let Violation(rule) = match played {
        Ok(()) => {
            let kinds: Vec<(String, u64)> = world.audit.counts.clone().into_iter().collect();
            kinds.iter().for_each(|(kind, count)| world.statistics.add(&format!("event-{kind}"), *count));
            return Ok(world.statistics);
        }
        Err(violation) => violation,
    };
    let shown = world.story.len().saturating_sub(30);
    Err(format!("{rule}\nlast operations ({portions:?} portions):\n  {}", world.story[shown..].join("\n  ")))
}

async fn play_in(world: &mut World) -> Result<(), Violation> {
    world.attach("ada", ProcessRole::Worker, false, true).await?;
    world.attach("coordinator", ProcessRole::Coordinator, false, true).await?;
    world.op_submit().await?;
    let operations = world.die.random_range(OPERATIONS);
    for _ in 0..operations {
        random_operation(world).await?;
    }
    heal(world).await?;
    clear(world).await
}

async fn random_operation(world: &mut World) -> Result<(), Violation> {
    let speaking: Vec<usize> =
        (0..world.actors.len()).filter(|place| world.actors[*place].health == Health::Well).collect();
    let actor = (!speaking.is_empty()).then(|| speaking[world.die.random_range(0..speaking.len())]);
    let roll = world.die.random_range(0..100);
    if world.die.random_bool(0.07) {
        return world.op_again().await;
    }
    match (roll, actor) {
        (0..42, Some(actor)) => world.op_step(actor).await,
        (42..50, Some(actor)) => world.op_beat(actor).await,
        (50..55, Some(actor)) => {
            for place in speaking {
                world.op_expand(place).await?;
            }
            world.op_beat(actor).await
        }
        (55..66, _) => world.op_time(),
        (66..71, _) => world.op_sweep().await,
        (71..76, _) if world.runs.len() < RUNS_MAX => world.op_submit().await,
        (76..82, _) if speaking.len() < ACTORS_MAX => world.op_attach().await,
        (82..88, _) => world.op_old_request().await,
        (88..91, _) => world.op_cancel().await,
        (91, _) if world.die.random_bool(0.5) => world.op_stop().await,
        (92..94, Some(actor)) => world.op_detach(actor).await,
        (94, _) => world.op_collect().await,
        (95, _) if world.die.random_bool(0.5) => world.op_assign().await,
        (95..97, _) => world.op_order_agent().await,
        _ => rare_operation(world, actor),
    }
}

/// What happens to processes and to Redis itself.
fn rare_operation(world: &mut World, actor: Option<usize>) -> Result<(), Violation> {
    match (world.die.random_range(0..12), actor) {
        (0..2, Some(actor)) => {
            world.actors[actor].health = Health::Gone;
            world.tell(format!("{} crashes", world.actors[actor].name));
            world.statistics.count("crash");
        }
        (2..4, Some(actor)) => {
            world.actors[actor].health = Health::Asleep;
            world.tell(format!("{} falls asleep", world.actors[actor].name));
            world.statistics.count("asleep");
        }
        (4..7, _) => {
            let sleeping = world.actors.iter_mut().find(|actor| actor.health == Health::Asleep);
            if let Some(actor) = sleeping {
                actor.health = Health::Well;
                let line = format!("{} wakes up", actor.name);
                world.tell(line);
                world.statistics.count("zombie");
            }
        }
        (7, _) => {
            redis::cmd("SCRIPT")
                .arg("FLUSH")
                .exec(&mut world.raw)
                .map_err(|error| Violation(format!("the test's redis failed: {error}")))?;
            world.statistics.count("script-flush");
        }
        (8, _) => {
            // Not "frozen": a freeze has an owner and a lease of its own, and tests of its own.
            world.tell("mode drain".to_owned());
            world.set_ctl("mode", "drain")?;
            world.statistics.count("drain");
        }
        _ => world.set_ctl("mode", "run")?,
    }
    Ok(())
}

/// Everything is repaired, everybody does their duty: all runs must end.
async fn heal(world: &mut World) -> Result<(), Violation> {
    world.tell("heal".to_owned());
    world.set_ctl("mode", "run")?;
    for actor in &mut world.actors {
        // Who is silent now stays so.
        if actor.health == Health::Asleep {
            actor.health = Health::Gone;
        }
    }
    world.attach("helper", ProcessRole::Worker, false, true).await?;
    world.attach("organiser", ProcessRole::Coordinator, false, true).await?;
    for _ in 0..ROUNDS_TO_END {
        let mut busy = world.last.lists.contains_key("todo");
        for run in world.runs.iter().filter(|run| run.acknowledged && !run.collected) {
            let status = world.last.run_field(run.id.as_str(), "status");
            busy |= !matches!(status, "completed" | "failed" | "cancelled");
        }
        if !busy {
            return Ok(());
        }
        world.set_wall(world.wall_ms + 2_500)?;
        for place in 0..world.actors.len() {
            if world.actors[place].health == Health::Well {
                world.beat(place, Delivery::Whole).await?;
                world.expand(place, Delivery::Whole).await?;
                world.step(place, Delivery::Whole, Temper::Diligent).await?;
            }
        }
        world.op_sweep().await?;
        world.heal_agents("helper").await?;
    }
    let open: Vec<String> = world
        .runs
        .iter()
        .filter(|run| !run.collected)
        .map(|run| {
            let records = world.last.hash(&format!("r:{}:task", run.id));
            format!("{}: {:?} {records:?}", run.id, world.last.hash(&format!("r:{}", run.id)))
        })
        .collect();
    Err(Violation(format!("a healed cluster does not come to an end: {open:#?}")))
}

/// All runs are collected, all processes leave: nothing may be left.
async fn clear(world: &mut World) -> Result<(), Violation> {
    for run in 0..world.runs.len() {
        if !world.runs[run].collected {
            world.collect(run).await?;
        }
    }
    for place in 0..world.actors.len() {
        world.actors[place].lease_until = None;
        let who = world.actors[place].incarnation.clone();
        let sent = world.store.detach(&who).await;
        sent.map_err(|error| unexpected("a detach failed", error))?;
        world.look(1)?;
    }
    let dump = Dump::read(&mut world.raw, &world.prefix, "0", Depth::Whole)?;
    let keys = dump.hashes.keys().chain(dump.zsets.keys()).chain(dump.sets.keys());
    let keys: BTreeSet<&String> = keys.chain(dump.lists.keys()).chain(&dump.fixed).collect();
    let allowed = |key: &str| {
        matches!(
            key,
            "ctl" | "vt" | "limits" | "states" | "leader" | "lost" | "combined" | "agents" | "assignments"
        ) || key.starts_with("state:")
            || key.starts_with("bell:a:")
            || key.starts_with("bell:i:")
            || key.starts_with("short:")
            || key.starts_with("bell:c:")
    };
    let left: Vec<_> = keys.into_iter().filter(|key| !allowed(key)).collect();
    hold!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
