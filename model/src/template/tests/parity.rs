//! What is given to minijinja means the same as what was written: both are worked out and compared.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::template::filters::from_json_value;
use crate::template::{Expression, Root, Scope};

/// What is refused though minijinja would have an answer. It takes `not` behind an operator for a function,
/// which goes unnoticed where it is never called.
const REFUSED: [&str; 3] = ["neither less nor more", "multiplies numbers", "expected a value, found `not`"];

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "2",
        "0",
        "7",
        "vars.a",
        "vars.b",
        "state.x-y",
        "(vars.c.d)",
        "vars.l[1]",
        "-3",
        "vars.l | length",
        "vars.none | default(5)",
        "vars.t",
        "'q'",
    ]);
    let operators = prop::sample::select(vec![
        "+", "-", "*", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "and not", "or not",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, move |inner| {
        prop_oneof![
            (inner.clone(), operators.clone(), inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("not {a}")),
            inner.clone().prop_map(|a| format!("- {a}")),
            inner.clone().prop_map(|a| format!("[{a}, 1][0]")),
            inner.clone().prop_map(|a| format!("{a} | string | length")),
            inner.clone().prop_map(|a| format!("({a}) | default({a})")),
            inner.clone().prop_map(|a| format!("({a} is number)")),
            inner.clone().prop_map(|a| format!("({a} is not eq 2)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} in [{b}, 1]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} not in [{b}, 1]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("{a} if {b} else {c}")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("{a} < {b} <= {c}")),
        ]
    })
}

fn values() -> (Value, Value) {
    (json!({"a": 3, "b": 0, "c": {"d": 4}, "l": [8, 9], "t": "text"}), json!({"x-y": 6}))
}

fn by_minijinja(text: &str) -> Result<Value, minijinja::Error> {
    let (vars, state) = values();
    let mut plain = minijinja::Environment::new();
    plain.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let context = minijinja::context!(vars => from_json_value(&vars), state => from_json_value(&state));
    let expression = plain.compile_expression_owned(text.replace("state.x-y", "state['x-y']"))?;
    let value = expression.eval(context)?;
    Ok(serde_json::to_value(value).expect("such values are JSON"))
}

/// minijinja writes booleans as Python does.
fn without_case(value: &Value) -> String {
    value.to_string().to_lowercase()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn our_filters_change_no_answer(text in expression()) {
        let (vars, state) = values();
        let scope = Scope::new().with(Root::Vars, vars).with(Root::State, state);
        let expected = by_minijinja(&text);
        let found = match Expression::parse(&text) {
            Ok(expression) => expression.evaluate(&scope).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match (expected, found) {
            (Ok(expected), Ok(found)) => prop_assert_eq!(without_case(&expected), without_case(&found)),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(problem)) => {
                prop_assert!(REFUSED.iter().any(|reason| problem.contains(reason)), "{}", problem);
            }
            (Err(problem), Ok(found)) => prop_assert!(false, "{}: minijinja says {}", found, problem),
        }
    }
}
