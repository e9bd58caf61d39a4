//! Containers and networks that nobody has a hold on any more: of dead workers, and of this one where the
//! engine was away when they ended.

use std::collections::HashSet;

use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};

use super::cleaning::remove_once;
use super::engine::{EngineLink, labels_of};
use super::error::{ContainerError, is_missing};
use super::networks::NetworkPool;
use super::owner::ContainerOwner;

/// Removes them and says how many there were. `held` are the names this process has a hold on.
pub(super) async fn remove_leftovers(
    link: &EngineLink,
    owner: &ContainerOwner,
    held: &HashSet<String>,
    networks: &NetworkPool,
) -> Result<usize, ContainerError> {
    let mut removed = 0;
    let options = ListContainersOptions { all: true, filters: Some(owner.filter()), ..Default::default() };
    let containers = link.quick().list_containers(Some(options)).await;
    let containers = containers.map_err(|error| ContainerError::of("list containers", error))?;
    for container in containers {
        let labels = labels_of(container.labels);
        let names = container.names.unwrap_or_default();
        let is_held = names.iter().any(|name| held.contains(name.trim_start_matches('/')));
        let is_left = owner.is_dead(&labels) || (owner.is_own(&labels) && !is_held);
        let Some(id) = container.id.filter(|_| is_left) else { continue };
        match remove_once(link, &id).await {
            Ok(()) => {
                tracing::info!(container = names.first(), "removed what a dead worker left");
                removed += 1;
            }
            Err(error) => tracing::warn!(container = id, "a leftover is not removed: {error}"),
        }
    }
    Ok(removed + remove_networks(link, owner, networks).await?)
}

async fn remove_networks(
    link: &EngineLink,
    owner: &ContainerOwner,
    networks: &NetworkPool,
) -> Result<usize, ContainerError> {
    let mut removed = 0;
    let options = ListNetworksOptions { filters: Some(owner.filter()) };
    let found = link.quick().list_networks(Some(options)).await;
    for network in found.map_err(|error| ContainerError::of("list networks", error))? {
        let labels = labels_of(network.labels);
        let Some(id) = network.id else { continue };
        // One of this life that is not known here was made by a call whose answer was lost, or is being made.
        if !owner.is_dead(&labels) || networks.knows(&id) {
            continue;
        }
        match link.working().remove_network(&id).await {
            Err(error) if !is_missing(&error) => {
                tracing::warn!(network = id, "a leftover is not removed: {error}");
            }
            _ => removed += 1,
        }
    }
    Ok(removed)
}
