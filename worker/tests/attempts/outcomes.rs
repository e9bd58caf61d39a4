//! How an agent's own end becomes a report.

use std::fs;

use maestro_model::attempt::AttemptOutcome;
use maestro_model::task::Reason;
use maestro_worker::attempt::BrokenPart;

use crate::support::{Site, failed, result};

#[tokio::test]
async fn success_brings_result_outputs_and_usage() {
    let site = Site::new();
    let order = site.script(
        r#"echo one; echo two; printf 'id=7\ntext<<END\na\nb\nEND\n' > "$MAESTRO_OUTPUT_FILE"; exit 0"#,
    );
    let paths = site.paths(&order);
    let end = site.run(order).await;
    assert_eq!(result(&end), "one\ntwo");
    let outputs = &end.report.outputs.as_ref().expect("completed").outputs;
    assert_eq!(serde_json::to_value(outputs).expect("text"), serde_json::json!({"id": "7", "text": "a\nb"}));
    assert_eq!(fs::read_to_string(paths.folder.join("agent.log")).expect("linked"), "one\ntwo\n");
    let tree = end.tree.expect("it ran");
    assert!(tree.max_rss_kib > 100 || !crate::isolation::COUNTS_PROCESSES, "{tree:?}");
    assert!(tree.leftovers == 0 && tree.survivors == 0, "{tree:?}");
    assert!(!end.ran_for.is_zero());
}

#[tokio::test]
async fn exit_codes_and_signals_are_reported() {
    let site = Site::new();
    let come_back = site.run(site.script("echo busy > $MAESTRO_ERROR_FILE; exit 75")).await;
    assert_eq!(come_back.report.outcome, AttemptOutcome::ComeBack);
    assert_eq!(come_back.report.message.as_deref(), Some("busy"));
    let never = site.run(site.script("exit 78")).await;
    assert_eq!(failed(&never), (Reason::Exit, Some(78), "the agent ended with exit code 78"));
    let plain = site.run(site.script("echo first >&2; echo 'the reason' >&2; echo >&2; exit 3")).await;
    assert_eq!(failed(&plain), (Reason::Exit, Some(3), "the reason"));
    let killed = site.run(site.script("kill -9 $$")).await;
    assert_eq!(failed(&killed), (Reason::Exit, Some(137), "the agent was ended by signal 9"));
}

#[tokio::test]
async fn the_error_file_is_the_message_up_to_two_kib() {
    let site = Site::new();
    let end =
        site.run(site.script("yes abc | head -c 5000 > $MAESTRO_ERROR_FILE; echo no >&2; exit 1")).await;
    let (_, code, message) = failed(&end);
    assert_eq!(code, Some(1));
    assert_eq!(message, "abc\n".repeat(512).trim());
}

#[tokio::test]
async fn an_output_file_that_cannot_be_read_fails_the_task() {
    let site = Site::new();
    let malformed = site.run(site.script("echo 'no assignment' > $MAESTRO_OUTPUT_FILE")).await;
    let (reason, code, message) = failed(&malformed);
    assert_eq!((reason, code), (Reason::Config, Some(0)));
    assert!(message.starts_with("line 1 of the output file: expected `name=value`"), "{message}");

    let large = site.run(site.script("yes a=b | head -c 300000 > $MAESTRO_OUTPUT_FILE")).await;
    assert_eq!(failed(&large), (Reason::Config, Some(0), "the output file has more than 262144 bytes"));

    for odd in [
        "mkfifo $MAESTRO_OUTPUT_FILE",
        "ln -s /etc/passwd $MAESTRO_OUTPUT_FILE",
        "mkdir $MAESTRO_OUTPUT_FILE",
    ] {
        let end = site.run(site.script(odd)).await;
        let message = "the output file cannot be read: it is not a regular file";
        assert_eq!(failed(&end), (Reason::Config, Some(0), message), "{odd}");
    }
}

#[tokio::test]
async fn an_output_file_counts_only_after_success() {
    let site = Site::new();
    let end = site.run(site.script("echo 'no assignment' > $MAESTRO_OUTPUT_FILE; exit 4")).await;
    assert_eq!(failed(&end), (Reason::Exit, Some(4), "the agent ended with exit code 4"));
}

#[tokio::test]
async fn a_script_of_the_workspace_can_be_the_command() {
    let site = Site::new();
    let template = site.folder.path().join("template");
    fs::create_dir(&template).expect("ours");
    fs::write(template.join("run.sh"), "#!/bin/sh\necho here: $1\n").expect("ours");
    fs::set_permissions(template.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("ours");
    let mut order = site.command(&["./run.sh", "x y"]);
    order.template = Some(template);
    assert_eq!(result(&site.run(order).await), "here: x y");

    let mut order = site.script("true");
    order.template = Some(site.folder.path().join("nowhere"));
    let end = site.run(order).await;
    let (reason, _, message) = failed(&end);
    assert!(reason == Reason::Infra && message.starts_with("template not found: `"), "{message}");
    assert_eq!(end.broken, Some(BrokenPart::Template));

    let mut order = site.script("true");
    let file = site.folder.path().join("file");
    fs::write(&file, "").expect("ours");
    order.template = Some(file.clone());
    let end = site.run(order).await;
    let expected = format!("template `{}` cannot be used: it is not a folder", file.display());
    assert_eq!(failed(&end), (Reason::Config, None, expected.as_str()));
}

#[tokio::test]
async fn a_root_that_vanished_is_the_hosts_failure() {
    let site = Site::new();
    fs::remove_dir_all(site.runner.root().path()).expect("ours");
    let end = site.run(site.script("true")).await;
    let (reason, _, message) = failed(&end);
    assert!(reason == Reason::Infra && message.starts_with("cannot make the folder `"), "{message}");
    assert_eq!(end.broken, Some(BrokenPart::Workspaces));
}
