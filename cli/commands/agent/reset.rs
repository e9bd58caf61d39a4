//! `maestro agent reset`: stops an agent, empties its folder after a safety copy, sets it up from its template.

use clap::Args;
use maestro_model::assignment::Assignment;
use maestro_model::mailbox::{SafetyCopy, UncleanTrees, WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::assignments::HoldOrder;
use maestro_store::worker::AttachedProcess;
use serde::Serialize;

use super::hold::{end_agent, release};
use crate::agents::AgentOverview;
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::consent::Consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::letters::{WORK_WITHIN, ask_worker, find_worker, misunderstood};
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `agent reset`.
#[derive(Debug, Args)]
#[command(
    after_help = "The safety copy is `auto/pre-reset-<agent>-<time>.tar.gz` below the snapshot folder of the agent's \
                  worker; `tar -xzf` unpacks it. An agent that was stopped before stays so.\n\n\
                  Example:\n  maestro agent reset reviewer --yes"
)]
pub(crate) struct AgentResetArgs {
    /// The agent: its id, a prefix of it, or `last`
    id: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Empty the folder without a copy of it
    #[arg(long)]
    no_safety_copy: bool,
    /// End what it works on without grace
    #[arg(long)]
    force: bool,
}

/// What became of the folder.
#[derive(Debug, Serialize)]
struct ResetRecord {
    id: String,
    workspace: String,
    worker: String,
    /// `reset`, or `rehearsed` with `--dry-run`.
    change: &'static str,
    /// Entries of the folder that went.
    removed: u64,
    /// Where the copy is, on the worker's host.
    safety_copy: Option<String>,
    from_template: bool,
    /// What it worked on.
    task: Option<String>,
}

const SHAPE: Shape<ResetRecord> = Shape {
    columns: &[
        Column::new("ID", |one| one.id.clone().into()),
        Column::new("CHANGE", |one| one.change.into()),
        Column::new("WORKSPACE", |one| one.workspace.clone().into()),
        Column::new("REMOVED", |one| Field::number(one.removed)),
        Column::new("SAFETY COPY", |one| Field::or_none(one.safety_copy.clone())),
        Column::new("TEMPLATE", |one| if one.from_template { "copied".into() } else { Field::none() }),
    ],
    name: |one| one.id.clone(),
    none: "no agent",
};

/// Asks, stops, empties, and lets it go on.
pub(crate) fn run(args: &AgentResetArgs, context: &CommandContext) -> Outcome {
    context.block_on(0, async {
        let store = open_store(&context.settings()?).await?;
        let overview = AgentOverview::read(&store).await?;
        let agent = overview.find_assigned(&args.id)?;
        let worker = find_worker(&store, agent.worker.as_str()).await?;
        let template = overview.types.get(&agent.agent_type).and_then(|one| one.workspace_template.clone());
        let question = |rehearsal| WorkerQuestion::ResetFolder {
            agent: agent.id.clone(),
            path: agent.path.clone(),
            template: template.clone(),
            copy: if args.no_safety_copy { SafetyCopy::None } else { SafetyCopy::Archive },
            unclean: UncleanTrees::Remove,
            rehearsal,
        };
        if args.dry_run {
            let record = ask_to_reset(&store, &worker, agent, &question(true), None).await?;
            context.printer.note("nothing was done: this is what a reset would do");
            context.printer.record(&record, &SHAPE)?;
            return Ok(Exit::Done);
        }
        let copied = if args.no_safety_copy { "without a copy" } else { "after a safety copy" };
        let (id, path) = (&agent.id, &agent.path);
        let what = format!(
            "this empties `{path}` on worker `{}` {copied}, and ends what agent `{id}` does",
            worker.name
        );
        Consent::of_flag(args.yes).require(&what, context)?;
        let order = HoldOrder { kill: args.force, then_restart: false };
        let ended = end_agent(&store, agent, order, context).await?;
        let task = ended.task.map(|task| task.to_string());
        let reset = ask_to_reset(&store, &worker, agent, &question(false), task).await;
        // Also after a failure: the agent is as it was before, with its folder.
        if !ended.was_held {
            release(&store, agent, context).await?;
        }
        let record = reset?;
        if context.printer.form() == Form::Table {
            context.printer.lines(&format!("agent `{id}` is reset: `{path}` is as new"))?;
            if let Some(copy) = &record.safety_copy {
                context.printer.note(&format!("what was in it is in `{copy}` on worker `{}`", worker.name));
            }
        } else {
            context.printer.record(&record, &SHAPE)?;
        }
        Ok(Exit::Done)
    })
}

async fn ask_to_reset(
    store: &Store,
    worker: &AttachedProcess,
    agent: &Assignment,
    question: &WorkerQuestion,
    task: Option<String>,
) -> Result<ResetRecord, Failure> {
    let answer = ask_worker(store, worker, question, WORK_WITHIN).await?;
    let WorkerAnswer::Emptied { removed, copy, from_template, .. } = answer else {
        return Err(misunderstood(worker));
    };
    let rehearsal = matches!(question, WorkerQuestion::ResetFolder { rehearsal: true, .. });
    Ok(ResetRecord {
        id: agent.id.to_string(),
        workspace: agent.path.clone(),
        worker: worker.name.clone(),
        change: if rehearsal { "rehearsed" } else { "reset" },
        removed,
        safety_copy: copy,
        from_template,
        task,
    })
}
