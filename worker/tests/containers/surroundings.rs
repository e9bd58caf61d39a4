//! What an agent finds around itself in a container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use maestro_model::task::Reason;
use maestro_worker::attempt::AttemptOrder;

use crate::engine::TestEngine;
use crate::support::{Site, agent_type, failed, result};

fn with_keys(order: AttemptOrder, keys: &serde_json::Value) -> AttemptOrder {
    AttemptOrder { agent: Arc::new(agent_type(&keys.to_string())), ..order }
}

#[tokio::test]
async fn its_files_belong_to_the_workers_user_and_lie_at_the_same_path() {
    let site = Site::new();
    let script =
        "pwd; echo $HOME; echo $TMPDIR; echo made > made; echo x > $HOME/h; echo y > $TMPDIR/t; umask";
    let order = site.script(script);
    let paths = site.paths(&order);
    let end = site.run(order).await;
    let lines: Vec<&str> = result(&end).lines().collect();
    let shown = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    assert_eq!(lines[..3], [shown(&paths.folder), shown(&paths.home()), shown(&paths.tmp())]);
    let made = fs::metadata(paths.folder.join("made")).expect("it is there");
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::read_to_string(paths.own.join("box/home/h")).expect("there"), "x\n");
    assert_eq!(fs::read_to_string(paths.own.join("box/tmp/t")).expect("there"), "y\n");
}

#[tokio::test]
async fn it_has_no_rights_beyond_those_that_are_listed() {
    let site = Site::new();
    let script = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ls -A /sys/class/net";
    let end = site.run(site.script(script)).await;
    let words: Vec<&str> = result(&end).split_whitespace().collect();
    let none = "0000000000000000";
    assert_eq!(words, ["CapEff:", none, "CapBnd:", none, "NoNewPrivs:", "1", "lo"]);

    let keys = serde_json::json!({"cap_add": ["CHOWN"]});
    let end = site.run(with_keys(site.script("grep CapEff /proc/self/status"), &keys)).await;
    assert_eq!(result(&end), "CapEff:\t0000000000000001");
}

#[tokio::test]
async fn a_read_only_image_leaves_workspace_tmp_and_its_own_files() {
    let site = Site::new();
    let script = "echo x > made && echo x > /tmp/made && echo x > $TMPDIR/made && echo x > $MAESTRO_OUTPUT_FILE.x \
                  && ! echo x > /etc/made && ! mkdir /made && echo held";
    let end = site.run(with_keys(site.script(script), &serde_json::json!({"read_only": true}))).await;
    assert_eq!(result(&end), "held");
}

#[tokio::test]
async fn what_the_type_lists_comes_along_with_the_rights_it_lists() {
    let site = Site::new();
    let folder = |name: &str| {
        let path = site.folder.path().join(name);
        fs::create_dir(&path).expect("ours");
        fs::write(path.join("there"), name).expect("ours");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (cache, secrets, models, shared) =
        (folder("cache"), folder("secrets"), folder("models"), folder("shared"));
    let keys = serde_json::json!({"cache_dir": cache, "secrets_dir": secrets,
        "paths": {"read": [models, "/no/such/place"], "write": [shared]}});
    let script = format!(
        "for f in {cache} {secrets} {models} {shared}; do cat $f/there; echo; done; \
         for f in {cache} {secrets} {models} {shared}; do echo x > $f/new && echo wrote $f; done; true"
    );
    let end = site.run(with_keys(site.script(&script), &keys)).await;
    assert_eq!(result(&end), format!("cache\nsecrets\nmodels\nshared\nwrote {shared}"));
}

#[tokio::test]
async fn neither_the_engines_socket_nor_others_workspaces_come_along() {
    let site = Site::new();
    let engine = TestEngine::shared("worker::containers").expect("the site has it");
    let folder = engine.socket().parent().expect("a folder").to_owned();
    for (path, words) in [
        (engine.socket(), "the socket of the container engine lies there"),
        (folder, "the socket of the container engine lies there"),
        (site.runner.root().path().to_owned(), "the workspaces of others lie there"),
        (site.folder.path().to_owned(), "the workspaces of others lie there"),
        ("/".into(), "lie"),
    ] {
        let keys = serde_json::json!({"paths": {"read": [path]}});
        let end = site.run(with_keys(site.script("true"), &keys)).await;
        let (reason, _, message) = failed(&end);
        assert!(reason == Reason::Config && message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn the_hosts_processes_devices_and_control_groups_do_not_come_along() {
    let site = Site::new();
    let link = site.folder.path().join("link");
    std::os::unix::fs::symlink("/proc/1", &link).expect("ours");
    let link = link.to_str().expect("UTF-8");
    for path in ["/proc", "/proc/1", "/dev", "/dev/shm", "/sys", "/sys/fs/cgroup", link] {
        for right in ["read", "write"] {
            let keys = serde_json::json!({"paths": {right: [path]}});
            let end = site.run(with_keys(site.script("true"), &keys)).await;
            let (reason, _, message) = failed(&end);
            assert_eq!(reason, Reason::Config, "{path}: {message}");
            assert!(message.contains("the kernel's word on the host"), "{message}");
        }
    }
}

#[tokio::test]
async fn the_environment_is_the_images_and_what_the_specification_lists() {
    let site = Site::new();
    let end = site.run(site.command(&["env"])).await;
    let mut names: Vec<&str> =
        result(&end).lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = [
        "HOME",
        "HOSTNAME",
        "LANG",
        "MAESTRO_AGENT",
        "MAESTRO_ATTEMPT",
        "MAESTRO_DEADLINE",
        "MAESTRO_ERROR_FILE",
        "MAESTRO_OUTPUT_FILE",
        "MAESTRO_RUN_ID",
        "MAESTRO_STEP_ID",
        "MAESTRO_TASK_ID",
        "MAESTRO_WORKER",
        "MAESTRO_WORKFLOW",
        "MAESTRO_WORKSPACE",
        "PATH",
        "TEST_MARK",
        "TMPDIR",
    ];
    assert_eq!(names, expected);
}
