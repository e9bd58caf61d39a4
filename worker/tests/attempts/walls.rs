//! The walls of one agent, tried from within: what it leaves of the host as it was, and what it does not see.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maestro_model::task::Reason;
use maestro_worker::attempt::AttemptOrder;
use maestro_worker::confinement::{Confinement, NamespacesFound};
use maestro_worker::launch::WallKind;
use maestro_worker::workspace::{AssignedFolder, WorkspacePlace};

use crate::confined::skipped;
use crate::host::host_program;
use crate::support::{DEADLINE, Site, agent_type, failed, result};

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

/// An order in a folder that stays, of a type that names these paths.
fn in_kept_folder(site: &Site, script: &str, read: &[&Path], write: &[&Path]) -> AttemptOrder {
    let mut order = site.script(script);
    let folder = site.folder.path().join("assigned");
    fs::create_dir_all(&folder).expect("ours");
    let agent = "a_0123456789ab".parse().expect("a lawful id");
    order.place = WorkspacePlace::Assigned(AssignedFolder { agent, folder });
    let keys = serde_json::json!({"paths": {"read": read, "write": write}});
    order.agent = agent_type(&keys.to_string()).into();
    order
}

#[tokio::test]
async fn a_link_that_an_agent_left_at_a_named_path_leads_nowhere() {
    for (kind, site) in walled_sites().await {
        let victim = site.folder.path().join("victim");
        fs::create_dir(&victim).expect("ours");
        fs::write(victim.join("key"), "of the victim").expect("ours");
        let ours = site.folder.path().join("assigned");
        let script = format!(
            "ln -s {0} data; ln -s ../victim cache; mkdir real; ln -s {0} real/deep",
            victim.display()
        );
        result(&site.run(in_kept_folder(&site, &script, &[], &[])).await);
        let script =
            "cat */key; cat */*/key; for folder in data cache real/deep; do echo x > $folder/planted; done";
        let (data, cache, deep) = (ours.join("data"), ours.join("cache"), ours.join("real/deep/x/.."));
        for (read, write, named) in [
            (vec![data.as_path()], vec![], &data),
            (vec![], vec![&*cache], &cache),
            (vec![], vec![&*deep], &deep),
        ] {
            let end = site.run(in_kept_folder(&site, script, &read, &write)).await;
            let (reason, _, message) = failed(&end);
            assert_eq!((reason, end.broken), (Reason::Config, None), "{kind}: {message}");
            assert!(
                message.contains(named.to_str().expect("text")) && message.contains("is a link"),
                "{message}"
            );
        }
        let end = site.run(in_kept_folder(&site, &format!("{script}; echo end"), &[], &[])).await;
        assert_eq!(result(&end).trim(), "end", "{kind}");
        assert_eq!(fs::read_dir(&victim).expect("ours").count(), 1, "{kind}: nothing was planted");
    }
}

#[tokio::test]
async fn named_paths_are_reached_also_through_links_of_the_hosts_people() {
    for (kind, site) in walled_sites().await {
        let linked = site.folder.path().join("linked");
        std::os::unix::fs::symlink(site.shared(), &linked).expect("ours");
        fs::write(site.shared().join("read"), "from the host\n").expect("ours");
        let own = site.folder.path().join("assigned/cache");
        fs::create_dir_all(&own).expect("ours");
        let script =
            format!("echo kept > cache/own; echo x > {0}/written; cat {0}/read cache/own", linked.display());
        let end = site.run(in_kept_folder(&site, &script, &[], &[&linked, &own])).await;
        assert_eq!(result(&end), "from the host\nkept", "{kind}");
        assert!(site.shared().join("written").exists() && own.join("own").exists(), "{kind}");
    }
}

#[tokio::test]
async fn a_type_that_names_what_it_may_not_fails_alone_and_says_which_path() {
    for (kind, site) in walled_sites().await {
        let root = site.runner.root().path().to_owned();
        for (read, write) in [(vec![], vec![root.as_path()]), (vec![root.as_path()], vec![])] {
            let end = site.run(in_kept_folder(&site, "echo never", &read, &write)).await;
            let (reason, _, message) = failed(&end);
            assert_eq!((reason, &end.broken), (Reason::Config, &None), "{kind}: {message}");
            assert!(message.contains(&format!("`{}`", root.display())), "{kind}: {message}");
        }
        assert_eq!(result(&site.run(site.script("echo served")).await), "served", "{kind}");
    }
}

#[tokio::test]
async fn keyrings_are_closed_to_every_confined_agent() {
    let script = |site: &Site| {
        let probe = host_program();
        site.script(&format!(
            "{} __try keyring {} && echo reached || echo refused",
            probe.display(),
            site.mark
        ))
    };
    let site = Site::new();
    let mut order = script(&site);
    order.agent = site.agent("none");
    if result(&site.run(order).await) != "reached" {
        return skipped("this host has no keyrings for anybody");
    }
    for (kind, site) in walled_sites().await {
        assert_eq!(result(&site.run(script(&site)).await), "refused", "{kind}");
    }
}

#[tokio::test]
async fn workspaces_of_others_are_hidden_also_below_another_name_of_their_folder() {
    for (kind, site) in walled_sites().await {
        let above = site.folder.path().to_owned();
        let alias = tempfile::tempdir().expect("a folder");
        let linked = alias.path().join("linked");
        std::os::unix::fs::symlink(&above, &linked).expect("ours");
        let other = site.runner.root().path().join("shell/other");
        fs::create_dir_all(&other).expect("ours");
        fs::write(other.join("secret"), "of another").expect("ours");
        fs::write(above.join("plain"), "for all").expect("ours");
        let script = format!(
            "cat {0}/root/shell/other/secret; cat {0}/plain; ls {0}/root/shell/other; true",
            linked.display()
        );
        let end = site.run(in_kept_folder(&site, &script, &[&linked], &[])).await;
        let kept_out = result(&end).lines().filter(|line| line.contains("of another") || *line == "secret");
        assert_eq!(kept_out.count(), 0, "{kind}");
        assert!(result(&end).contains("for all"), "{kind}");
    }
}
