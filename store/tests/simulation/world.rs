//! The played cluster: its Redis, its clock, its runs and processes, and the look at it after each step.

use std::collections::{HashMap, HashSet};

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_store::Store;
use maestro_store::scripts::{ScriptSet, TEST_CLOCK};
use maestro_store::step::{Ending, StepRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::actor::Actor;
use super::audit::Audit;
use super::dump::{Depth, Dump};
use super::invariants::CLOCK_STEP_MS;
use super::plans::ShadowRun;
use super::statistics::Statistics;
use super::{Violation, hold, invariants};
use crate::support::TestRedis;

/// The wall clock at the beginning of every scenario, ms since 1970.
const FIRST_WALL_MS: i64 = 1_700_000_000_000;
/// Old requests kept, to be sent once more.
const REQUESTS_KEPT: usize = 12;

/// Makes the portions of the scripts so small that small runs meet every seam.
pub const SMALL_PORTIONS: [(&str, &str); 8] = [
    ("local WAITERS_PORTION = 64", "local WAITERS_PORTION = 2"),
    ("local SEEDS_PORTION = 256", "local SEEDS_PORTION = 3"),
    ("local EDGE_BUDGET = 512", "local EDGE_BUDGET = 6"),
    ("local READY_WINDOW = 256", "local READY_WINDOW = 4"),
    ("local RELEASE_BUDGET = 256", "local RELEASE_BUDGET = 3"),
    ("local CANCEL_PORTION = 64", "local CANCEL_PORTION = 3"),
    ("local TODO_ENTRIES = 4", "local TODO_ENTRIES = 2"),
    ("local PINS_PORTION = 50", "local PINS_PORTION = 1"),
];
/// A limit of time passes soon after the attempt should have ended by itself.
const SHORT_GRACE: (&str, &str) = ("local DEADLINE_GRACE_MS = 60000", "local DEADLINE_GRACE_MS = 2000");

/// Whether the scripts work in portions as small as they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portions {
    AsShipped,
    Small,
}

/// An attempt's end as it was accepted.
#[derive(Debug, Clone)]
pub struct AcceptedEnd {
    pub who: Incarnation,
    pub ending: Ending,
    /// Whether its agent was to start again, so that the task went back instead.
    pub restarted: bool,
}

/// All of a scenario.
pub struct World {
    pub die: StdRng,
    pub store: Store,
    pub raw: redis::Connection,
    pub prefix: String,
    pub wall_ms: i64,
    pub last: Dump,
    pub audit: Audit,
    pub runs: Vec<ShadowRun>,
    pub actors: Vec<Actor>,
    pub statistics: Statistics,
    /// What was done, for whoever looks into a failure.
    pub story: Vec<String>,
    pub accepted: HashMap<(TaskId, Attempt), AcceptedEnd>,
    /// Ends that were accepted and that a retry has taken back.
    pub taken_back: HashSet<(TaskId, Attempt)>,
    /// Who was granted which attempt, and by which request.
    pub granted: HashMap<(TaskId, Attempt), (Incarnation, u8, u64)>,
    pub old_requests: Vec<(Incarnation, StepRequest)>,
    ready_window: i64,
}

impl World {
    /// An empty cluster on an emptied Redis.
    pub async fn new(
        redis: &TestRedis,
        seed: u64,
        portions: Portions,
        edits: &[(&str, &str)],
    ) -> Result<World, Violation> {
        let mut raw = redis.raw();
        let failed = |error: redis::RedisError| Violation(format!("the test's redis failed: {error}"));
        redis::cmd("FLUSHALL").exec(&mut raw).map_err(failed)?;
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut raw).map_err(failed)?;
        let mut all = vec![TEST_CLOCK, SHORT_GRACE];
        if portions == Portions::Small {
            all.extend(SMALL_PORTIONS);
        }
        // An edit of a limit that is made small anyway has nothing left to replace.
        all.extend(edits.iter().filter(|edit| !edit.0.starts_with("local ") || portions != Portions::Small));
        let store = redis.store_with(ScriptSet::edited(&all)).await;
        let prefix = store.keys().prefix().to_owned();
        let mut world = World {
            die: StdRng::seed_from_u64(seed),
            store,
            raw,
            prefix,
            wall_ms: FIRST_WALL_MS,
            last: Dump::default(),
            audit: Audit::default(),
            runs: Vec::new(),
            actors: Vec::new(),
            statistics: Statistics::default(),
            story: Vec::new(),
            accepted: HashMap::new(),
            taken_back: HashSet::new(),
            granted: HashMap::new(),
            old_requests: Vec::new(),
            ready_window: if portions == Portions::Small { 4 } else { 256 },
        };
        world.last = Dump::read(&mut world.raw, &world.prefix, "0", Depth::Quick)?;
        world.set_agents_up().await?;
        Ok(world)
    }

    /// Sets the wall clock.
    pub fn set_wall(&mut self, wall_ms: i64) -> Result<(), Violation> {
        self.wall_ms = wall_ms;
        self.set_ctl("test_wall", &wall_ms.to_string())
    }

    /// Sets a field of `ctl` behind the scripts' back.
    pub fn set_ctl(&mut self, field: &str, value: &str) -> Result<(), Violation> {
        let key = self.store.keys().ctl();
        let set = redis::cmd("HSET").arg(key).arg(field).arg(value).exec(&mut self.raw);
        set.map_err(|error| Violation(format!("the test's redis failed: {error}")))
    }

    /// The logical clock as last seen.
    pub fn clock(&self) -> i64 {
        self.last.ctl("clk")
    }

    /// The logical clock as a script would read it now: one that refuses does not write it down.
    pub fn clock_of_next_call(&self) -> i64 {
        let passed = (self.wall_ms - self.last.ctl("wall")).clamp(0, CLOCK_STEP_MS);
        self.clock() + passed
    }

    /// An id that depends on the seed alone.
    pub fn fresh_id(&mut self, length: usize) -> String {
        let alphabet = b"0123456789abcdefghjkmnpqrstvwxyz";
        let letters = (1..length).map(|_| alphabet[self.die.random_range(0..32)] as char);
        std::iter::once('0').chain(letters).collect()
    }

    pub fn fresh_run(&mut self) -> RunId {
        self.fresh_id(12).parse().expect("letters of the alphabet")
    }

    pub fn tell(&mut self, line: String) {
        self.story.push(line);
    }

    /// Keeps a request, to be sent again much later.
    pub fn remember(&mut self, who: &Incarnation, request: &StepRequest) {
        // What only claims is rarely worth keeping.
        if request.reports.is_empty() && self.die.random_bool(0.8) {
            return;
        }
        if self.old_requests.len() >= REQUESTS_KEPT {
            let place = self.die.random_range(0..REQUESTS_KEPT);
            self.old_requests.swap_remove(place);
        }
        self.old_requests.push((who.clone(), request.clone()));
    }

    /// Looks at the cell after an operation of so many calls and checks every rule.
    pub fn look(&mut self, calls: i64) -> Result<(), Violation> {
        let dump = Dump::read(&mut self.raw, &self.prefix, &self.last.position, Depth::Quick)?;
        invariants::check_clock(&self.last, &dump, calls)?;
        for run in &mut self.runs {
            run.collected |= dump
                .events
                .iter()
                .any(|event| event.kind == "run-collected" && event.subject == run.id.as_str());
        }
        self.audit.read(&dump, &self.runs)?;
        invariants::check(&dump, &self.runs, self.ready_window)?;
        self.check_promises(&dump)?;
        self.last = dump;
        self.statistics.count("looks");
        Ok(())
    }

    /// Nobody whose last beat was in time has lost its lease.
    fn check_promises(&self, dump: &Dump) -> Result<(), Violation> {
        let clock = dump.ctl("clk");
        let leases = dump.zsets.get("leases");
        for actor in &self.actors {
            let Some(until) = actor.lease_until.filter(|until| *until >= clock) else { continue };
            let lease = leases.and_then(|leases| leases.get(actor.incarnation.as_str()));
            hold!(
                lease.is_some_and(|lease| *lease >= until as f64),
                "{} was promised a lease until {until}, the clock shows {clock}, and it has {lease:?}",
                actor.name
            );
        }
        Ok(())
    }
}
