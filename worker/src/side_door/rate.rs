//! How often an attempt may ask: a bucket that fills steadily and holds a burst.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes and deletions of one attempt, in the long run.
pub const WRITES_PER_SECOND: u32 = 100;
/// Writes and deletions at once.
pub const WRITES_BURST: u32 = 200;
/// Reads of one attempt, in the long run.
pub const READS_PER_SECOND: u32 = 1_000;
/// Reads at once.
const READS_BURST: u32 = 2_000;
/// What a page of a list counts for: it reads every key's name.
pub(super) const LIST_COSTS: u32 = 10;

/// What an attempt has left.
#[derive(Debug)]
pub(super) struct AttemptRates {
    reads: Mutex<TokenBucket>,
    writes: Mutex<TokenBucket>,
}

impl AttemptRates {
    pub(super) fn new(now: Instant) -> AttemptRates {
        AttemptRates {
            reads: Mutex::new(TokenBucket::new(READS_PER_SECOND, READS_BURST, now)),
            writes: Mutex::new(TokenBucket::new(WRITES_PER_SECOND, WRITES_BURST, now)),
        }
    }

    /// Takes reads, or says how long to wait for them.
    pub(super) fn read(&self, count: u32, now: Instant) -> Result<(), Duration> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).take(count, now)
    }

    /// Takes one write, or says how long to wait for it.
    pub(super) fn write(&self, now: Instant) -> Result<(), Duration> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).take(1, now)
    }
}

#[derive(Debug)]
struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    fn new(per_second: u32, burst: u32, now: Instant) -> TokenBucket {
        let (per_second, burst) = (f64::from(per_second), f64::from(burst));
        TokenBucket { per_second, burst, tokens: burst, at: now }
    }

    fn take(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.at = now;
        let missing = f64::from(count) - self.tokens;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / self.per_second));
        }
        self.tokens -= f64::from(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let rates = AttemptRates::new(start);
        assert!((0..WRITES_BURST).all(|_| rates.write(start).is_ok()));
        let wait = rates.write(start).expect_err("the bucket is empty");
        assert!(wait <= Duration::from_millis(10) && !wait.is_zero(), "{wait:?}");
        assert!(rates.read(LIST_COSTS, start).is_ok(), "reads are counted apart");

        let later = start + Duration::from_millis(1_001);
        let passed = (0..WRITES_BURST).filter(|_| rates.write(later).is_ok()).count();
        assert_eq!(passed, WRITES_PER_SECOND as usize);
        let much_later = later + Duration::from_secs(3_600);
        let passed = (0..2 * WRITES_BURST).filter(|_| rates.write(much_later).is_ok()).count();
        assert_eq!(passed, WRITES_BURST as usize, "time does not pile up");
    }
}
