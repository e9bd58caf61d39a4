//! The walls of one agent, tried from within: what it leaves of the host as it was, and what it does not see.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maestro_worker::confinement::{Confinement, NamespacesFound};
use maestro_worker::launch::WallKind;

use crate::confined::skipped;
use crate::support::{DEADLINE, Site, result};

/// Sites whose agents have each kind of walls that this host can build, without namespaces as well.
async fn walled_sites() -> Vec<(String, Site)> {
    let mut sites = Vec::new();
    for kinds in [&[WallKind::Namespaces][..], &[WallKind::UserNamespaces], &[]] {
        let site = Site::new();
        let found = Confinement::find_among(&site.launcher, kinds).await;
        match found.namespaces() {
            NamespacesFound::Refused(why) if !kinds.is_empty() => {
                skipped(&format!("{kinds:?} cannot be made here: {why}"));
                continue;
            }
            NamespacesFound::Refused(_) if found.landlock_version() == 0 => continue,
            _ => {}
        }
        site.runner.confine_with(found);
        sites.push((format!("{kinds:?}"), site));
    }
    sites
}

/// A folder of our own in the host's `/etc`.
struct HostSettings(PathBuf);

impl HostSettings {
    fn make(name: &str) -> HostSettings {
        let folder = Path::new("/etc").join(format!("walls-{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("we are root");
        HostSettings(folder)
    }

    /// Writes a file as editors of settings do: beside its place first, then renamed into it.
    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let (place, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::create_dir_all(place.parent().expect("it has a folder")).expect("ours");
        fs::write(&new, text).expect("ours");
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("ours");
        fs::rename(&new, &place).expect("ours");
        place
    }
}

impl Drop for HostSettings {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_hosts_devices_and_hidden_files_stay_as_they_were() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root's agents own what they must not change");
    }
    let facts = |path: &str| {
        let found = fs::metadata(path).expect("every host has it");
        (found.mode(), found.mtime(), found.mtime_nsec())
    };
    let paths = ["/dev/null", "/dev/zero", "/etc/shadow"];
    let before = paths.map(facts);
    for (kind, site) in walled_sites().await.into_iter().filter(|(kind, _)| kind != "[]") {
        let script = format!(
            "for path in {}; do chmod 667 $path; touch -c -d 2001-01-01 $path; done 2>/dev/null
            head -c 3 /dev/zero > /dev/null && echo devices work",
            paths.join(" ")
        );
        assert_eq!(result(&site.run(site.script(&script)).await), "devices work", "{kind}");
        assert_eq!(paths.map(facts), before, "{kind}");
    }
}

#[tokio::test]
async fn no_secret_below_etc_is_ever_seen_whenever_it_came_and_however_deep_it_lies() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may write settings, and its agents alone own them");
    }
    let settings = HostSettings::make("secret");
    let open = settings.write("a/b/open", "for everybody", 0o644);
    let renamed = settings.write("renamed", "old secret", 0o600);
    for (kind, site) in walled_sites().await {
        let deep = settings.write("a/b/c/d/e/key", "deep secret", 0o600);
        let late = settings.0.join("late");
        let script = format!(
            "cd /; for path in {} {} {}; do cat $path; done 2>/dev/null
            cat {}",
            renamed.display(),
            deep.display(),
            late.display(),
            open.display()
        );
        assert_eq!(result(&site.run(site.script(&script)).await), "for everybody", "{kind}");
        settings.write("renamed", "new secret", 0o600);
        settings.write("late", "late secret", 0o600);
        assert_eq!(result(&site.run(site.script(&script)).await), "for everybody", "{kind}: renamed");
    }
}

#[tokio::test]
async fn a_setting_that_has_changed_is_seen_by_later_agents_and_a_closed_one_no_more() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may write settings");
    }
    let (site, settings) = (Site::new(), HostSettings::make("changed"));
    let open = settings.write("open", "first", 0o644);
    let script = format!("cat {} 2>&1 | sed 's/.*: //'", open.display());
    assert_eq!(result(&site.run(site.script(&script)).await), "first");
    for (text, mode, expected) in [("second", 0o644, "second"), ("third", 0o600, "No such file or directory")]
    {
        settings.write("open", text, mode);
        let deadline = Instant::now() + DEADLINE;
        loop {
            let end = site.run(site.script(&script)).await;
            if result(&end) == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{text}: {:?}", end.report);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
