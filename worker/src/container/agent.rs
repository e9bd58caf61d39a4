//! The hold on an agent in a container. Dropped, the agent is killed and its container removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use super::drive::{DriveOrder, Standing};
use crate::launch::MainEnd;

/// How an agent in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEnd {
    /// It ended, and with its first process all others.
    Ended {
        /// How its first process ended.
        main: MainEnd,
        /// Whether the kernel killed something in it for want of memory.
        out_of_memory: bool,
        /// The command's first word.
        program: String,
        /// The image.
        image: String,
    },
    /// The engine went away, or somebody removed the container: what became of the agent is not known. It is
    /// killed as far as this host can reach it, and removed when the engine is back.
    Lost(String),
}

/// An agent that runs in a container.
#[derive(Debug)]
pub struct AgentContainer {
    orders: mpsc::UnboundedSender<DriveOrder>,
    end: oneshot::Receiver<ContainerEnd>,
    init: Option<u32>,
    main: Option<u32>,
    standing: Arc<Standing>,
}

impl AgentContainer {
    pub(super) fn new(
        orders: mpsc::UnboundedSender<DriveOrder>,
        end: oneshot::Receiver<ContainerEnd>,
        (init, main): (Option<u32>, Option<u32>),
        standing: Arc<Standing>,
    ) -> AgentContainer {
        AgentContainer { orders, end, init, main, standing }
    }

    /// The agent's first process as this host sees it; none if the engine's processes are not seen here.
    pub fn pid(&self) -> Option<u32> {
        self.main.or(self.init)
    }

    /// The container's init, below which everything of the agent is; none as with `pid`.
    pub fn init_pid(&self) -> Option<u32> {
        self.init
    }

    /// SIGTERM for every process of the agent; all of them have until `kill`, the last to end frees the rest.
    pub fn terminate(&self) {
        self.order(DriveOrder::Terminate);
    }

    /// SIGKILL for all of it, also if it is frozen.
    pub fn kill(&self) {
        self.order(DriveOrder::Kill);
    }

    /// Stops every process where it stands, unseen by them.
    pub fn freeze(&self) {
        self.order(DriveOrder::Freeze);
    }

    /// Tells whether a frozen agent stands still by now.
    pub(crate) fn stillness(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let standing = self.standing.clone();
        move || standing.is_still.load(Ordering::Relaxed)
    }

    /// Lets a frozen agent go on.
    pub fn thaw(&self) {
        self.order(DriveOrder::Thaw);
    }

    /// Waits for nothing more: the end is told at once as lost.
    pub fn abandon(&self) {
        self.order(DriveOrder::Abandon);
    }

    /// One whose driver is gone has ended, and `ended` says so.
    fn order(&self, order: DriveOrder) {
        let _ = self.orders.send(order);
    }

    /// Waits until the agent has ended and its output has been read. May be cancelled and called again, but
    /// not after it has returned.
    pub async fn ended(&mut self) -> ContainerEnd {
        let lost = || ContainerEnd::Lost("the worker lost its hold on the container".to_owned());
        (&mut self.end).await.unwrap_or_else(|_| lost())
    }
}
