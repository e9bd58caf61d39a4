//! What the model says: the same script in the words of four providers.
//!
//! A prompt names its scene, `scene:limit`; without one the answer is plain. In the scene `tool` the model
//! first asks for a file to be written, and answers once it has been told that it was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::model_server::ModelRequest;

/// From a usage limit to its reset, seconds.
pub(crate) const RESET_SECONDS: u64 = 7_200;
/// Between two pieces of a slow stream.
const SLOW_PAUSE: Duration = Duration::from_millis(300);
/// The file that the model asks for.
pub(crate) const MADE_FILE: &str = "made.txt";
/// What a bad request is told.
pub(crate) const ERROR_TEXT: &str = "scripted: the request is bad";

/// An answer as it goes over the wire.
pub(crate) enum ModelAnswer {
    Json { status: u16, headers: Vec<(&'static str, String)>, body: String },
    Stream { pieces: Vec<Vec<u8>>, pause: Duration },
}

/// What every scene ends with if it ends well.
pub(crate) fn answer_text(program: &str) -> String {
    format!("The answer of {program} is 42.")
}

/// What the file holds that the model asks a program for.
pub(crate) fn made_text(program: &str) -> String {
    format!("made by {program}")
}

fn stream(pieces: Vec<String>, scene: &str) -> ModelAnswer {
    let pause = if scene == "slow" { SLOW_PAUSE } else { Duration::ZERO };
    ModelAnswer::Stream { pieces: pieces.into_iter().map(String::into_bytes).collect(), pause }
}

fn refusal(status: u16, body: Value) -> ModelAnswer {
    ModelAnswer::Json { status, headers: Vec::new(), body: body.to_string() }
}

/// When the limit is lifted, seconds since 1970.
fn reset_at() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + RESET_SECONDS
}

/// The answer to a request, by its path and by the scene its prompt names.
pub(crate) fn answer_to(request: &ModelRequest) -> ModelAnswer {
    let scene = request.body.split("scene:").nth(1).unwrap_or("plain");
    let end = scene.find(|letter: char| !letter.is_ascii_lowercase()).unwrap_or(scene.len());
    let (scene, path, body) = (&scene[..end], request.path.as_str(), request.body.as_str());
    if scene == "garbage" {
        return ModelAnswer::Stream {
            pieces: vec![b"\x00\xff<html>no model".to_vec()],
            pause: Duration::ZERO,
        };
    }
    if path.contains("/chat/completions") {
        as_chat(scene, body)
    } else if path.contains("/responses") {
        as_openai(scene, body)
    } else if path.contains("enerateContent") {
        as_gemini(scene, body, path)
    } else if path.contains("/v1/messages") && !path.contains("count_tokens") {
        as_anthropic(scene, body)
    } else {
        refusal(404, json!({"error": {"message": "no such thing"}}))
    }
}

fn as_anthropic(scene: &str, body: &str) -> ModelAnswer {
    let error = |kind: &str, text: &str| json!({"type": "error", "error": {"type": kind, "message": text}});
    match scene {
        "error" => return refusal(400, error("invalid_request_error", ERROR_TEXT)),
        "limit" => {
            return ModelAnswer::Json {
                status: 429,
                headers: vec![
                    ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
                    ("anthropic-ratelimit-unified-reset", reset_at().to_string()),
                    ("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()),
                    ("x-should-retry", "false".to_owned()),
                ],
                body: error("rate_limit_error", "This would exceed your account's rate limit.").to_string(),
            };
        }
        _ => {}
    }
    let event = |event: Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("events have a type"))
    };
    let usage = json!({"input_tokens": 120, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 30, "output_tokens": 1});
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "scripted", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": usage}});
    let (block, delta, reason) = if scene == "tool" && !body.contains("\"tool_result\"") {
        let command = format!("echo '{}' > {MADE_FILE}", made_text("claude"));
        let input = json!({"command": command, "description": "write a file"}).to_string();
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
        (block, json!({"type": "input_json_delta", "partial_json": input}), "tool_use")
    } else {
        let delta = json!({"type": "text_delta", "text": answer_text("claude")});
        (json!({"type": "text", "text": ""}), delta, "end_turn")
    };
    let pieces = vec![
        event(start),
        event(json!({"type": "content_block_start", "index": 0, "content_block": block})),
        event(json!({"type": "content_block_delta", "index": 0, "delta": delta})),
        event(json!({"type": "content_block_stop", "index": 0})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
            "usage": {"output_tokens": 7}})),
        event(json!({"type": "message_stop"})),
    ];
    stream(pieces, scene)
}

fn as_openai(scene: &str, body: &str) -> ModelAnswer {
    match scene {
        "error" => {
            return refusal(400, json!({"error": {"message": ERROR_TEXT, "type": "invalid_request_error"}}));
        }
        "limit" => {
            let error = json!({"type": "usage_limit_reached", "message": "The usage limit has been reached",
                "plan_type": "plus", "resets_at": reset_at(), "resets_in_seconds": RESET_SECONDS});
            return refusal(429, json!({"error": error}));
        }
        _ => {}
    }
    let item = if scene == "tool" && !body.contains("\"function_call_output\"") {
        let command = format!("echo '{}' > {MADE_FILE}", made_text("codex"));
        json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec_command",
            "arguments": json!({"cmd": command}).to_string()})
    } else {
        let text = answer_text("codex");
        json!({"type": "message", "role": "assistant", "id": "msg_1",
            "content": [{"type": "output_text", "text": text}]})
    };
    let usage = json!({"input_tokens": 150, "input_tokens_details": {"cached_tokens": 30},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 157});
    let event = |event: Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("events have a type"))
    };
    let pieces = vec![
        event(json!({"type": "response.created", "response": {"id": "resp_1"}})),
        event(json!({"type": "response.output_item.done", "output_index": 0, "item": item})),
        event(json!({"type": "response.completed", "response": {"id": "resp_1", "usage": usage}})),
    ];
    stream(pieces, scene)
}

fn as_gemini(scene: &str, body: &str, path: &str) -> ModelAnswer {
    let refused = |code: u16, text: &str, details: Value| {
        let status = if code == 429 { "RESOURCE_EXHAUSTED" } else { "INVALID_ARGUMENT" };
        refusal(code, json!({"error": {"code": code, "message": text, "status": status, "details": details}}))
    };
    match scene {
        "error" => return refused(400, ERROR_TEXT, json!([])),
        "limit" => {
            let retry = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{RESET_SECONDS}s")}]);
            return refused(429, "You exceeded your current quota, please check your plan.", retry);
        }
        _ => {}
    }
    let usage = json!({"promptTokenCount": 150, "candidatesTokenCount": 7, "totalTokenCount": 157,
        "cachedContentTokenCount": 30});
    let said = |part: Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP",
            "index": 0}], "usageMetadata": usage, "modelVersion": "scripted"})
    };
    if !path.contains("streamGenerateContent") {
        // The question which model is to work on a prompt.
        let choice = json!({"complexity_reasoning": "a plain question", "complexity_score": 10});
        return refusal(200, said(json!({"text": choice.to_string()})));
    }
    let part = if scene == "tool" && !body.contains("\"functionResponse\"") {
        json!({"functionCall": {"name": "write_file",
            "args": {"file_path": MADE_FILE, "content": made_text("gemini")}}})
    } else {
        json!({"text": answer_text("gemini")})
    };
    stream(vec![format!("data: {}\r\n\r\n", said(part))], scene)
}

fn as_chat(scene: &str, body: &str) -> ModelAnswer {
    match scene {
        "error" => {
            return refusal(400, json!({"error": {"message": ERROR_TEXT, "type": "invalid_request_error"}}));
        }
        "limit" => {
            // Not 429, which kilo sits out by itself for as long as the provider says.
            let error = json!({"message": "Usage limit reached, add credits to continue",
                "type": "insufficient_credits", "resets_at": reset_at()});
            return refusal(402, json!({"error": error}));
        }
        _ => {}
    }
    let piece = |delta: Value, reason: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
            "choices": [choice], "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let usage = json!({"prompt_tokens": 150, "completion_tokens": 7, "total_tokens": 157,
        "prompt_tokens_details": {"cached_tokens": 30}});
    // A request without tools asks for the title of the session.
    let may_use_tools = body.contains("\"name\":\"bash\"");
    let mut pieces = if scene == "tool" && may_use_tools && !body.contains("\"role\":\"tool\"") {
        let command = format!("echo '{}' > {MADE_FILE}", made_text("kilo"));
        let arguments = json!({"command": command, "description": "write a file"}).to_string();
        let call = json!({"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "bash", "arguments": arguments}});
        vec![
            piece(json!({"role": "assistant", "tool_calls": [call]}), Value::Null, Value::Null),
            piece(json!({}), json!("tool_calls"), usage),
        ]
    } else {
        let text = answer_text("kilo");
        let (head, tail) = text.split_at(text.len() / 2);
        vec![
            piece(json!({"role": "assistant", "content": head}), Value::Null, Value::Null),
            piece(json!({"content": tail}), Value::Null, Value::Null),
            piece(json!({}), json!("stop"), usage),
        ]
    };
    pieces.push("data: [DONE]\n\n".to_owned());
    stream(pieces, scene)
}
