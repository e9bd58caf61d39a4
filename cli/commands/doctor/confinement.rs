//! What confines agents on this host, as a worker of this user would find it, and the way to more.

use maestro_worker::confinement::{Confinement, Limited, NamespacesFound};
use maestro_worker::launch::WallKind;

use super::CheckEntry;

/// Says it, a line for each part.
pub(super) fn checks(found: &Confinement) -> Vec<CheckEntry> {
    vec![whole(found), namespaces(found), landlock(found), limits(found)]
}

/// The sum of it, for a look.
pub(super) fn whole(found: &Confinement) -> CheckEntry {
    let said = format!("agents are {}", found.said());
    let gaps = format!("{said}; not confined: {}", found.gaps().join(", "));
    match (found.namespaces(), found.landlock_version()) {
        (NamespacesFound::Built(_), 1..) => CheckEntry::ok("confinement", gaps),
        _ => CheckEntry::warn(
            "confinement",
            gaps,
            "see the lines below; until then run only agents you trust with what this user may read and write",
        ),
    }
}

fn namespaces(found: &Confinement) -> CheckEntry {
    match found.namespaces() {
        NamespacesFound::Built(WallKind::UserNamespaces) => {
            CheckEntry::ok("namespaces", "mounts and processes, within a user namespace")
        }
        NamespacesFound::Built(_) => CheckEntry::ok("namespaces", "mounts and processes"),
        NamespacesFound::Refused(why) => CheckEntry::warn(
            "namespaces",
            why,
            "start the worker as root, or allow user namespaces (`sysctl user.max_user_namespaces`, \
             `kernel.unprivileged_userns_clone=1`, `kernel.apparmor_restrict_unprivileged_userns=0`)",
        ),
    }
}

fn landlock(found: &Confinement) -> CheckEntry {
    match found.landlock_version() {
        0 => CheckEntry::warn(
            "landlock",
            "this kernel has none, or it is not switched on",
            "Linux 5.13 or newer, with `landlock` in the `lsm=` list of its command line",
        ),
        version @ 1..6 => CheckEntry::warn(
            "landlock",
            format!("version {version}: abstract sockets are not confined"),
            "Linux 6.12 or newer",
        ),
        version => CheckEntry::ok("landlock", format!("version {version}")),
    }
}

fn limits(found: &Confinement) -> CheckEntry {
    let by = |limited: Limited| match found.limiter(limited) {
        Some("rlimit") => format!("{}: for each process alone (rlimit)", limited.key()),
        Some(by) => format!("{}: {by}", limited.key()),
        None => format!("{}: none", limited.key()),
    };
    let said = Limited::ALL.map(by).join(", ");
    if Limited::ALL.into_iter().all(|limited| found.groups().can_limit(limited)) {
        return CheckEntry::ok("limits", said);
    }
    CheckEntry::warn(
        "limits",
        said,
        "give the worker a control group that it may divide (systemd: `Delegate=yes`); types with \
         `resources.required` are not served here",
    )
}
