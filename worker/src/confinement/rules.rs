//! The Landlock ruleset of one agent.
//!
//! Made by the worker before anything is forked. What exists only in the agent's own view (its `/proc`, `/dev`,
//! `/tmp`) the agent adds on its way to exec, see `launch`.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::reach::{Allowed, Reach, Right};
use crate::launch::landlock_version;

/// Devices that every agent may use, where it sees those of the host.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// What Landlock can do on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RulesVersion(u32);

impl RulesVersion {
    /// None where the kernel has none.
    pub(super) fn of_this_host() -> Option<RulesVersion> {
        Some(landlock_version()).filter(|version| *version > 0).map(RulesVersion)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// Whether abstract sockets and signals stop at the walls.
    pub(super) fn has_scopes(self) -> bool {
        self.0 >= 6
    }

    /// Whether moving between folders can be allowed at all.
    fn abi(self) -> ABI {
        // Rights that a newer kernel adds are left ungoverned until somebody has thought about them.
        ABI::from(self.0.min(7) as i32)
    }

    /// The rights governed, as the kernel numbers them.
    pub(super) fn handled(self) -> u64 {
        AccessFs::from_all(self.abi()).bits()
    }

    /// A ruleset that allows what `reach` says. `sees_host` = the agent has no view of its own.
    pub(super) fn ruleset(self, reach: &Reach, sees_host: bool) -> Result<Option<OwnedFd>, RulesetError> {
        let all = AccessFs::from_all(self.abi());
        let read = AccessFs::from_read(self.abi());
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()?;
        let mut allow = |piece: &Allowed, rights| -> Result<(), RulesetError> {
            // What is not there cannot be reached either.
            if let Ok(place) = open(piece) {
                (&mut rules).add_rule(PathBeneath::new(place, rights))?;
            }
            Ok(())
        };
        for piece in reach.allowed(sees_host) {
            match piece.right {
                Right::List if piece.path.is_dir() => allow(&piece, AccessFs::ReadDir.into())?,
                // A file is not listed.
                Right::List => {}
                Right::Read => allow(&piece, read)?,
                Right::Write => allow(&piece, all)?,
            }
        }
        if sees_host {
            let of_system =
                |path: &str| Allowed { path: path.into(), right: Right::Read, follows_links: true };
            let devices = AccessFs::from_file(self.abi()) | AccessFs::ReadDir;
            for device in DEVICES {
                allow(&of_system(device), devices & !AccessFs::Execute)?;
            }
            allow(&of_system("/proc"), read)?;
        }
        Ok(rules.into())
    }
}

fn open(piece: &Allowed) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let links = if piece.follows_links { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
    rustix::fs::openat2(CWD, &piece.path, flags, Mode::empty(), links)
}
