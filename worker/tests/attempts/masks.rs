//! Secrets in every place where an agent may leave one: none of them leaves the worker.

use std::sync::Arc;

use maestro_model::attempt::AttemptOutcome;
use maestro_worker::attempt::AttemptOrder;
use maestro_worker::log_capture::log_channel;

use crate::support::{Site, agent_type, failed};

/// With letters that JSON writes in another way.
const SECRET: &str = "open\"sesa\\me/ö<";

fn site() -> Site {
    Site::with_environment([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TOKEN", SECRET)])
}

fn order(site: &Site, output: &str, script: &str) -> AttemptOrder {
    let keys = serde_json::json!({"secrets": {"KEY": "env://TOKEN"}, "output": output});
    AttemptOrder { agent: Arc::new(agent_type(&keys.to_string())), ..site.script(script) }
}

#[tokio::test]
async fn a_secret_is_masked_in_log_result_and_outputs_also_where_two_reads_meet() {
    let site = site();
    // The pauses make it likely that the halves are read apart; either way nothing may be seen.
    let script = r#"half=${KEY%sesa*}; rest=${KEY#"$half"}
        printf '%s' "out: $half"; sleep 0.2; echo "$rest"
        printf '%s' "err: $half" >&2; sleep 0.2; echo "$rest" >&2
        echo "value=$KEY" > "$MAESTRO_OUTPUT_FILE""#;
    let order = order(&site, "text", script);
    let log = site.paths(&order).log();
    let (sender, mut pieces) = log_channel();
    let end = site.runner.attempt(order, Some(sender)).run().await;
    let mut streamed = Vec::new();
    while let Some(piece) = pieces.recv().await {
        streamed.extend(piece.bytes);
    }
    let outputs = end.report.outputs.as_ref().expect("it completed");
    assert_eq!(outputs.result, "out: ***");
    assert_eq!(outputs.outputs["value"], "***");
    let log = std::fs::read(log).expect("a log");
    for (place, bytes) in [("agent.log", log), ("the stream", streamed)] {
        let text = String::from_utf8(bytes).expect("text");
        // The two streams may meet within a line.
        assert!(text.contains("out: ") && text.contains("err: "), "{place}: {text}");
        assert_eq!(text.matches("***").count(), 2, "{place}: {text}");
        assert!(!text.contains("sesa"), "{place}: {text}");
    }
}

#[tokio::test]
async fn a_secret_is_masked_in_json_as_it_is_printed_and_as_it_is_read() {
    let site = site();
    let line = serde_json::json!({"type": "result", "subtype": "success", "result": format!("it is {SECRET}."),
        "session_id": SECRET});
    // The same, in a form in which no mask over bytes finds it.
    let odd = line.to_string().replace("sesa", "\\u0073esa");
    for line in [line.to_string(), odd] {
        let script = format!("cat <<'END'\n{line}\nEND");
        let order = order(&site, "claude-json", &script);
        let end = site.run(order).await;
        assert_eq!(end.report.outcome, AttemptOutcome::Completed, "{:?}", end.report);
        let told = serde_json::to_string(&end.report).expect("plain data");
        assert!(!told.contains("esa"), "{told}");
        assert_eq!(end.report.outputs.expect("it completed").result, "it is ***.");
    }
}

#[tokio::test]
async fn a_secret_is_masked_in_the_message_of_a_failure_also_where_it_is_cut() {
    let site = site();
    let told = order(&site, "text", r#"echo "no: $KEY" > "$MAESTRO_ERROR_FILE"; exit 3"#);
    assert_eq!(failed(&site.run(told).await).2, "no: ***");
    // Its first half ends where the message does.
    let cut = r#"{ head -c 2041 /dev/zero | tr '\0' x; echo "$KEY"; } > "$MAESTRO_ERROR_FILE"; exit 3"#;
    let end = site.run(order(&site, "text", cut)).await;
    let message = failed(&end).2;
    assert!(message.ends_with("xxx***") && !message.contains("open"), "{message}");
    let said = order(&site, "text", r#"echo "said $KEY" >&2; exit 3"#);
    assert_eq!(failed(&site.run(said).await).2, "said ***");
    let line = serde_json::json!({"type": "result", "subtype": "success", "is_error": true,
        "result": format!("API Error: key {SECRET} is not valid")});
    let in_json = order(&site, "claude-json", &format!("cat <<'END'\n{line}\nEND"));
    assert_eq!(failed(&site.run(in_json).await).2, "API Error: key *** is not valid");
}
