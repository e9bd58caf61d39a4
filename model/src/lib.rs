//! Words and rules of Maestro: what things are called and what may happen to them.
//!
//! No I/O, no clock, no async: everything here is decided from its arguments. The glossary:
//!
//! | word | meaning | module |
//! |---|---|---|
//! | workflow, step | a stored, versioned YAML definition; a node of it | `workflow` |
//! | run | one execution of a workflow | `ids`, `plan` |
//! | task | one step of one run | `task`, `plan` |
//! | attempt | one try of a task, numbered from 1; the number is the fencing token | `attempt` |
//! | queue | the tasks that are ready for one agent type, or for one worker | `plan` |
//! | agent type | what to launch and how | `agent_type` |
//!
//! Modules import only from those named before them in this list.

pub mod agent_type;
pub mod attempt;
pub mod ids;
pub mod plan;
pub mod retry;
pub mod task;
