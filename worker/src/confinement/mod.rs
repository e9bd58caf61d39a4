//! What an agent may reach of its host, and what holds it there.
//!
//! `reach` says for one attempt which paths it may read and write, `ground` where these lie; `package` what belongs to its program;
//! `rules` makes a Landlock ruleset of all that; `in_force` finds out what this host can do. `groups` are control groups, for limits. The walls themselves are built in `launch`, where processes are made.
//!
//! What must never be: a path that is writable and not the agent's, or named in its type's `paths.write`.

mod ground;
mod group_mounts;
mod groups;
mod in_force;
mod package;
mod reach;
mod rules;

pub(crate) use groups::AttemptGroup;
pub use groups::{ControlGroups, Limited};
pub use in_force::{Confinement, NamespacesFound};
pub(crate) use reach::ReachFacts;
