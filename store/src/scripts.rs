//! The scripts, bundled from their files with the shared parts in front, named by their digest.
//!
//! A script is sent by its digest and loaded only where Redis does not know it, so two versions of
//! Maestro can work on one Redis: each has its own digests.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::bundle::Bundler;

/// A script as Redis gets it.
#[derive(Debug, Clone)]
pub struct BundledScript {
    /// The text, shared parts included.
    pub text: String,
    /// SHA-1 of the text, in hex: what EVALSHA wants.
    pub digest: String,
}

/// All scripts by name.
#[derive(Debug, Clone)]
pub struct ScriptSet {
    scripts: Arc<HashMap<&'static str, BundledScript>>,
}

const PRELUDE: Part = ("prelude", &[include_str!("scripts/prelude.lua")]);
const FLOW: Part = (
    "flow",
    &[
        include_str!("scripts/runs.lua"),
        include_str!("scripts/flow.lua"),
        include_str!("scripts/queues.lua"),
        include_str!("scripts/turns.lua"),
    ],
);
const FREEZING: Part = ("freezing", &[include_str!("scripts/freezing.lua")]);
const SHARED_STATE: Part = ("shared_state", &[include_str!("scripts/shared_state.lua")]);
const VOICE: Part = ("voice", &[include_str!("scripts/voice.lua")]);
const GRANT: Part = ("grant", &[include_str!("scripts/grant.lua")]);
const SWEEPING: Part = ("sweeping", &[include_str!("scripts/sweeping.lua")]);

/// Its name, and its files in their order.
type Part = (&'static str, &'static [&'static str]);

const SCRIPTS: &[(&str, &[Part], &str)] = &[
    ("init", &[PRELUDE], include_str!("scripts/init.lua")),
    ("submit", &[PRELUDE, FREEZING, FLOW], include_str!("scripts/submit.lua")),
    ("step", &[PRELUDE, FLOW, SHARED_STATE, GRANT], include_str!("scripts/step.lua")),
    ("expand", &[PRELUDE, FLOW], include_str!("scripts/expand.lua")),
    ("attach", &[PRELUDE, FREEZING, FLOW, SWEEPING], include_str!("scripts/attach.lua")),
    ("detach", &[PRELUDE, FREEZING, FLOW, SWEEPING], include_str!("scripts/detach.lua")),
    ("beat", &[PRELUDE, FLOW, SWEEPING], include_str!("scripts/beat.lua")),
    ("sweep", &[PRELUDE, FLOW, SWEEPING], include_str!("scripts/sweep.lua")),
    ("cancel", &[PRELUDE, FREEZING, FLOW], include_str!("scripts/cancel.lua")),
    ("stop", &[PRELUDE, FREEZING, FLOW], include_str!("scripts/stop.lua")),
    ("assign", &[PRELUDE, FREEZING], include_str!("scripts/assign.lua")),
    ("agent_hold", &[PRELUDE, FREEZING, FLOW], include_str!("scripts/agent_hold.lua")),
    ("register", &[PRELUDE, FREEZING], include_str!("scripts/register.lua")),
    ("greet", &[PRELUDE], include_str!("scripts/greet.lua")),
    ("recover", &[PRELUDE, FLOW], include_str!("scripts/recover.lua")),
    ("rerun", &[PRELUDE, FREEZING, FLOW], include_str!("scripts/rerun.lua")),
    ("set_mode", &[PRELUDE, FREEZING], include_str!("scripts/set_mode.lua")),
    ("freeze", &[PRELUDE, FREEZING], include_str!("scripts/freeze.lua")),
    ("freeze_paused", &[PRELUDE], include_str!("scripts/freeze_paused.lua")),
    ("freeze_renew", &[PRELUDE], include_str!("scripts/freeze_renew.lua")),
    ("thaw", &[PRELUDE], include_str!("scripts/thaw.lua")),
    ("lead", &[PRELUDE], include_str!("scripts/lead.lua")),
    ("gc", &[PRELUDE], include_str!("scripts/gc.lua")),
    ("restore_open", &[PRELUDE], include_str!("scripts/restore_open.lua")),
    ("restore_reclaim", &[PRELUDE, FLOW], include_str!("scripts/restore_reclaim.lua")),
    ("restore_commit", &[PRELUDE], include_str!("scripts/restore_commit.lua")),
    ("restore_finish", &[PRELUDE], include_str!("scripts/restore_finish.lua")),
    ("state_set", &[PRELUDE, FREEZING, VOICE, SHARED_STATE], include_str!("scripts/state_set.lua")),
    ("state_delete", &[PRELUDE, FREEZING, VOICE], include_str!("scripts/state_delete.lua")),
];

impl ScriptSet {
    /// The scripts as they are.
    pub fn bundled() -> ScriptSet {
        static BUNDLED: LazyLock<ScriptSet> = LazyLock::new(|| ScriptSet::edited(&[]));
        BUNDLED.clone()
    }

    /// The scripts with pieces of their text replaced, for tests: a clock that is read from the cell
    /// instead of from Redis, or a guard taken out to see whether the tests notice.
    ///
    /// # Panics
    /// If a piece to be replaced does not occur: the test would prove nothing.
    pub fn edited(edits: &[(&str, &str)]) -> ScriptSet {
        let mut used = vec![false; edits.len()];
        let mut edited = |text: &str| {
            let mut text = text.to_owned();
            for (edit, used) in edits.iter().zip(&mut used) {
                *used |= text.contains(edit.0);
                text = text.replace(edit.0, edit.1);
            }
            text
        };
        let scripts: Vec<(&'static str, Vec<String>, String)> = SCRIPTS
            .iter()
            .map(|(name, parts, body)| {
                let files = parts.iter().flat_map(|(_, files)| *files);
                (*name, files.map(|text| edited(text)).collect(), edited(body))
            })
            .collect();
        let mut parts: Vec<String> = scripts.iter().flat_map(|(_, parts, _)| parts.clone()).collect();
        parts.sort_unstable();
        parts.dedup();
        let bundler = Bundler::new(&parts);
        let scripts = scripts.iter().map(|(name, parts, body)| {
            let text = bundler.bundle(parts, body);
            let digest = sha1_hex(&text);
            (*name, BundledScript { text, digest })
        });
        let scripts = Arc::new(scripts.collect());
        for (edit, used) in edits.iter().zip(used) {
            assert!(used, "no script contains `{}`", edit.0);
        }
        ScriptSet { scripts }
    }

    /// One script.
    ///
    /// # Panics
    /// If there is none of that name: names are written in this crate only.
    pub fn get(&self, name: &str) -> &BundledScript {
        self.scripts.get(name).unwrap_or_else(|| panic!("no script is called `{name}`"))
    }

    /// All of them, to be loaded when a connection is made.
    pub fn all(&self) -> impl Iterator<Item = &BundledScript> {
        self.scripts.values()
    }
}

fn sha1_hex(text: &str) -> String {
    redis::Script::new(text).get_hash().to_owned()
}

/// The edit that lets a test set the wall clock: scripts read it from the cell's field `test_wall`.
pub const TEST_CLOCK: (&str, &str) = (
    "local t = call('TIME')\n  return t[1] * 1000 + math.floor(t[2] / 1000)",
    "return tonumber(call('HGET', KEYS[1], 'test_wall') or '1700000000000')",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_begins_with_the_line_that_redis_reads() {
        for script in ScriptSet::bundled().all() {
            assert!(script.text.starts_with("#!lua"), "{}", script.text.lines().next().unwrap_or_default());
        }
    }

    #[test]
    fn an_edit_changes_the_digest_of_what_it_touches() {
        let edited = ScriptSet::edited(&[TEST_CLOCK]);
        assert_ne!(edited.get("step").digest, ScriptSet::bundled().get("step").digest);
    }

    #[test]
    #[should_panic(expected = "no script contains")]
    fn an_edit_that_touches_nothing_is_a_mistake() {
        ScriptSet::edited(&[("no such text", "")]);
    }
}
