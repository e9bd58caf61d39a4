//! Looking at queues, and at Redis itself.

use redis::Value;

use crate::cell::{Store, decode, info_field};
use crate::error::StoreError;

/// One queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// `a:<slug>`, `i:<agent>`, `w:<worker>`, `s:<slug>+<slug>`, `c:expand`.
    pub name: String,
    /// Tasks in it.
    pub depth: u64,
    /// The task that stands first.
    pub first: Option<String>,
}

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// `redis` or `valkey`.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Bytes used.
    pub used_bytes: u64,
    /// `maxmemory`; 0 = no limit.
    pub limit_bytes: u64,
    /// `maxmemory-policy`.
    pub policy: String,
    /// Whether the append-only file is on.
    pub append_only: bool,
    /// Whether snapshots are taken by time.
    pub saves: Option<bool>,
    /// Redis' time less this host's, ms.
    pub clock_skew_ms: i64,
    /// Time of one round trip, microseconds.
    pub roundtrip_us: u64,
}

impl Store {
    /// All queues that hold something.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn queues(&self) -> Result<Vec<QueueView>, StoreError> {
        let pattern = format!("{}q:*", glob_literal(self.keys().prefix()));
        let mut names: Vec<String> = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let command =
                redis::cmd("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000).to_owned();
            let (next, found): (String, Vec<String>) = decode("a scan", self.ask(&command).await?)?;
            names.extend(found);
            if next == "0" {
                break;
            }
            cursor = next;
        }
        names.sort();
        names.dedup();
        let mut queues = Vec::new();
        for key in names {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZCARD").arg(&key);
            pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(0);
            let mut values = self.ask_all(&pipeline).await?.into_iter();
            let depth = decode("a queue's depth", values.next().unwrap_or(Value::Nil))?;
            let first: Vec<String> = decode("a queue's head", values.next().unwrap_or(Value::Nil))?;
            let name = key[self.keys().prefix().len() + 2..].to_owned();
            let first =
                first.first().and_then(|member| member.split_once(':')).map(|(_, task)| task.to_owned());
            queues.push(QueueView { name, depth, first });
        }
        Ok(queues)
    }

    /// What Redis says of itself.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn server_report(&self) -> Result<ServerReport, StoreError> {
        let info: String = decode("INFO", self.ask(&redis::cmd("INFO")).await?)?;
        let field = |name: &str| info_field(&info, name).unwrap_or_default().to_owned();
        let begun = std::time::Instant::now();
        let time: (i64, i64) = decode("the time", self.ask(&redis::cmd("TIME")).await?)?;
        let roundtrip = begun.elapsed();
        let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let skew = time.0 * 1000 + time.1 / 1000 - here.as_millis() as i64;
        // CONFIG may be forbidden on a managed Redis: then it is unknown.
        let save = self.ask(redis::cmd("CONFIG").arg("GET").arg("save")).await.ok();
        let save: Option<Vec<String>> = save.and_then(|value| redis::from_redis_value(value).ok());
        Ok(ServerReport {
            product: if field("server_name") == "valkey" { "valkey" } else { "redis" }.to_owned(),
            version: field("redis_version"),
            used_bytes: field("used_memory").parse().unwrap_or(0),
            limit_bytes: field("maxmemory").parse().unwrap_or(0),
            policy: field("maxmemory_policy"),
            append_only: field("aof_enabled") == "1",
            saves: save.map(|pair| pair.get(1).is_some_and(|value| !value.is_empty())),
            clock_skew_ms: skew,
            roundtrip_us: roundtrip.as_micros() as u64,
        })
    }
}

/// A text as a glob that matches only itself.
pub(crate) fn glob_literal(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if "*?[]\\^".contains(letter) { vec!['\\', letter] } else { vec![letter] })
        .collect()
}

/// What Redis has counted since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerCounters {
    /// Scripts run for clients.
    pub scripts: u64,
    /// Bytes received and sent.
    pub wire_bytes: u64,
    /// Processor time, user and system, microseconds.
    pub cpu_us: u64,
    /// Bytes used.
    pub used_bytes: u64,
}

impl Store {
    /// What Redis has counted; of two, the difference tells what happened between them.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn server_counters(&self) -> Result<ServerCounters, StoreError> {
        let info: String = decode("INFO", self.ask(redis::cmd("INFO").arg("all")).await?)?;
        let number =
            |name: &str| -> u64 { info_field(&info, name).and_then(|text| text.parse().ok()).unwrap_or(0) };
        let seconds =
            |name: &str| -> f64 { info_field(&info, name).and_then(|text| text.parse().ok()).unwrap_or(0.0) };
        let scripts = info_field(&info, "cmdstat_evalsha").and_then(|stats| {
            stats.split(',').find_map(|pair| pair.strip_prefix("calls="))?.parse::<u64>().ok()
        });
        Ok(ServerCounters {
            scripts: scripts.unwrap_or(0),
            wire_bytes: number("total_net_input_bytes") + number("total_net_output_bytes"),
            cpu_us: ((seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1e6) as u64,
            used_bytes: number("used_memory"),
        })
    }
}
