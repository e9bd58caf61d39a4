//! Names with dashes, operators, filters, tests, truth and lists.

use std::process::Command;

use proptest::prelude::*;
use serde_json::json;

use super::scope::{evaluated, failure, scope};
use crate::template::{Expression, FILTERS, RenderError, Root, Scope, TESTS, Template};

#[test]
fn a_name_behind_a_dot_may_hold_dashes_and_minus_needs_spaces() {
    let table = [
        ("steps.git-pull.result", json!("pulled")),
        ("state.build-id", json!("b-17")),
        ("state.table.a-b", json!(1)),
        ("state.count - 1", json!(2)),
        ("state.count- 1", json!(2)),
        ("state.count -1", json!(2)),
        ("5-state.count", json!(2)),
        ("-state.count", json!(-3)),
        ("(state.table).a-b - 1", json!(0)),
        ("'a - b-c'", json!("a - b-c")),
        ("steps.git-pull.outputs.n | int - 1", json!(3)),
        ("1e-2", json!(0.01)),
        ("1_000 - 1", json!(999)),
        ("0x1e - 1", json!(29)),
    ];
    for (text, expected) in table {
        assert_eq!(evaluated(text), expected, "{text}");
    }
    assert!(
        matches!(failure("state.count-1"), RenderError::UnknownName { name, .. } if name == "state.count-1")
    );
}

#[test]
fn subscripts_that_are_written_out_are_names() {
    let table = [
        ("state[\"task:abc.1:result\"]", json!("done")),
        ("state['task:abc.1:result']", json!("done")),
        ("state[\"a.b\"]", json!("dotted key")),
        ("steps[\"git-pull\"].result", json!("pulled")),
        ("steps[\"v1.2\"][\"result\"]", json!("dotted step")),
        ("state.table.x.y[1]", json!(20)),
        ("state.table.x.y.0", json!(10)),
        ("state.table.x.y[-1]", json!(20)),
        ("state.table.x.y[0:1]", json!([10])),
        ("vars.list[1]", json!("b c")),
        ("state.table[vars.key].y", json!([10, 20])),
        ("state.table[vars.key]['y'][1]", json!(20)),
        ("(state.text_json | fromjson).v[1]", json!(2)),
        ("state.text_json | fromjson | attr(\"v\") | first", json!(1)),
    ];
    for (text, expected) in table {
        assert_eq!(evaluated(text), expected, "{text}");
    }
}

#[test]
fn computed_names_are_refused() {
    for text in [
        "state[vars.key]",
        "steps[item]",
        "steps['a'][item]",
        "steps.a.outputs[item]",
        "vars[item]",
        "state['a' ~ 'b']",
        "env[1 + 1]",
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.message.contains("must be written out, not computed"), "{text}: {error}");
    }
}

#[test]
fn operators_work_as_in_minijinja() {
    let table = [
        ("vars.environment == 'production' and state.count > 2", json!(true)),
        ("vars.branch in ['main', 'dev']", json!(true)),
        ("vars.branch not in ['dev']", json!(true)),
        ("'yes' if vars.on else 'no'", json!("yes")),
        ("vars.branch ~ '-' ~ state.count", json!("main-3")),
        // `~` binds closer than `+`, as in minijinja.
        ("vars.branch ~ state.count + 1 ~ 'x'", json!("main31x")),
        ("state.count * 2 + 1", json!(7)),
        ("2 * 3 * state.count", json!(18)),
        ("2 * state.count ** 2", json!(18)),
        ("2 * -state.count", json!(-6)),
        ("7 // 2", json!(3)),
        ("7 % 4", json!(3)),
        ("7 / 2", json!(3.5)),
        ("2 * steps.git-pull.outputs.n | int", json!(8)),
        ("[1, 2] + [3]", json!([1, 2, 3])),
        ("{'a-b': state.count, 'l': [vars.on]}", json!({"a-b": 3, "l": [true]})),
        ("1 < state.count < 5", json!(true)),
        ("1 < state.count < 2 or 3 > 2 > 1", json!(true)),
        ("(1 < 2) == (3 >= state.count)", json!(true)),
        ("steps.git-pull.outputs.n | int > state.count", json!(true)),
        ("'b' > 'a'", json!(true)),
        ("not vars.on", json!(false)),
        ("vars.on is true", json!(true)),
        ("state.count is divisibleby 3", json!(true)),
        ("state.count is not odd", json!(false)),
        ("vars.list | map('upper') | join('+')", json!("A+B C")),
        ("vars.list | length * 2", json!(4)),
        ("vars.list | select('equalto', 'a') | list", json!(["a"])),
        ("vars.deep.aa | first", json!(true)),
        ("vars.branch | replace('a', 'o') | upper", json!("MOIN")),
        ("'%s-%03d' | format(vars.branch, state.count)", json!("main-003")),
        ("\"a\nb\" | indent(2)", json!("a\n  b")),
        ("vars.list | tojson", json!("[\"a\",\"b c\"]")),
        ("vars.list | json(indent=true)", json!("[\n  \"a\",\n  \"b c\"\n]")),
        ("true", json!(true)),
        ("none", json!(null)),
        ("[]", json!([])),
    ];
    for (text, expected) in table {
        assert_eq!(evaluated(text), expected, "{text}");
    }
}

#[test]
fn an_ordering_compares_only_what_is_of_one_kind() {
    for text in [
        "steps.git-pull.outputs.n > 3",
        "3 < steps.git-pull.outputs.n",
        "1 < state.count < steps.git-pull.outputs.n",
        "1 < (vars.branch if 1 < 2 else 3)",
        "vars.list >= 1",
        "none < 1",
    ] {
        let error = failure(text);
        assert!(error.to_string().contains("neither less nor more"), "{text}: {error}");
    }
}

#[test]
fn every_filter_and_test_that_is_listed_exists() {
    for filter in FILTERS {
        let expression = Expression::parse(&format!("1 | {filter}")).expect(filter);
        let message =
            expression.evaluate(&Scope::new()).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(!message.contains("is unknown"), "{message}");
    }
    for test in TESTS {
        let expression = Expression::parse(&format!("1 is {test}(2)")).expect(test);
        let message =
            expression.evaluate(&Scope::new()).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(!message.contains("is unknown"), "{message}");
    }
}

#[test]
fn nothing_but_the_scope_can_be_reached() {
    for text in ["range(10)", "dict(a=1)", "debug()", "namespace()", "loop", "self", "n0", "super()"] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.message.starts_with("unknown "), "{error}");
    }
    for text in ["vars.branch.upper()", "(1)(2)", "vars.list[0]()", "vars.branch()", "(vars.list).pop()"] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.message.contains("a call") || error.message.contains("arguments"), "{error}");
    }
}

#[test]
fn an_unknown_name_is_an_error_unless_it_may_be_missing() {
    for text in [
        "state.nope",
        "state.nope == 'x'",
        "state.nope | upper",
        "state.nope ~ 'x'",
        "not state.nope",
        "[state.nope]",
        "'a' if state.nope else 'b'",
        "state.nope in ['a']",
        "vars.branch | default(state.nope) ~ state.nope",
        "state.nope | upper | default('x')",
        "(state.nope)",
    ] {
        let error = failure(text);
        assert!(
            matches!(&error, RenderError::UnknownName { name, .. } if name == "state.nope"),
            "{text}: {error}"
        );
    }
    let table = [
        ("state.nope | default('main')", json!("main")),
        ("state.nope | d('main')", json!("main")),
        ("state.nope.deeper.still | default('main')", json!("main")),
        ("steps.gone.outputs.x | default([])", json!([])),
        ("(state.nope) | default('main')", json!("main")),
        ("((state.nope)) | default('main')", json!("main")),
        ("state.nope | default", json!("")),
        ("state.build_id | default('main')", json!("b17")),
        ("state.nope is defined", json!(false)),
        ("state.nope is not defined", json!(true)),
        ("state.nope is undefined", json!(true)),
        ("state.count is defined", json!(true)),
        ("state.nope is defined and state.nope == 'x'", json!(false)),
        ("vars.on or state.nope", json!(true)),
        ("'a' if vars.on else state.nope", json!("a")),
        ("state.table[vars.branch] | default('z')", json!("z")),
        ("item | default('no item')", json!("no item")),
    ];
    for (text, expected) in table {
        assert_eq!(evaluated(text), expected, "{text}");
    }
}

#[test]
fn an_undefined_result_is_an_error() {
    assert!(matches!(failure("'a' if not vars.on"), RenderError::NoValue { .. }));
    assert!(matches!(failure("vars.list[vars.list | length]"), RenderError::NoValue { .. }));
    assert!(matches!(failure("[vars.list[9 + 1]]"), RenderError::Failed { .. }));
    assert!(matches!(failure("vars.list[5]"), RenderError::UnknownName { .. }));
}

#[test]
fn a_root_that_is_not_known_here_is_named() {
    let error = failure("item.name");
    assert_eq!(error, RenderError::OutOfScope { root: Root::Item });
    assert_eq!(error.to_string(), "`item` is not known here");
}

#[test]
fn when_and_foreach_stand_with_or_without_marks() {
    for text in [
        "vars.on",
        "<< vars.on >>",
        "  <<vars.on>> \n",
        "<< not not vars.on >>",
        "not (vars.on == false)",
        "true",
    ] {
        let expression = Expression::parse_bare_or_marked(text).expect(text);
        assert_eq!(expression.evaluate_truth(&scope()), Ok(true), "{text}");
    }
    for text in [
        "<< vars.on >> and << vars.on >>",
        "<< vars.on >> x",
        "<< vars.on",
        "vars.on >>",
        "x << vars.on >>",
        "",
        "<< >>",
    ] {
        assert!(Expression::parse_bare_or_marked(text).is_err(), "{text}");
    }
}

#[test]
fn truth_is_what_a_reader_expects() {
    let table = [
        ("true", true),
        ("false", false),
        ("none", false),
        ("0", false),
        ("0.0", false),
        ("2", true),
        ("''", false),
        ("'no'", true),
        ("[]", false),
        ("[0]", true),
        ("{}", false),
        // The text `false` counts as false wherever a truth is asked for.
        ("state.flag", false),
        ("not state.flag", true),
        ("state.flag or vars.empty", false),
        ("vars.on and state.flag", false),
        ("state.flag and vars.on", false),
        ("not state.flag | default('x')", true),
        ("not (state.flag)", true),
        ("1 if state.flag else 0", false),
        ("vars.on and not state.flag", true),
        ("state.flag == 'false'", true),
        ("not state.flag == 'false'", false),
        ("state.flag is defined and vars.on", true),
        ("vars.on and vars.branch in ['main']", true),
        ("vars.on and vars.branch not in ['main']", false),
        ("vars.branch is not defined or vars.on", true),
    ];
    for (text, expected) in table {
        let expression = Expression::parse(text).expect(text);
        assert_eq!(expression.evaluate_truth(&scope()), Ok(expected), "{text}");
    }
}

#[test]
fn a_foreach_takes_a_list_or_text_that_is_one() {
    let table = [
        ("vars.list", vec![json!("a"), json!("b c")]),
        ("['x', 2]", vec![json!("x"), json!(2)]),
        ("[]", vec![]),
        ("steps.git-pull.outputs.packages", vec![json!("p"), json!("q")]),
        ("vars.deep.aa", vec![json!(true), json!(null)]),
    ];
    for (text, expected) in table {
        let expression = Expression::parse(text).expect(text);
        assert_eq!(expression.evaluate_list(&scope()), Ok(expected), "{text}");
    }
    let table = [
        (
            "vars.branch",
            "`vars.branch` is not a list: expected a list or text that is a JSON array, found text that is not JSON",
        ),
        (
            "state.text_json",
            "`state.text_json` is not a list: expected a list or text that is a JSON array, found text that is an object in JSON",
        ),
        (
            "state.count",
            "`state.count` is not a list: expected a list or text that is a JSON array, found a number",
        ),
        (
            "vars.deep",
            "`vars.deep` is not a list: expected a list or text that is a JSON array, found an object",
        ),
    ];
    for (text, message) in table {
        let error = Expression::parse(text).expect(text).evaluate_list(&scope()).expect_err(text);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn quoting_for_a_shell_is_readable_where_it_can_be() {
    let table = [
        ("vars.branch | sh", "main"),
        ("vars.empty | sh", "''"),
        ("'a b' | sh", "'a b'"),
        ("\"it's\" | sh", r"'it'\''s'"),
        ("'~/x' | sh", "'~/x'"),
        ("'A=b' | sh", "'A=b'"),
        ("state.count | sh", "3"),
        ("vars.list | sh", "a 'b c'"),
        ("vars.deep | sh", r#"'{"zz":1,"aa":[true,null]}'"#),
    ];
    for (text, expected) in table {
        assert_eq!(evaluated(text), json!(expected), "{text}");
    }
    let with_nul = Scope::new().with(Root::Item, "a\0b");
    let error = Expression::parse("item | sh").expect("it is right").evaluate(&with_nul).expect_err("a NUL");
    assert_eq!(error.to_string(), "cannot work out `item | sh`: text with a NUL cannot be given to a shell");
}

fn through_shell(text: &str) -> Vec<u8> {
    let scope = Scope::new().with(Root::Item, text);
    let command = Template::parse("printf %s << item | sh >>").expect("it is right");
    let command = command.render_text(&scope).expect("it renders");
    Command::new("sh").arg("-c").arg(command).output().expect("a shell runs").stdout
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_quoted_text_passes_through_a_shell_unchanged(text in "([^\0]|['\"$`\\\\ \n~*!#;&|<>(){}]){0,30}") {
        prop_assert_eq!(through_shell(&text), text.as_bytes());
    }

    #[test]
    fn any_value_survives_json(value in any::<(i64, bool, String)>()) {
        let value = json!({"n": value.0, "b": value.1, "s": value.2});
        let scope = Scope::new().with(Root::Item, value.clone());
        let text = Template::parse("<< item | json >>").expect("right").render_text(&scope).expect("it renders");
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value.clone());
        let back = Expression::parse("item | json | fromjson").expect("right").evaluate(&scope);
        prop_assert_eq!(back, Ok(value));
    }
}
