//! The walls and limits of one attempt's agent, made of what its type, its folders and its host say.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use maestro_model::agent_type::Isolation;

use super::environment::HostEnvironment;
use super::order::AttemptOrder;
use crate::confinement::{AttemptGroup, Confinement, Limited, ReachFacts};
use crate::launch::{LaunchError, WallPlan};
use crate::workspace::{WorkspacePaths, WorkspaceRoot};

/// None for an agent that nothing is to confine.
///
/// # Errors
/// `PathRefused` for a path that its type may not name, `Confinement` if the host cannot build them.
pub(super) fn walls_of(
    order: &AttemptOrder,
    paths: &WorkspacePaths,
    door: Option<&Path>,
    (root, host, confinement): (&WorkspaceRoot, &HostEnvironment, &Confinement),
) -> Result<Option<WallPlan>, LaunchError> {
    if order.agent.isolate_with == Isolation::None {
        return Ok(None);
    }
    let path = order.env.get("PATH").map_or(host.path(), OsStr::new);
    let facts = ReachFacts {
        agent: &order.agent,
        paths,
        root: root.path(),
        program: order.argv.first().map_or(OsStr::new(""), OsStr::new),
        path,
        template: order.template.as_deref(),
        door,
        home: Path::new(host.home()),
    };
    confinement.plan(&facts).map(Some)
}

/// The limits of one attempt.
#[derive(Debug)]
pub(super) struct AttemptLimits {
    /// Its control group, until nothing of it runs any more.
    pub(super) group: Option<AttemptGroup>,
    /// By which its agent joins the group.
    pub(super) entrances: Vec<OwnedFd>,
    /// What stands in for a limit on memory where there is no group for it: a bound for each process' data.
    pub(super) data_bytes_max: Option<u64>,
}

impl AttemptLimits {
    /// As far as this host can enforce what the type asks for; the rest is left out, as was said when the type
    /// was registered.
    ///
    /// # Errors
    /// `Confinement` if the kernel refuses a group.
    pub(super) fn of(order: &AttemptOrder, confinement: &Confinement) -> Result<AttemptLimits, LaunchError> {
        let failed = |source| LaunchError::Confinement { source };
        let (groups, resources) = (confinement.groups(), &order.agent.resources);
        let name = format!("{}.{}", order.task, order.attempt);
        let group = groups.group(&name, resources).map_err(failed)?;
        let entrances = group.as_ref().map(AttemptGroup::entrances).transpose().map_err(failed)?;
        let data_bytes_max = resources.memory_bytes.filter(|_| !groups.can_limit(Limited::Memory));
        Ok(AttemptLimits { group, entrances: entrances.unwrap_or_default(), data_bytes_max })
    }
}
