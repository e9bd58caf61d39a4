//! Containers and networks that nobody has a hold on any more: of dead workers, and of this one where the
//! engine was away when they ended.

use std::collections::HashSet;

use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};

use super::cleaning::remove_once;
use super::engine::{EngineLink, labels_of};
use super::error::ContainerError;
use super::networks::{NetworkPool, for_each_of, remove_network};
use super::owner::ContainerOwner;

/// Removes them and says how many there were. `held` are the names this process has a hold on.
pub(super) async fn remove_leftovers(
    link: &EngineLink,
    owner: &ContainerOwner,
    held: &HashSet<String>,
    networks: &NetworkPool,
) -> Result<usize, ContainerError> {
    let options = ListContainersOptions { all: true, filters: Some(owner.filter()), ..Default::default() };
    let containers = link.quick().list_containers(Some(options)).await;
    let containers = containers.map_err(|error| ContainerError::of("list containers", error))?;
    let left = containers.into_iter().filter_map(|container| {
        let labels = labels_of(container.labels);
        let names = container.names.unwrap_or_default();
        let is_held = names.iter().any(|name| held.contains(name.trim_start_matches('/')));
        let is_left = owner.is_dead(&labels) || (owner.is_own(&labels) && !is_held);
        container.id.filter(|_| is_left)
    });
    let removed = for_each_of(left.collect(), |id| remove_container(link.clone(), id)).await;
    if removed > 0 {
        tracing::info!(removed, "removed containers that nobody has a hold on");
    }
    Ok(removed + remove_networks(link, owner, networks).await?)
}

async fn remove_container(link: EngineLink, id: String) -> bool {
    let removed = remove_once(&link, &id).await;
    if let Err(error) = &removed {
        tracing::warn!(container = id, "a leftover is not removed: {error}");
    }
    removed.is_ok()
}

async fn remove_networks(
    link: &EngineLink,
    owner: &ContainerOwner,
    networks: &NetworkPool,
) -> Result<usize, ContainerError> {
    let options = ListNetworksOptions { filters: Some(owner.filter()) };
    let found = link.quick().list_networks(Some(options)).await;
    let found = found.map_err(|error| ContainerError::of("list networks", error))?;
    // One of this life that is not known here is being made, unless the worker ends.
    let is_closed = networks.is_closed();
    let is_left = |labels, id: &String| {
        let labels = labels_of(labels);
        (owner.is_dead(&labels) || (is_closed && owner.is_own(&labels))) && !networks.knows(id)
    };
    let left = found.into_iter().filter_map(|network| network.id.filter(|id| is_left(network.labels, id)));
    Ok(for_each_of(left.collect(), |id| remove_network(link.clone(), id)).await)
}
