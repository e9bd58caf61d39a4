//! All agent types this host knows, read.

use indexmap::IndexMap;
use maestro_model::agent_file::ParsedAgent;
use maestro_model::agent_type::AgentType;
use maestro_model::diagnostic::Colour;
use maestro_model::ids::AgentSlug;

use crate::agent_files::AgentFiles;
use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::failure::Failure;

/// The types, by slug. One wrong file is shown and left out: it must not stop the work of the others. What
/// deserves a warning is said by whoever registers or serves a type, and not again by each command.
///
/// # Errors
/// If the settings cannot be read.
pub(crate) fn local_agents(
    settings: &Settings,
    context: &CommandContext,
) -> Result<IndexMap<AgentSlug, AgentType>, Failure> {
    read(settings, context, |_| {})
}

/// The same for a worker that goes on serving them: files here are registered by it.
///
/// # Errors
/// If the settings cannot be read.
pub(crate) fn agents_to_serve(
    settings: &Settings,
    context: &CommandContext,
) -> Result<IndexMap<AgentSlug, AgentType>, Failure> {
    read(settings, context, |parsed| {
        if !parsed.warnings.is_empty() {
            context.printer.block(&parsed.warnings.render(Colour::Plain));
        }
    })
}

fn read(
    settings: &Settings,
    context: &CommandContext,
    tell: impl Fn(&ParsedAgent),
) -> Result<IndexMap<AgentSlug, AgentType>, Failure> {
    let files = AgentFiles::find(&settings.agents_dirs());
    let mut known = IndexMap::new();
    for slug in files.slugs() {
        match files.load(&slug) {
            Ok(Some(parsed)) => {
                tell(&parsed);
                known.insert(parsed.agent.slug.clone(), parsed.agent);
            }
            Ok(None) => {}
            Err(failure) => context.printer.warn(&format!("left out: {}", failure.one_line())),
        }
    }
    Ok(known)
}
