//! The hold on an agent, whichever way it was launched: a process, or a container.

use crate::container::{AgentContainer, ContainerEnd};
use crate::launch::{AgentProcess, MainEnd, ProcessEnd, TreeEnd, TreeEndCause, is_tree_still};

/// An agent that runs.
pub(super) enum RunningTree {
    Process(AgentProcess),
    Container(AgentContainer),
}

/// How an agent ended, as far as its worker can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AgentExit {
    Process(ProcessEnd),
    Container(ContainerEnd),
}

impl RunningTree {
    /// Its first process, if this host sees it.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            RunningTree::Process(process) => Some(process.pid()),
            RunningTree::Container(container) => container.pid(),
        }
    }

    /// The process below which all of the agent is, and nothing else.
    pub(super) fn root_pid(&self) -> Option<u32> {
        match self {
            RunningTree::Process(process) => Some(process.supervisor_pid()),
            RunningTree::Container(container) => container.init_pid(),
        }
    }

    /// Stops all of it where it stands.
    pub(super) fn pause(&self) {
        match self {
            RunningTree::Process(process) => process.pause(),
            RunningTree::Container(container) => container.freeze(),
        }
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        match self {
            RunningTree::Process(process) => process.resume(),
            RunningTree::Container(container) => container.thaw(),
        }
    }

    /// Tells whether all of a paused one stands still by now.
    pub(super) fn stillness(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        match self {
            RunningTree::Process(process) => {
                let supervisor = process.supervisor_pid();
                Box::new(move || is_tree_still(supervisor))
            }
            RunningTree::Container(container) => Box::new(container.stillness()),
        }
    }

    pub(super) fn terminate(&self) {
        match self {
            RunningTree::Process(process) => process.terminate(),
            RunningTree::Container(container) => container.terminate(),
        }
    }

    pub(super) fn kill(&self) {
        match self {
            RunningTree::Process(process) => process.kill(),
            RunningTree::Container(container) => container.kill(),
        }
    }

    /// Gives up on one that does not end although it was killed.
    pub(super) fn abandon(&mut self) {
        match self {
            RunningTree::Process(process) => process.abandon(),
            RunningTree::Container(container) => container.abandon(),
        }
    }

    /// May be cancelled and called again, but not after it has returned.
    pub(super) async fn ended(&mut self) -> AgentExit {
        match self {
            RunningTree::Process(process) => AgentExit::Process(process.ended().await),
            RunningTree::Container(container) => AgentExit::Container(container.ended().await),
        }
    }
}

impl AgentExit {
    /// What is known of its processes. Of a container only how the first one ended: it takes all with it.
    pub(super) fn tree(&self) -> Option<TreeEnd> {
        match self {
            AgentExit::Process(ProcessEnd::Ended(tree)) => Some(*tree),
            AgentExit::Container(ContainerEnd::Ended { main, .. }) => Some(tree_of(*main)),
            AgentExit::Process(ProcessEnd::SupervisorLost) | AgentExit::Container(ContainerEnd::Lost(_)) => {
                None
            }
        }
    }
}

fn tree_of(main: MainEnd) -> TreeEnd {
    TreeEnd {
        main,
        cause: TreeEndCause::Asked,
        survivors: 0,
        leftovers: 0,
        max_rss_kib: 0,
        user_us: 0,
        system_us: 0,
    }
}
