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
use super::order::AttemptOrder;
use super::secrets::AttemptSecrets;
use crate::launch::memory_file;
use crate::workspace::{PreparedWorkspace, WorkspaceError, WorkspacePaths, WorkspaceRoot, make_folder};

/// What is to be made, with nothing borrowed: it is made on another thread.
pub(super) struct Preparation {
    paths: WorkspacePaths,
    template: Option<PathBuf>,
    agent: Arc<AgentType>,
    prompt: String,
}

/// What an agent is launched with.
pub(super) struct Prepared {
    /// Its log, empty.
    pub(super) log: File,
    /// Its prompt, if it comes by standard input.
    pub(super) stdin: Option<OwnedFd>,
    /// Its secrets.
    pub(super) secrets: AttemptSecrets,
}

impl Preparation {
    pub(super) fn of(order: &AttemptOrder, paths: &WorkspacePaths) -> Preparation {
        let needs_prompt = order.agent.prompt_via != PromptVia::Arg;
        Preparation {
            paths: paths.clone(),
            template: order.template.clone(),
            agent: order.agent.clone(),
            prompt: if needs_prompt { order.prompt.clone() } else { String::new() },
        }
    }

    pub(super) fn carry_out(
        self,
        root: &WorkspaceRoot,
        host: &HostEnvironment,
    ) -> Result<Prepared, StartError> {
        // First, because a workspace would be made in vain.
        let secrets = AttemptSecrets::find(&self.agent.secrets, host)?;
        let PreparedWorkspace { log } = root.prepare(&self.paths, self.template.as_deref())?;
        if self.agent.home == HomeChoice::Workspace {
            make_folder(&self.paths.home())?;
        }
        let stdin = match self.agent.prompt_via {
            PromptVia::Arg => None,
            PromptVia::Stdin => Some(prompt_to_read(&self.prompt)?),
            PromptVia::File => {
                write_prompt(&self.paths.prompt(), &self.prompt)?;
                None
            }
        };
        Ok(Prepared { log, stdin, secrets })
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
