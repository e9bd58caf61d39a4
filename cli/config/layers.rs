//! Who decides: of several places that set the same thing, the strongest counts.
//!
//! The order is: flag, environment, `maestro.yaml`, the user's file, the machine's file, a cluster
//! started here by `maestro up`, default. Reading those places is `settings`' and `file`'s business.

use std::fmt;
use std::path::PathBuf;

use super::value::SettingValue;
use super::variables::{self, Variable};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of the command line, with its dashes.
    Flag(&'static str),
    /// The environment variable.
    Environment,
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file of a running `maestro up`.
    Up(PathBuf),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(formatter, "flag {flag}"),
            Origin::Environment => formatter.write_str("environment"),
            Origin::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Origin::Up(path) => write!(formatter, "maestro up ({})", path.display()),
            Origin::Default => formatter.write_str("default"),
        }
    }
}

impl Origin {
    /// Whether a person decided it, rather than a cluster that happens to run here or nobody.
    pub(crate) fn is_given(&self) -> bool {
        !matches!(self, Origin::Up(_) | Origin::Default)
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The setting.
    pub(crate) variable: &'static Variable,
    /// Its value.
    pub(crate) value: SettingValue,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// What one place says.
pub(crate) type Layer = Vec<Chosen>;

/// Of each setting what the first layer that has it says, in the order of `variables::ALL`.
/// A setting that no layer has is left out; the layer of defaults has all.
pub(crate) fn strongest(layers: &[Layer]) -> Vec<Chosen> {
    let of = |variable: &&'static Variable| {
        layers.iter().flatten().find(|chosen| chosen.variable == *variable).cloned()
    };
    variables::ALL.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variable: &'static Variable, text: &str, origin: Origin) -> Chosen {
        Chosen { variable, value: SettingValue::Text(text.to_owned()), origin }
    }

    /// One layer for each kind of place, each setting the Redis address to its own name.
    fn all_layers() -> Vec<Layer> {
        let file = |path: &str| Origin::File { path: path.into(), line: 1 };
        let origins = [
            Origin::Flag("--redis-url"),
            Origin::Environment,
            file("/project/maestro.yaml"),
            file("/home/me/.config/maestro/config.yaml"),
            file("/etc/maestro/config.yaml"),
            Origin::Up("/run/up.json".into()),
            Origin::Default,
        ];
        let layer = |origin: &Origin| vec![said(variables::REDIS_URL, &origin.to_string(), origin.clone())];
        origins.iter().map(layer).collect()
    }

    #[test]
    fn each_place_yields_to_those_before_it() {
        let layers = all_layers();
        for first in 0..layers.len() {
            let chosen = strongest(&layers[first..]);
            assert_eq!(chosen, layers[first], "without the {first} strongest");
        }
    }

    #[test]
    fn a_setting_is_taken_from_the_first_place_that_has_it() {
        let strong = vec![said(variables::NAMESPACE, "strong", Origin::Environment)];
        let weak = vec![
            said(variables::NAMESPACE, "weak", Origin::Default),
            said(variables::REDIS_URL, "weak", Origin::Default),
        ];
        let chosen = strongest(&[strong.clone(), weak.clone()]);
        assert_eq!(chosen, [weak[1].clone(), strong[0].clone()]);
    }
}
