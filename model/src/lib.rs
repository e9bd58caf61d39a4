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
//! | template, expression | a text with `<< … >>` in it; what stands between the marks | `template` |
//!
//! Modules import only from those before them in this order: `ids`, `task`, `retry`, `duration`, `size`,
//! `diagnostic`, `template`, `output_file`, `attempt`, `agent_type`, `plan`, `yaml`, `template_text`,
//! `agent_file`, `workflow`, `compile`.

pub mod agent_file;
pub mod agent_type;
pub mod attempt;
pub mod compile;
pub mod diagnostic;
pub mod duration;
pub mod ids;
pub mod output_file;
pub mod plan;
pub mod retry;
pub mod size;
pub mod task;
pub mod template;
pub mod template_text;
pub mod workflow;
pub mod yaml;
