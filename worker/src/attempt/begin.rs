//! Starting an agent whose workspace is ready: as a process, or in a container.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;

use super::ending::StartError;
use super::environment::HostEnvironment;
use super::files::OwnPlaces;
use super::order::AttemptOrder;
use super::walls::{AttemptLimits, walls_of};
use crate::confinement::{AttemptGroup, Confinement};
use crate::container::{AgentContainer, ContainerError, ContainerOrder, Readied, progress_lines};
use crate::launch::{AgentProcess, LaunchError, LaunchFds, LaunchSpec, Launcher};
use crate::log_capture::{AgentEnds, OutputCapture};
use crate::workspace::WorkspaceRoot;

/// All an agent is started with.
pub(super) struct Beginning<'a> {
    pub(super) order: &'a AttemptOrder,
    pub(super) files: &'a OwnPlaces,
    pub(super) env: Vec<(OsString, OsString)>,
    /// Its prompt, if it is given one to read.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) ends: AgentEnds,
}

/// What processes are started with on this host.
pub(super) struct ProcessHost<'a> {
    pub(super) launcher: &'a Launcher,
    pub(super) root: &'a WorkspaceRoot,
    pub(super) host: &'a HostEnvironment,
    pub(super) confinement: &'a Confinement,
    /// Standard input of whoever is given nothing to read.
    pub(super) null: &'a OwnedFd,
}

impl Beginning<'_> {
    /// Behind the walls and in the group that its type and its host allow. `door` is its side door.
    pub(super) async fn start_process(
        self,
        host: ProcessHost<'_>,
        door: Option<&Path>,
        given_up: impl Future<Output = ()>,
    ) -> Result<(AgentProcess, Option<AttemptGroup>), StartError> {
        let (order, inside) = (self.order, &self.files.inside);
        let walls = walls_of(order, inside, door, (host.root, host.host, host.confinement))?;
        let limits = AttemptLimits::of(order, host.confinement)?;
        let spec = LaunchSpec {
            argv: order.argv.iter().map(Into::into).collect(),
            env: self.env,
            cwd: inside.folder.clone(),
            walls,
            data_bytes_max: limits.data_bytes_max,
        };
        let fds = LaunchFds {
            stdin: self.stdin.as_ref().unwrap_or(host.null).as_fd(),
            stdout: self.ends.stdout.as_fd(),
            stderr: self.ends.stderr.as_fd(),
            groups: &limits.entrances,
        };
        let process = host.launcher.launch_unless(&spec, fds, given_up).await?;
        Ok((process, limits.group))
    }

    /// What is said of a pull meanwhile goes into the log. Given up, whatever was made is removed.
    pub(super) async fn start_container(
        self,
        readied: Readied,
        (host, root): (&HostEnvironment, &Path),
        door: Option<PathBuf>,
        capture: &mut OutputCapture,
        given_up: impl Future<Output = ()>,
    ) -> Result<AgentContainer, StartError> {
        let order = ContainerOrder {
            task: self.order.task.clone(),
            attempt: self.order.attempt,
            agent: self.order.agent.clone(),
            argv: self.order.argv.clone(),
            env: self.env,
            folder: self.files.inside.folder.clone(),
            binds: self.files.binds(self.order, host, door.as_deref()),
            root: root.to_owned(),
            reads_stdin: self.stdin.is_some(),
        };
        let (progress, mut lines) = progress_lines();
        let streams = (self.ends.stdout, self.ends.stderr);
        let mut start = pin!(readied.start(&order, self.stdin, streams, progress));
        let mut given_up = pin!(given_up);
        loop {
            tokio::select! {
                started = &mut start => return Ok(started?),
                Some(line) = lines.recv() => {
                    capture.note(line).await.map_err(|source| LaunchError::Host { source })?;
                }
                () = &mut given_up => {
                    return Err(ContainerError::Engine("it was given up".to_owned()).into());
                }
            }
        }
    }
}
