//! Nothing grows without a limit: texts, depth, and what filters make.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::template::{
    EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_OPERATORS_MAX, Expression, RENDERED_BYTES_MAX,
    RenderError, Root, Scope, Template, render_value,
};

fn with_item(item: impl Into<serde_json::Value>) -> Scope {
    Scope::new().with(Root::Item, item)
}

#[test]
fn a_long_expression_is_refused() {
    let just = format!("'{}'", "x".repeat(EXPRESSION_BYTES_MAX - 2));
    assert!(Expression::parse(&just).is_ok());
    let error = Expression::parse(&format!("{just}  ")).expect_err("too long");
    assert_eq!(error.message, "the expression has more than 16384 bytes");
}

/// What a thread has unless it asks for more.
const SMALL_STACK_BYTES: usize = 2 * 1024 * 1024;

#[test]
fn a_deep_expression_is_refused_before_it_can_hurt() {
    let deep = |count: usize| {
        [
            format!("{}1{}", "(".repeat(count), ")".repeat(count)),
            format!("{}{}", "[".repeat(count), "]".repeat(count)),
            format!("{}true", "not ".repeat(count)),
            format!("{}1", "- ".repeat(count)),
            format!("1{}", " + 1".repeat(count)),
            format!("1{}", " ** 1".repeat(count)),
            format!("'a'{}", " ~ 'a'".repeat(count)),
            format!("1{}", " * 1".repeat(count)),
            format!("1{}", " and 1".repeat(count)),
            format!("'a'{}", " | upper".repeat(count)),
            format!("(item){}", ".a".repeat(count)),
            format!("(item){}", "[0]".repeat(count)),
            "1 if 1 else ".repeat(count / 2) + "1",
            format!("1{}", " is number".repeat(count)),
            format!("1{}", " < 1".repeat(count)),
            format!("1{}", " == 1".repeat(count)),
            format!("{}1{}", "{'a': ".repeat(count), "}".repeat(count)),
            format!("{}1{}", "1 | default(".repeat(count / 2), ")".repeat(count / 2)),
        ]
    };
    let nested = |count: usize| {
        [
            format!("{}1{}", "(".repeat(count), ")".repeat(count)),
            format!("{}{}", "[".repeat(count), "]".repeat(count)),
            format!("{}1{}", "{'a': ".repeat(count), "}".repeat(count)),
            format!("{}1{}", "1 | default(".repeat(count), ")".repeat(count)),
            format!("{}1{}", "not 1 and 1 < 2 ~ 2 * (".repeat(count), ")".repeat(count)),
            format!("{}1{}", "1 if (not 1 and 1 ~ ".repeat(count), ") else 2".repeat(count)),
        ]
    };
    let work = move || {
        for text in nested(EXPRESSION_DEPTH_MAX) {
            match Expression::parse(&text) {
                Ok(expression) => drop(expression.evaluate(&with_item(1))),
                Err(error) => assert_eq!(error.message, "the expression is nested too deep", "{text}"),
            }
        }
        for text in nested(EXPRESSION_DEPTH_MAX + 1) {
            let error = Expression::parse(&text).expect_err(&text);
            assert_eq!(error.message, "brackets are nested more than 16 deep", "{text}");
        }
        for text in deep(EXPRESSION_OPERATORS_MAX - 1) {
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.evaluate(&with_item(json!({"a": []})));
            }
        }
        for text in deep(5_000).into_iter().filter(|text| text.len() <= EXPRESSION_BYTES_MAX) {
            let error = Expression::parse(&text).expect_err(&text[..20]);
            assert_eq!(error.message, "the expression has more than 200 operators", "{}", &text[..20]);
        }
    };
    let thread = std::thread::Builder::new().stack_size(SMALL_STACK_BYTES).spawn(work);
    thread.expect("a thread starts").join().expect("no stack overflows");
}

#[test]
fn a_large_result_is_refused() {
    let scope = with_item("x".repeat(RENDERED_BYTES_MAX));
    let whole = Template::parse("<< item >>").expect("right");
    assert!(whole.render(&scope).is_ok());
    assert!(whole.render_text(&scope).is_ok());
    let more = Template::parse("<< item >>!").expect("right");
    let too_large = RenderError::TooLarge { limit: RENDERED_BYTES_MAX };
    assert_eq!(more.render(&scope), Err(too_large.clone()));
    assert_eq!(more.render_text(&scope), Err(too_large.clone()));
    let scope = with_item(json!(["x".repeat(RENDERED_BYTES_MAX)]));
    assert_eq!(whole.render(&scope), Err(too_large.clone()));
    let plain = Template::parse(&"x".repeat(RENDERED_BYTES_MAX + 1)).expect("right");
    assert_eq!(plain.render(&scope), Err(too_large));
}

#[test]
fn a_deep_value_is_refused() {
    let mut value = json!("x");
    for _ in 0..200 {
        value = json!([value]);
    }
    assert_eq!(render_value(&value, &Scope::new()), Err(RenderError::TooDeep { limit: 100 }));
}

#[test]
fn what_filters_make_is_bounded() {
    let text = "a".repeat(64 * 1024);
    let table = [
        "'ab' * 50000000",
        "50000000 * 'ab'",
        "[1] * 50000000",
        "item * 1000 * 1000",
        "item | replace('a', item)",
        "item | replace('', item)",
        "item | list | join(item)",
        "item | list | map('replace', 'a', item) | list",
        "item | list | map('default', item) | list | map('replace', 'a', item) | list",
        "'%99999999d' | format(1)",
        "'%*d' | format(99999999, 1)",
        "item | replace('a', '%s') | format(item)",
        "[1] | batch(99999999, 0) | list",
        "[1] | slice(99999999) | list",
        "'a' | indent(99999999, true)",
        "item | list | map('chain', item | list) | map('list') | list",
        "item | list | map('chain', item | list) | list",
        "item | list | map('batch', 100000, 0) | list",
        "item | list | map('sh') | map('replace', 'a', item) | list",
    ];
    let scope = with_item(text);
    for expression in table {
        let started = Instant::now();
        let error = Expression::parse(expression).expect(expression).evaluate(&scope).expect_err(expression);
        assert!(matches!(error, RenderError::Failed { .. }), "{expression}: {error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{expression}: {:?}", started.elapsed());
    }
}

#[test]
fn one_evaluation_does_not_pay_for_another() {
    let scope = with_item("a".repeat(1024 * 1024));
    let expression = Expression::parse("item ~ item ~ item").expect("right");
    for _ in 0..40 {
        assert!(expression.evaluate(&scope).is_ok());
    }
}

#[test]
fn slips_are_looked_for_only_so_far_and_only_so_often() {
    let many = "<< sate.x >> {{ state.x }} << (vars.a) >> ".repeat(5_000);
    let started = Instant::now();
    assert_eq!(Template::parse(&many).expect("plain text").suspicions().len(), 20);
    for long in ["<< sate.x ", "{{ state.x ", "<< (", "<< (state.x "] {
        let text = long.repeat(20_000);
        assert_eq!(Template::parse(&text).expect("plain text").suspicions(), []);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn what_was_read_once_can_be_used_on_any_thread() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Template>();
    shared::<Expression>();
    shared::<Scope>();

    let template = Template::parse("<< item + 1 >>").expect("right");
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let template = template.clone();
            std::thread::spawn(move || template.render(&with_item(number)))
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().expect("it renders"), Ok(json!(number + 1)));
    }
}
