//! Which names a template reads: roots, paths, places, and whether they may be missing.

use crate::template::{Expression, NameUse, Root, Template};

fn names(text: &str) -> Vec<NameUse> {
    Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).names().to_vec()
}

#[test]
fn every_name_is_listed_with_its_place() {
    let text = "Go << vars.branch >> and << state[\"a.b\"].c ~ steps.git-pull.outputs.x-y[0] | sh >>.";
    let found = names(text);
    let shown: Vec<_> =
        found.iter().map(|name| (name.root, name.to_string(), &text[name.span.clone()])).collect();
    assert_eq!(
        shown,
        [
            (Root::Vars, "vars.branch".to_owned(), "vars.branch"),
            (Root::State, "state[\"a.b\"].c".to_owned(), "state[\"a.b\"].c"),
            (Root::Steps, "steps.git-pull.outputs.x-y.0".to_owned(), "steps.git-pull.outputs.x-y[0]"),
        ]
    );
    assert_eq!(found[1].state_key(), Some("a.b"));
    assert_eq!(found[2].step(), Some("git-pull"));
    assert_eq!(found[2].step_output(), Some("x-y"));
    assert_eq!((found[0].step(), found[0].state_key(), found[0].step_output()), (None, None, None));
}

#[test]
fn a_path_goes_as_far_as_it_is_written_out() {
    let table: [(&str, &[&str]); 10] = [
        ("item", &[]),
        ("vars", &[]),
        ("vars.a.b.c", &["a", "b", "c"]),
        ("vars.a[item].c", &["a"]),
        ("vars.a[-1]", &["a"]),
        ("vars.a[1:2]", &["a"]),
        ("vars.a[0][\"x y\"]", &["a", "0", "x y"]),
        ("(vars.a).b", &["a"]),
        ("vars.a | first", &["a"]),
        ("vars['it\\'s']", &["it's"]),
    ];
    for (text, path) in table {
        let expression = Expression::parse(text).expect(text);
        assert_eq!(expression.names()[0].path, path, "{text}");
    }
}

#[test]
fn words_in_quotes_filters_tests_and_arguments_are_no_names() {
    for text in [
        "'state.x'",
        "\"vars.x\"",
        "[1, 2] | join(' item ')",
        "[1, 2] | sort(reverse=true)",
        "1 is number",
        "true and none",
        "{'run': 1}",
        "[{'task': 1}] | map(attribute='task') | list",
    ] {
        assert_eq!(Expression::parse(text).expect(text).names(), [], "{text}");
    }
}

#[test]
fn a_guard_is_seen() {
    let table: [(&str, &[bool]); 12] = [
        ("state.x", &[false]),
        ("state.x | default('y')", &[true]),
        ("state.x | d('y')", &[true]),
        ("state.x | upper", &[false]),
        ("state.x | upper | default('y')", &[false]),
        ("(state.x) | default('y')", &[true]),
        ("state.x is defined", &[true]),
        ("state.x is not defined", &[true]),
        ("state.x is undefined or state.x.y == state.z", &[true, true, false]),
        ("state.x | default(state.y)", &[true, false]),
        ("state.x | default(state.y | default(1))", &[true, true]),
        ("state.x.y is defined and state.x", &[true, false]),
    ];
    for (text, guarded) in table {
        let expression = Expression::parse(text).expect(text);
        let found: Vec<_> = expression.names().iter().map(|name| name.guarded).collect();
        assert_eq!(found, guarded, "{text}");
    }
}

#[test]
fn what_may_follow_a_root_is_checked() {
    for text in [
        "steps.a.result",
        "steps.a.result.x",
        "steps.a.outputs",
        "steps.a.outputs.x.y",
        "steps.a.status",
        "steps.a.reason",
        "steps.a.exit_code",
        "steps.a.message",
        "vars",
        "outputs",
        "env",
        "item.x",
        "run.workflow",
        "agent.mode",
    ] {
        assert!(Expression::parse(text).is_ok(), "{text}");
    }
    let table = [
        ("steps", "`steps` alone is not a value: expected the id of a step", 0..5),
        (
            "steps.a",
            "`steps.a` alone is not a value: expected one of `result`, `outputs`, `status`, `reason`, `exit_code`, `message`",
            0..7,
        ),
        (
            "steps.a.output.x",
            "unknown name `steps.a.output.x`: a step has `result`, `outputs`, `status`, `reason`, `exit_code`, `message`",
            0..16,
        ),
        ("steps.a.status.x", "unknown name `steps.a.status.x`: `steps.a.status` has no parts", 0..16),
        ("1 + state", "`state` alone is not a value: expected a key", 4..9),
        ("prompt.x", "unknown name `prompt.x`: `prompt` has no parts", 0..8),
        ("run.name", "unknown name `run.name`: `run` has `id`, `workflow`, `version`, `folder`", 0..8),
        ("run", "`run` alone is not a value: expected one of `id`, `workflow`, `version`, `folder`", 0..3),
    ];
    for (text, message, span) in table {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!((error.message.as_str(), error.span.clone()), (message, span), "{text}");
    }
}
