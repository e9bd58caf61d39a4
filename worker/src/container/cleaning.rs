//! Removing what has ended, behind the attempts: nobody waits for it.

use std::sync::Weak;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::query_parameters::RemoveContainerOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::engine::{EngineLink, EngineShared};
use super::error::is_missing;
use super::networks::LeasedNetwork;

/// Containers removed at one time.
const REMOVALS_MAX: usize = 8;
/// How often the removal of one container is tried; after that the look for leftovers finds it.
const TRIES_MAX: u32 = 4;
/// Wait between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often somebody else's removal is looked at before it is given up: ten seconds.
const REMOVAL_LOOKS: u32 = 20;

/// What is not needed any more.
pub(super) enum Refuse {
    /// A container by its name, which need not exist, and the network it had to itself.
    Container(String, Option<LeasedNetwork>),
    /// Not a thing: said once all that came before it is gone.
    Until(oneshot::Sender<()>),
}

/// The work of a cleaner that has not been started yet.
pub(super) struct Cleaner(Option<mpsc::UnboundedReceiver<Refuse>>);

impl Cleaner {
    pub(super) fn new(jobs: mpsc::UnboundedReceiver<Refuse>) -> Cleaner {
        Cleaner(Some(jobs))
    }

    pub(super) fn take_jobs(&mut self) -> Option<mpsc::UnboundedReceiver<Refuse>> {
        self.0.take()
    }
}

/// Removes until nobody can bring anything any more.
pub(super) async fn clean(
    mut jobs: mpsc::UnboundedReceiver<Refuse>,
    link: EngineLink,
    shared: Weak<EngineShared>,
) {
    let mut removals = JoinSet::new();
    while let Some(refuse) = jobs.recv().await {
        while removals.len() >= REMOVALS_MAX {
            removals.join_next().await;
        }
        while removals.try_join_next().is_some() {}
        match refuse {
            Refuse::Container(name, network) => {
                let (link, shared) = (link.clone(), shared.clone());
                removals.spawn(async move {
                    let removed = remove(&link, &name).await;
                    let Some(shared) = shared.upgrade() else { return };
                    shared.let_go(&name);
                    // A network with a container that may still be in it is nobody's to use.
                    match network {
                        Some(network) if removed => shared.networks.give_back(network),
                        Some(network) => shared.networks.forget(&network),
                        None => {}
                    }
                });
            }
            Refuse::Until(done) => {
                while removals.join_next().await.is_some() {}
                let _ = done.send(());
            }
        }
    }
}

/// Whether it is gone.
async fn remove(link: &EngineLink, name: &str) -> bool {
    for number in 1..=TRIES_MAX {
        match remove_once(link, name).await {
            Ok(()) => return true,
            Err(error) if number == TRIES_MAX => {
                tracing::warn!(container = name, "not removed, left for a later look: {error}");
            }
            Err(_) => tokio::time::sleep(TRY_AGAIN * number).await,
        }
    }
    false
}

/// Removes a container whatever it does, with its anonymous volumes, and returns once it is gone: also where
/// somebody else is removing it already, because its network is free only then.
pub(super) async fn remove_once(link: &EngineLink, name: &str) -> Result<(), bollard::errors::Error> {
    let mut looks = 0;
    loop {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match link.working().remove_container(name, Some(options)).await {
            Err(ApiError::DockerResponseServerError { status_code: 409, .. }) if looks < REMOVAL_LOOKS => {
                looks += 1;
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) if !is_missing(&error) => return Err(error),
            _ => return Ok(()),
        }
    }
}
