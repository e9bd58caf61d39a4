//! The calls that any program would make for a container that runs one command: what Maestro's tasks in containers
//! are measured against.

use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::RemoveContainerOptions;
use bollard::{Docker, errors::Error};
use futures_util::StreamExt;
use tokio::task::JoinSet;

/// Create, start, wait, remove: `true` in a container of this image without a network.
///
/// # Errors
/// Whatever the engine refuses, and an exit code other than 0.
pub(crate) async fn bare(docker: Docker, image: String) -> Result<(), Error> {
    let body = ContainerCreateBody {
        image: Some(image),
        cmd: Some(vec!["true".to_owned()]),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            init: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let made = docker.create_container(None, body).await?;
    docker.start_container(&made.id, None).await?;
    if let Some(ended) = docker.wait_container(&made.id, None).next().await {
        ended?;
    }
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    docker.remove_container(&made.id, Some(options)).await
}

/// Runs so many pieces of work, so many of them at a time, and says how long all took.
///
/// # Panics
/// If one of them does.
pub(crate) async fn in_lanes<F>(count: usize, lanes_max: usize, work: impl Fn() -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..count {
        if lanes.len() >= lanes_max {
            lanes.join_next().await.expect("one runs").expect("no panic");
        }
        lanes.spawn(work());
    }
    while let Some(done) = lanes.join_next().await {
        done.expect("no panic");
    }
    begun.elapsed()
}
