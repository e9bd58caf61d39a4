//! `maestro workflow run`: submits a workflow and follows it.

use clap::Args;
use indexmap::IndexMap;
use maestro_coordinator::submission::{SubmissionError, agent_catalogue, submit_plan};
use maestro_model::agent_type::AgentType;
use maestro_model::catalogue::AgentCatalogue;
use maestro_model::compile::{RunInputs, compile};
use maestro_model::ids::{AgentSlug, RunId};
use maestro_model::plan::Plan;
use maestro_model::workflow::Workflow;
use maestro_store::Store;
use maestro_store::runs::RunStatus;
use maestro_store::worker::ProcessRole;
use serde_json::Value;

use super::resume_hint::resume_hint;
use super::run_found::{FoundWorkflow, WorkflowFinder};
use super::run_params::{ParamArgs, parameters};
use super::run_plan::{PLAN_ROWS, labels, planned_steps, step_plans};
use super::run_ready::{RESUME_ROWS, ReadyRun, Resumed, resumed};
use crate::catalogue::local_agents;
use crate::cluster::{open_store, store_failure, submission_failure};
use crate::commands::{CommandContext, Outcome};
use crate::config::settings::Settings;
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::following::{FollowedEnd, Following};
use crate::live::{RunDisplay, RunView, StepEvent};
use crate::local_run::LocalCluster;
use crate::logging::{LogRole, start_logging};
use crate::output::moment::now_ms;
use crate::trace_file::{kept_trace, write_trace};

/// Flags of `workflow run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  maestro workflow run hello --local\n  \
                        maestro workflow run repo-audit --param repo=. --local --result report\n  \
                        maestro workflow run deploy.yaml --param branch=main --detach\n  \
                        maestro workflow run rpgclaw-deploy --resume-from build --dry-run")]
pub(crate) struct RunArgs {
    /// A definition's file, or the name of a stored or shipped workflow
    #[arg(value_name = "NAME|FILE")]
    workflow: String,
    #[command(flatten)]
    params: ParamArgs,
    /// Print the run's id and do not follow it
    #[arg(long, conflicts_with_all = ["local", "result"])]
    detach: bool,
    /// Run on a private cluster in this process, for the length of this run
    #[arg(long)]
    local: bool,
    /// Check everything, print the plan and submit nothing
    #[arg(long, conflicts_with_all = ["detach", "result", "trace"])]
    dry_run: bool,
    /// A new run of an earlier one in which this step and all that follows it run, and all else is kept
    #[arg(long, value_name = "STEP", conflicts_with_all = ["local", "params", "param_file"])]
    resume_from: Option<String>,
    /// The run to resume (else the newest of that name that did not complete): its id, a prefix of it, or `last`
    #[arg(long, requires = "resume_from")]
    run: Option<String>,
    /// Show every line of standard output as `TRACE: [<time>] <step>: <line>`, and keep a trace of the run
    #[arg(long)]
    trace: bool,
    /// Print this step's result at the end
    #[arg(long, value_name = "STEP")]
    result: Option<String>,
}

/// Submits, follows, ends with the run's exit code.
pub(crate) fn run(args: &RunArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    start_logging(LogRole::Command, &settings, &context.printer);
    let agents = local_agents(&settings, context)?;
    let params = parameters(&args.params)?;
    let threads = if args.local { 2 } else { 0 };
    context.block_on(threads, async {
        let call = RunCall { args, context, settings: &settings, agents: &agents };
        if args.local { call.local(params).await } else { call.on_the_cluster(params).await }
    })
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
        let ready = match &self.args.resume_from {
            Some(step) => self.resumed(&store, step).await?,
            None => {
                let found = self.finder().find(Some(&store)).await?;
                let catalogue = agent_catalogue(&store, self.agents).await.map_err(store_failure)?;
                self.compiled(found, params, &catalogue)?
            }
        };
        if self.args.dry_run {
            return self.print_plan(&ready);
        }
        if let Some(resumed) = &ready.resumed {
            self.context.printer.note(&resumed.sentence());
        }
        let position = store.events_end().await.map_err(store_failure)?;
        // Before there is a run: a Ctrl-C that comes as it is submitted is answered once it can be named.
        let interruptions = (!self.args.detach).then(Interruptions::take_over).transpose()?;
        let (run, ready) = self.submit(&store, ready).await?;
        self.warn_of_missing_workers(&store, &ready.plan).await?;
        let Some(mut interruptions) = interruptions else { return self.print_id(&run, &ready.workflow) };
        let mut display = self.display(&run, &ready)?;
        let mut following = self.following(Following::new(&store, &run, position, labels(&ready.plan)));
        let end = tokio::select! {
            end = following.until_the_end(&mut display) => Some(end?),
            () = interruptions.next() => None,
        };
        match end {
            Some(end) => {
                self.keep_trace(&store, &end).await?;
                self.finish(&store, &run, &ready.plan, &end).await
            }
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
        let found = self.finder().find(None).await?;
        let catalogue = AgentCatalogue { types: self.agents.clone(), assigned: IndexMap::new() };
        let ready = self.compiled(found, params, &catalogue)?;
        if self.args.dry_run {
            return self.print_plan(&ready);
        }
        let cluster = LocalCluster::start(self.settings, self.context, self.agents.clone()).await?;
        let outcome = self.on_local(&cluster, ready).await;
        let ended = cluster.end().await;
        let exit = outcome?;
        ended?;
        Ok(exit)
    }

    async fn on_local(&self, cluster: &LocalCluster, ready: ReadyRun) -> Outcome {
        let mut interruptions = Interruptions::take_over()?;
        let store = cluster.store();
        let position = store.events_end().await.map_err(store_failure)?;
        cluster.check_agents(&ready.workflow)?;
        let (run, ready) = self.submit(store, ready).await?;
        let mut display = self.display(&run, &ready)?;
        let mut following = self.following(Following::new(store, &run, position, labels(&ready.plan)));
        let mut is_stopping = false;
        let end = loop {
            tokio::select! {
                end = following.until_the_end(&mut display) => break end?,
                () = interruptions.next() => {
                    if is_stopping {
                        cluster.end_agents_at_once();
                    } else {
                        display.say("stopping the run; once more ends it at once", now_ms())?;
                        store.stop_run(&run, "interrupted").await.map_err(store_failure)?;
                    }
                    is_stopping = true;
                }
                how = cluster.broke_down() => return Err(how),
            }
        };
        let kept = cluster.keep_files(&run, &ready.plan).await?;
        self.keep_trace(store, &end).await?;
        self.context.printer.detail(&format!("logs and results are in {}", kept.display()));
        self.finish(store, &run, &ready.plan, &end).await
    }

    async fn submit(&self, store: &Store, ready: ReadyRun) -> Result<(RunId, ReadyRun), Failure> {
        let ReadyRun { workflow, plan, resumed } = ready;
        let submitted = submit_plan(store, plan, self.settings.max_attempts()).await;
        let submitted = submitted.map_err(|error| submission_failure(&named(&workflow), error))?;
        Ok((submitted.run, ReadyRun { workflow, plan: submitted.plan, resumed }))
    }

    fn compiled(
        &self,
        found: FoundWorkflow,
        params: IndexMap<String, Value>,
        catalogue: &AgentCatalogue,
    ) -> Result<ReadyRun, Failure> {
        let workflow = found.workflow.clone();
        let inputs = self.inputs(found, params)?;
        let plan = compile(&workflow, &inputs, catalogue)
            .map_err(|problems| submission_failure(&named(&workflow), SubmissionError::Invalid(problems)))?;
        Ok(ReadyRun { workflow, plan, resumed: None })
    }

    async fn resumed(&self, store: &Store, step: &str) -> Result<ReadyRun, Failure> {
        let timeout_ms = self.settings.agent_timeout().as_millis() as u64;
        let policy = (timeout_ms, self.args.trace);
        resumed(store, &self.finder(), step, self.args.run.as_deref(), policy, self.context).await
    }

    fn inputs(&self, found: FoundWorkflow, params: IndexMap<String, Value>) -> Result<RunInputs, Failure> {
        Ok(RunInputs {
            vars: found.vars,
            params,
            default_timeout_ms: self.settings.agent_timeout().as_millis() as u64,
            trace: self.args.trace,
            // A folder whose name is no text cannot stand in a template.
            folder: self.context.surroundings()?.current_folder().to_str().map(str::to_owned),
        })
    }

    /// What would run, and nothing else.
    fn print_plan(&self, ready: &ReadyRun) -> Outcome {
        let printer = &self.context.printer;
        match &ready.resumed {
            Some(resumed) => printer.list(&resumed.rows(), &RESUME_ROWS)?,
            None => printer.list(&planned_steps(&ready.plan), &PLAN_ROWS)?,
        }
        printer.note("nothing was submitted");
        Ok(Exit::Done)
    }

    fn finder(&self) -> WorkflowFinder<'_> {
        WorkflowFinder { text: &self.args.workflow, context: self.context }
    }

    fn following<'f>(&self, following: Following<'f>) -> Following<'f> {
        if self.args.trace { following.traced() } else { following }
    }

    /// The trace of a run that was followed to its end lies on this host.
    async fn keep_trace(&self, store: &Store, end: &FollowedEnd) -> Result<(), Failure> {
        if !self.args.trace {
            return Ok(());
        }
        let path = kept_trace(&end.record.id, self.context)?;
        write_trace(store, end.record.clone(), &path).await?;
        self.context
            .printer
            .note(&format!("the trace is in `{}`: open it at https://ui.perfetto.dev", path.display()));
        Ok(())
    }

    fn display(&self, run: &RunId, ready: &ReadyRun) -> Result<RunDisplay, Failure> {
        let workflow = &ready.workflow;
        let plans = step_plans(workflow, &ready.plan);
        let mut view = RunView::new(workflow.name.value.as_str(), run.as_str(), now_ms(), plans);
        // Kept steps have no events in this run: what they came to is told beforehand.
        for (step, kind) in ready.resumed.iter().flat_map(Resumed::events) {
            view.on_event(&StepEvent { at: now_ms(), step, item: None, kind });
        }
        let display = RunDisplay::new(view, &self.context.printer, &self.context.surroundings()?);
        Ok(if self.args.trace { display.traced() } else { display })
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
                if let Some(hint) = resume_hint(store, &end.record).await? {
                    self.context.printer.warn(&hint);
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

fn named(workflow: &Workflow) -> String {
    format!("workflow `{}`", workflow.name.value)
}
