//! What is an expression and what stays text; escapes; types; the one pass.

use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scope::{rendered, rendered_text, scope};
use crate::template::{
    Root, Scope, Template, is_plain_text, render_text_map, render_value, render_value_map,
};

#[test]
fn what_does_not_begin_with_a_known_root_stays_as_it_is() {
    let table = [
        "",
        "plain",
        "cat <<EOF >> out.txt\nx\nEOF\n",
        "cat <<-'EOF' >> out.txt",
        "1 << 4",
        "a <<: b",
        "x = y << 3 >> 1",
        "vector<vector<int>> x",
        "std::cout << \"x\" << std::endl;",
        "cin >> x",
        "<<stateful >>",
        "<< statement.x >>",
        "<<env-file >>",
        "<< vars_x >>",
        "<< nope >>",
        "<< 'state' >>",
        "<< (1) >>",
        "<<",
        "<< ",
        ">>",
        "<<<<<<< HEAD\n=======\n>>>>>>> state",
        "grep x <<< state.x",
        "grep x <<<state >>out",
        "{{ x }} {{.Values.y}} {% if state %}",
        "style={{ item: 1 }} ({{ state, set }})",
        "<< ärger.x >> << stateä.x >>",
        "C:\\dir\\<file",
        "\\{{ x }}",
        "back\\slash",
    ];
    for text in table {
        assert_eq!(rendered_text(text), text);
        assert!(Template::parse(text).expect(text).is_plain(), "{text}");
    }
}

#[test]
fn every_root_begins_an_expression() {
    let everywhere = scope().with(Root::Item, "i").with(Root::Outputs, json!({"id": "o"}));
    let table = [
        ("<< state.build_id >>", json!("b17")),
        ("<< vars.branch >>", json!("main")),
        ("<< params.repo >>", json!("https://example.org/r.git")),
        ("<< steps.git-pull.result >>", json!("pulled")),
        ("<< outputs.id >>", json!("o")),
        ("<< run.id >>", json!("0abc")),
        ("<< task.step >>", json!("build")),
        ("<< agent.role >>", json!("builder")),
        ("<< item >>", json!("i")),
        ("<< attempt >>", json!(2)),
        ("<< prompt >>", json!("do it")),
        ("<< workspace >>", json!("/w/shell/0abc.1")),
        ("<< env.LANG >>", json!("C")),
    ];
    assert_eq!(table.len(), Root::ALL.len());
    for (text, expected) in table {
        let template = Template::parse(text).expect(text);
        assert_eq!(template.render(&everywhere), Ok(expected), "{text}");
        assert!(!template.is_plain());
    }
}

#[test]
fn white_space_inside_the_marks_is_free() {
    for text in ["<<vars.branch>>", "<<  vars.branch  >>", "<<\n\tvars . branch\n>>", "<< vars.branch>>"] {
        assert_eq!(rendered(text), json!("main"), "{text:?}");
    }
}

#[test]
fn a_backslash_makes_the_marks_plain() {
    let table = [
        (r"\<< vars.branch >>", "<< vars.branch >>"),
        (r"a \<<EOF", "a <<EOF"),
        (r"\<<<", "<<<"),
        (r"\\<< vars.branch >>", r"\<< vars.branch >>"),
        (r"\<<<< vars.branch >>", "<<<< vars.branch >>"),
        (r"\<< x << vars.branch >>", "<< x main"),
        (r"<< vars.branch >>\<<", "main<<"),
        (r"\{{ state.x }}", "{{ state.x }}"),
        (r"\{{state.x}} << vars.branch >>", "{{state.x}} main"),
    ];
    for (text, expected) in table {
        assert_eq!(rendered_text(text), expected, "{text}");
        assert!(Template::parse(text).expect(text).suspicions().is_empty(), "{text}");
    }
}

#[test]
fn an_expression_ends_at_the_first_closing_marks_outside_quotes() {
    let table = [
        ("<< vars.branch >>>> x", "main>> x"),
        ("<< vars.branch ~ ' >> ' >>!", "main >> !"),
        ("<< vars.branch ~ \"\\\" >> \" >>!", "main\" >> !"),
        ("<< vars.branch >> << vars.environment >>", "main production"),
        ("<< state.count >= 3 >>.", "true."),
        ("<< state.count>2>>", "true"),
    ];
    for (text, expected) in table {
        assert_eq!(rendered_text(text), expected, "{text}");
    }
}

#[test]
fn exactly_one_expression_keeps_its_type() {
    let table = [
        ("<< state.count >>", json!(3)),
        ("  << state.count >>\n", json!(3)),
        ("<< vars.on >>", json!(true)),
        ("<< vars.ratio >>", json!(1.5)),
        ("<< vars.whole >>", json!(2.0)),
        ("<< vars.big >>", json!(18446744073709551615_u64)),
        ("<< vars.list >>", json!(["a", "b c"])),
        ("<< vars.deep >>", json!({"zz": 1, "aa": [true, null]})),
        ("<< state.nothing >>", json!(null)),
        ("<< vars.environment == 'production' >>", json!(true)),
        ("<< state.count + 1 >>", json!(4)),
        ("<< steps.git-pull.outputs.n >>", json!("4")),
        ("<< vars.big + 0 >>", json!(18446744073709551615_u64)),
        ("x<< state.count >>", json!("x3")),
        ("<< state.count >><< state.count >>", json!("33")),
    ];
    for (text, expected) in table {
        assert_eq!(rendered(text), expected, "{text}");
    }
}

#[test]
fn members_keep_their_order() {
    let Value::Object(members) = rendered("<< vars.deep | default({}) >>") else { panic!("an object") };
    assert_eq!(members.keys().collect::<Vec<_>>(), ["zz", "aa"]);
    assert_eq!(rendered_text("<< vars.deep | json >>"), r#"{"zz":1,"aa":[true,null]}"#);
}

#[test]
fn within_a_text_every_value_becomes_text() {
    let table = [
        ("[<< vars.branch >>]", "[main]"),
        ("[<< state.count >>]", "[3]"),
        ("[<< vars.on >>]", "[true]"),
        ("[<< state.nothing >>]", "[]"),
        ("[<< vars.ratio >>]", "[1.5]"),
        ("[<< vars.list >>]", r#"[["a","b c"]]"#),
        ("[<< vars.deep >>]", r#"[{"zz":1,"aa":[true,null]}]"#),
        ("[<< vars.on ~ state.nothing ~ vars.list ~ 1.0 >>]", r#"[true["a","b c"]1.0]"#),
        ("[<< vars.deep.aa | join(',') >>]", "[true,]"),
        ("[<< vars.on | string >>]", "[true]"),
    ];
    for (text, expected) in table {
        assert_eq!(rendered_text(text), expected, "{text}");
    }
    // The text of a single expression keeps the white space around it.
    assert_eq!(rendered_text(" << vars.branch >>\n"), " main\n");
}

#[test]
fn what_comes_out_of_a_value_is_not_evaluated_again() {
    let evil = "<< vars.branch >> $(rm -rf /) 'q' {{ state.count }}";
    assert_eq!(rendered("<< state.evil >>"), json!(evil));
    assert_eq!(rendered_text("x << state.evil >>"), format!("x {evil}"));
    assert_eq!(rendered_text("<< state.evil | upper >>"), evil.to_uppercase());
    assert_eq!(rendered_text("<< state.evil ~ '' >>"), evil);
    let values = render_value(&json!(["<< state.evil >>", {"k": "<< state.evil >>!"}]), &scope());
    assert_eq!(values, Ok(json!([evil, {"k": format!("{evil}!")}])));
}

#[test]
fn a_value_is_rendered_through_and_keeps_its_types() {
    let value = json!({
        "text": "on << vars.branch >>",
        "number": "<< state.count >>",
        "plain": 7,
        "list": ["<< vars.list >>", null, true],
        "<< vars.branch >>": "names stay",
    });
    let expected = json!({
        "text": "on main",
        "number": 3,
        "plain": 7,
        "list": [["a", "b c"], null, true],
        "<< vars.branch >>": "names stay",
    });
    assert_eq!(render_value(&value, &scope()), Ok(expected));

    let publish = IndexMap::from([("n".to_owned(), json!("<< state.count >>"))]);
    assert_eq!(render_value_map(&publish, &scope()).expect("it renders")["n"], json!(3));

    let env = IndexMap::from([("N".to_owned(), "<< state.count >>".to_owned())]);
    assert_eq!(render_text_map(&env, &scope()).expect("it renders")["N"], "3");
}

#[test]
fn what_looks_like_a_slip_is_reported_and_stays_text() {
    let table = [
        ("<< sate.x >>", 3..7, "did you mean `<< state.`? write `\\<<` for a plain `<<`"),
        ("a << step.build.result >>", 5..9, "did you mean `<< steps.`? write `\\<<` for a plain `<<`"),
        ("<<var.x>>", 2..5, "did you mean `<< vars.`? write `\\<<` for a plain `<<`"),
        ("<< State[\"x\"] >>", 3..8, "did you mean `<< state[`? write `\\<<` for a plain `<<`"),
        ("<< output.id | sh >>", 3..9, "did you mean `<< outputs.`? write `\\<<` for a plain `<<`"),
        ("<< evn.HOME >>", 3..6, "did you mean `<< env.`? write `\\<<` for a plain `<<`"),
        ("{{ state.x }}", 0..13, "write `<< state.x >>`; write `\\{{` for a plain `{{`"),
        ("a {{vars.x | upper}} b", 2..20, "write `<< vars.x | upper >>`; write `\\{{` for a plain `{{`"),
        ("{{ item }}", 0..10, "write `<< item >>`; write `\\{{` for a plain `{{`"),
        ("<< not vars.x >>", 0..16, "write `<< vars… == false >>`; write `\\<<` for a plain `<<`"),
        ("<< (vars.x or vars.y) | sh >>", 0..29, "begin with `<< vars`; write `\\<<` for a plain `<<`"),
    ];
    for (text, span, hint) in table {
        let template = Template::parse(text).expect(text);
        let [suspicion] = template.suspicions() else { panic!("{text}: {:?}", template.suspicions()) };
        assert_eq!((suspicion.span.clone(), suspicion.hint.as_deref()), (span, Some(hint)), "{text}");
        assert_eq!(template.render_text(&Scope::new()).expect(text), text);
    }
}

#[test]
fn what_only_looks_a_little_like_an_expression_is_no_slip() {
    let table = [
        "cat <<EOF >> out.txt",
        "<<EOS >> x",
        "<<sate >> x",
        "cout << end.x << 1;",
        "cout << sate.x;",
        "<< completely.other >>",
        "cout << (item + 1);",
        "1 << (x >> 2)",
        "<< ( >>",
        "<< github.event >>",
        "{{ x.y }} {{ .Values.state }}",
        "{{ stateful.x }}",
        "{{ state.x",
        "style={{ item: 1 }}",
    ];
    for text in table {
        assert_eq!(Template::parse(text).expect(text).suspicions(), [], "{text}");
    }
}

#[test]
fn plain_texts_are_told_from_others_at_a_glance() {
    for text in ["", "a < b", "echo {x}", "a >> b", "\\", "<", "x <"] {
        assert!(is_plain_text(text), "{text}");
    }
    for text in ["<<", "a << b", "{{", "<< vars.x >>"] {
        assert!(!is_plain_text(text), "{text}");
    }
}

proptest! {
    #[test]
    fn text_without_a_known_root_is_unchanged(text in r"([a-d<>{} .\n'ä|]|<<|>>|<< |\{\{){0,40}") {
        let template = Template::parse(&text).expect("there is no expression in it");
        prop_assert!(template.is_plain());
        prop_assert_eq!(template.render_text(&Scope::new()).expect("nothing can fail"), text);
    }

    #[test]
    fn no_text_makes_it_panic(
        text in r#"(<<|>>|\{\{|\}\}|\\|state|vars|steps|item|not| |\.|x|'|"|\[|\]|\(|\)|~|-|\||default|is|1|ä|\n){0,25}"#
    ) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.render(&scope());
            for name in template.names() {
                prop_assert!(text.get(name.span.clone()).is_some());
            }
            for suspicion in template.suspicions() {
                prop_assert!(text.get(suspicion.span.clone()).is_some());
            }
        }
    }

    #[test]
    fn an_error_points_into_the_text(text in r#"<< state(\.x|\[|\]|\(|\)| \+|\||'|"| and| 1|\.|=|,|ä| is| \*| ~){0,8} >>"#) {
        if let Err(error) = Template::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?}", error);
        }
    }

    #[test]
    fn escaped_text_comes_out_whole(inner in "[a-z .]{0,20}") {
        let text = format!("\\<< state{inner} >>");
        let rendered = Template::parse(&text).expect("escaped").render_text(&Scope::new());
        prop_assert_eq!(rendered.expect("no name is read"), text[1..].to_owned());
    }
}
