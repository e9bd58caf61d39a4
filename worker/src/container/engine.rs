//! The connection to an engine, made when it is first needed and again when it was lost.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;

use super::address::{EngineAddress, EnginePlace};
use super::cleaning::{Cleaner, Refuse};
use super::error::{ContainerError, causes};
use super::leftovers::remove_leftovers;
use super::networks::NetworkPool;
use super::owner::ContainerOwner;

/// Longest wait for an answer that needs no work.
pub(super) const QUICK_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for a container or network to be made, started or removed: the disk may be slow.
pub(super) const WORK_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks for what dead workers left.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for whatever is still to be removed when the worker ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(25);

/// Runs containers. Clones are the same; nothing is connected before it is needed.
///
/// Must be used within one tokio runtime.
#[derive(Clone)]
pub struct ContainerEngine {
    pub(super) shared: Arc<EngineShared>,
}

pub(super) struct EngineShared {
    address: EngineAddress,
    owner: RwLock<Option<Arc<ContainerOwner>>>,
    link: AsyncMutex<Option<EngineLink>>,
    pub(super) networks: NetworkPool,
    /// Names of containers that an attempt of this process has a hold on.
    held: Mutex<HashSet<String>>,
    refuse: mpsc::UnboundedSender<Refuse>,
    cleaner: Mutex<Cleaner>,
    cleaning: Mutex<Option<JoinHandle<()>>>,
}

/// A connection, and what is known of who is at its end.
#[derive(Clone)]
pub(super) struct EngineLink {
    docker: Docker,
    /// Whom a container's processes run as, so that files of the workspace belong to the worker's user.
    pub(super) user: String,
    /// `host` where the engine maps users to others.
    pub(super) userns: Option<String>,
    /// The engine's socket, which enters no container.
    pub(super) socket: Option<PathBuf>,
    /// What it is, for people.
    pub(super) what: String,
}

impl EngineLink {
    /// Calls that need no work.
    pub(super) fn quick(&self) -> Docker {
        self.docker.clone().with_timeout(QUICK_WITHIN)
    }

    /// Calls that make, start or remove something.
    pub(super) fn working(&self) -> Docker {
        self.docker.clone().with_timeout(WORK_WITHIN)
    }

    /// A call that lasts as long as a container, or an image on its way.
    pub(super) fn lasting(&self) -> Docker {
        self.docker.clone().with_timeout(Duration::from_secs(365 * 24 * 3600))
    }
}

impl ContainerEngine {
    /// Nothing is connected yet.
    pub fn new(address: EngineAddress) -> ContainerEngine {
        let (refuse, jobs) = mpsc::unbounded_channel();
        let shared = EngineShared {
            address,
            owner: RwLock::new(None),
            link: AsyncMutex::new(None),
            networks: NetworkPool::default(),
            held: Mutex::default(),
            refuse,
            cleaner: Mutex::new(Cleaner::new(jobs)),
            cleaning: Mutex::new(None),
        };
        ContainerEngine { shared: Arc::new(shared) }
    }

    /// Says whose the containers are. Must come before the first of them.
    pub fn belong_to(&self, owner: ContainerOwner) {
        *self.shared.owner.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(owner));
    }

    /// What answers, in words; none if nothing does.
    pub async fn describe(&self) -> Option<String> {
        self.link().await.ok().map(|link| link.what)
    }

    /// Removes what dead workers of this cluster have left on this host: containers first, then networks.
    /// What belongs to anybody else, or to somebody alive, is left alone. Returns how many were removed.
    ///
    /// # Errors
    /// If the engine cannot be used; what was found until then has been removed.
    pub async fn remove_leftovers(&self) -> Result<usize, ContainerError> {
        let (link, owner) = (self.link().await?, self.owner()?);
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        remove_leftovers(&link, &owner, &held, &self.shared.networks).await
    }

    /// The same now and then, until dropped. Where there is no engine it costs a look at a path.
    pub async fn remove_leftovers_again_and_again(self) {
        loop {
            if self.is_there()
                && let Err(error) = self.remove_leftovers().await
            {
                tracing::debug!("no look for leftovers: {error}");
            }
            tokio::time::sleep(LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    /// Whether there is an engine to speak to, without waiting for one that hangs.
    pub fn is_there(&self) -> bool {
        match self.shared.address.place() {
            EnginePlace::Unix(path) => path.exists(),
            EnginePlace::Tcp(_) => true,
            EnginePlace::Unknown(_) => false,
        }
    }

    /// Removes what is still to be removed, and the pool. What cannot be done in time is left to a later life.
    pub async fn close(&self) {
        let Some(link) = self.shared.link.lock().await.clone() else { return };
        let closing = async {
            let (done, ended) = tokio::sync::oneshot::channel();
            if self.shared.refuse.send(Refuse::Until(done)).is_ok() {
                let _ = ended.await;
            }
            self.shared.networks.remove_all(&link).await;
            // The last look may be a while ago, and the next worker of this host never come.
            if let Err(error) = self.remove_leftovers().await {
                tracing::debug!("no last look for leftovers: {error}");
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
            tracing::warn!("containers or networks are left behind: the engine does not remove them in time");
        }
        let cleaning = self.shared.cleaning.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cleaning) = cleaning {
            cleaning.abort();
        }
    }

    pub(super) fn owner(&self) -> Result<Arc<ContainerOwner>, ContainerError> {
        let owner = self.shared.owner.read().unwrap_or_else(PoisonError::into_inner).clone();
        owner.ok_or_else(|| ContainerError::Engine("this worker has not attached yet".to_owned()))
    }

    /// The present connection, or a new one.
    pub(super) async fn link(&self) -> Result<EngineLink, ContainerError> {
        let mut link = self.shared.link.lock().await;
        if let Some(link) = &*link {
            return Ok(link.clone());
        }
        let made = connect(self.shared.address.place()).await?;
        self.start_cleaner(&made);
        Ok(link.insert(made).clone())
    }

    fn start_cleaner(&self, link: &EngineLink) {
        let cleaner = self.shared.cleaner.lock().unwrap_or_else(PoisonError::into_inner).take_jobs();
        if let Some(jobs) = cleaner {
            let cleaning =
                tokio::spawn(super::cleaning::clean(jobs, link.clone(), Arc::downgrade(&self.shared)));
            *self.shared.cleaning.lock().unwrap_or_else(PoisonError::into_inner) = Some(cleaning);
        }
    }
}

impl EngineShared {
    /// Somebody has a hold on the container of this name from now on.
    pub(super) fn hold(&self, name: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Nobody has any more: it is removed, and what it used is free for others.
    pub(super) fn discard(&self, refuse: Refuse) {
        // Without a cleaner the process is ending, and a later life finds it.
        let _ = self.refuse.send(refuse);
    }

    /// The container of this name is gone, or left to the next look for leftovers.
    pub(super) fn let_go(&self, name: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

async fn connect(place: &EnginePlace) -> Result<EngineLink, ContainerError> {
    let failed = |error: bollard::errors::Error| {
        ContainerError::Engine(format!("none answers at {place}: {}", causes(&error)))
    };
    let (docker, socket) = match place {
        EnginePlace::Unix(path) => {
            let text = path.to_string_lossy();
            let docker = Docker::connect_with_unix(&text, QUICK_WITHIN.as_secs(), API_DEFAULT_VERSION);
            (docker.map_err(failed)?, Some(path.clone()))
        }
        EnginePlace::Tcp(address) => {
            let docker = Docker::connect_with_http(address, QUICK_WITHIN.as_secs(), API_DEFAULT_VERSION);
            (docker.map_err(failed)?, None)
        }
        EnginePlace::Unknown(text) => {
            let expected = "expected `unix://PATH` or `tcp://HOST:PORT`";
            return Err(ContainerError::Engine(format!("`DOCKER_HOST` is `{text}`, {expected}")));
        }
    };
    let docker = docker.negotiate_version().await.map_err(failed)?;
    let info = docker.info().await.map_err(failed)?;
    let options = info.security_options.unwrap_or_default();
    let has = |option: &str| options.iter().any(|found| found.contains(&format!("name={option}")));
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // On a rootless engine the user that runs it is root within.
    let user = if has("rootless") { "0:0".to_owned() } else { format!("{uid}:{gid}") };
    let version = info.server_version.unwrap_or_default();
    let api = docker.client_version();
    let rootless = if has("rootless") { ", rootless" } else { "" };
    let what = format!("{version} (API {}.{}{rootless})", api.major_version, api.minor_version);
    tracing::info!(engine = %what, at = %place, "connected to the container engine");
    Ok(EngineLink { docker, user, userns: has("userns").then(|| "host".to_owned()), socket, what })
}

/// The labels of a thing, which an engine may leave out.
pub(super) fn labels_of(labels: Option<HashMap<String, String>>) -> HashMap<String, String> {
    labels.unwrap_or_default()
}
