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
//! | agent | an instance of an agent type, assigned to a folder on one worker | `assignment`, `catalogue` |
//! | snapshot | a `tar.gz` of state and workspaces, with a SHA-256 manifest | `snapshot` |
//! | template, expression | a text with `<< … >>` in it; what stands between the marks | `template` |
//!
//! Modules import only from those before them in this order: `ids`, `task`, `retry`, `duration`, `size`,
//! `diagnostic`, `template`, `output_file`, `model_use`, `attempt`, `trace`, `agent_type`, `assignment`,
//! `catalogue`, `plan`, `yaml`, `template_text`,
//! `agent_file`, `workflow`, `compile`, `dispatch`, `snapshot`, `mailbox`.

pub mod agent_file;
pub mod agent_type;
pub mod assignment;
pub mod attempt;
pub mod catalogue;
pub mod compile;
pub mod diagnostic;
pub mod dispatch;
pub mod duration;
pub mod ids;
pub mod mailbox;
pub mod model_use;
pub mod output_file;
pub mod pack_frames;
pub mod plan;
pub mod retry;
pub mod size;
pub mod snapshot;
pub mod task;
pub mod template;
pub mod template_text;
pub mod trace;
pub mod workflow;
pub mod yaml;
