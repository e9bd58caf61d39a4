//! `maestro agent assign`: makes an agent: an agent type with a folder of its own on one worker.

use std::path::{Component, Path, PathBuf};

use clap::Args;
use maestro_model::assignment::{ASSIGNMENT_VERSION, Assignment};
use maestro_model::ids::{AgentId, AgentSlug};
use maestro_model::mailbox::{WorkerAnswer, WorkerQuestion};
use maestro_store::Store;
use maestro_store::assignments::AssignAnswer;
use maestro_store::worker::AttachedProcess;
use maestro_worker::identity::host_name;
use serde::Serialize;

use super::assign_snapshot;
use crate::agents::{AgentOverview, register_on_first_use};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::closest;
use crate::letters::{ANSWER_WITHIN, ask_worker, find_worker, misunderstood, no_worker};
use crate::output::format::Form;
use crate::output::shape::{Column, Field, Shape};

/// Flags of `agent assign`.
#[derive(Debug, Args)]
#[command(
    after_help = "The folder is made if it is missing (mode 700), on the worker's host. The same id and folder again \
                  change nothing; another folder moves an agent that does not work. Without `--worker` it is the \
                  worker on this host, else the only one. With `--from-snapshot` every assignment that the snapshot \
                  has is made again, on the worker of the same name.\n\n\
                  Example:\n  maestro agent assign code-reviewer --to-workspace ~/src/app --name reviewer --role security"
)]
pub(crate) struct AgentAssignArgs {
    /// The agent type
    #[arg(value_name = "TYPE", required_unless_present = "from_snapshot")]
    agent_type: Option<String>,
    /// The folder it works in; a relative one starts here
    #[arg(long, value_name = "PATH", required_unless_present = "from_snapshot")]
    to_workspace: Option<PathBuf>,
    /// Make every assignment that a snapshot has
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agent_type", "to_workspace", "role", "priority", "name", "worker"])]
    from_snapshot: Option<PathBuf>,
    /// The role it plays: `<< agent.role >>` and MAESTRO_ROLE
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Of its tasks that have none of their own: 1 (first) to 5 (last)
    #[arg(long, value_name = "1-5", value_parser = clap::value_parser!(u8).range(1..=5))]
    priority: Option<u8>,
    /// Its id (default: the slug of its type)
    #[arg(long, value_name = "ID")]
    name: Option<AgentId>,
    /// The worker that has the folder
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
}

/// What became of an assignment.
#[derive(Debug, Serialize)]
pub(super) struct AssignedRecord {
    id: String,
    #[serde(rename = "type")]
    agent_type: String,
    workspace: String,
    worker: String,
    role: Option<String>,
    priority: Option<u8>,
    /// `assigned`, `moved`, `changed` (another role or priority) or `unchanged`.
    change: &'static str,
}

pub(super) const SHAPE: Shape<AssignedRecord> = Shape {
    columns: &[
        Column::new("ID", |one| one.id.clone().into()),
        Column::new("CHANGE", |one| one.change.into()),
        Column::new("WORKSPACE", |one| one.workspace.clone().into()),
        Column::new("WORKER", |one| one.worker.clone().into()),
        Column::new("ROLE", |one| Field::or_none(one.role.clone())),
    ],
    name: |one| one.id.clone(),
    none: "no agent",
};

/// Assigns it.
pub(crate) fn run(args: &AgentAssignArgs, context: &CommandContext) -> Outcome {
    if let Some(snapshot) = &args.from_snapshot {
        return assign_snapshot::run(snapshot, context);
    }
    let (Some(type_name), Some(folder)) = (&args.agent_type, &args.to_workspace) else {
        unreachable!("the command line asks for both, or for a snapshot");
    };
    let path = absolute(context.surroundings()?.current_folder(), folder)?;
    context.block_on(0, async {
        let settings = context.settings()?;
        let store = open_store(&settings).await?;
        register_on_first_use(&store, &settings, type_name).await?;
        let overview = AgentOverview::read(&store).await?;
        let agent_type = find_type(&overview, type_name)?;
        let id = match &args.name {
            Some(id) => id.clone(),
            None => agent_type.as_str().parse().map_err(|error: maestro_model::ids::IdError| {
                Failure::usage(error.to_string()).hint("give it an id with `--name`")
            })?,
        };
        let known = overview.assigned.get(&id);
        let wanted = |worker: &AttachedProcess| -> Result<Assignment, Failure> {
            Ok(Assignment {
                v: ASSIGNMENT_VERSION,
                id: id.clone(),
                agent_type: agent_type.clone(),
                path: path.clone(),
                role: args.role.clone().or_else(|| known.and_then(|known| known.role.clone())),
                priority: args.priority.or_else(|| known.and_then(|known| known.priority)),
                worker: worker
                    .name
                    .parse()
                    .map_err(|error: maestro_model::ids::IdError| Failure::unavailable(error.to_string()))?,
                assigned_at_ms: 0,
                held: None,
            })
        };
        if let Some(known) = known.filter(|known| is_same(known, args, agent_type, &path)) {
            report_unchanged(known, &overview, context)?;
            return Ok(Exit::Done);
        }
        let worker = match &args.worker {
            Some(text) => find_worker(&store, text).await?,
            None => choose_worker(&overview, known)?,
        };
        let assignment = wanted(&worker)?;
        prepare(&store, &worker, &assignment, &overview, context).await?;
        let answer = store.assign(&assignment).await?;
        report(&assignment, &answer, context)?;
        Ok(Exit::Done)
    })
}

/// Whether all that was asked for is so already; a folder or worker that vanished is seen by `agent health`.
fn is_same(known: &Assignment, args: &AgentAssignArgs, agent_type: &AgentSlug, path: &str) -> bool {
    let is_wanted = |worker: &String| known.worker.as_str() == worker;
    known.path == path
        && known.agent_type == *agent_type
        && args.worker.as_ref().is_none_or(is_wanted)
        && args.role.as_ref().is_none_or(|role| known.role.as_ref() == Some(role))
        && args.priority.is_none_or(|priority| known.priority == Some(priority))
}

/// A path as it is from the root, without `.` and `..`.
fn absolute(here: &Path, path: &Path) -> Result<String, Failure> {
    let mut whole = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    let text = whole.into_os_string().into_string();
    text.map_err(|path| {
        Failure::usage(format!("`{}` is not UTF-8", path.to_string_lossy()))
            .hint("choose a folder with a plain name")
    })
}

fn find_type<'o>(overview: &'o AgentOverview, text: &str) -> Result<&'o AgentSlug, Failure> {
    if let Some((slug, _)) = overview.types.iter().find(|(slug, _)| slug.as_str() == text) {
        return Ok(slug);
    }
    let failure = Failure::not_found(format!("there is no agent type `{text}`"));
    Err(match closest(text, overview.types.keys().map(AgentSlug::as_str)) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`maestro agent types` lists them; `maestro agent register <FILE>` stores one"),
    })
}

/// The worker on this host, else the only one. An agent that is assigned stays with its worker if that is
/// one of several here.
fn choose_worker(overview: &AgentOverview, known: Option<&Assignment>) -> Result<AttachedProcess, Failure> {
    let alive: Vec<&AttachedProcess> = overview.workers.iter().filter(|worker| worker.alive).collect();
    let host = host_name();
    let here: Vec<&AttachedProcess> =
        alive.iter().copied().filter(|worker| worker.about.host == host).collect();
    let candidates = if here.is_empty() { &alive } else { &here };
    match candidates[..] {
        [] => Err(no_worker()),
        [only] => Ok(only.clone()),
        _ => {
            let its = known.and_then(|known| candidates.iter().find(|one| one.name == known.worker.as_str()));
            if let Some(worker) = its {
                return Ok((*worker).clone());
            }
            let names: Vec<String> = candidates
                .iter()
                .map(|worker| format!("`{}` on {}", worker.name, worker.about.host))
                .collect();
            Err(Failure::usage("several workers could have the folder, and none was named")
                .cause(format!("alive are {}", names.join(", ")))
                .hint(format!("name one: `--worker {}`", candidates[0].name)))
        }
    }
}

/// Has the worker look at the folder, and make it.
pub(super) async fn prepare(
    store: &Store,
    worker: &AttachedProcess,
    assignment: &Assignment,
    overview: &AgentOverview,
    context: &CommandContext,
) -> Result<(), Failure> {
    let ids = overview.assigned.keys().map(ToString::to_string);
    let slugs = overview.types.keys().map(ToString::to_string);
    let question = WorkerQuestion::PreparePath {
        agent: assignment.id.clone(),
        path: assignment.path.clone(),
        names: ids.chain(slugs).chain([assignment.id.to_string()]).collect(),
    };
    match ask_worker(store, worker, &question, ANSWER_WITHIN).await? {
        WorkerAnswer::Path { warnings, .. } => {
            for warning in warnings {
                context.printer.warn(&warning);
            }
        }
        _ => return Err(misunderstood(worker)),
    }
    let path = Path::new(&assignment.path);
    let shares = overview.assigned.values().find(|other| {
        let theirs = Path::new(&other.path);
        other.id != assignment.id
            && other.worker == assignment.worker
            && (theirs.starts_with(path) || path.starts_with(theirs))
    });
    if let Some(other) = shares {
        context.printer.warn(&format!(
            "agent `{}` works in `{}`: the two get in each other's way",
            other.id, other.path
        ));
    }
    if !worker.types.iter().any(|slug| slug == assignment.agent_type.as_str()) {
        context.printer.warn(&format!(
            "worker `{}` does not serve `{}` now; `maestro agent register` says why",
            worker.name, assignment.agent_type
        ));
    }
    Ok(())
}

fn report_unchanged(
    known: &Assignment,
    overview: &AgentOverview,
    context: &CommandContext,
) -> Result<(), Failure> {
    if let Some(problem) = overview.problems_of(known).first() {
        context.printer.warn(&format!("agent `{}` cannot work now: {problem}", known.id));
    }
    report(known, &AssignAnswer::Unchanged, context)
}

fn report(assignment: &Assignment, answer: &AssignAnswer, context: &CommandContext) -> Result<(), Failure> {
    let record = record_of(assignment, answer)?;
    let Assignment { id, path, worker, .. } = assignment;
    let sentence = match answer {
        AssignAnswer::New => format!("agent `{id}` works in `{path}` on worker `{worker}`"),
        AssignAnswer::Changed => format!("agent `{id}` stays in `{path}`, with another role or priority"),
        AssignAnswer::Moved => format!("agent `{id}` works in `{path}` on worker `{worker}` now"),
        _ => format!("unchanged: agent `{id}` works in `{path}` on worker `{worker}`"),
    };
    if context.printer.form() == Form::Table {
        return context.printer.lines(&sentence);
    }
    context.printer.record(&record, &SHAPE)
}

/// What became of one.
///
/// # Errors
/// 77 if the agent works elsewhere.
pub(super) fn record_of(assignment: &Assignment, answer: &AssignAnswer) -> Result<AssignedRecord, Failure> {
    let id = &assignment.id;
    let change = match answer {
        AssignAnswer::New => "assigned",
        AssignAnswer::Unchanged => "unchanged",
        AssignAnswer::Changed => "changed",
        AssignAnswer::Moved => "moved",
        AssignAnswer::Busy { task } => {
            return Err(Failure::refused(format!("agent `{id}` cannot be moved: it works on task `{task}`"))
                .hint(format!(
                    "wait with `maestro task wait {task}`, or stop it with `maestro agent stop {id}`"
                )));
        }
    };
    Ok(AssignedRecord {
        id: id.to_string(),
        agent_type: assignment.agent_type.to_string(),
        workspace: assignment.path.clone(),
        worker: assignment.worker.to_string(),
        role: assignment.role.clone(),
        priority: assignment.priority,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_starts_where_it_was_typed() {
        let table = [
            ("app", "/home/ann/app"),
            ("../bob/./x/", "/home/bob/x"),
            ("/srv/a", "/srv/a"),
            (".", "/home/ann"),
        ];
        for (path, expected) in table {
            assert_eq!(absolute(Path::new("/home/ann"), Path::new(path)), Ok(expected.to_owned()), "{path}");
        }
    }
}
