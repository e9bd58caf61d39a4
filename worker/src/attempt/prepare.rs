//! All that is made for an agent before it is launched: workspace, log, home, prompt, secrets.
//!
//! Blocks on the disk, for as long as copying a template takes; `run` calls it where that harms nobody.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maestro_model::agent_type::{AgentType, HomeChoice, PromptVia};

use super::ending::StartError;
use super::environment::HostEnvironment;
use super::files::OwnPlaces;
use super::order::AttemptOrder;
use super::own_home::furnish_home;
use super::secrets::AttemptSecrets;
use crate::launch::memory_file;
use crate::side_door::{BoundDoor, DoorPass, DoorPlaceError};
use crate::workspace::{PreparedWorkspace, WorkspaceError, WorkspacePaths, WorkspaceRoot, make_folder};

/// What is to be made, with nothing borrowed: it is made on another thread.
pub(super) struct Preparation {
    paths: WorkspacePaths,
    files: OwnPlaces,
    /// What the folder is filled with; none = another has seen to it.
    filling: Option<Filling>,
    agent: Arc<AgentType>,
    prompt: String,
    door: Option<DoorPass>,
}

/// What a new folder is filled with.
struct Filling {
    template: Option<PathBuf>,
}

/// What an agent is launched with.
pub(super) struct Prepared {
    /// Its log, empty.
    pub(super) log: File,
    /// Its prompt, if it comes by standard input.
    pub(super) stdin: Option<OwnedFd>,
    /// Its secrets.
    pub(super) secrets: AttemptSecrets,
    /// Its side door, at which nobody answers yet.
    pub(super) door: Option<BoundDoor>,
}

impl Preparation {
    pub(super) fn of(order: &AttemptOrder, paths: &WorkspacePaths, door: Option<DoorPass>) -> Preparation {
        let needs_prompt = order.agent.prompt_via != PromptVia::Arg;
        Preparation {
            paths: paths.clone(),
            files: OwnPlaces::of(order, paths),
            filling: order.copy_of.is_none().then(|| Filling { template: order.template.clone() }),
            agent: order.agent.clone(),
            prompt: if needs_prompt { order.prompt.clone() } else { String::new() },
            door,
        }
    }

    pub(super) fn carry_out(
        self,
        root: &WorkspaceRoot,
        host: &HostEnvironment,
    ) -> Result<Prepared, StartError> {
        // First, because a workspace would be made in vain.
        let secrets = AttemptSecrets::find(&self.agent.secrets, host)?;
        let PreparedWorkspace { log } = match &self.filling {
            Some(Filling { template }) => root.prepare(&self.paths, template.as_deref())?,
            None => root.prepare_own(&self.paths)?,
        };
        if self.files.are_boxed() {
            make_folder(&self.files.outside.own)?;
            make_folder(&self.files.outside.tmp())?;
            make_folder(&self.files.outside.out())?;
        }
        if self.agent.home == HomeChoice::Workspace {
            let home = self.files.home();
            make_folder(&home)?;
            furnish_home(&home, &self.agent, host).map_err(|source| WorkspaceError::Host {
                action: "open the home",
                path: home,
                source,
            })?;
        }
        let stdin = match self.agent.prompt_via {
            PromptVia::Arg => None,
            PromptVia::Stdin => Some(prompt_to_read(&self.prompt)?),
            PromptVia::File => {
                write_prompt(&self.files.outside.prompt(), &self.prompt)?;
                None
            }
        };
        let door = self.door.map(|pass| pass.bind(&self.files.outside.own)).transpose()?;
        Ok(Prepared { log, stdin, secrets, door })
    }
}

impl From<DoorPlaceError> for StartError {
    fn from(error: DoorPlaceError) -> StartError {
        let DoorPlaceError { path, source } = error;
        StartError::Workspace(WorkspaceError::Host { action: "listen at", path, source })
    }
}

fn write_prompt(path: &Path, text: &str) -> Result<(), WorkspaceError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| WorkspaceError::Host {
        action: "write the prompt to",
        path: path.to_owned(),
        source,
    })
}

/// The prompt as something to read that needs no writer: an agent that never reads it hangs nobody.
fn prompt_to_read(text: &str) -> Result<OwnedFd, WorkspaceError> {
    memory_file("maestro-prompt", text.as_bytes()).map_err(|errno| WorkspaceError::Host {
        action: "keep the prompt in",
        path: "memory".into(),
        source: errno.into(),
    })
}
