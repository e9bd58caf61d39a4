//! `doctor --agent` of a type for containers: its program is tried in a container of its image.

use serde_json::Value;

use crate::support::engine::{IMAGE, TestEngine};
use crate::support::{ClusterSetup, TestCluster};

fn check(list: &Value, name: &str) -> (String, String) {
    let entry = list.as_array().expect("a list").iter().find(|entry| entry["check"] == name);
    let entry = entry.unwrap_or_else(|| panic!("no line `{name}` in {list}"));
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("found"))
}

#[test]
fn the_program_of_an_image_is_tried_in_a_container_of_it() {
    let Some(engine) = TestEngine::shared("isolation::trial") else { return };
    let env = vec![("DOCKER_HOST", engine.address())];
    let cluster = TestCluster::start(ClusterSetup { env, workers: 0, ..ClusterSetup::default() });
    let doctor = |keys: &str| {
        let text = format!("isolate_with: docker\nimage: {IMAGE}\npull: never\n{keys}\n");
        cluster.write_agent("boxed", &text);
        let answer = cluster.maestro(&["doctor", "--agent", "boxed", "--format", "json"]);
        let list: Value = serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:?}"));
        (answer.code, list)
    };
    // The image's is another than the host's, and says so.
    let (code, list) = doctor("command: [tar, \"<< prompt >>\"]");
    let (status, found) = check(&list, "program");
    assert_eq!((code, status.as_str()), (0, "ok"), "{list}");
    assert!(found.starts_with(&format!("`tar --version` in image `{IMAGE}` answered in ")), "{found}");
    assert!(found.contains("busybox"), "{found}");
    assert_eq!(check(&list, "confinement").1, "each task has a container of its own");

    let (code, list) = doctor("network: none\ncommand: [no-such-program]");
    let (status, found) = check(&list, "program");
    assert_eq!((code, status.as_str()), (1, "fail"), "{list}");
    let expected = format!(
        "`no-such-program` in image `{IMAGE}` cannot be started: binary not found: `no-such-program` in image \
         `{IMAGE}`"
    );
    assert_eq!(found, expected);

    for what in [&["ps", "--all"][..], &["network", "ls"]] {
        let words = [what, &["--filter", "label=maestro.worker=doctor", "--quiet"]].concat();
        assert_eq!(engine.docker(&words), "", "nothing of it is left");
    }
}
