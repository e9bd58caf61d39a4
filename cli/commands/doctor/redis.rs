//! Checks of Redis: reached, fit to keep what was acknowledged, with room for more.

use maestro_store::queues::ServerReport;
use maestro_store::{Store, StoreError};

use super::CheckEntry;
use crate::config::settings::Settings;
use crate::config::variables;

/// A round trip above this is slow for every task, microseconds.
const ROUNDTRIP_SLOW_US: u64 = 10_000;
/// Clocks that differ by more make times look wrong; nothing is decided by them, ms.
const SKEW_MS: i64 = 2_000;
/// Part of `maxmemory` that should be free.
const FREE_SHARE: f64 = 0.25;
/// Runs whose size is added up.
const RUNS_ADDED_MAX: usize = 20_000;
/// Most of `maxmemory` that finished runs may take.
const RUNS_SHARE: u64 = 4;

/// Looks at it.
///
/// # Errors
/// What the store says.
pub(super) async fn checks(store: &Store, settings: &Settings) -> Result<Vec<CheckEntry>, StoreError> {
    let report = store.server_report().await?;
    let runs = store.newest_runs(RUNS_ADDED_MAX).await?;
    let kept: u64 = runs.iter().map(|run| run.bytes).sum();
    Ok(vec![
        reached(store, &report, settings),
        policy(&report),
        persistence(&report),
        memory(&report, kept, runs.len(), settings.run_bytes()),
        clock(&report),
    ])
}

fn reached(store: &Store, report: &ServerReport, settings: &Settings) -> CheckEntry {
    let origin = &settings.chosen(variables::REDIS_URL).origin;
    let found = format!(
        "{} {} at {}, {:.2} ms a round trip (address from: {origin}; namespace `{}`)",
        report.product,
        report.version,
        store.address(),
        report.roundtrip_us as f64 / 1000.0,
        store.namespace(),
    );
    if report.roundtrip_us > ROUNDTRIP_SLOW_US {
        return CheckEntry::warn("redis", found, "every task needs one: put Redis nearer to the workers");
    }
    CheckEntry::ok("redis", found)
}

fn policy(report: &ServerReport) -> CheckEntry {
    if report.policy == "noeviction" {
        return CheckEntry::ok("eviction", "maxmemory-policy is noeviction");
    }
    CheckEntry::warn(
        "eviction",
        format!("maxmemory-policy is {}, harmless only while maxmemory is 0", report.policy),
        "`redis-cli config set maxmemory-policy noeviction`: an evicted key is a lost task",
    )
}

fn persistence(report: &ServerReport) -> CheckEntry {
    let mend = "`appendonly yes` in redis.conf (or `redis-cli config set appendonly yes`)";
    match (report.append_only, report.saves) {
        (true, _) => CheckEntry::ok("persistence", "the append-only file is on"),
        (false, Some(true)) => CheckEntry::warn(
            "persistence",
            "snapshots by time only: what came after the last one is lost if Redis dies",
            mend,
        ),
        (false, Some(false)) => {
            CheckEntry::warn("persistence", "off: everything is lost if Redis dies", mend)
        }
        (false, None) => CheckEntry::warn(
            "persistence",
            "no append-only file; whether snapshots are taken cannot be seen (CONFIG is forbidden)",
            mend,
        ),
    }
}

/// What is used, and what the kept runs may grow to.
fn memory(report: &ServerReport, kept: u64, runs: usize, run_bytes: u64) -> CheckEntry {
    let bound = match report.limit_bytes {
        0 => run_bytes,
        limit => run_bytes.min(limit / RUNS_SHARE),
    };
    let growth = bound.saturating_sub(kept);
    let runs = if runs == 1 { "1 run takes".to_owned() } else { format!("{runs} runs take") };
    let kept = format!(
        "{runs} {}, finished ones may take up to {} (MAESTRO_RUN_BYTES)",
        shown_size(kept),
        shown_size(bound)
    );
    let used = shown_size(report.used_bytes);
    if report.limit_bytes == 0 {
        return CheckEntry::ok("memory", format!("{used} used, no maxmemory; {kept}"));
    }
    let limit = shown_size(report.limit_bytes);
    let found = format!("{used} of {limit} used; {kept}");
    let after_growth = report.used_bytes.saturating_add(growth) as f64;
    if after_growth > report.limit_bytes as f64 {
        return CheckEntry::warn("memory", found, "raise `maxmemory`, or lower `MAESTRO_RUN_BYTES`");
    }
    if report.used_bytes as f64 > report.limit_bytes as f64 * (1.0 - FREE_SHARE) {
        return CheckEntry::warn("memory", found, "raise `maxmemory`, or lower `MAESTRO_RUN_RETENTION`");
    }
    CheckEntry::ok("memory", found)
}

fn clock(report: &ServerReport) -> CheckEntry {
    let skew = report.clock_skew_ms;
    let seconds = skew.unsigned_abs() as f64 / 1000.0;
    if skew.abs() <= SKEW_MS {
        return CheckEntry::ok("clock", format!("within {seconds:.2} s of Redis' clock"));
    }
    let direction = if skew > 0 { "behind" } else { "ahead of" };
    CheckEntry::warn(
        "clock",
        format!("this host is {seconds:.1} s {direction} Redis' clock"),
        "run an NTP client on both; nothing is decided by it, but times look wrong",
    )
}

/// `1.2 GiB`.
pub(super) fn shown_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    fn report() -> ServerReport {
        ServerReport {
            product: "redis".to_owned(),
            version: "7.0.15".to_owned(),
            used_bytes: 1 << 20,
            limit_bytes: 0,
            policy: "noeviction".to_owned(),
            append_only: true,
            saves: Some(true),
            clock_skew_ms: 0,
            roundtrip_us: 100,
        }
    }

    #[test]
    fn a_redis_that_forgets_is_warned_about() {
        assert_eq!(persistence(&report()).status, Health::Ok);
        for saves in [Some(true), Some(false), None] {
            let entry = persistence(&ServerReport { append_only: false, saves, ..report() });
            assert_eq!(entry.status, Health::Warn);
            assert!(entry.mend.is_some_and(|mend| mend.contains("appendonly yes")));
        }
    }

    #[test]
    fn a_clock_that_differs_is_named_with_its_direction() {
        let at = |clock_skew_ms| clock(&ServerReport { clock_skew_ms, ..report() });
        assert_eq!(at(2_000).status, Health::Ok);
        assert_eq!(at(3_000).found, "this host is 3.0 s behind Redis' clock");
        assert_eq!(at(-3_000).found, "this host is 3.0 s ahead of Redis' clock");
    }

    #[test]
    fn memory_that_kept_runs_may_outgrow_is_warned_about() {
        let gib = 1 << 30;
        assert_eq!(memory(&report(), 0, 0, gib).status, Health::Ok);
        let near = ServerReport { limit_bytes: gib, used_bytes: gib * 7 / 8, ..report() };
        assert_eq!(memory(&near, 0, 0, gib).status, Health::Warn);
        let full = ServerReport { limit_bytes: gib, used_bytes: gib * 8 / 10, ..report() };
        assert_eq!(memory(&full, gib / 4, 3, gib).status, Health::Warn, "less than a quarter is free");
        let well = ServerReport { limit_bytes: gib, used_bytes: gib / 10, ..report() };
        assert_eq!(memory(&well, 0, 0, gib).status, Health::Ok);
    }

    #[test]
    fn sizes_have_one_unit() {
        assert_eq!(shown_size(12), "12 B");
        assert_eq!(shown_size(1536), "1.5 KiB");
        assert_eq!(shown_size(3 << 40), "3.0 TiB");
    }
}
