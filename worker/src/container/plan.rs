//! What a container is made of: image, command, environment, mounts, limits, rights.
//!
//! Everything the agent may reach lies at the same path inside and outside, so that what templates and
//! variables say is true in both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use indexmap::IndexMap;
use maestro_model::agent_type::{AgentType, NetworkChoice};
use maestro_model::ids::{Attempt, TaskId};
use sha2::{Digest, Sha256};

use super::engine::EngineLink;
use super::error::ContainerError;
use super::owner::{ATTEMPT, ContainerOwner, TASK, WORKSPACE};
use super::sources::SourceWalk;

/// Folders in which the kernel shows the host, its processes and its devices.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// An agent to be started in a container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerOrder {
    /// The task.
    pub(crate) task: TaskId,
    /// Which try of it.
    pub(crate) attempt: Attempt,
    /// The agent type, for its image, limits and rights.
    pub(crate) agent: Arc<AgentType>,
    /// The argument list; its first word is looked for on the image's PATH.
    pub(crate) argv: Vec<String>,
    /// Set beside what the image sets.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// What of the host it may reach.
    pub(crate) binds: Vec<Bind>,
    /// The root of all workspaces, which no mount may hold.
    pub(crate) root: PathBuf,
    /// Whether it is given something to read.
    pub(crate) reads_stdin: bool,
}

/// Something of the host inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Where it is on the host.
    pub(crate) source: PathBuf,
    /// Where it is inside.
    pub(crate) target: PathBuf,
    /// Whether it can only be read.
    pub(crate) read_only: bool,
    /// Whether the agent type names it. What is not there is then left out, and links are looked at.
    pub(crate) is_named: bool,
}

impl Bind {
    /// At the same path, writable.
    pub(crate) fn same(path: impl Into<PathBuf>) -> Bind {
        let source = path.into();
        Bind { target: source.clone(), source, read_only: false, is_named: false }
    }

    /// At the same path, named by the agent type.
    pub(crate) fn named(path: impl Into<PathBuf>, read_only: bool) -> Bind {
        Bind { read_only, is_named: true, ..Bind::same(path) }
    }
}

impl ContainerOrder {
    pub(super) fn image(&self) -> Result<&str, ContainerError> {
        let image = self.agent.image.as_deref().filter(|image| !image.is_empty());
        image.ok_or_else(|| {
            let slug = &self.agent.slug;
            ContainerError::Order(format!(
                "agent `{slug}` runs in a container and names no image; hint: set `image`"
            ))
        })
    }

    /// What the engine is asked to make. `network` is the pool's, if it is to have one.
    pub(super) fn body(
        &self,
        link: &EngineLink,
        owner: &ContainerOwner,
        network: Option<&str>,
    ) -> Result<ContainerCreateBody, ContainerError> {
        let words = self.argv.iter().cloned();
        let mut labels = owner.labels();
        labels.insert(TASK.to_owned(), self.task.to_string());
        labels.insert(ATTEMPT.to_owned(), self.attempt.to_string());
        labels.insert(WORKSPACE.to_owned(), workspace_hash(&self.folder));
        let network = match network {
            Some(id) => id,
            None if self.agent.shared_network => "host",
            None => "none",
        };
        Ok(ContainerCreateBody {
            image: Some(self.image()?.to_owned()),
            // The image's own entrypoint would stand before the command.
            entrypoint: Some(words.clone().take(1).collect()),
            cmd: Some(words.skip(1).collect()),
            env: Some(self.variables()?),
            working_dir: Some(text(&self.folder)?),
            user: Some(link.user.clone()),
            open_stdin: Some(self.reads_stdin),
            stdin_once: Some(self.reads_stdin),
            attach_stdin: Some(self.reads_stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            labels: Some(labels),
            host_config: Some(self.host_config(link, network)?),
            ..ContainerCreateBody::default()
        })
    }

    fn host_config(&self, link: &EngineLink, network: &str) -> Result<HostConfig, ContainerError> {
        let (agent, limits) = (&self.agent, &self.agent.resources);
        let memory = limits.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let tmp = || [("/tmp".to_owned(), "rw,nosuid,nodev,mode=1777".to_owned())].into();
        Ok(HostConfig {
            mounts: Some(self.mounts(link)?),
            network_mode: Some(network.to_owned()),
            memory,
            // The same as memory: none of it is swapped out.
            memory_swap: memory,
            nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
            // The init is a process too.
            pids_limit: limits.pids.map(|pids| i64::from(pids) + 1),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(agent.cap_add.clone()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            init: Some(true),
            readonly_rootfs: Some(agent.read_only),
            tmpfs: agent.read_only.then(tmp),
            userns_mode: link.userns.clone(),
            // Everything it says is in `agent.log`.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        })
    }

    fn variables(&self) -> Result<Vec<String>, ContainerError> {
        let pairs = self.env.iter().map(|(name, value)| match (name.to_str(), value.to_str()) {
            (Some(name), Some(value)) => Ok(format!("{name}={value}")),
            _ => {
                let name = name.to_string_lossy();
                Err(ContainerError::Order(format!(
                    "the variable `{name}` is not UTF-8, which a container cannot have"
                )))
            }
        });
        pairs.collect()
    }

    /// Looks again for links that were made since the engine was told of the mounts, and before it follows them.
    pub(super) fn check_again(&self) -> Result<(), ContainerError> {
        let walk = SourceWalk::of(self);
        let mut named = self.binds.iter().filter(|bind| bind.is_named);
        named.try_for_each(|bind| walk.find(&bind.source).map(drop))
    }

    fn mounts(&self, link: &EngineLink) -> Result<Vec<Mount>, ContainerError> {
        let mut mounts = IndexMap::new();
        let walk = SourceWalk::of(self);
        for bind in &self.binds {
            let found = if bind.is_named { walk.find(&bind.source)? } else { Some(bind.source.clone()) };
            let Some(source) = found else { continue };
            self.check_source(link, &source)?;
            let (source, target) = (text(&source)?, text(&bind.target)?);
            mounts.insert(
                target.clone(),
                Mount {
                    source: Some(source),
                    target: Some(target),
                    typ: Some(MountType::BIND),
                    read_only: Some(bind.read_only),
                    ..Mount::default()
                },
            );
        }
        Ok(mounts.into_values().collect())
    }

    /// Neither the engine's socket, which is the host itself, nor what the kernel shows of the host, nor the
    /// folders of other agents may come along.
    fn check_source(&self, link: &EngineLink, source: &Path) -> Result<(), ContainerError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let source_is = real(source);
        let slug = &self.agent.slug;
        if KERNELS.iter().any(|folder| source_is.starts_with(folder)) {
            let message = format!(
                "agent `{slug}` may not reach `{}`: it is the kernel's word on the host; hint: a container has \
                 its own /proc, /sys and /dev",
                source.display()
            );
            return Err(ContainerError::Order(message));
        }
        if link.socket.as_deref().is_some_and(|socket| real(socket).starts_with(&source_is)) {
            let message = format!(
                "agent `{slug}` may not reach `{}`: the socket of the container engine lies there",
                source.display()
            );
            return Err(ContainerError::Order(message));
        }
        if real(&self.root).starts_with(&source_is) {
            let message = format!(
                "agent `{slug}` may not reach `{}`: the workspaces of others lie there",
                source.display()
            );
            return Err(ContainerError::Order(message));
        }
        Ok(())
    }
}

/// Whether containers of a type get a network out of the pool.
pub(super) fn wants_own_network(agent: &AgentType) -> bool {
    !agent.shared_network && agent.network == NetworkChoice::Own
}

/// Names a folder where its path would be too long, or tell too much.
fn workspace_hash(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(path: &Path) -> Result<String, ContainerError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        ContainerError::Order(format!(
            "the path `{}` is not UTF-8, which a container cannot have",
            path.display()
        ))
    })
}
