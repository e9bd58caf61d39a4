//! Starting an agent whose workspace is ready: as a process, or in a container.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;

use super::ending::StartError;
use super::environment::HostEnvironment;
use super::files::OwnPlaces;
use super::order::AttemptOrder;
use crate::container::{AgentContainer, ContainerError, ContainerOrder, Readied, progress_lines};
use crate::launch::{AgentProcess, LaunchError, LaunchFds, LaunchSpec, Launcher};
use crate::log_capture::{AgentEnds, OutputCapture};

/// All an agent is started with.
pub(super) struct Beginning<'a> {
    pub(super) order: &'a AttemptOrder,
    pub(super) files: &'a OwnPlaces,
    pub(super) env: Vec<(OsString, OsString)>,
    /// Its prompt, if it is given one to read.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) ends: AgentEnds,
}

impl Beginning<'_> {
    /// `null` is its standard input if it is given nothing to read.
    pub(super) async fn start_process(
        self,
        launcher: &Launcher,
        null: &OwnedFd,
        given_up: impl Future<Output = ()>,
    ) -> Result<AgentProcess, StartError> {
        let AgentEnds { stdout, stderr } = &self.ends;
        let argv = self.order.argv.iter().map(Into::into).collect();
        let spec = LaunchSpec { argv, env: self.env, cwd: self.files.inside.folder.clone() };
        let stdin = self.stdin.as_ref().unwrap_or(null);
        let fds = LaunchFds { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
        Ok(launcher.launch_unless(&spec, fds, given_up).await?)
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
