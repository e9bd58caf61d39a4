//! Starting an agent in a container: what does not depend on each other is done side by side.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bollard::container::AttachContainerResults;
use bollard::errors::Error as ApiError;
use bollard::query_parameters::{AttachContainerOptions, CreateContainerOptions, ListContainersOptions};
use maestro_model::agent_type::{AgentType, PullPolicy};
use maestro_model::ids::{Attempt, TaskId};
use tokio::sync::mpsc;

use super::agent::AgentContainer;
use super::cleaning::{Refuse, remove_once};
use super::drive::{Drive, start_drive};
use super::engine::{ContainerEngine, EngineLink};
use super::error::{ContainerError, is_missing};
use super::image::{ProgressLines, pull};
use super::networks::LeasedNetwork;
use super::owner::{ATTEMPT, ContainerOwner, TASK};
use super::plan::{ContainerOrder, wants_own_network};
use super::pump::{AgentStreams, Pump};

/// A container that has been asked for: unless it is started, it is removed with all that was made for it.
struct Claimed {
    engine: ContainerEngine,
    name: String,
    network: Option<LeasedNetwork>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let refuse = Refuse::Container(self.name.clone(), self.network.take());
        self.engine.shared.discard(refuse);
    }
}

/// What has been prepared for the container of an attempt while its workspace was made.
pub(crate) struct Readied {
    engine: ContainerEngine,
    link: EngineLink,
    owner: Arc<ContainerOwner>,
    network: Option<LeasedNetwork>,
}

impl Drop for Readied {
    fn drop(&mut self) {
        if let Some(network) = self.network.take() {
            self.engine.shared.networks.give_back(network);
        }
    }
}

impl ContainerEngine {
    /// What needs no workspace: the connection and the network. Attempts before this one are over, and what
    /// a worker that lost the task has left of them on this engine is removed.
    pub(crate) async fn ready(
        &self,
        agent: &AgentType,
        task: &TaskId,
        attempt: Attempt,
    ) -> Result<Readied, ContainerError> {
        let (link, owner) = (self.link().await?, self.owner()?);
        let network = async {
            match wants_own_network(agent) {
                true => self.shared.networks.lease(&link, &owner).await.map(Some),
                false => Ok(None),
            }
        };
        let (network, ()) = tokio::join!(network, end_earlier_attempts(&link, &owner, task, attempt));
        Ok(Readied { engine: self.clone(), network: network?, link, owner })
    }
}

impl Readied {
    /// Makes the container and starts it. The lines of an image's pull go to `progress`.
    pub(crate) async fn start(
        mut self,
        order: &ContainerOrder,
        stdin: Option<OwnedFd>,
        (stdout, stderr): (OwnedFd, OwnedFd),
        progress: ProgressLines,
    ) -> Result<AgentContainer, ContainerError> {
        let image = order.image()?.to_owned();
        let name = format!("maestro-{}.{}-{:08x}", order.task, order.attempt, rand::random::<u32>());
        if order.agent.pull == PullPolicy::Always {
            pull(&self.link, &image, &progress).await?;
        }
        self.engine.shared.hold(&name);
        let claimed = Claimed { engine: self.engine.clone(), name, network: self.network.take() };
        let id = create(&self.link, &self.owner, order, &claimed, &progress).await?;
        let attached = attach(&self.link, &id, order.reads_stdin).await?;
        order.check_again()?;
        let started = self.link.working().start_container(&id, None).await;
        started.map_err(|error| refused_start(order, &image, error))?;
        let init = init_pid(&self.link, &id).await?;
        self.top_up(order);
        let pump = Pump::start(attached, AgentStreams { stdin, stdout, stderr });
        let drive = Drive { link: self.link.clone(), id, image, program: order.argv[0].clone(), init };
        let end_of_life = move || drop(claimed);
        Ok(start_drive(drive, pump, end_of_life))
    }

    /// The next container finds its network made.
    fn top_up(&self, order: &ContainerOrder) {
        if wants_own_network(&order.agent) {
            let (engine, link, owner) = (self.engine.clone(), self.link.clone(), self.owner.clone());
            tokio::spawn(async move { engine.shared.networks.make_ahead(&link, &owner).await });
        }
    }
}

/// Asks for the container; an image that is not there is pulled, if it may be, and asked for once more.
async fn create(
    link: &EngineLink,
    owner: &ContainerOwner,
    order: &ContainerOrder,
    claimed: &Claimed,
    progress: &ProgressLines,
) -> Result<String, ContainerError> {
    let network = claimed.network.as_ref().map(|network| network.id.as_str());
    let body = order.body(link, owner, network)?;
    let image = order.image()?;
    let mut pulled = false;
    loop {
        let options = CreateContainerOptions { name: Some(claimed.name.clone()), ..Default::default() };
        match link.working().create_container(Some(options), body.clone()).await {
            Ok(made) => return Ok(made.id),
            Err(error) if is_missing(&error) && !pulled && says_no_image(&error) => {
                if order.agent.pull == PullPolicy::Never {
                    let message = "`pull` is `never`; hint: load it into the engine of this host".to_owned();
                    return Err(ContainerError::NoImage { image: image.to_owned(), message });
                }
                pull(link, image, progress).await?;
                pulled = true;
            }
            Err(error) => return Err(refused_creation(error)),
        }
    }
}

fn says_no_image(error: &ApiError) -> bool {
    error.to_string().to_lowercase().contains("image")
}

/// An engine that does not see the workspace says so when it is to be mounted.
fn refused_creation(error: ApiError) -> ContainerError {
    const UNSEEN: &str = "bind source path does not exist: ";
    if let ApiError::DockerResponseServerError { message, .. } = &error
        && let Some((_, path)) = message.split_once(UNSEEN)
    {
        return ContainerError::OtherRoot { path: path.trim().to_owned() };
    }
    ContainerError::of("make the container", error)
}

/// Without an init an engine itself says that a program is missing.
fn refused_start(order: &ContainerOrder, image: &str, error: ApiError) -> ContainerError {
    let text = error.to_string();
    let program = &order.argv[0];
    let names_it = text.contains(&format!("exec: \"{program}\""));
    if names_it && (text.contains("not found") || text.contains("no such file")) {
        return ContainerError::NoProgram { program: program.clone(), image: image.to_owned() };
    }
    ContainerError::of("start the container", error)
}

async fn attach(link: &EngineLink, id: &str, stdin: bool) -> Result<AttachContainerResults, ContainerError> {
    let options =
        AttachContainerOptions { stream: true, stdin, stdout: true, stderr: true, ..Default::default() };
    let attached = link.working().attach_container(id, Some(options)).await;
    attached.map_err(|error| ContainerError::of("attach to the container", error))
}

/// The container's first process as this host sees it, while it runs.
async fn init_pid(link: &EngineLink, id: &str) -> Result<Option<u32>, ContainerError> {
    // It waits for whatever the engine is doing with the container.
    let found = link.working().inspect_container(id, None).await;
    let found = found.map_err(|error| ContainerError::of("look at the container", error))?;
    let pid = found.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
    Ok(pid.filter(|pid| *pid != 0))
}

/// A task that was lost may still run here, under the hold of nobody: two of it must not work side by side.
async fn end_earlier_attempts(link: &EngineLink, owner: &ContainerOwner, task: &TaskId, attempt: Attempt) {
    if attempt == Attempt(1) {
        return;
    }
    let mut filters: HashMap<String, Vec<String>> = owner.filter();
    filters.entry("label".to_owned()).or_default().push(format!("{TASK}={task}"));
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    // What cannot be listed now is found by the look for leftovers.
    for found in link.quick().list_containers(Some(options)).await.unwrap_or_default() {
        let earlier = found.labels.as_ref().and_then(|labels| labels.get(ATTEMPT)?.parse().ok());
        let (Some(earlier), Some(id)) = (earlier.map(Attempt), found.id) else { continue };
        if earlier < attempt
            && let Err(error) = remove_once(link, &id).await
        {
            tracing::warn!(%task, "an earlier attempt may still run: {error}");
        }
    }
}

/// Where the lines of a pull go.
pub(crate) fn progress_lines() -> (ProgressLines, mpsc::UnboundedReceiver<String>) {
    mpsc::unbounded_channel()
}
