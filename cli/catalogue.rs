//! All agent types this host knows, read.

use indexmap::IndexMap;
use maestro_model::agent_type::AgentType;
use maestro_model::diagnostic::Colour;
use maestro_model::ids::AgentSlug;

use crate::agent_files::AgentFiles;
use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::failure::Failure;

/// The types, by slug. One wrong file is shown and left out: it must not stop the work of the others.
///
/// # Errors
/// If the settings cannot be read.
pub(crate) fn local_agents(
    settings: &Settings,
    context: &CommandContext,
) -> Result<IndexMap<AgentSlug, AgentType>, Failure> {
    let files = AgentFiles::find(&settings.agents_dirs());
    let mut known = IndexMap::new();
    for slug in files.slugs() {
        match files.load(&slug) {
            Ok(Some(parsed)) => {
                if !parsed.warnings.is_empty() {
                    context.printer.block(&parsed.warnings.render(Colour::Plain));
                }
                known.insert(parsed.agent.slug.clone(), parsed.agent);
            }
            Ok(None) => {}
            Err(failure) => context.printer.warn(&format!("left out: {}", failure.one_line())),
        }
    }
    Ok(known)
}
