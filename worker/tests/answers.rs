//! What is found in outputs of the real programs, as they were recorded (`tests/fixtures/agents`).

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maestro_model::agent_type::OutputFormat;
use maestro_worker::answer::{AnswerFindings, AnswerReader, AnswerTrouble, UsageLimit};

/// Shorter than any event, so that every one is cut.
const PIECE_BYTES: usize = 97;

fn recorded(program: &str, scene: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/agents").join(program);
    let end = if scene == "single" { "json" } else { "jsonl" };
    let path = folder.join(format!("{scene}.{end}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn format_of(program: &str) -> OutputFormat {
    match program {
        "claude" => OutputFormat::ClaudeJson,
        "codex" => OutputFormat::CodexJson,
        "gemini" => OutputFormat::GeminiJson,
        "kilo" => OutputFormat::KiloJson,
        other => panic!("no program `{other}`"),
    }
}

fn findings(program: &str, output: &[u8]) -> AnswerFindings {
    // The day on which they were recorded: a limit that has passed is none.
    let now = "2026-11-20T12:07:00Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
    let mut reader = AnswerReader::of(format_of(program)).expect("a format that is read");
    output.chunks(PIECE_BYTES).for_each(|piece| reader.add(piece));
    reader.finish(&now)
}

/// In one line, without the session, which is another in each recording.
fn told(found: &AnswerFindings) -> String {
    let mut text = match (&found.answer, &found.trouble) {
        (Some(answer), None) => format!("answer: {answer}"),
        (None, Some(AnswerTrouble::Failed(message))) => format!("failed: {message}"),
        (None, Some(AnswerTrouble::UsageLimit(UsageLimit { message, reset }))) => {
            let until = reset.map_or("?".to_owned(), |reset| reset.at.to_string());
            format!("limit until {until}: {message}")
        }
        (None, None) => "nothing".to_owned(),
        both => panic!("an answer and a trouble: {both:?}"),
    };
    if let Some(tokens) = found.model_use.tokens {
        write!(text, " | {} in, {} cached, {} out", tokens.input, tokens.cached, tokens.output)
            .expect("text");
    }
    if let Some(cost) = found.model_use.cost_usd {
        write!(text, " | ${cost:.6}").expect("text");
    }
    text
}

fn shown(program: &str, scenes: &[&str]) -> String {
    let mut lines = String::new();
    for scene in scenes {
        let found = findings(program, &recorded(program, scene));
        assert!(
            found.model_use.session.as_ref().is_some_and(|session| session.len() > 8),
            "{program} {scene}"
        );
        writeln!(lines, "{scene}: {}", told(&found)).expect("text");
    }
    lines
}

#[test]
fn claude_is_understood() {
    let scenes = ["plain", "single", "tool", "error", "limit", "garbage", "cut"];
    insta::assert_snapshot!(shown("claude", &scenes));
}

#[test]
fn codex_is_understood() {
    let scenes = ["plain", "tool", "error", "limit", "throttled", "garbage", "cut"];
    insta::assert_snapshot!(shown("codex", &scenes));
}

#[test]
fn gemini_is_understood() {
    let scenes = ["plain", "single", "tool", "error", "limit", "daily", "garbage"];
    insta::assert_snapshot!(shown("gemini", &scenes));
}

#[test]
fn kilo_is_understood() {
    insta::assert_snapshot!(shown("kilo", &["plain", "tool", "error", "limit", "unpaid", "garbage"]));
}

#[test]
fn an_output_that_is_cut_anywhere_gives_the_answer_or_none() {
    for program in ["claude", "codex", "gemini", "kilo"] {
        let output = recorded(program, "plain");
        let whole = findings(program, &output).answer.expect("an answer");
        for length in (0..output.len()).step_by(11) {
            let found = findings(program, &output[..length]);
            assert!(found.answer.is_none_or(|answer| answer == whole), "{program} after {length} bytes");
            assert_eq!(found.trouble, None, "{program} after {length} bytes");
        }
    }
}

#[test]
fn garbage_between_events_changes_nothing() {
    let noise: &[u8] = b"\xff\xfe no json {\n{\"half\": \n[1,2\n{}\n{\"type\":\"of tomorrow\",\"n\":[{}]}\n";
    for program in ["claude", "codex", "gemini", "kilo"] {
        let output = recorded(program, "tool");
        let noisy: Vec<u8> =
            output.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [noise, line].concat()).collect();
        let (clean, found) = (findings(program, &output), findings(program, &noisy));
        assert_eq!((clean.answer, clean.model_use), (found.answer, found.model_use), "{program}");
        assert!(found.events > clean.events);
    }
}

#[test]
fn a_program_is_not_taken_for_another() {
    for (program, other) in [("claude", "codex"), ("codex", "gemini"), ("gemini", "kilo"), ("kilo", "claude")]
    {
        let found = findings(other, &recorded(program, "plain"));
        assert_eq!(found.answer, None, "{program} read as {other}");
    }
}
