//! What an agent type needs of a host, one finding each: isolation, labels, resources, binary, template, mode.
//!
//! Nothing is started and nothing is read but the file system's own word on what is there; a type for containers
//! has its engine asked, which keeps this thread for a moment.

use std::path::Path;

use maestro_model::agent_type::{AgentType, HomeChoice, Isolation, PullPolicy, Resources};
use maestro_model::mailbox::{TypeCheck, TypeFinding};
use maestro_model::template::is_plain_text;

use crate::attempt::HostEnvironment;
use crate::confinement::Limited;
use crate::kilo_modes::KILO_MODES;
use crate::launch::find_program;
use crate::launch_order::{KILO, find_template, kilo_program};
use crate::settings::WorkerSettings;

/// Why this host cannot serve a type.
pub(crate) fn obstacle(settings: &WorkerSettings, agent: &AgentType) -> Option<String> {
    let findings = findings(settings, agent);
    findings.into_iter().find(|finding| !finding.good).map(|finding| finding.text)
}

/// All findings, for people who ask.
pub(crate) fn check_type(settings: &WorkerSettings, agent: &AgentType) -> TypeCheck {
    let mut findings = findings(settings, agent);
    let is_chosen = settings.only_agents.is_empty() || settings.only_agents.contains(&agent.slug);
    if !is_chosen {
        let chosen: Vec<&str> = settings.only_agents.iter().map(|slug| slug.as_str()).collect();
        findings.push(bad("choice", format!("this worker was started with `--agents {}`", chosen.join(","))));
    }
    let serves = findings.iter().all(|finding| finding.good);
    // Only the program knows its modes for certain: one that is not known here is told, and served.
    findings.push(mode(agent));
    TypeCheck { slug: agent.slug.clone(), serves, findings }
}

fn findings(settings: &WorkerSettings, agent: &AgentType) -> Vec<TypeFinding> {
    let needs_labels = !agent.worker_labels.is_empty();
    let mut findings = vec![isolation(settings, agent)];
    findings.extend(needs_labels.then(|| labels(settings, agent)));
    if agent.isolate_with == Isolation::Docker {
        findings.push(image(settings, agent));
    } else {
        findings.extend([resources(settings, &agent.resources), binary(settings, agent)]);
    }
    findings.extend(template(settings, agent));
    findings
}

fn good(subject: &str, text: impl Into<String>) -> TypeFinding {
    TypeFinding { subject: subject.to_owned(), good: true, text: text.into() }
}

fn bad(subject: &str, text: impl Into<String>) -> TypeFinding {
    TypeFinding { subject: subject.to_owned(), good: false, text: text.into() }
}

fn isolation(settings: &WorkerSettings, agent: &AgentType) -> TypeFinding {
    match agent.isolate_with {
        Isolation::Docker => match settings.engine.ask() {
            Ok(engine) => good("isolation", format!("containers of {engine}")),
            Err(why) => bad("isolation", format!("{why} (start it, or say with DOCKER_HOST where it is)")),
        },
        Isolation::Process => match &settings.confinement {
            Some(confinement) => good("isolation", confinement.said()),
            None => good("isolation", "process"),
        },
        Isolation::None => good("isolation", "none: nothing confines it"),
    }
}

/// The program is in the image; limits are the engine's to keep.
fn image(settings: &WorkerSettings, agent: &AgentType) -> TypeFinding {
    let Some(image) = &agent.image else { return bad("image", "it names no image (set `image`)") };
    if agent.pull != PullPolicy::Never {
        return good("image", format!("`{image}`, pulled if it is not there"));
    }
    if !is_plain_text(image) || settings.engine.has_image(image) {
        return good("image", format!("`{image}`"));
    }
    bad("image", format!("image not found: `{image}`, and `pull` is `never` (load it into the engine)"))
}

fn labels(settings: &WorkerSettings, agent: &AgentType) -> TypeFinding {
    let missing = agent.worker_labels.iter().find(|(name, value)| settings.labels.get(*name) != Some(value));
    match missing {
        Some((name, value)) => bad("labels", format!("this worker lacks the label `{name}={value}`")),
        None => {
            let pairs = agent.worker_labels.iter().map(|(name, value)| format!("{name}={value}"));
            good("labels", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Limits that the type asks for. What stands in for one, a bound for each process, is none to insist on.
fn resources(settings: &WorkerSettings, resources: &Resources) -> TypeFinding {
    let confinement = settings.confinement.as_ref();
    let limiter = |limited: &Limited| confinement.and_then(|known| known.limiter(*limited));
    let (mut told, mut missing) = (Vec::new(), Vec::new());
    for limited in Limited::ALL.into_iter().filter(|limited| limited.is_wanted(resources)) {
        match limiter(&limited) {
            Some("rlimit") => {
                told.push("memory limited for each process alone (rlimit)".to_owned());
                missing.push(limited.key());
            }
            Some(by) => told.push(format!("{} limited by {by}", limited.key())),
            None => {
                told.push(format!("{} cannot be limited here", limited.key()));
                missing.push(limited.key());
            }
        }
    }
    match (told.is_empty(), resources.required && !missing.is_empty()) {
        (true, _) => good("resources", "no limit asked for"),
        (false, false) => good("resources", told.join(", ")),
        (false, true) => bad(
            "resources",
            format!(
                "`resources.required` is set, and this worker cannot limit {} (leave it out to do without)",
                missing.join(", ")
            ),
        ),
    }
}

/// The program a type launches on this host, as far as it is known before a task starts: none if it
/// launches nothing or a template names it.
pub(crate) fn program_of(settings: &WorkerSettings, agent: &AgentType) -> Option<String> {
    match agent.command.as_deref() {
        Some([]) => None,
        Some([program, ..]) if program == KILO => {
            let takes_path = settings.kilo_program.is_none() && is_found(KILO);
            Some(if takes_path { KILO.to_owned() } else { kilo_program(settings) })
        }
        Some([program, ..]) => is_plain_text(program).then(|| program.clone()),
        None => Some(kilo_program(settings)),
    }
}

fn is_found(program: &str) -> bool {
    let host = HostEnvironment::of_this_process();
    find_program(program.as_ref(), host.path(), Path::new("/")).is_some()
}

/// Whether it is a path from the workspace on, which there is only with a task: an assigned folder holds it, or
/// a template brings it.
fn is_of_workspace(program: &str) -> bool {
    program.contains('/') && Path::new(program).is_relative()
}

fn binary(settings: &WorkerSettings, agent: &AgentType) -> TypeFinding {
    let Some(program) = program_of(settings, agent) else {
        let launches_nothing = agent.command.as_ref().is_some_and(Vec::is_empty);
        let text = if launches_nothing { "launches nothing" } else { "known when a task starts" };
        return good("binary", text);
    };
    if is_of_workspace(&program) {
        return good("binary", format!("`{program}` is looked for in the workspace when a task starts"));
    }
    if is_found(&program) {
        return good("binary", format!("`{program}` is there"));
    }
    let is_kilo = agent.command.as_deref().and_then(<[String]>::first).is_some_and(|word| word == KILO);
    bad(
        "binary",
        if is_kilo {
            format!("binary not found: `kilo` (install it, or set MAESTRO_KILOCODE_BIN; looked at {program})")
        } else {
            format!("binary not found: `{program}` (install it, or put it on PATH)")
        },
    )
}

/// Whether Kilo gets a definition of the mode; to other programs it is a word.
fn mode(agent: &AgentType) -> TypeFinding {
    let mode = &agent.mode;
    let words = agent.command.as_deref();
    let is_kilo = words.is_none_or(|words| words.first().is_some_and(|word| word == KILO));
    if !is_kilo {
        return good("mode", format!("`{mode}`"));
    }
    if KILO_MODES.iter().any(|known| known.name == mode) {
        return good("mode", format!("`{mode}` comes with maestro"));
    }
    // With another HOME it finds what is defined there.
    if agent.home != HomeChoice::Workspace {
        return good("mode", format!("`{mode}`, if it is defined in its HOME"));
    }
    bad(
        "mode",
        format!(
            "mode not found: `{mode}` is not one that comes with maestro (define it, and set `home: worker`)"
        ),
    )
}

fn template(settings: &WorkerSettings, agent: &AgentType) -> Option<TypeFinding> {
    let text = agent.workspace_template.as_deref()?;
    if !is_plain_text(text) {
        return Some(good("template", "known when a task starts"));
    }
    if let Some(found) = find_template(settings, Path::new(text)) {
        return Some(good("template", format!("`{}` is there", found.display())));
    }
    let looked: Vec<String> =
        settings.agents_folders.iter().map(|folder| folder.display().to_string()).collect();
    let place =
        if Path::new(text).is_absolute() { String::new() } else { format!(" below {}", looked.join(", ")) };
    Some(bad("template", format!("template not found: no folder `{text}`{place}")))
}
