//! `maestro agent health`: whether an agent, or an agent type, is fit for work, and if not, why not.

use clap::Args;
use maestro_model::agent_type::AgentType;
use maestro_model::assignment::Assignment;
use maestro_model::mailbox::{AgentHealthFacts, LOG_LINES_TOLD_MAX, WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::worker::TaskUsage;
use serde::Serialize;

use super::entry::mebibytes;
use super::registered::{WorkerVerdict, ask_about};
use crate::agents::{AgentOverview, FoundAgent, register_on_first_use};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{ANSWER_WITHIN, ask_worker, live_workers, misunderstood};
use crate::output::format::PrintFormat;
use crate::output::moment::{age, as_optional_rfc3339, as_optional_seconds, duration, now_ms};
use crate::output::shape::Shape;
use crate::output::tone::Tone;

/// Flags of `agent health`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 if it is healthy, with 1 if not. An agent is healthy if its worker is alive and was \
                  heard in the last minute, its folder is there with its mode and owner, and what it runs takes \
                  signals. A type is healthy if a live worker serves it and its binary answers.\n\n\
                  Example:\n  maestro agent health reviewer --detail --log-lines 20"
)]
pub(crate) struct AgentHealthArgs {
    /// An agent or an agent type: its id, a prefix of it, or `last`
    id: String,
    /// Also worker, folder, process, memory, CPU time and output
    #[arg(long)]
    detail: bool,
    /// Also so many lines of its newest log
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    log_lines: u32,
}

/// How it is.
#[derive(Debug, Default, Serialize)]
struct HealthRecord {
    id: String,
    /// `agent` or `type`.
    kind: &'static str,
    /// `healthy` or `failed`.
    status: &'static str,
    /// What is wrong.
    problems: Vec<String>,
    /// Who runs it; of a type, who serves it.
    workers: Vec<String>,
    #[serde(serialize_with = "as_optional_rfc3339")]
    last_heartbeat: Option<u64>,
    workspace: Option<String>,
    /// Mode and owner of the folder.
    folder: Option<String>,
    stopped: bool,
    task: Option<String>,
    pid: Option<u32>,
    memory_bytes: Option<u64>,
    #[serde(rename = "cpu", serialize_with = "as_optional_seconds")]
    cpu_ms: Option<u64>,
    processes: Option<u32>,
    /// Since it wrote something, seconds.
    #[serde(rename = "silent", serialize_with = "as_optional_seconds")]
    silent_ms: Option<u64>,
    output_bytes: Option<u64>,
    last_line: Option<String>,
    log_path: Option<String>,
    log: Vec<String>,
    /// Of a type: what each worker found.
    checks: Vec<WorkerVerdict>,
}

const SHAPE: Shape<HealthRecord> = Shape { columns: &[], name: |one| one.id.clone(), none: "no agent" };

/// Looks, prints `status: …` and why, and ends with 0 or 1.
pub(crate) fn run(args: &AgentHealthArgs, context: &CommandContext) -> Outcome {
    if args.log_lines > LOG_LINES_TOLD_MAX {
        return Err(Failure::usage(format!("`--log-lines` is at most {LOG_LINES_TOLD_MAX}"))
            .hint("`maestro task logs <TASK>` prints a whole log"));
    }
    context.block_on(0, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        register_on_first_use(&store, &settings, &args.id).await?;
        let overview = AgentOverview::read(&store).await?;
        let mut record = match overview.find(&args.id)? {
            FoundAgent::Assigned(agent) => of_agent(&store, agent, &overview, args.log_lines).await?,
            FoundAgent::Type(agent) => of_type(&store, agent, &overview).await?,
        };
        record.status = if record.problems.is_empty() { "healthy" } else { "failed" };
        match context.printer.format() {
            PrintFormat::Json | PrintFormat::Jsonl | PrintFormat::Yaml | PrintFormat::Name => {
                context.printer.record(&record, &SHAPE)?;
            }
            _ => print(&record, args.detail, context)?,
        }
        Ok(if record.problems.is_empty() { Exit::Done } else { Exit::WorkFailed })
    })
}

async fn of_agent(
    store: &Store,
    agent: &Assignment,
    overview: &AgentOverview,
    log_lines: u32,
) -> Result<HealthRecord, Failure> {
    let worker = overview.worker_of(agent);
    let mut record = HealthRecord {
        id: agent.id.to_string(),
        kind: "agent",
        problems: overview.problems_of(agent),
        workers: vec![agent.worker.to_string()],
        last_heartbeat: worker.map(|worker| worker.beat_ms),
        workspace: Some(agent.path.clone()),
        stopped: agent.held.is_some(),
        task: overview.running.get(&agent.id).map(ToString::to_string),
        ..HealthRecord::default()
    };
    record.add_usage(&overview.usage_of(&agent.id));
    let Some(worker) = worker.filter(|worker| worker.alive) else { return Ok(record) };
    // What the heartbeat says of the folder is a few seconds old, and is asked for again.
    if let Some(old) = worker.status.folders.get(&agent.id) {
        record.problems.retain(|problem| problem != old);
    }
    let question =
        WorkerQuestion::AgentHealth { agent: agent.id.clone(), path: agent.path.clone(), log_lines };
    match ask_worker(store, worker, &question, ANSWER_WITHIN).await {
        Ok(WorkerAnswer::Health { health }) => record.add_facts(health),
        Ok(_) => return Err(misunderstood(worker)),
        Err(failure) => record.problems.push(failure.one_line()),
    }
    Ok(record)
}

async fn of_type(
    store: &Store,
    agent: &AgentType,
    overview: &AgentOverview,
) -> Result<HealthRecord, Failure> {
    let workers = live_workers(store).await?;
    let slugs = [agent.slug.clone()];
    let verdicts = ask_about(store, &workers, &slugs, true).await;
    let checks = verdicts.of(&agent.slug);
    let serving: Vec<String> =
        checks.iter().filter(|check| check.serves).map(|check| check.name.clone()).collect();
    let mut problems = Vec::new();
    if workers.is_empty() {
        problems.push("no worker is alive".to_owned());
    } else if serving.is_empty() {
        problems.extend(checks.iter().filter_map(WorkerVerdict::obstacle));
        problems.extend(verdicts.silent);
    }
    let mut record = HealthRecord {
        id: agent.slug.to_string(),
        kind: "type",
        problems,
        last_heartbeat: overview.serving(&agent.slug).map(|worker| worker.beat_ms).max(),
        workers: serving,
        task: overview.unassigned.get(&agent.slug).and_then(|tasks| tasks.first()).map(ToString::to_string),
        checks,
        ..HealthRecord::default()
    };
    record.add_usage(&overview.usage_of_type(&agent.slug));
    Ok(record)
}

impl HealthRecord {
    fn add_usage(&mut self, usage: &[&TaskUsage]) {
        let Some(first) = usage.first() else { return };
        self.pid = Some(first.pid);
        self.memory_bytes = Some(usage.iter().map(|one| one.memory_bytes).sum());
        self.cpu_ms = Some(usage.iter().map(|one| one.cpu_ms).sum());
        self.processes = Some(usage.iter().map(|one| one.processes).sum());
        self.silent_ms = usage.iter().map(|one| one.silent_ms).min();
    }

    fn add_facts(&mut self, facts: AgentHealthFacts) {
        let AgentHealthFacts { problems, folder, running, log_path, log } = facts;
        self.problems.extend(problems);
        (self.folder, self.log_path, self.log) = (folder, log_path, log);
        if let Some(running) = running {
            self.pid = running.pid;
            self.silent_ms = Some(running.silent_ms);
            self.output_bytes = Some(running.output_bytes);
            self.last_line = Some(running.last_line);
        }
    }

    /// What `--detail` shows, as `name: value`.
    fn details(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![(self.kind, self.id.clone())];
        let workers = if self.workers.is_empty() { "–".to_owned() } else { self.workers.join(", ") };
        lines.push(("worker", workers));
        let heard = self.last_heartbeat.map(|at| format!("{} ago", age(at, now_ms())));
        let folder = self.folder.as_ref().map(|folder| format!(" ({folder})")).unwrap_or_default();
        let optional = [
            ("heartbeat", heard),
            ("workspace", self.workspace.as_ref().map(|path| format!("{path}{folder}"))),
            ("stopped", self.stopped.then(|| "its tasks wait; `maestro agent restart` starts it".to_owned())),
            ("task", self.task.clone()),
            ("process", self.pid.map(|pid| pid.to_string())),
            ("processes", self.processes.map(|count| count.to_string())),
            ("memory", self.memory_bytes.map(mebibytes)),
            ("cpu", self.cpu_ms.map(duration)),
            ("output", self.output_bytes.map(|bytes| format!("{bytes} bytes"))),
            ("silent", self.silent_ms.map(duration)),
            ("last line", self.last_line.clone().filter(|line| !line.is_empty())),
            ("log", self.log_path.clone()),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        for check in &self.checks {
            let good = check.findings.iter().filter(|finding| finding.good || check.serves);
            let shown: Vec<String> =
                good.map(|finding| format!("{}: {}", finding.subject, finding.text)).collect();
            lines.push(("found", format!("worker `{}`: {}", check.name, shown.join("; "))));
        }
        lines
    }
}

fn print(record: &HealthRecord, detail: bool, context: &CommandContext) -> Result<(), Failure> {
    let tone = if record.problems.is_empty() { Tone::Good } else { Tone::Bad };
    let paint = context.printer.paint();
    let mut text = format!("status: {}", paint.apply(tone, record.status));
    for problem in &record.problems {
        text.push_str(&format!("\nreason: {}", crate::output::foreign::harmless(problem)));
    }
    if detail {
        for (name, value) in record.details() {
            text.push_str(&format!("\n{name}: {}", crate::output::foreign::harmless(&value)));
        }
    }
    for line in &record.log {
        text.push_str(&format!("\n{}", crate::output::foreign::harmless(line)));
    }
    context.printer.lines(&text)
}
