//! How every key is named; nothing else in the workspace spells one.
//!
//! A cell's keys share the hash tag `{<generation>.<cell>}`, so that all keys of a script lie in one
//! slot. The pointer `<namespace>:ctl` lies outside all cells and names the generation in force.

use maestro_model::ids::{AgentId, Attempt, RunId, TaskId};

/// Names of keys of one cell.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

/// The pointer to the generation in force.
pub fn pointer(namespace: &str) -> String {
    format!("{namespace}:ctl")
}

/// How far the newest restore has come.
pub fn restore_journal(namespace: &str) -> String {
    format!("{namespace}:restore")
}

impl Keys {
    /// The keys of a cell.
    pub fn new(namespace: &str, generation: u64, cell: u8) -> Keys {
        Keys { prefix: format!("{namespace}:{{{generation}.{cell}}}:") }
    }

    /// What all keys of the cell begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key(&self, rest: std::fmt::Arguments<'_>) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The cell itself: schema, epoch, mode, clock. Every script gets this key.
    pub fn ctl(&self) -> String {
        self.key(format_args!("ctl"))
    }

    /// A run's status and counts.
    pub fn run(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}"))
    }

    /// A run's context, shared parts and tasks as submitted.
    pub fn run_spec(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:spec"))
    }

    /// A run's task records.
    pub fn run_task(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:task"))
    }

    /// What tasks still wait for.
    pub fn run_left(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:left"))
    }

    /// Who waits for a task.
    pub fn run_edge(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:edge"))
    }

    /// Outputs of tasks.
    pub fn run_out(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:out"))
    }

    /// Notes of its attempts, if it is traced.
    pub fn run_trace(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:trace"))
    }

    /// Ranges of tasks released little by little.
    pub fn run_win(&self, run: &RunId) -> String {
        self.key(format_args!("r:{run}:win"))
    }

    /// A queue of ready tasks.
    pub fn queue(&self, name: &str) -> String {
        self.key(format_args!("q:{name}"))
    }

    /// Wake-up tokens of a queue, or of a worker (`w:<incarnation>`).
    pub fn bell(&self, name: &str) -> String {
        self.key(format_args!("bell:{name}"))
    }

    /// Questions to a worker.
    pub fn questions(&self, incarnation: &str) -> String {
        self.key(format_args!("ask:{incarnation}"))
    }

    /// The answer to one question.
    pub fn answer(&self, question: &str) -> String {
        self.key(format_args!("answer:{question}"))
    }

    /// A worker's or coordinator's own record.
    pub fn worker(&self, incarnation: &str) -> String {
        self.key(format_args!("w:{incarnation}"))
    }

    /// What a worker holds.
    pub fn own(&self, incarnation: &str) -> String {
        self.key(format_args!("own:{incarnation}"))
    }

    /// Runs bound to the worker of a name.
    pub fn pins(&self, worker: &str) -> String {
        self.key(format_args!("pins:{worker}"))
    }

    /// Leases by their end.
    pub fn leases(&self) -> String {
        self.key(format_args!("leases"))
    }

    /// Names of workers whose lease ran out, by when that was found.
    pub fn lost(&self) -> String {
        self.key(format_args!("lost"))
    }

    /// Problems that a webhook was told of and that are not over, by its address' digest.
    pub fn alerts(&self, webhook: &str) -> String {
        self.key(format_args!("alerts:{webhook}"))
    }

    /// Names of processes.
    pub fn names(&self) -> String {
        self.key(format_args!("names"))
    }

    /// Who leads the coordinators.
    pub fn leader(&self) -> String {
        self.key(format_args!("leader"))
    }

    /// One shared value.
    pub fn state(&self, key: &str) -> String {
        self.key(format_args!("state:{key}"))
    }

    /// Names of shared values by their end.
    pub fn states(&self) -> String {
        self.key(format_args!("states"))
    }

    /// The audit stream.
    pub fn events(&self) -> String {
        self.key(format_args!("events"))
    }

    /// The tail of one attempt's log.
    pub fn log(&self, task: &TaskId, attempt: Attempt) -> String {
        self.key(format_args!("log:{task}.{attempt}"))
    }

    /// All runs by time of submission.
    pub fn runs(&self) -> String {
        self.key(format_args!("runs"))
    }

    /// Finished runs by time.
    pub fn done(&self) -> String {
        self.key(format_args!("done"))
    }

    /// Runs not yet committed.
    pub fn loading(&self) -> String {
        self.key(format_args!("loading"))
    }

    /// Parked tasks by when they are due.
    pub fn delayed(&self) -> String {
        self.key(format_args!("delayed"))
    }

    /// Registered agent types.
    pub fn agents(&self) -> String {
        self.key(format_args!("agents"))
    }

    /// Limits of agent types across the cluster.
    pub fn limits(&self) -> String {
        self.key(format_args!("limits"))
    }

    /// Running attempts of a type that is limited.
    pub fn slots(&self, slug: &str) -> String {
        self.key(format_args!("slots:{slug}"))
    }

    /// Agents and their folders.
    pub fn assignments(&self) -> String {
        self.key(format_args!("assignments"))
    }

    /// What an agent works on: at most one task.
    pub fn agent_slots(&self, id: &AgentId) -> String {
        self.key(format_args!("slots:i:{id}"))
    }

    /// Names of stored workflows.
    pub fn workflows(&self) -> String {
        self.key(format_args!("workflows"))
    }

    /// A stored workflow: its versions.
    pub fn workflow(&self, name: &str) -> String {
        self.key(format_args!("workflow:{name}"))
    }

    /// Work that calls have left over.
    pub fn todo(&self) -> String {
        self.key(format_args!("todo"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_cell_carry_its_tag() {
        let keys = Keys::new("maestro", 3, 1);
        assert_eq!(keys.ctl(), "maestro:{3.1}:ctl");
        assert_eq!(keys.queue("a:shell"), "maestro:{3.1}:q:a:shell");
        assert_eq!(pointer("maestro"), "maestro:ctl");
    }
}
