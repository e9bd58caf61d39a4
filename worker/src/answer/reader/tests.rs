//! What is found in outputs that are odd. What the real programs print stands in `tests/fixtures/agents`, and is
//! read by `worker/tests/answers.rs`.

use proptest::prelude::*;

use super::*;
use crate::answer::{ANSWER_BYTES_MAX, UsageLimit};

const FORMATS: [OutputFormat; 4] =
    [OutputFormat::ClaudeJson, OutputFormat::CodexJson, OutputFormat::GeminiJson, OutputFormat::KiloJson];

fn findings_in(format: OutputFormat, output: impl AsRef<[u8]>) -> AnswerFindings {
    let now = "2026-11-20T10:00:00Z".parse::<jiff::Timestamp>().expect("a time");
    let mut reader = AnswerReader::of(format).expect("a format that is read");
    output.as_ref().chunks(4096).for_each(|piece| reader.add(piece));
    reader.finish(&now.to_zoned(jiff::tz::TimeZone::UTC))
}

fn failure_in(format: OutputFormat, output: &str) -> Option<String> {
    match findings_in(format, output).trouble? {
        AnswerTrouble::Failed(message) => Some(message),
        AnswerTrouble::UsageLimit(UsageLimit { message, reset }) => {
            Some(format!("limit {}: {message}", reset.map_or("?".to_owned(), |reset| reset.at.to_string())))
        }
    }
}

#[test]
fn plain_text_has_no_reader() {
    assert!(AnswerReader::of(OutputFormat::Text).is_none());
}

#[test]
fn an_output_that_is_cut_off_has_no_answer() {
    let cut = [
        (
            OutputFormat::ClaudeJson,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"so"}]}}"#,
        ),
        (OutputFormat::CodexJson, r#"{"type":"item.completed","item":{"type":"agent_message","text":"so"}}"#),
        (OutputFormat::GeminiJson, r#"{"type":"message","role":"assistant","content":"so","delta":true}"#),
        (OutputFormat::KiloJson, r#"{"type":"text","part":{"text":"so"}}"#),
    ];
    for (format, line) in cut {
        let found = findings_in(format, line);
        assert_eq!((found.answer, found.trouble, found.events), (None, None, 1), "{format:?}");
    }
}

#[test]
fn kilo_that_was_about_to_use_a_tool_has_not_answered() {
    let output = concat!(
        r#"{"type":"step_start","sessionID":"s"}"#,
        "\n",
        r#"{"type":"text","part":{"text":"I will look."}}"#,
        "\n",
        r#"{"type":"step_finish","part":{"reason":"tool-calls","cost":0.5}}"#,
        "\n"
    );
    let found = findings_in(OutputFormat::KiloJson, output);
    assert_eq!((found.answer, found.model_use.cost_usd), (None, Some(0.5)));
    let more = concat!(
        r#"{"type":"step_start"}"#,
        "\n",
        r#"{"type":"text","part":{"text":"Done."}}"#,
        "\n",
        r#"{"type":"step_finish","part":{"reason":"stop","cost":0.25}}"#
    );
    let found = findings_in(OutputFormat::KiloJson, format!("{output}{more}"));
    assert_eq!((found.answer.as_deref(), found.model_use.cost_usd), (Some("Done."), Some(0.75)));
}

#[test]
fn a_connection_that_codex_made_again_is_no_failure() {
    let output = concat!(
        r#"{"type":"error","message":"Reconnecting... 1/5"}"#,
        "\n",
        r#"{"type":"item.completed","item":{"type":"agent_message","text":"42"}}"#,
        "\n",
        r#"{"type":"turn.completed","usage":{"input_tokens":1}}"#
    );
    let found = findings_in(OutputFormat::CodexJson, output);
    assert_eq!((found.answer.as_deref(), found.trouble), (Some("42"), None));
    let only = r#"{"type":"error","message":"no route"}"#;
    assert_eq!(failure_in(OutputFormat::CodexJson, only).as_deref(), Some("no route"));
}

#[test]
fn what_gemini_said_before_a_tool_is_not_the_answer() {
    let output = concat!(
        r#"{"type":"message","role":"assistant","content":"Let me ","delta":true}"#,
        "\n",
        r#"{"type":"message","role":"assistant","content":"look.","delta":true}"#,
        "\n",
        r#"{"type":"tool_use"}"#,
        "\n",
        r#"{"type":"tool_result"}"#,
        "\n",
        r#"{"type":"message","role":"assistant","content":"It is ","delta":true}"#,
        "\n",
        r#"{"type":"message","role":"assistant","content":"42.","delta":true}"#,
        "\n",
        r#"{"type":"result","status":"success"}"#
    );
    assert_eq!(findings_in(OutputFormat::GeminiJson, output).answer.as_deref(), Some("It is 42."));
}

#[test]
fn a_budget_that_claude_was_given_is_a_limit_of_its_own() {
    let spent = r#"{"type":"result","subtype":"error_max_budget_usd","is_error":false,"errors":["over $1"],"total_cost_usd":1.25}"#;
    let found = findings_in(OutputFormat::ClaudeJson, spent);
    assert!(matches!(found.trouble, Some(AnswerTrouble::UsageLimit(_))), "{found:?}");
    assert_eq!(found.model_use.cost_usd, Some(1.25));
    let turns = r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#;
    assert_eq!(
        failure_in(OutputFormat::ClaudeJson, turns).as_deref(),
        Some("it ended with `error_max_turns`")
    );
}

#[test]
fn a_limit_that_extra_usage_covers_is_none() {
    let output = concat!(
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795183724,"isUsingOverage":true}}"#,
        "\n",
        r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 500"}"#
    );
    assert_eq!(failure_in(OutputFormat::ClaudeJson, output).as_deref(), Some("API Error: 500"));
}

#[test]
fn fields_of_the_wrong_kind_are_as_good_as_missing() {
    let odd = [
        r#"{"type":"result","result":42,"is_error":"no","usage":[],"modelUsage":7,"total_cost_usd":"much"}"#,
        r#"{"type":"turn.completed","usage":"many"}"#,
        r#"{"type":"result","status":3,"stats":null,"error":[]}"#,
        r#"{"type":"step_finish","part":{"tokens":{"input":-1,"cache":4},"cost":null}}"#,
        r#"{"type":{"type":"result"},"part":{"part":[]},"item":[],"message":null}"#,
        r#"{"type":"error","error":null,"message":{}}"#,
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":"soon"}}"#,
    ];
    for format in FORMATS {
        for line in odd {
            findings_in(format, line);
        }
        findings_in(format, odd.join("\n"));
    }
}

#[test]
fn a_long_answer_is_cut_to_its_end() {
    let text = format!("{}the end", "x".repeat(2 * ANSWER_BYTES_MAX));
    let line = serde_json::json!({"type": "result", "subtype": "success", "result": text}).to_string();
    let answer = findings_in(OutputFormat::ClaudeJson, line).answer.expect("an answer");
    assert_eq!(answer.len(), ANSWER_BYTES_MAX);
    assert!(answer.ends_with("the end"));
}

proptest! {
    #[test]
    fn no_output_breaks_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        for format in FORMATS {
            let mut reader = AnswerReader::of(format).expect("a format that is read");
            let cut = cut.min(bytes.len());
            reader.add(&bytes[..cut]);
            reader.add(&bytes[cut..]);
            let found = reader.finish(&jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC));
            prop_assert_eq!(found.answer, None);
        }
    }
}
