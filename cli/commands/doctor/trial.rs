//! `doctor --agent`: launches one type's program in a scratch folder, and looks for all else that the type
//! names: its home, further paths, template and secrets.
//!
//! The program is asked for its version, which costs nothing and needs no model, and confined as a task's agent
//! would be: what it cannot reach then it says itself.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, HomeChoice, Isolation, PromptVia};
use maestro_model::attempt::AttemptOutcome;
use maestro_model::ids::{Attempt, RunId, TaskId};
use maestro_model::task::Reason;
use maestro_model::template::is_plain_text;
use maestro_worker::attempt::{AttemptOrder, AttemptRunner, HostEnvironment};
use maestro_worker::confinement::Confinement;
use maestro_worker::launch::{Launcher, LauncherCommand, MainEnd, TreeEnd, find_program};
use maestro_worker::service::servable;
use maestro_worker::settings::WorkerSettings;
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};
use rustix::fs::{Access, access};

use super::CheckEntry;
use super::agents::split_mend;
use crate::agent_files::AgentFiles;
use crate::cluster::open_store;
use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::engine::{host_confinement, worker_settings};
use crate::failure::Failure;
use crate::ids::closest;
use crate::output::moment::duration;

/// What a program is asked for.
const QUESTION: &str = "--version";
/// Longest time it may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Bytes read of what it says.
const ANSWER_BYTES: u64 = 4096;
/// The way to mend a path that is missing.
const MEND_PATH: &str = "make it, or take it out of `paths` if this host does without";

/// Looks at one type.
///
/// # Errors
/// 66 if there is no such type, 65 if its file is wrong.
pub(super) fn checks(
    slug: &str,
    settings: &Settings,
    context: &CommandContext,
) -> Result<Vec<CheckEntry>, Failure> {
    let agent = find_type(slug, settings, context)?;
    let confinement = answer_of(context, async { Ok(host_confinement().await) })?;
    let mut entries = vec![served(&agent, settings, &confinement)];
    let home = home_of(&agent);
    match Scratch::make(&settings.workspace_root()) {
        Ok(scratch) => {
            entries.extend(program(&agent, settings, &scratch, (context, &confinement)));
            entries.push(home_entry(&agent, home.as_deref()));
        }
        Err(error) => entries.push(CheckEntry::fail(
            "workspace",
            format!("cannot make a folder in `{}`: {error}", settings.workspace_root().display()),
            "give the folder to this user, or set `MAESTRO_WORKSPACE_ROOT`",
        )),
    }
    entries.extend(paths(&agent, home.as_deref()));
    entries.extend(secrets(&agent));
    entries.extend(passed_on(&agent));
    entries.push(confined(&agent, &confinement));
    Ok(entries)
}

/// Waits for something that answers more than whether it went well.
fn answer_of<T>(
    context: &CommandContext,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut answer = None;
    context.block_on(0, async {
        answer = Some(work.await?);
        Ok(crate::exit::Exit::Done)
    })?;
    Ok(answer.expect("work that fails has returned above"))
}

/// The type as the cluster has it, else as this host does. Without a cluster this host's counts.
fn find_type(slug: &str, settings: &Settings, context: &CommandContext) -> Result<AgentType, Failure> {
    let mut registered = IndexMap::new();
    let asked = context.block_on(0, async {
        if let Ok(store) = open_store(settings).await {
            registered = store.agent_types().await?;
        } else {
            context.printer.note("redis cannot be reached: only the types of this host are known");
        }
        Ok(crate::exit::Exit::Done)
    });
    asked?;
    if let Some(agent) = registered.values().find(|agent| agent.slug.as_str() == slug) {
        return Ok(agent.clone());
    }
    let files = AgentFiles::find(&settings.agents_dirs());
    if let Some(parsed) = files.load(slug)? {
        return Ok(parsed.agent);
    }
    let known = files.slugs();
    let failure = Failure::not_found(format!("there is no agent type `{slug}`"));
    Err(match closest(slug, known.iter().map(String::as_str)) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure.hint(format!("this host knows {}", known.join(", "))),
    })
}

/// Whether a worker on this host would serve it.
fn served(agent: &AgentType, settings: &Settings, confinement: &Confinement) -> CheckEntry {
    let known = IndexMap::from([(agent.slug.clone(), agent.clone())]);
    let worker = worker_settings(settings, IndexMap::new());
    let worker = WorkerSettings { confinement: Some(confinement.clone()), ..worker };
    let (_, unserved) = servable(&worker, &known);
    match unserved.first() {
        None => CheckEntry::ok("served", format!("a worker on this host serves `{}`", agent.slug)),
        Some((_, reason)) => {
            let (found, mend) = split_mend(reason);
            CheckEntry::fail("served", found, mend)
        }
    }
}

/// A folder that goes with the value.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(root: &Path) -> io::Result<Scratch> {
        let name = format!("doctor-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = root.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is found by its name; there is nobody to tell any more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The home that its agents have, where that is known before a task starts.
fn home_of(agent: &AgentType) -> Option<PathBuf> {
    match &agent.home {
        HomeChoice::Workspace => None,
        HomeChoice::Worker => std::env::var_os("HOME").map(PathBuf::from),
        HomeChoice::Path(path) => Some(PathBuf::from(path)),
    }
}

fn home_entry(agent: &AgentType, home: Option<&Path>) -> CheckEntry {
    let Some(home) = home else {
        if agent.home == HomeChoice::Workspace {
            return CheckEntry::ok("home", "a folder of each task's own");
        }
        return CheckEntry::fail(
            "home",
            "`home: worker`, and this user has none",
            "set `HOME` for the worker",
        );
    };
    let shown = home.display();
    if access(home, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return CheckEntry::ok("home", format!("`{shown}` can be written"));
    }
    CheckEntry::warn(
        "home",
        format!("`{shown}` cannot be written"),
        "give it to the worker's user, or choose another `home`",
    )
}

/// Starts the program and waits for its answer.
fn program(
    agent: &AgentType,
    settings: &Settings,
    scratch: &Scratch,
    (context, confinement): (&CommandContext, &Confinement),
) -> Option<CheckEntry> {
    let word = match agent.command.as_deref() {
        Some([]) => return Some(CheckEntry::ok("program", "it launches nothing")),
        Some([program, ..]) if program == "kilo" => kilo(settings),
        Some([program, ..]) if !is_plain_text(program) => {
            return Some(CheckEntry::ok("program", format!("`{program}` is known when a task starts")));
        }
        Some([program, ..]) => program.clone(),
        None => settings.kilocode_bin().0.display().to_string(),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A worker would not serve it, which has been said.
    let found = find_program(word.as_ref(), &path, Path::new("/"))?;
    let begun = Instant::now();
    let ended = answer_of(context, ask(agent, &found, &scratch.path, confinement));
    let took = duration(begun.elapsed().as_millis() as u64);
    let shown = found.display();
    Some(match ended {
        Ok(Trial { tree: Some(tree), said, in_time: true }) => {
            answered(&format!("`{shown} {QUESTION}`"), tree, &said, &took)
        }
        Ok(Trial { in_time: false, .. }) => CheckEntry::fail(
            "program",
            format!("`{shown} {QUESTION}` did not end within {} s and was killed", ANSWER_WAIT.as_secs()),
            "start it by hand as this user: it may wait for a login or for a network",
        ),
        Ok(Trial { said, .. }) => CheckEntry::fail(
            "program",
            format!("`{shown}` cannot be started: {said}"),
            "look at its rights, and at the interpreter its first line names",
        ),
        Err(failure) => CheckEntry::fail(
            "program",
            format!("`{shown}` cannot be tried: {}", failure.one_line()),
            "look at the rights of `MAESTRO_WORKSPACE_ROOT`",
        ),
    })
}

fn kilo(settings: &Settings) -> String {
    let (given, is_given) = settings.kilocode_bin();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = find_program("kilo".as_ref(), &path, Path::new("/")).is_some();
    if !is_given && on_path { "kilo".to_owned() } else { given.display().to_string() }
}

/// How a trial ended.
struct Trial {
    /// The program's end; none if it did not start.
    tree: Option<TreeEnd>,
    /// The first line it said, or why it did not start.
    said: String,
    in_time: bool,
}

/// Asks the program as a task would start it: the same launcher, confinement, limits, home and environment.
async fn ask(
    agent: &AgentType,
    program: &Path,
    scratch: &Path,
    confinement: &Confinement,
) -> Result<Trial, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::unavailable(error.to_string());
    let root = WorkspaceRoot::open(scratch).map_err(|error| failed(&error))?;
    let launcher = Launcher::new(LauncherCommand::this_program());
    let runner = AttemptRunner::new(launcher.clone(), root, HostEnvironment::of_this_process())
        .map_err(|error| failed(&error))?;
    runner.confine_with(confinement.clone());
    let order = trial_order(agent, program);
    let place = WorkspacePlace::Task;
    let log = runner.root().paths(&order.agent.slug, &order.task, order.attempt, place).log();
    let end = runner.attempt(order, None).run().await;
    launcher.close().await;
    let in_time = !matches!(end.report.outcome, AttemptOutcome::Failed { reason: Reason::Timeout, .. });
    let said = match end.tree {
        Some(_) => first_line(&log).unwrap_or_default(),
        None => end.report.message.unwrap_or_default(),
    };
    Ok(Trial { tree: end.tree, said, in_time })
}

/// Without the secrets, whose absence is told apart from this.
fn trial_order(agent: &AgentType, program: &Path) -> AttemptOrder {
    let agent = AgentType { secrets: IndexMap::new(), prompt_via: PromptVia::Arg, ..agent.clone() };
    let env = agent.env.iter().filter(|(_, value)| is_plain_text(value));
    AttemptOrder {
        task: TaskId { run: RunId::random(0), index: 0 },
        attempt: Attempt(1),
        step: "trial".parse().expect("a lawful id"),
        workflow: "doctor".to_owned(),
        worker: "doctor".parse().expect("a lawful name"),
        argv: vec![program.display().to_string(), QUESTION.to_owned()],
        env: env.map(|(name, value)| (name.clone(), value.clone())).collect(),
        prompt: String::new(),
        place: WorkspacePlace::Task,
        template: None,
        copy_of: None,
        timeout: ANSWER_WAIT,
        stall_timeout: None,
        grace: Duration::ZERO,
        agent: Arc::new(agent),
    }
}

fn answered(command: &str, tree: TreeEnd, said: &str, took: &str) -> CheckEntry {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let mend = "start it by hand as this user; if it starts there, name in `paths` what it needs beside the system's folders";
    match tree.main {
        MainEnd::Exited(0) => CheckEntry::ok("program", format!("{command} answered in {took}{said}")),
        MainEnd::Exited(code @ (126 | 127)) => {
            CheckEntry::fail("program", format!("{command} ended with {code}{said}"), mend)
        }
        // Not every program knows the question; that it starts and ends is what matters.
        MainEnd::Exited(code) => {
            CheckEntry::ok("program", format!("{command} starts (it ended with {code} in {took}{said})"))
        }
        MainEnd::Signaled(signal) => {
            CheckEntry::fail("program", format!("{command} was ended by signal {signal}{said}"), mend)
        }
    }
}

fn first_line(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(ANSWER_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Further paths, cache and secrets folder: whether this user reaches them.
fn paths(agent: &AgentType, home: Option<&Path>) -> Vec<CheckEntry> {
    let user_home = std::env::var_os("HOME").map(PathBuf::from);
    let read = agent.paths.read.iter().chain(&agent.cache_dir).chain(&agent.secrets_dir);
    let named = read
        .map(|path| (path, Access::READ_OK, "read"))
        .chain(agent.paths.write.iter().map(|path| (path, Access::WRITE_OK, "written")));
    let mut entries = Vec::new();
    for (text, wanted, verb) in named {
        if !is_plain_text(text) {
            entries.push(CheckEntry::ok(format!("path {text}"), "known when a task starts"));
            continue;
        }
        let path = match (text.strip_prefix("~/"), user_home.as_deref().or(home)) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        let check = format!("path {text}");
        entries.push(if !path.exists() {
            CheckEntry::warn(check, "is not there", MEND_PATH)
        } else if access(&path, wanted).is_err() {
            CheckEntry::warn(check, format!("cannot be {verb}"), "give it to the worker's user")
        } else {
            CheckEntry::ok(check, format!("can be {verb}"))
        });
    }
    entries
}

/// Whether each secret is there. Nothing of a value is ever shown.
fn secrets(agent: &AgentType) -> Vec<CheckEntry> {
    let found = |(name, origin): (&String, &String)| {
        let check = format!("secret {name}");
        let is_there = match (origin.strip_prefix("env://"), origin.strip_prefix("file://")) {
            (Some(variable), _) => std::env::var_os(variable).is_some(),
            (_, Some(path)) => access(Path::new(path), Access::READ_OK).is_ok(),
            (None, None) => false,
        };
        if is_there {
            CheckEntry::ok(check, format!("is found in `{origin}`"))
        } else {
            CheckEntry::fail(
                check,
                format!("is not found in `{origin}`"),
                "set it for the worker, or correct the type's `secrets`",
            )
        }
    };
    agent.secrets.iter().map(found).collect()
}

/// Variables that are passed on, as far as they are set here.
fn passed_on(agent: &AgentType) -> Option<CheckEntry> {
    if agent.env_passthrough.is_empty() {
        return None;
    }
    let (set, unset): (Vec<&str>, Vec<&str>) =
        agent.env_passthrough.iter().map(String::as_str).partition(|name| std::env::var_os(name).is_some());
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Some(CheckEntry::ok("variables", format!("set here: {}; not set: {}", list(&set), list(&unset))))
}

fn confined(agent: &AgentType, found: &Confinement) -> CheckEntry {
    if agent.isolate_with == Isolation::None {
        return CheckEntry::warn(
            "confinement",
            "`isolate_with: none`: nothing confines it",
            "leave the line out where the program works confined",
        );
    }
    super::confinement::whole(found)
}
