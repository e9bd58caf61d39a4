//! What happens to one container from its start to its end: orders go in, the end comes out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::ContainerState;
use bollard::query_parameters::{KillContainerOptions, WaitContainerOptions};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::agent::{AgentContainer, ContainerEnd};
use super::engine::EngineLink;
use super::error::{causes, is_missing, one_line};
use super::pump::Pump;
use super::signals::ContainerInit;
use crate::launch::MainEnd;

/// Between two tries to wait for a container that still runs.
const WAIT_AGAIN: Duration = Duration::from_millis(500);
/// An engine may hear of the kernel's kill a moment after the end itself.
const MEMORY_LOOKS: u32 = 3;
const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a killed container may take before it is taken for frozen: a second.
const DEATH_LOOKS: u32 = 20;
const DEATH_LOOK_EVERY: Duration = Duration::from_millis(50);
/// The code of a process that was ended by SIGKILL, as the init passes it on.
const KILLED: i64 = 137;

/// What is asked of a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriveOrder {
    Terminate,
    Kill,
    Freeze,
    Thaw,
    Abandon,
}

/// A container that has been started.
pub(super) struct Drive {
    pub(super) link: EngineLink,
    pub(super) id: String,
    pub(super) image: String,
    pub(super) program: String,
    /// Its init by the engine's word.
    pub(super) init: Option<u32>,
}

/// Follows a container. `end_of_life` is called once its end has been told.
pub(super) fn start_drive(
    drive: Drive,
    pump: Pump,
    end_of_life: impl FnOnce() + Send + 'static,
) -> AgentContainer {
    let (orders, inbox) = mpsc::unbounded_channel();
    let (told, end) = oneshot::channel();
    let standing = Arc::new(Standing::default());
    let seen = standing.clone();
    let init = drive.init.and_then(|pid| ContainerInit::find(pid, &drive.id)).map(Arc::new);
    let pids = (init.as_ref().and(drive.init), init.as_ref().and_then(|init| init.main_pid()));
    tokio::spawn(async move {
        let end = drive.run(init, pump, inbox, standing).await;
        let _ = told.send(end);
        end_of_life();
    });
    AgentContainer::new(orders, end, pids, seen)
}

impl Drive {
    async fn run(
        self,
        init: Option<Arc<ContainerInit>>,
        mut pump: Pump,
        mut inbox: mpsc::UnboundedReceiver<DriveOrder>,
        standing: Arc<Standing>,
    ) -> ContainerEnd {
        let remote = Remote { link: self.link.clone(), id: self.id.clone(), init, standing };
        let mut works = JoinSet::new();
        let mut frozen = false;
        let waited = {
            let mut wait = pin!(self.wait(&pump));
            loop {
                tokio::select! {
                    waited = &mut wait => break waited,
                    order = inbox.recv() => match order {
                        Some(DriveOrder::Abandon) | None => {
                            remote.kill_here();
                            break Err("the container engine does not end the container".to_owned());
                        }
                        Some(order) => {
                            let (remote, was_frozen) = (remote.clone(), frozen);
                            frozen = match order {
                                DriveOrder::Freeze => true,
                                DriveOrder::Thaw | DriveOrder::Kill => false,
                                _ => frozen,
                            };
                            remote.standing.is_wanted.store(frozen, Ordering::Relaxed);
                            works.spawn(async move { remote.carry_out(order, was_frozen).await });
                        }
                    },
                }
            }
        };
        match waited {
            Ok(()) => self.conclude(&mut pump).await,
            Err(message) => {
                remote.kill_here();
                ContainerEnd::Lost(message)
            }
        }
    }

    /// Waits until the container does not run any more; an error says why that cannot be known.
    async fn wait(&self, pump: &Pump) -> Result<(), String> {
        loop {
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            let docker = self.link.lasting();
            let answer = pin!(docker.wait_container(&self.id, Some(options))).next().await;
            let error = match answer {
                // A code other than 0 comes as an error of its own kind.
                Some(Ok(_) | Err(ApiError::DockerContainerWaitError { .. })) => return Ok(()),
                Some(Err(error)) => causes(&error),
                None => "it stopped answering".to_owned(),
            };
            // A connection that was cut in between costs nothing, unless the output went with it.
            match self.state().await {
                Ok(state) if state.running.unwrap_or(false) && pump.is_open() => {
                    tokio::time::sleep(WAIT_AGAIN).await;
                }
                Ok(_) => return Err(format!("the container engine went away while the agent ran: {error}")),
                Err(error) => return Err(error),
            }
        }
    }

    async fn state(&self) -> Result<ContainerState, String> {
        match self.link.working().inspect_container(&self.id, None).await {
            Ok(found) => Ok(found.state.unwrap_or_default()),
            Err(error) if is_missing(&error) => Err("somebody removed the agent's container".to_owned()),
            Err(error) => {
                Err(format!("the container engine went away while the agent ran: {}", causes(&error)))
            }
        }
    }

    /// Whatever its code is, the end counts only if the engine is still there to say so: one that is being
    /// stopped ends its containers, and their ends look like the agents' own.
    async fn conclude(self, pump: &mut Pump) -> ContainerEnd {
        let (_, state) = tokio::join!(pump.finish(), self.state());
        let mut state = match state {
            Ok(state) => state,
            Err(message) => return ContainerEnd::Lost(message),
        };
        for _ in 1..MEMORY_LOOKS {
            if state.exit_code != Some(KILLED) || state.oom_killed.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(MEMORY_LOOK_EVERY).await;
            state = match self.state().await {
                Ok(state) => state,
                Err(message) => return ContainerEnd::Lost(message),
            };
        }
        if let Some(error) = state.error.filter(|error| !error.is_empty()) {
            return ContainerEnd::Lost(format!("the container engine failed: {}", one_line(&error)));
        }
        ContainerEnd::Ended {
            main: main_end(state.exit_code.unwrap_or(-1)),
            out_of_memory: state.oom_killed.unwrap_or(false),
            program: self.program,
            image: self.image,
        }
    }
}

/// An init passes on that its child was ended by a signal as 128 and the signal's number.
fn main_end(code: i64) -> MainEnd {
    match i32::try_from(code) {
        Ok(code @ 129..=192) => MainEnd::Signaled(code - 128),
        Ok(code) => MainEnd::Exited(code),
        Err(_) => MainEnd::Exited(-1),
    }
}

/// Whether a container stands still.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What was asked for last.
    is_wanted: AtomicBool,
    /// Whether the engine has said that it does, or that there is nothing of it left.
    pub(super) is_still: AtomicBool,
    /// One order at a time: they are sent beside each other, and the last one has to win.
    turn: tokio::sync::Mutex<()>,
}

/// How a container is reached from here.
#[derive(Clone)]
struct Remote {
    link: EngineLink,
    id: String,
    init: Option<Arc<ContainerInit>>,
    standing: Arc<Standing>,
}

impl Remote {
    async fn carry_out(&self, order: DriveOrder, is_frozen: bool) {
        let docker = self.link.quick();
        let done = match order {
            DriveOrder::Freeze | DriveOrder::Thaw => self.stand_as_wanted(&docker).await,
            DriveOrder::Terminate => {
                if is_frozen {
                    let _ = docker.unpause_container(&self.id).await;
                }
                if let Some(init) = &self.init
                    && init.terminate().await
                {
                    return;
                }
                self.signal("SIGTERM").await
            }
            DriveOrder::Kill => {
                if is_frozen {
                    // A frozen process may not even hear of its death.
                    let _ = docker.unpause_container(&self.id).await;
                }
                if self.kill_here() && self.ends_soon().await {
                    return;
                }
                // Somebody else may have frozen it.
                let _ = docker.unpause_container(&self.id).await;
                self.signal("SIGKILL").await
            }
            DriveOrder::Abandon => return,
        };
        if let Err(error) = done
            && !is_over(&error)
        {
            tracing::warn!(container = self.id, ?order, "not carried out: {}", causes(&error));
        }
    }

    async fn stand_as_wanted(&self, docker: &Docker) -> Result<(), ApiError> {
        let _turn = self.standing.turn.lock().await;
        let wanted = self.standing.is_wanted.load(Ordering::Relaxed);
        if self.standing.is_still.load(Ordering::Relaxed) == wanted {
            return Ok(());
        }
        let done = match wanted {
            true => docker.pause_container(&self.id).await,
            false => docker.unpause_container(&self.id).await,
        };
        if done.as_ref().err().is_none_or(is_over) {
            self.standing.is_still.store(wanted, Ordering::Relaxed);
        }
        done
    }

    /// Whether a killed one is gone within a moment.
    async fn ends_soon(&self) -> bool {
        let Some(init) = &self.init else { return false };
        for _ in 0..DEATH_LOOKS {
            if init.has_ended() {
                return true;
            }
            tokio::time::sleep(DEATH_LOOK_EVERY).await;
        }
        false
    }

    /// False if it cannot be reached without the engine.
    fn kill_here(&self) -> bool {
        self.init.as_ref().is_some_and(|init| init.kill())
    }

    async fn signal(&self, signal: &str) -> Result<(), ApiError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        self.link.quick().kill_container(&self.id, Some(options)).await
    }
}

/// Whether the engine only says that the container does not run any more, or is in that state already.
fn is_over(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: 304 | 404 | 409, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_above_128_are_signals() {
        assert_eq!(main_end(0), MainEnd::Exited(0));
        assert_eq!(main_end(125), MainEnd::Exited(125));
        assert_eq!(main_end(128), MainEnd::Exited(128));
        assert_eq!(main_end(143), MainEnd::Signaled(15));
        assert_eq!(main_end(255), MainEnd::Exited(255));
    }
}
