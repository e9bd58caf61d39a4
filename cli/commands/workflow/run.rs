//! `maestro workflow run`: submits a workflow and follows it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indexmap::IndexMap;
use maestro_coordinator::submission::{SubmissionError, submit_workflow};
use maestro_model::agent_type::AgentType;
use maestro_model::compile::RunInputs;
use maestro_model::diagnostic::{Colour, Diagnostics, SourceText};
use maestro_model::ids::{AgentSlug, RunId, WorkflowName};
use maestro_model::plan::{Plan, TaskKind};
use maestro_model::workflow::{KnownNames, Workflow, parse_workflow};
use maestro_store::Store;
use maestro_store::definitions::StoredDefinition;
use maestro_store::runs::RunStatus;
use maestro_store::worker::ProcessRole;
use serde_json::Value;

use super::source::read_definition;
use crate::catalogue::local_agents;
use crate::cluster::{open_store, store_failure};
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::following::{FollowedEnd, Following};
use crate::live::{RunDisplay, RunView, StepPlan};
use crate::local_run::LocalCluster;
use crate::logging::{LogRole, start_logging};
use crate::output::moment::now_ms;
use crate::shipped;

/// Most bytes of a file of parameters.
const PARAM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Flags of `workflow run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  maestro workflow run hello --local\n  \
                        maestro workflow run repo-audit --param repo=/src/app --local --result report\n  \
                        maestro workflow run deploy.yaml --param branch=main --detach")]
pub(crate) struct RunArgs {
    /// A definition's file, or the name of a stored or shipped workflow
    #[arg(value_name = "NAME|FILE")]
    workflow: String,
    /// A parameter: `<< params.K >>`, and it overrides `vars` of that name (repeatable)
    #[arg(long = "param", value_name = "K=V")]
    params: Vec<String>,
    /// Parameters as a JSON or YAML object
    #[arg(long, value_name = "FILE")]
    param_file: Option<PathBuf>,
    /// Print the run's id and do not follow it
    #[arg(long, conflicts_with_all = ["local", "result"])]
    detach: bool,
    /// Run on a private cluster in this process, for the length of this run
    #[arg(long)]
    local: bool,
    /// Print this step's result at the end
    #[arg(long, value_name = "STEP")]
    result: Option<String>,
}

/// Submits, follows, ends with the run's exit code.
pub(crate) fn run(args: &RunArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    start_logging(LogRole::Command, &settings, &context.printer);
    let agents = local_agents(&settings, context)?;
    let params = parameters(args)?;
    let threads = if args.local { 2 } else { 0 };
    context.block_on(threads, async {
        let call = RunCall { args, context, settings: &settings, agents: &agents };
        if args.local { call.local(params).await } else { call.on_the_cluster(params).await }
    })
}

/// A workflow that is to be run.
struct FoundWorkflow {
    workflow: Arc<Workflow>,
    /// Values that override its own.
    vars: IndexMap<String, Value>,
}

struct RunCall<'a> {
    args: &'a RunArgs,
    context: &'a CommandContext,
    settings: &'a Settings,
    agents: &'a IndexMap<AgentSlug, AgentType>,
}

impl RunCall<'_> {
    async fn on_the_cluster(&self, params: IndexMap<String, Value>) -> Outcome {
        let store = open_store(self.settings).await?;
        let found = self.find_workflow(Some(&store)).await?;
        let workflow = &*found.workflow;
        let position = store.events_end().await.map_err(store_failure)?;
        let (run, plan) = self.submit(&store, &found, params).await?;
        self.warn_of_missing_workers(&store, &plan).await?;
        if self.args.detach {
            return self.print_id(&run, workflow);
        }
        let mut interruptions = Interruptions::take_over()?;
        let mut display = self.display(&run, workflow, &plan)?;
        let mut following = Following::new(&store, &run, position, labels(&plan));
        let end = tokio::select! {
            end = following.until_the_end(&mut display) => Some(end?),
            () = interruptions.next() => None,
        };
        match end {
            Some(end) => self.finish(&store, &run, &plan, &end).await,
            None => {
                display.leave(now_ms())?;
                self.context.printer.note(&format!(
                    "run `{run}` goes on: follow it with `maestro workflow logs {run} -f`, look at it with \
                     `maestro workflow status {run}`, stop it with `maestro workflow stop {run}`"
                ));
                Ok(Exit::Cancelled)
            }
        }
    }

    async fn local(&self, params: IndexMap<String, Value>) -> Outcome {
        let found = self.find_workflow(None).await?;
        let cluster = LocalCluster::start(self.settings, self.context, self.agents.clone()).await?;
        let outcome = self.on_local(&cluster, &found, params).await;
        let ended = cluster.end().await;
        let exit = outcome?;
        ended?;
        Ok(exit)
    }

    async fn on_local(
        &self,
        cluster: &LocalCluster,
        found: &FoundWorkflow,
        params: IndexMap<String, Value>,
    ) -> Outcome {
        let mut interruptions = Interruptions::take_over()?;
        let store = cluster.store();
        let position = store.events_end().await.map_err(store_failure)?;
        cluster.check_agents(&found.workflow)?;
        let (run, plan) = self.submit(store, found, params).await?;
        let mut display = self.display(&run, &found.workflow, &plan)?;
        let mut following = Following::new(store, &run, position, labels(&plan));
        let end = loop {
            tokio::select! {
                end = following.until_the_end(&mut display) => break end?,
                () = interruptions.next() => {
                    self.context.printer.note("stopping the run; once more ends it at once");
                    store.stop_run(&run, "interrupted").await.map_err(store_failure)?;
                }
                how = cluster.broke_down() => return Err(how),
            }
        };
        let kept = cluster.keep_files(&run, &plan).await?;
        self.context.printer.detail(&format!("logs and results are in {}", kept.display()));
        self.finish(store, &run, &plan, &end).await
    }

    /// A file, a stored definition, or one that comes with the program, in that order.
    async fn find_workflow(&self, store: Option<&Store>) -> Result<FoundWorkflow, Failure> {
        let text = &self.args.workflow;
        let path = Path::new(text);
        let looks_like_a_file =
            text == "-" || text.contains('/') || text.ends_with(".yaml") || text.ends_with(".yml");
        if looks_like_a_file || path.is_file() {
            let registered = self.registered(store).await?;
            let parsed = read_definition(path, &registered, &[], self.context)?.parsed;
            let warnings = parsed.warnings.list.len() + parsed.warnings.left_out;
            if warnings > 0 {
                self.context
                    .printer
                    .note(&format!("{warnings} warnings: see them with `maestro workflow validate {text}`"));
            }
            return Ok(FoundWorkflow { workflow: Arc::new(parsed.workflow), vars: IndexMap::new() });
        }
        let name: WorkflowName = text.parse().map_err(|_| self.no_such_workflow())?;
        if let Some(store) = store
            && let Some(stored) = store.definition(&name, None).await.map_err(store_failure)?
        {
            return self.stored(&name, stored);
        }
        match shipped::shipped_workflow(text) {
            Some(shipped) => {
                let workflow = self.parse(&format!("{}.yaml", shipped.file), shipped.text.to_owned(), &[])?;
                Ok(FoundWorkflow { workflow: Arc::new(workflow), vars: IndexMap::new() })
            }
            None => Err(self.no_such_workflow()),
        }
    }

    fn no_such_workflow(&self) -> Failure {
        let text = &self.args.workflow;
        let names = shipped::WORKFLOWS.iter().map(|workflow| workflow.file);
        Failure::not_found(format!("there is no file and no workflow `{text}`")).hint(format!(
            "store it with `maestro workflow create {text} --definition FILE`, or run a shipped one: {}",
            names.collect::<Vec<_>>().join(", ")
        ))
    }

    /// Agent types a definition may name beside those of this host.
    async fn registered(&self, store: Option<&Store>) -> Result<Vec<String>, Failure> {
        match store {
            Some(store) => {
                let types = store.agent_types().await.map_err(store_failure)?;
                Ok(types.keys().map(ToString::to_string).collect())
            }
            None => Ok(Vec::new()),
        }
    }

    /// A stored definition runs under the name it was stored under, with the variables stored beside it.
    fn stored(&self, name: &WorkflowName, stored: StoredDefinition) -> Result<FoundWorkflow, Failure> {
        let vars: IndexMap<String, Value> = match stored.vars.as_str() {
            "" => IndexMap::new(),
            text => serde_json::from_str(text).map_err(|error| {
                Failure::unavailable(format!("cannot read the variables stored with `{name}`"))
                    .caused_by(&error)
            })?,
        };
        let names: Vec<String> = vars.keys().cloned().collect();
        let mut workflow =
            self.parse(&format!("{name} (version {})", stored.version), stored.text, &names)?;
        workflow.name.value = name.clone();
        Ok(FoundWorkflow { workflow: Arc::new(workflow), vars })
    }

    fn parse(&self, name: &str, text: String, vars: &[String]) -> Result<Workflow, Failure> {
        let wrong = |problems: Diagnostics| {
            Failure::invalid_file(format!("`{name}` is not a workflow"))
                .details(problems.to_json())
                .shown_as(problems.render(Colour::Plain))
        };
        let source = SourceText::from_bytes(name, text.into_bytes()).map_err(wrong)?;
        let parsed = parse_workflow(source, KnownNames { agents: None, vars }).map_err(wrong)?;
        Ok(parsed.workflow)
    }

    async fn submit(
        &self,
        store: &Store,
        found: &FoundWorkflow,
        params: IndexMap<String, Value>,
    ) -> Result<(RunId, Plan), Failure> {
        let workflow = &found.workflow;
        let inputs = RunInputs {
            vars: found.vars.clone(),
            params,
            default_timeout_ms: self.settings.agent_timeout().as_millis() as u64,
            trace: false,
        };
        let lost_max = self.settings.max_attempts();
        let submitted = submit_workflow(store, workflow, &inputs, self.agents, lost_max).await;
        match submitted {
            Ok(submitted) => Ok((submitted.run, submitted.plan)),
            Err(SubmissionError::Store(error)) => Err(store_failure(error)),
            Err(SubmissionError::Invalid(problems)) => Err(Failure::invalid_file(format!(
                "workflow `{}` cannot be run as it is given",
                workflow.name.value
            ))
            .details(problems.to_json())
            .shown_as(problems.render(Colour::Plain))),
        }
    }

    fn display(&self, run: &RunId, workflow: &Workflow, plan: &Plan) -> Result<RunDisplay, Failure> {
        let view =
            RunView::new(workflow.name.value.as_str(), run.as_str(), now_ms(), step_plans(workflow, plan));
        Ok(RunDisplay::new(view, &self.context.printer, &self.context.surroundings()?))
    }

    /// A run without workers waits: that is lawful (they may be scaled from zero), and worth a word.
    async fn warn_of_missing_workers(&self, store: &Store, plan: &Plan) -> Result<(), Failure> {
        let processes = store.processes().await.map_err(store_failure)?;
        let workers = || processes.iter().filter(|one| one.alive && one.about.role == ProcessRole::Worker);
        if workers().next().is_none() {
            self.context
                .printer
                .warn("no worker is alive: the run waits (start one with `maestro worker start`)");
            return Ok(());
        }
        for slug in plan.agents.keys() {
            let served = workers().any(|worker| worker.types.iter().any(|one| one == slug.as_str()));
            if !served {
                self.context.printer.warn(&format!(
                    "no worker serves agent type `{slug}`: its steps wait (see `maestro doctor` on a worker's host)"
                ));
            }
        }
        Ok(())
    }

    fn print_id(&self, run: &RunId, workflow: &Workflow) -> Outcome {
        let record = serde_json::json!({ "id": run, "workflow": workflow.name.value, "status": "running" });
        match self.context.printer.form() {
            crate::output::format::Form::Table | crate::output::format::Form::Name => {
                self.context.printer.lines(run.as_str())?;
            }
            _ => self.context.printer.document(&record)?,
        }
        Ok(Exit::Done)
    }

    async fn finish(&self, store: &Store, run: &RunId, plan: &Plan, end: &FollowedEnd) -> Outcome {
        if let Some(step) = &self.args.result {
            self.print_result(store, run, plan, step).await?;
        }
        Ok(match end.record.status {
            RunStatus::Completed => Exit::Done,
            RunStatus::Cancelled => Exit::Cancelled,
            _ if end.record.reason == "timeout" => Exit::TimedOut,
            _ => {
                if end.record.reason == "lost" {
                    let worker = end.record.bound_to.as_deref().unwrap_or("its worker");
                    self.context.printer.warn(&format!(
                        "worker `{worker}` was lost, and with it the folder that this run's steps shared"
                    ));
                }
                Exit::WorkFailed
            }
        })
    }

    async fn print_result(&self, store: &Store, run: &RunId, plan: &Plan, step: &str) -> Result<(), Failure> {
        let index = plan.tasks.iter().position(|task| task.step.as_str() == step);
        let index = index.ok_or_else(|| Failure::not_found(format!("the workflow has no step `{step}`")))?;
        let output = store.outputs(run, &[index as u32]).await.map_err(store_failure)?.pop().flatten();
        let result = output.and_then(|output| output.outputs).map(|outputs| outputs.result);
        match result {
            Some(Value::String(text)) => self.context.printer.lines(&text),
            Some(other) => self.context.printer.document(&other),
            None => {
                self.context.printer.warn(&format!("step `{step}` has no result"));
                Ok(())
            }
        }
    }
}

/// Step and item number of every planned task.
pub(crate) fn labels(plan: &Plan) -> HashMap<u32, (String, Option<u32>)> {
    let label = |(index, task): (usize, &maestro_model::plan::PlannedTask)| {
        let number = match task.kind {
            TaskKind::Item { number, .. } => Some(number),
            _ => None,
        };
        (index as u32, (task.step.to_string(), number))
    };
    plan.tasks.iter().enumerate().map(label).collect()
}

/// The steps in the order of the file, as the live view wants them.
fn step_plans(workflow: &Workflow, plan: &Plan) -> Vec<StepPlan> {
    let mut steps: Vec<StepPlan> = workflow
        .steps
        .iter()
        .map(|step| {
            let kind = plan.tasks.iter().find(|task| task.step == step.id.value).map(|task| &task.kind);
            let items = match kind {
                Some(TaskKind::Group { count, .. }) => Some(*count),
                _ => None,
            };
            StepPlan {
                id: step.id.value.to_string(),
                depends_on: Vec::new(),
                is_group: step.foreach.is_some(),
                items,
            }
        })
        .collect();
    for edge in &workflow.edges {
        let from = steps[edge.from as usize].id.clone();
        steps[edge.to as usize].depends_on.push(from);
    }
    steps
}

/// `--param-file`, then each `--param`; a value that is JSON keeps its type, anything else is text.
fn parameters(args: &RunArgs) -> Result<IndexMap<String, Value>, Failure> {
    let mut params = match &args.param_file {
        Some(path) => read_parameters(path)?,
        None => IndexMap::new(),
    };
    for pair in &args.params {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::usage(format!("`{pair}` is not a parameter: expected `NAME=VALUE`")));
        };
        params.insert(name.to_owned(), typed(value));
    }
    Ok(params)
}

/// Numbers, truths, lists and objects keep their type, as they would in YAML.
fn typed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn read_parameters(path: &Path) -> Result<IndexMap<String, Value>, Failure> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::not_found(format!("there is no file `{shown}`")),
        _ => Failure::invalid_file(format!("cannot read `{shown}`")).caused_by(&error),
    })?;
    if size.len() > PARAM_FILE_BYTES_MAX {
        return Err(Failure::invalid_file(format!("`{shown}` has more than {PARAM_FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid_file(format!("cannot read `{shown}`")).caused_by(&error))?;
    serde_saphyr::from_str(&text).map_err(|error| {
        Failure::invalid_file(format!("`{shown}` does not hold parameters: expected one object"))
            .cause(error.to_string())
    })
}
