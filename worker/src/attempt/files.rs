//! Where an agent's own files are, as it sees them and as its worker does.
//!
//! A process sees what its worker sees. A container sees one folder in the place of Maestro's own folder of
//! the attempt, so that the log and whatever else lies beside it are out of its reach. That folder itself it can
//! only read: what it may write is mounted below one by one, and so none of it can be taken away and a link put
//! in its place, which the worker would follow when it reads what the agent has left.

use std::path::{Path, PathBuf};

use maestro_model::agent_type::Isolation;

use super::environment::HostEnvironment;
use super::order::AttemptOrder;
use crate::container::Bind;
use crate::workspace::{WorkspacePaths, WorkspacePlace};

/// What a container sees in the place of Maestro's own folder of the attempt.
const BOX: &str = "box";

/// The paths of one attempt, from both sides.
#[derive(Debug, Clone)]
pub(super) struct OwnPlaces {
    /// As the agent sees them.
    pub(super) inside: WorkspacePaths,
    /// Where they are.
    pub(super) outside: WorkspacePaths,
}

impl OwnPlaces {
    pub(super) fn of(order: &AttemptOrder, paths: &WorkspacePaths) -> OwnPlaces {
        let mut outside = paths.clone();
        if order.agent.isolate_with == Isolation::Docker {
            outside.own = paths.own.join(BOX);
        }
        OwnPlaces { inside: paths.clone(), outside }
    }

    /// Whether the two sides differ.
    pub(super) fn are_boxed(&self) -> bool {
        self.inside.own != self.outside.own
    }

    /// Where HOME is, unless the type says otherwise. That of an assigned agent is no attempt's own.
    pub(super) fn home(&self) -> PathBuf {
        match self.inside.place {
            WorkspacePlace::Assigned(_) => self.inside.home(),
            WorkspacePlace::Task | WorkspacePlace::Run => self.outside.home(),
        }
    }

    /// How the agent sees a path that is somewhere else for it.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.outside.own) {
            Ok(rest) => self.inside.own.join(rest),
            Err(_) => path.to_owned(),
        }
    }

    /// What a container is given of the host.
    pub(super) fn binds(
        &self,
        order: &AttemptOrder,
        host: &HostEnvironment,
        door: Option<&Path>,
    ) -> Vec<Bind> {
        let agent = &order.agent;
        let expanded = |path: &String| host.expanded(path);
        let folders = agent.cache_dir.iter().chain(&agent.secrets_dir).chain(&agent.paths.read);
        let readable = folders.map(expanded).map(|path| Bind::named(path, true));
        let writable = agent.paths.write.iter().map(expanded).map(|path| Bind::named(path, false));
        let mut binds: Vec<Bind> = readable.chain(writable).collect();
        binds.push(Bind::same(&self.inside.folder));
        let own = Bind { read_only: true, ..self.of_box(&self.outside.own) };
        binds.push(own);
        let in_box = [self.outside.tmp(), self.outside.out(), self.outside.home()];
        let in_box = in_box.iter().filter(|path| path.starts_with(&self.outside.own) && path.exists());
        binds.extend(in_box.map(|path| self.of_box(path)));
        if let WorkspacePlace::Assigned(_) = self.inside.place
            && self.home().exists()
        {
            binds.push(Bind::same(self.home()));
        }
        // In a short folder, where the path of its own would be too long.
        binds.extend(door.filter(|door| !door.starts_with(&self.outside.own)).map(Bind::same));
        binds
    }

    /// Something of the attempt's own, where the agent sees it.
    fn of_box(&self, path: &Path) -> Bind {
        Bind { target: self.seen(path), ..Bind::same(path) }
    }
}
