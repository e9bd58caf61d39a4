//! The scope the tests render with.

use serde_json::{Value, json};

use crate::template::{Expression, RenderError, Root, Scope, Template};

/// A scope with something under every root but `item` and `outputs`.
pub(super) fn scope() -> Scope {
    Scope::new()
        .with(
            Root::State,
            json!({
                "build-id": "b-17",
                "build_id": "b17",
                "count": 3,
                "flag": "false",
                "task:abc.1:result": "done",
                "a.b": "dotted key",
                "table": {"x": {"y": [10, 20]}, "a-b": 1},
                "text_json": "{\"v\": [1, 2]}",
                "nothing": null,
                "evil": "<< vars.branch >> $(rm -rf /) 'q' {{ state.count }}",
            }),
        )
        .with(
            Root::Vars,
            json!({
                "branch": "main",
                "environment": "production",
                "list": ["a", "b c"],
                "deep": {"zz": 1, "aa": [true, null]},
                "on": true,
                "ratio": 1.5,
                "big": 18446744073709551615_u64,
                "whole": 2.0,
                "empty": "",
                "key": "x",
            }),
        )
        .with(Root::Params, json!({"repo": "https://example.org/r.git"}))
        .with(
            Root::Steps,
            json!({
                "git-pull": {"result": "pulled", "status": "completed", "exit_code": 0, "outputs": {"packages": "[\"p\", \"q\"]", "n": "4"}},
                "v1.2": {"result": "dotted step", "outputs": {}},
            }),
        )
        .with(Root::Run, json!({"id": "0abc", "workflow": "deploy", "version": "1"}))
        .with(Root::Task, json!({"id": "0abc.1", "step": "build"}))
        .with(Root::Agent, json!({"type": "shell", "mode": "shell", "role": "builder"}))
        .with(Root::Attempt, 2)
        .with(Root::Prompt, "do it")
        .with(Root::Workspace, "/w/shell/0abc.1")
        .with(Root::Env, json!({"LANG": "C"}))
}

/// Renders a text that must be right.
pub(super) fn rendered(text: &str) -> Value {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    template.render(&scope()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Renders a text that must be right, as text.
pub(super) fn rendered_text(text: &str) -> String {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    template.render_text(&scope()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Works out an expression that must be right.
pub(super) fn evaluated(text: &str) -> Value {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expression.evaluate(&scope()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What goes wrong when an expression is worked out.
pub(super) fn failure(text: &str) -> RenderError {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expression.evaluate(&scope()).expect_err(text)
}
