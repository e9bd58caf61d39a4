//! `maestro task dispatch`: a prompt for one agent or several, without a workflow.

use std::io::Read;
use std::time::{Duration, Instant};

use clap::Args;
use indexmap::IndexMap;
use maestro_coordinator::submission::{agent_catalogue, submit_plan};
use maestro_model::catalogue::UnknownAgent;
use maestro_model::diagnostic::Colour;
use maestro_model::dispatch::{DispatchError, DispatchOrder, compile_dispatch};
use maestro_model::duration::parse_duration;
use maestro_model::ids::RunId;
use maestro_store::Store;
use maestro_store::runs::{RunRecord, TaskView};
use serde::Serialize;

use super::dispatch_health::{Readiness, check_targets};
use super::dispatch_results::follow;
use crate::catalogue::local_agents;
use crate::cluster::{open_store, submission_failure};
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::FoundTask;
use crate::output::format::Form;
use crate::work::{FoundWork, find_work};

/// A prompt that comes through standard input.
const STANDARD_INPUT: &str = "-";
/// Most bytes read of one: enough to say how far it is over its limit.
const PROMPT_READ_MAX: u64 = 16 * 1024 * 1024;
/// Longest wait for the tasks of a run that somebody else is submitting under the same key.
const LOADING_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOADING_LOOK: Duration = Duration::from_millis(50);

/// Flags of `task dispatch`.
#[derive(Debug, Args)]
#[command(
    after_help = "With one target the id is that task's, with several it is the run's; `status`, `cancel`, `wait` \
                        and `--depends-on` take either. With --sync the exit code is the first agent's that is not \
                        0, in the order of --to: 1 skipped, 124 timed out, 130 cancelled, 128 + n killed by a \
                        signal.\n\n\
                        Examples:\n  maestro task dispatch \"review-the-last-commit\" --to code-reviewer --sync\n  \
                        maestro task dispatch \"run-the-tests\" --to test-engineer --depends-on last"
)]
pub(crate) struct DispatchArgs {
    /// What the agents are to do; `-` reads standard input
    prompt: String,
    /// Agents or agent types, with commas between them
    #[arg(long, required = true, value_delimiter = ',', value_name = "AGENT,…")]
    to: Vec<String>,
    /// Follow until all have ended, print their results as one document, and end with their code
    #[arg(long, conflicts_with = "detached")]
    sync: bool,
    /// Print the id and do not follow (this is the default)
    #[arg(long = "async", id = "detached")]
    detached: bool,
    /// Longest time of each agent; a bare number counts seconds
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Begin only when this task or run has completed (repeatable)
    #[arg(long, value_name = "ID")]
    depends_on: Vec<String>,
    /// 1 (first) to 5 (last); else the agent's own, else 3
    #[arg(long, value_name = "1-5", value_parser = clap::value_parser!(u8).range(1..=5))]
    priority: Option<u8>,
    /// A variable of the agents' environment (repeatable)
    #[arg(long, value_name = "K=V")]
    env: Vec<String>,
    /// The same key again means the same dispatch: its id is printed, and nothing new is made
    #[arg(long)]
    key: Option<String>,
}

/// What was dispatched.
#[derive(Debug, Serialize)]
struct DispatchRecord {
    /// What `status`, `cancel`, `wait` and `--depends-on` take.
    id: String,
    run: String,
    /// Where it is: the task's state, or the run's.
    status: &'static str,
    /// Whether an earlier dispatch had the same key.
    repeated: bool,
    tasks: Vec<DispatchedTask>,
}

#[derive(Debug, Serialize)]
struct DispatchedTask {
    id: String,
    /// The target.
    agent: String,
    status: &'static str,
}

/// Dispatches it.
pub(crate) fn run(args: &DispatchArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    let agents = local_agents(&settings, context)?;
    context.block_on(0, async {
        let store = open_store(&settings).await?;
        let order = order_of(args, &settings, &store, context).await?;
        let catalogue = agent_catalogue(&store, &agents).await?;
        let plan = compile_dispatch(&order, &catalogue).map_err(|error| unfit(args, error))?;
        if check_targets(&store, &catalogue, &order.targets).await? == Readiness::NobodyThere {
            context.printer.warn(
                "no worker is alive: the task waits (start one with `maestro worker start`, or `maestro up`)",
            );
        }
        // Before there is a task: a Ctrl-C that comes as it is submitted is answered once it can be named.
        let interruptions = args.sync.then(Interruptions::take_over).transpose()?;
        let submitted = submit_plan(&store, plan, settings.max_attempts()).await;
        let submitted = submitted.map_err(|error| submission_failure("the dispatch", error))?;
        if submitted.differs {
            context.printer.warn(&format!(
                "an earlier dispatch with this key was for something else: it stays as it was (run `{}`)",
                submitted.run
            ));
        }
        let (record, tasks) = dispatched(&store, &submitted.run).await?;
        if let Some(interruptions) = interruptions {
            return follow(&store, record, tasks, interruptions, context).await;
        }
        print(&record, &tasks, submitted.repeated, context)
    })
}

async fn order_of(
    args: &DispatchArgs,
    settings: &Settings,
    store: &Store,
    context: &CommandContext,
) -> Result<DispatchOrder, Failure> {
    let mut depends_on = Vec::with_capacity(args.depends_on.len());
    for id in &args.depends_on {
        depends_on.push(find_work(store, id).await?.need());
    }
    Ok(DispatchOrder {
        prompt: prompt_of(args)?,
        targets: args.to.iter().map(|name| name.trim().to_owned()).collect(),
        priority: args.priority,
        timeout_ms: args.timeout.map(|timeout| timeout.as_millis() as u64),
        default_timeout_ms: settings.agent_timeout().as_millis() as u64,
        env: variables(&args.env)?,
        key: args.key.clone(),
        depends_on,
        folder: context.surroundings()?.current_folder().to_str().map(str::to_owned),
        trace: false,
    })
}

fn prompt_of(args: &DispatchArgs) -> Result<String, Failure> {
    if args.prompt != STANDARD_INPUT {
        return Ok(args.prompt.clone());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(PROMPT_READ_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage("cannot read the prompt from standard input").caused_by(&error))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage("the prompt is no text: expected UTF-8"))
}

fn variables(pairs: &[String]) -> Result<IndexMap<String, String>, Failure> {
    let mut env = IndexMap::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::usage(format!("`{pair}` is not a variable: expected `NAME=VALUE`")));
        };
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok(env)
}

/// Why it cannot be dispatched, with the way to mend it.
fn unfit(args: &DispatchArgs, error: DispatchError) -> Failure {
    match &error {
        DispatchError::UnknownTarget { unknown, nearest } => {
            // As every command that takes an agent says it: a target need not be a type.
            let failure = Failure::not_found(match unknown {
                UnknownAgent::Name { name } => format!("there is no agent and no agent type `{name}`"),
                UnknownAgent::Type { .. } => unknown.to_string(),
            });
            match nearest {
                Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
                None => failure.hint("`maestro agent list` lists agents and types"),
            }
        }
        DispatchError::Template(problems) => Failure::usage(error.to_string())
            .details(problems.to_json())
            .shown_as(problems.render(Colour::Plain)),
        DispatchError::TypeNeedsWorkflow { .. } => {
            Failure::usage(error.to_string()).hint("run it as a step of a workflow that has it")
        }
        DispatchError::TooLarge { what: "prompt", .. } => Failure::usage(error.to_string())
            .hint("put what is long into a file the agent can read, and name it in the prompt"),
        DispatchError::NoTarget => {
            Failure::usage(error.to_string()).hint(format!("found `--to {}`", args.to.join(",")))
        }
        _ => Failure::usage(error.to_string()),
    }
}

/// The run and its tasks as they are now. Of a key that several use at once the first one may still be at it.
async fn dispatched(store: &Store, run: &RunId) -> Result<(RunRecord, Vec<TaskView>), Failure> {
    let begun = Instant::now();
    loop {
        let record = store.run(run).await?;
        let record = record.ok_or_else(|| {
            Failure::not_found(format!("run `{run}`, the first with this key, was removed a moment ago"))
                .hint("dispatch it again")
        })?;
        let loading = record.status == maestro_store::runs::RunStatus::Loading;
        if !loading || begun.elapsed() > LOADING_WAIT {
            let tasks = store.tasks(run, 0..record.tasks).await?;
            return Ok((record, tasks));
        }
        tokio::time::sleep(LOADING_LOOK).await;
    }
}

fn print(run: &RunRecord, tasks: &[TaskView], repeated: bool, context: &CommandContext) -> Outcome {
    let work = match tasks {
        [only] => FoundWork::Task(Box::new(FoundTask { run: run.clone(), task: only.clone() })),
        _ => FoundWork::Run(Box::new(run.clone())),
    };
    let task = |task: &TaskView| DispatchedTask {
        id: task.id.to_string(),
        agent: task.own.step.clone(),
        status: task.status.word(),
    };
    let record = DispatchRecord {
        id: work.id(),
        run: run.id.to_string(),
        status: tasks
            .first()
            .filter(|_| tasks.len() == 1)
            .map_or(run.status.word(), |task| task.status.word()),
        repeated,
        tasks: tasks.iter().map(task).collect(),
    };
    match context.printer.form() {
        Form::Table | Form::Name => context.printer.lines(&record.id)?,
        Form::Json | Form::Jsonl | Form::Yaml => context.printer.document(&record)?,
    }
    Ok(Exit::Done)
}
