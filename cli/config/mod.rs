//! Which settings hold, and where each of them comes from.
//!
//! The order: flag, environment, `./maestro.yaml` (looked for upwards),
//! `$XDG_CONFIG_HOME/maestro/config.yaml`, `/etc/maestro/config.yaml`, a cluster started here by
//! `maestro up`, default. Nothing outside this folder reads the environment or a configuration file.
//!
//! - `variables`: every setting, declared once
//! - `value`: the value of one setting, read and shown
//! - `layers`: who decides
//! - `file`: one configuration file
//! - `settings`: all of them together, typed
//! - `surroundings`: environment, folder and user, read once
//! - `folders`: where Maestro's own files are

pub(crate) mod file;
pub(crate) mod folders;
pub(crate) mod layers;
pub(crate) mod settings;
pub(crate) mod surroundings;
pub(crate) mod value;
pub(crate) mod variables;
