//! Memory, processes, and whose failure it was.

use std::sync::Arc;

use maestro_model::attempt::AttemptOutcome;
use maestro_model::task::Reason;
use maestro_worker::attempt::{AttemptOrder, BrokenPart};

use crate::engine::IMAGE;
use crate::support::{Site, agent_type, failed, result};

fn with_keys(order: AttemptOrder, keys: &str) -> AttemptOrder {
    AttemptOrder { agent: Arc::new(agent_type(keys)), ..order }
}

#[tokio::test]
async fn more_memory_than_allowed_is_oom() {
    let site = Site::new();
    // All that tail keeps is one line, which never ends.
    let order = with_keys(site.script("tail -n 1 /dev/zero"), r#"{"resources": {"memory_bytes": 25165824}}"#);
    let end = site.run(order).await;
    let (reason, _, message) = failed(&end);
    assert_eq!((reason, message), (Reason::Oom, "the agent needed more memory than its container may have"));
    assert_eq!(end.broken, None, "the host is well");
}

#[tokio::test]
async fn an_agent_that_kills_itself_is_not_out_of_memory() {
    let site = Site::new();
    let order = with_keys(site.script("kill -9 $$"), r#"{"resources": {"memory_bytes": 67108864}}"#);
    let end = site.run(order).await;
    assert_eq!(failed(&end), (Reason::Exit, Some(137), "the agent was ended by signal 9"));
}

#[tokio::test]
async fn more_processes_than_allowed_cannot_be_started() {
    let site = Site::new();
    let script = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all";
    let order = with_keys(site.script(script), r#"{"resources": {"pids": 12}}"#);
    let end = site.run(order).await;
    let (reason, code, message) = failed(&end);
    assert_eq!((reason, code), (Reason::Exit, Some(2)));
    assert!(message.contains("can't fork"), "{message}");
}

#[tokio::test]
async fn a_missing_program_is_the_hosts_failure_and_an_agents_own_codes_are_its_own() {
    let site = Site::new();
    let end = site.run(site.command(&["no-such-agent", "run"])).await;
    let (reason, code, message) = failed(&end);
    assert_eq!((reason, code), (Reason::Infra, None));
    assert_eq!(message, format!("binary not found: `no-such-agent` in image `{IMAGE}`"));
    assert_eq!(end.broken, Some(BrokenPart::Binary));

    for code in [125, 126, 127] {
        let end = site.run(site.script(&format!("exit {code}"))).await;
        let message = format!("the agent ended with exit code {code}");
        assert_eq!(failed(&end), (Reason::Exit, Some(code), message.as_str()));
        assert_eq!(end.broken, None);
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_the_hosts_failure() {
    let site = Site::new();
    let keys = r#"{"image": "maestro-test-none:1", "pull": "never"}"#;
    let end = site.run(with_keys(site.script("true"), keys)).await;
    let (reason, _, message) = failed(&end);
    assert_eq!(reason, Reason::Infra);
    assert!(message.starts_with("image `maestro-test-none:1` is not there: `pull` is `never`"), "{message}");

    // Nothing answers at that address, which is what a pull then says.
    let keys = r#"{"image": "127.0.0.1:9/team/none:1"}"#;
    let order = with_keys(site.script("true"), keys);
    let log = site.paths(&order).log();
    let end = site.run(order).await;
    let (reason, _, message) = failed(&end);
    assert_eq!((reason, end.broken), (Reason::Infra, Some(BrokenPart::Binary)));
    assert!(message.starts_with("image `127.0.0.1:9/team/none:1` is not there: "), "{message}");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.starts_with("maestro: pulling image 127.0.0.1:9/team/none:1\n"), "{log}");
}

#[tokio::test]
async fn what_the_prompt_says_comes_by_standard_input_and_ends() {
    let site = Site::new();
    let mut order = with_keys(site.script("wc -c; echo ended"), r#"{"prompt_via": "stdin"}"#);
    order.prompt = "x".repeat(200_000);
    assert_eq!(result(&site.run(order).await), "200000\nended");
    let mut order = with_keys(site.script("true"), r#"{"prompt_via": "stdin"}"#);
    order.prompt = "never read".repeat(20_000);
    assert_eq!(site.run(order).await.report.outcome, AttemptOutcome::Completed);
    let mut order = with_keys(site.script("cat $MAESTRO_PROMPT_FILE"), r#"{"prompt_via": "file"}"#);
    order.prompt = "from a file".to_owned();
    assert_eq!(result(&site.run(order).await), "from a file");
}
