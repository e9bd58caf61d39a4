//! `doctor --agent`: launches one type's program in a scratch folder, and looks for all else that the type
//! names: its home, further paths, template and secrets.
//!
//! The program is asked for its version, which costs nothing and needs no model, and confined as a task's agent
//! would be, in a container of its image if the type says so: what it cannot reach then it says itself.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, HomeChoice, Isolation};
use maestro_model::template::is_plain_text;
use maestro_worker::confinement::Confinement;
use maestro_worker::container::{ContainerEngine, ContainerOwner};
use maestro_worker::launch::find_program;
use maestro_worker::service::servable;
use maestro_worker::settings::WorkerSettings;
use rustix::fs::{Access, access};

use super::CheckEntry;
use super::agents::split_mend;
use super::question::{Asked, ask};
use crate::agent_files::AgentFiles;
use crate::cluster::open_store;
use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::engine::{host_confinement, worker_settings};
use crate::failure::Failure;
use crate::ids::closest;

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
pub(super) fn answer_of<T>(
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
    if agent.isolate_with == Isolation::Docker {
        return Some(program_in_image(agent, settings, scratch, (context, confinement)));
    }
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
    let shown = found.display();
    let asked = Asked {
        place: String::new(),
        mends: [
            "start it by hand as this user; if it starts there, name in `paths` what it needs beside the \
             system's folders",
            "start it by hand as this user: it may wait for a login or for a network",
            "look at its rights, and at the interpreter its first line names",
        ],
        program: shown.to_string(),
    };
    Some(asked.try_out(context, ask(agent, &asked.program, (&scratch.path, confinement), None)))
}

/// Starts the program of the type's image, in a container of it.
fn program_in_image(
    agent: &AgentType,
    settings: &Settings,
    scratch: &Scratch,
    (context, confinement): (&CommandContext, &Confinement),
) -> CheckEntry {
    let program = match agent.command.as_deref() {
        Some([]) => return CheckEntry::ok("program", "it launches nothing"),
        Some([program, ..]) => program.as_str(),
        // An image has it on its own PATH.
        None => "kilo",
    };
    let image = agent.image.as_deref().unwrap_or_default();
    if !is_plain_text(program) || !is_plain_text(image) {
        let text = format!("`{program}` in image `{image}` is known when a task starts");
        return CheckEntry::ok("program", text);
    }
    let engine = ContainerEngine::new(settings.container_engine());
    // A cluster of its own: nobody else's containers are touched.
    let life = scratch.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    engine.belong_to(ContainerOwner {
        worker: "doctor".to_owned(),
        namespace: settings.namespace(),
        cluster: life.clone(),
        epoch: "0".to_owned(),
        incarnation: life,
        root: scratch.path.clone(),
    });
    let asked = Asked {
        place: format!(" in image `{image}`"),
        mends: [
            "run the image by hand, and look at what the program is missing",
            "run the image by hand: the program may wait for a login or for a network",
            "look at `image`, `command` and `pull` of the type, and at the container engine",
        ],
        program: program.to_owned(),
    };
    asked.try_out(context, ask(agent, program, (&scratch.path, confinement), Some(engine)))
}

fn kilo(settings: &Settings) -> String {
    let (given, is_given) = settings.kilocode_bin();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = find_program("kilo".as_ref(), &path, Path::new("/")).is_some();
    if !is_given && on_path { "kilo".to_owned() } else { given.display().to_string() }
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
    if agent.isolate_with == Isolation::Docker {
        return CheckEntry::ok("confinement", "each task has a container of its own");
    }
    super::confinement::whole(found)
}
