//! From a rendered task to the order that `attempt` carries out: command, environment, folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, ExtraPaths, Isolation, PromptVia};
use maestro_model::attempt::AttemptReport;
use maestro_model::ids::{StepId, TaskId, WorkerName};
use maestro_model::plan::WorkspaceChoice;
use maestro_model::task::Reason;
use maestro_model::template::{RenderError, Root, Scope, Template, is_plain_text, render_text_map};
use maestro_store::step::Grant;

use crate::attempt::AttemptOrder;
use crate::decide::{Rendered, config_failure};
use crate::settings::WorkerSettings;
use crate::step_copy::SourceTask;
use crate::workspace::{AssignedFolder, WorkspacePaths, WorkspacePlace, WorkspaceRoot};

/// Where kilo is looked for at last.
const KILO_DEFAULT: &str = "/usr/local/bin/kilo";
/// The command that is `MAESTRO_KILOCODE_BIN` if that is set.
pub(crate) const KILO: &str = "kilo";

/// An order, and what the rest of its templates read.
#[derive(Debug)]
pub struct LaunchOrder {
    /// What to carry out.
    pub order: AttemptOrder,
    /// The scope, now with `workspace` and `prompt`.
    pub scope: Scope,
}

/// Makes the order, or the report of a task that cannot be carried out as it is written.
pub fn launch_order(
    rendered: &Rendered,
    settings: &WorkerSettings,
    root: &WorkspaceRoot,
    worker: &WorkerName,
) -> Result<LaunchOrder, Box<AttemptReport>> {
    let ready = &rendered.ready;
    let (grant, agent, shared) = (&ready.grant, &ready.agent, &ready.shared);
    let place = match &shared.workspace {
        WorkspaceChoice::Task => WorkspacePlace::Task,
        WorkspaceChoice::Run => WorkspacePlace::Run,
        WorkspaceChoice::Assigned => WorkspacePlace::Assigned(assigned_folder(grant)?),
        // A folder of its own, which begins as a copy.
        WorkspaceChoice::Step(_) => WorkspacePlace::Task,
    };
    let paths = root.paths(&agent.slug, &grant.task, grant.attempt, place.clone());
    let mut scope = rendered.scope.clone();
    scope.set(Root::Workspace, paths.folder.to_string_lossy().into_owned());
    scope.set(Root::Prompt, prompt_word(rendered, &paths));
    let step: StepId = grant.own.step.parse().map_err(|_| unlawful_step(&grant.own.step))?;
    let order = AttemptOrder {
        task: grant.task.clone(),
        attempt: grant.attempt,
        step,
        workflow: ready.context.workflow.clone(),
        worker: worker.clone(),
        agent: rendered_type(agent, &scope)?,
        argv: command(rendered, settings, &scope)?,
        env: environment(rendered, &scope)?,
        prompt: rendered.prompt.clone(),
        place,
        template: template(rendered, settings, &scope)?,
        copy_of: source_task(rendered)?,
        timeout: Duration::from_millis(shared.timeout_ms),
        stall_timeout: shared.stall_timeout_ms.or(agent.stall_timeout_ms).map(Duration::from_millis),
        grace: settings.grace,
    };
    Ok(LaunchOrder { order, scope })
}

/// The type with its image and paths rendered: the type itself, where none of them is a template.
fn rendered_type(agent: &Arc<AgentType>, scope: &Scope) -> Result<Arc<AgentType>, Box<AttemptReport>> {
    let paths = || agent.paths.read.iter().chain(&agent.paths.write);
    if agent.image.iter().chain(paths()).all(|text| is_plain_text(text)) {
        return Ok(agent.clone());
    }
    let render = |text: &String| {
        let template = Template::parse(text).map_err(|error| unrendered(&error.into()))?;
        template.render_text(scope).map_err(|error| unrendered(&error))
    };
    let all = |texts: &[String]| texts.iter().map(render).collect::<Result<Vec<_>, _>>();
    let paths = ExtraPaths { read: all(&agent.paths.read)?, write: all(&agent.paths.write)? };
    let image = agent.image.as_ref().map(render).transpose()?;
    Ok(Arc::new(AgentType { image, paths, ..AgentType::clone(agent) }))
}

/// The task whose folder is to be copied.
fn source_task(rendered: &Rendered) -> Result<Option<SourceTask>, Box<AttemptReport>> {
    let (shared, grant) = (&rendered.ready.shared, &rendered.ready.grant);
    let WorkspaceChoice::Step(step) = &shared.workspace else { return Ok(None) };
    let Some(index) = shared.references.steps.get(step) else {
        let message = format!("the run does not say which task step `{step}` is");
        return Err(Box::new(AttemptReport::failed(Reason::Config, None, message)));
    };
    let task = TaskId { run: grant.task.run.clone(), index: *index };
    Ok(Some(SourceTask { step: step.clone(), task }))
}

/// Where the agent is that the task is for; the claim has brought it along.
fn assigned_folder(grant: &Grant) -> Result<AssignedFolder, Box<AttemptReport>> {
    let Some(agent) = &grant.agent else {
        let message = "the agent it is for is not assigned any more".to_owned();
        return Err(Box::new(AttemptReport::failed(Reason::Infra, None, message)));
    };
    Ok(AssignedFolder { agent: agent.id.clone(), folder: PathBuf::from(&agent.path) })
}

fn unlawful_step(step: &str) -> Box<AttemptReport> {
    Box::new(AttemptReport::failed(Reason::Config, None, format!("`{step}` is no step id")))
}

fn unrendered(error: &RenderError) -> Box<AttemptReport> {
    Box::new(config_failure(error))
}

/// What `<< prompt >>` in the command stands for: the prompt, or the file it is in.
fn prompt_word(rendered: &Rendered, paths: &WorkspacePaths) -> String {
    match rendered.ready.agent.prompt_via {
        PromptVia::File => paths.prompt().to_string_lossy().into_owned(),
        PromptVia::Arg | PromptVia::Stdin => rendered.prompt.clone(),
    }
}

fn command(
    rendered: &Rendered,
    settings: &WorkerSettings,
    scope: &Scope,
) -> Result<Vec<String>, Box<AttemptReport>> {
    let agent = &rendered.ready.agent;
    // An image has its programs where it has them.
    let in_container = agent.isolate_with == Isolation::Docker;
    let kilo = || if in_container { KILO.to_owned() } else { kilo_program(settings) };
    let Some(words) = &agent.command else {
        let workspace = scope.get(Root::Workspace).and_then(|value| value.as_str()).unwrap_or_default();
        return Ok(vec![kilo(), agent.mode.clone(), rendered.prompt.clone(), workspace.to_owned()]);
    };
    let mut argv = Vec::with_capacity(words.len());
    for word in words {
        let template = Template::parse(word).map_err(|error| unrendered(&error.into()))?;
        argv.push(template.render_text(scope).map_err(|error| unrendered(&error))?);
    }
    if let Some(program) = argv.first_mut().filter(|program| *program == KILO)
        && !in_container
        && (settings.kilo_program.is_some() || !is_on_path(KILO))
    {
        *program = kilo();
    }
    Ok(argv)
}

/// Where kilo is, if it is not on PATH.
pub(crate) fn kilo_program(settings: &WorkerSettings) -> String {
    let program = settings.kilo_program.as_deref().unwrap_or(Path::new(KILO_DEFAULT));
    program.to_string_lossy().into_owned()
}

fn is_on_path(program: &str) -> bool {
    let host = crate::attempt::HostEnvironment::of_this_process();
    crate::launch::find_program(program.as_ref(), host.path(), Path::new("/")).is_some()
}

fn environment(rendered: &Rendered, scope: &Scope) -> Result<IndexMap<String, String>, Box<AttemptReport>> {
    let mut env = render_text_map(&rendered.ready.agent.env, scope).map_err(|error| unrendered(&error))?;
    env.extend(rendered.env.clone());
    if let Some(role) = &rendered.ready.shared.role {
        env.insert("MAESTRO_ROLE".to_owned(), role.clone());
    }
    Ok(env)
}

/// The folder that a workspace starts from. One that is nowhere is named as it was written; the attempt
/// then says that it is missing.
fn template(
    rendered: &Rendered,
    settings: &WorkerSettings,
    scope: &Scope,
) -> Result<Option<PathBuf>, Box<AttemptReport>> {
    let Some(text) = &rendered.ready.agent.workspace_template else { return Ok(None) };
    let template = Template::parse(text).map_err(|error| unrendered(&error.into()))?;
    let path = PathBuf::from(template.render_text(scope).map_err(|error| unrendered(&error))?);
    Ok(Some(find_template(settings, &path).unwrap_or(path)))
}

/// The folder of a template: absolute, or below the first folder of agent files that has it.
pub(crate) fn find_template(settings: &WorkerSettings, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return path.is_dir().then(|| path.to_owned());
    }
    settings.agents_folders.iter().map(|folder| folder.join(path)).find(|candidate| candidate.is_dir())
}
