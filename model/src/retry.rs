//! Whether and when a failed attempt is followed by another.
//!
//! Three counters never mix: the attempt (a fence, never reset), failures (against `max_attempts`
//! here) and losses with a dead worker (against `MAESTRO_MAX_ATTEMPTS`, in the scripts).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::Reason;

/// `retry:` of a step, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Failures allowed, the first included; 1 = never again.
    pub max_attempts: u32,
    /// Wait after the first failure, ms.
    pub delay_ms: u64,
    /// Factor from one wait to the next.
    pub backoff: f64,
    /// Longest wait, ms.
    pub max_delay_ms: u64,
    /// Whether a wait is a random part of itself, so that many failures do not come back at once.
    pub jitter: bool,
    /// What counts as worth another try.
    pub on: Vec<RetryOn>,
}

/// A kind of failure that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryOn {
    /// The agent ended with a code other than 0.
    Exit,
    /// It ran too long.
    Timeout,
    /// It fell silent.
    Stalled,
    /// It ran out of memory.
    Oom,
    /// A usage limit was reached: it waits until that is lifted, where the program said when.
    Budget,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 1,
            delay_ms: 10_000,
            backoff: 2.0,
            max_delay_ms: 300_000,
            jitter: true,
            on: vec![RetryOn::Exit, RetryOn::Timeout, RetryOn::Stalled, RetryOn::Oom],
        }
    }
}

/// An agent that asks to be called again (exit code 75) waits 30 s first, then twice as long each time.
pub const COME_BACK_DELAY_MS: u64 = 30_000;
/// How often it may ask.
pub const COME_BACKS_MAX: u32 = 10;
/// How often a task goes back unburned after a failure of its host.
pub const HOST_FAILURES_MAX: u32 = 3;
/// The exit code with which an agent asks to be called again.
pub const EXIT_COME_BACK: i32 = 75;
/// The exit code with which an agent says that no other try will help.
pub const EXIT_NEVER_AGAIN: i32 = 78;

impl RetryPolicy {
    /// The wait before the next try, ms, or none if there is to be none.
    ///
    /// `failures` counts this one. `random` lies in 0..1 and matters only with jitter, which waits
    /// between half of the delay and all of it.
    pub fn next_delay(
        &self,
        reason: Reason,
        exit_code: Option<i32>,
        failures: u32,
        random: f64,
    ) -> Option<u64> {
        let covered = match reason {
            Reason::Exit => exit_code != Some(EXIT_NEVER_AGAIN) && self.on.contains(&RetryOn::Exit),
            Reason::Timeout => self.on.contains(&RetryOn::Timeout),
            Reason::Stalled => self.on.contains(&RetryOn::Stalled),
            Reason::Oom => self.on.contains(&RetryOn::Oom),
            Reason::Lost | Reason::Infra | Reason::Breach => false,
            Reason::Budget => self.on.contains(&RetryOn::Budget),
            Reason::Config | Reason::Rejected => false,
        };
        if !covered || failures >= self.max_attempts {
            return None;
        }
        let exponent = failures.saturating_sub(1).min(64);
        let grown = self.delay_ms as f64 * self.backoff.powi(exponent as i32);
        let capped = grown.min(self.max_delay_ms as f64);
        let share = if self.jitter { 0.5 + random.clamp(0.0, 1.0) / 2.0 } else { 1.0 };
        Some((capped * share) as u64)
    }
}

/// The wait before an agent that asked for it is called again, ms, or none once it has asked too often.
/// `times` counts this one.
pub fn come_back_delay(times: u32) -> Option<u64> {
    (times <= COME_BACKS_MAX).then(|| COME_BACK_DELAY_MS << (times.saturating_sub(1)).min(COME_BACKS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            delay_ms: 100,
            max_delay_ms: 300,
            jitter: false,
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn waits_grow_up_to_the_longest_and_end_with_the_last_attempt() {
        let waits: Vec<_> =
            (1..=4).map(|failures| policy().next_delay(Reason::Exit, Some(1), failures, 0.0)).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(300), None]);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        let jittered = RetryPolicy { jitter: true, ..policy() };
        assert_eq!(jittered.next_delay(Reason::Exit, Some(1), 1, 0.0), Some(50));
        assert_eq!(jittered.next_delay(Reason::Exit, Some(1), 1, 1.0), Some(100));
    }

    #[test]
    fn what_cannot_be_helped_is_not_tried_again() {
        assert_eq!(policy().next_delay(Reason::Exit, Some(EXIT_NEVER_AGAIN), 1, 0.0), None);
        assert_eq!(policy().next_delay(Reason::Config, None, 1, 0.0), None);
        let only_timeouts = RetryPolicy { on: vec![RetryOn::Timeout], ..policy() };
        assert_eq!(only_timeouts.next_delay(Reason::Exit, Some(1), 1, 0.0), None);
        assert_eq!(only_timeouts.next_delay(Reason::Timeout, None, 1, 0.0), Some(100));
    }

    #[test]
    fn a_usage_limit_is_tried_again_only_by_those_who_say_so() {
        assert_eq!(policy().next_delay(Reason::Budget, Some(1), 1, 0.0), None);
        let waits_for_it = RetryPolicy { on: vec![RetryOn::Budget], ..policy() };
        assert_eq!(waits_for_it.next_delay(Reason::Budget, Some(1), 1, 0.0), Some(100));
    }

    #[test]
    fn an_agent_may_ask_ten_times() {
        assert_eq!(come_back_delay(1), Some(30_000));
        assert_eq!(come_back_delay(3), Some(120_000));
        assert_eq!(come_back_delay(10), Some(30_000 << 9));
        assert_eq!(come_back_delay(11), None);
    }
}
