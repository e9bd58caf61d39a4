//! YAML as users write it, right and wrong, and the way from a value back to its place.

use proptest::prelude::*;

use super::*;
use crate::diagnostic::Colour;

fn read(text: &str) -> (Option<Node>, Diagnostics) {
    let source = SourceText::new("demo.yaml", text);
    let mut problems = Diagnostics::default();
    let node = load(&source, &mut problems);
    (node, problems)
}

fn shown(text: &str) -> String {
    read(text).1.render(Colour::Plain)
}

#[test]
fn values_are_read_as_yaml_1_2_says() {
    let text = "\
a: text
b: 1
c: -2.5
d: true
e: yes
f: ~
g:
h: '1'
i: !!str 2
j: 0x1f
k: 007
l: [x, {y: z}]
m: |
  one
  two
n: >
  one
  two
o: 2026-01-02
p: 1e3
q: .5
r: 18446744073709551615
s: << state.x >>
";
    let (node, problems) = read(text);
    assert_eq!(problems, Diagnostics::default());
    let value = node.expect("it is lawful").to_json();
    assert_eq!(
        value,
        serde_json::json!({
            "a": "text", "b": 1, "c": -2.5, "d": true, "e": "yes", "f": null, "g": null, "h": "1", "i": "2",
            "j": 31, "k": "007", "l": ["x", {"y": "z"}], "m": "one\ntwo\n", "n": "one two\n",
            "o": "2026-01-02", "p": 1000.0, "q": 0.5, "r": 18446744073709551615_u64, "s": "<< state.x >>"
        })
    );
}

#[test]
fn an_alias_and_a_merge_key_stand_for_their_anchor() {
    let text = "base: &base {x: 1, y: 2}\nuse: {<<: *base, y: 3}\nlist: [*base]\n";
    let (node, problems) = read(text);
    assert_eq!(problems, Diagnostics::default());
    let value = node.expect("it is lawful").to_json();
    assert_eq!(value["use"], serde_json::json!({"y": 3, "x": 1}));
    assert_eq!(value["list"], serde_json::json!([{"x": 1, "y": 2}]));
}

#[test]
fn a_byte_order_mark_and_other_line_ends_do_no_harm() {
    let (node, problems) = read("\u{feff}a: 1\r\nb: |\r\n  x\r\n  y\r\n");
    assert_eq!(problems, Diagnostics::default());
    assert_eq!(node.expect("it is lawful").to_json(), serde_json::json!({"a": 1, "b": "x\ny\n"}));
}

#[test]
fn a_tab_in_the_indentation_is_shown() {
    insta::assert_snapshot!(shown("steps:\n\t- id: a\n"), @r"
    error: a tab in the indentation
     --> demo.yaml:2:1
      |
    2 |  - id: a
      | ^ spaces
      |
      = hint: indent with spaces; most editors can do so on their own
    ");
}

#[test]
fn a_tab_under_a_key_is_shown() {
    insta::assert_snapshot!(shown("steps:\n  - id: a\n\t  prompt: x\n"), @r"
    error: a tab in the indentation
     --> demo.yaml:3:1
      |
    3 |    prompt: x
      | ^ spaces
      |
      = hint: indent with spaces; most editors can do so on their own
    ");
}

#[test]
fn two_documents_are_refused() {
    insta::assert_snapshot!(shown("a: 1\n---\nb: 2\n"), @r"
    error: a second document begins here
     --> demo.yaml:2:1
      |
    2 | ---
      | ^^^ one document in a file
      |
      = hint: `---` separates documents: split the file there
    ");
}

#[test]
fn an_anchor_bomb_is_refused_before_it_grows() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..=12 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    insta::assert_snapshot!(shown(&text), @r"
    error: the aliases of this file stand for more than 100000 values or 4194304 bytes
     --> demo.yaml:5:45
      |
    5 | a4: &a4 [*a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3]
      |                                             ^^^
      |
      = hint: write fewer aliases, or use `vars` or `foreach`
    ");
}

#[test]
fn an_alias_inside_its_own_anchor_is_refused() {
    insta::assert_snapshot!(shown("a: &a [1, *a]\n"), @r"
    error: an alias inside of what it stands for
     --> demo.yaml:1:11
      |
    1 | a: &a [1, *a]
      |           ^^ an anchor that ends before this
    ");
}

#[test]
fn a_key_given_twice_is_refused() {
    insta::assert_snapshot!(shown("a: 1\nb: 2\na: 3\n"), @r"
    error: `a` is given twice
     --> demo.yaml:3:1
      |
    3 | a: 3
      | ^
      |
      = hint: it stands in line 1 already
    ");
}

#[test]
fn braces_that_were_meant_as_text_are_explained() {
    insta::assert_snapshot!(shown("prompt: {{ state.x }}\n"), @r"
    error: a key cannot be a map
     --> demo.yaml:1:10
      |
    1 | prompt: {{ state.x }}
      |          ^^^^^^^^^^
      |
      = hint: write `<< state.key >>`, not `{{ state.key }}`
    ");
}

#[test]
fn syntax_errors_say_what_to_do() {
    let texts = [
        "prompt: say: hello\n",
        "prompt: \"open\n",
        "a: *nope\n",
        "a: 1\nfoo\n",
        "a: [1, 2\n",
        "a: \"\\q\"\n",
        "a: !secret x\n",
        "a: @x\n",
        "a: %x\n",
        "a:\n    b: 1\n  c: 2\n",
    ];
    let all: Vec<String> = texts.into_iter().map(shown).collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn an_empty_file_is_refused() {
    for text in ["", "\n", "# nothing\n", "---\n", "~\n"] {
        assert!(shown(text).starts_with("error: the file holds nothing"), "{text:?}: {}", shown(text));
    }
}

#[test]
fn a_file_too_large_or_too_deep_is_refused() {
    let large = format!("a: {}", "x".repeat(DOCUMENT_BYTES_MAX));
    assert!(shown(&large).starts_with("error: the file has 1048579 bytes"));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(
        shown(&deep).starts_with("error: lists and maps are nested more than 64 deep"),
        "{}",
        shown(&deep)
    );
    let mut aliased = format!("- &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
    for level in 1..9 {
        let below = level - 1;
        aliased.push_str(&format!("- &a{level} {}*a{below}{}\n", "[".repeat(40), "]".repeat(40)));
    }
    assert!(shown(&aliased).contains("nested more than 64 deep"), "{}", shown(&aliased));
}

#[test]
fn a_place_in_a_value_is_found_in_the_file() {
    let cases = [
        ("prompt: run << x >> now\n", "<< x >>"),
        ("prompt: 'it''s << x >> now'\n", "<< x >>"),
        ("prompt: \"tab\\t \\u00e4 << x >> now\"\n", "<< x >>"),
        ("prompt: |\n  one\n\n    two << x >>\n  three\n", "<< x >>"),
        ("prompt: >-\n  one\n  two\n\n  three << x >>\n", "<< x >>"),
        ("prompt: one\n  two\n  << x >> three\n", "<< x >>"),
        ("prompt: \"one\n  two \\\n  << x >> three\"\n", "<< x >>"),
        ("prompt: |\n\n\n  two << x >>\n", "<< x >>"),
        ("prompt: |2\n    deep << x >>\n  flat\n", "<< x >>"),
    ];
    for (text, wanted) in cases {
        let (node, problems) = read(text);
        assert_eq!(problems, Diagnostics::default(), "{text}");
        let node = node.expect("it is lawful");
        let NodeContent::Map(entries) = &node.content else { panic!("a map") };
        let value = &entries[0].value;
        let NodeContent::Scalar(scalar) = &value.content else { panic!("a text") };
        let at = scalar.text.find(wanted).expect("the value holds it");
        let place = scalar.place_of(text, &value.place, at..at + wanted.len());
        assert_eq!(&text[place.clone()], wanted, "{text} {place:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[ a-c:\\-\\[\\]{}&*!|>'\"%@#,?\\n\\t\\\\~0-9<é\u{feff}]{0,80}") {
        let (node, problems) = read(&text);
        prop_assert!(node.is_some() || !problems.is_empty());
        problems.render(Colour::Plain);
        if let Some(node) = node {
            for (node, scalar) in node.scalars() {
                for at in 0..=scalar.text.len() {
                    let place = scalar.place_of(SourceText::new("", text.as_str()).text(), &node.place, at..at + 1);
                    prop_assert!(place.start <= place.end);
                }
            }
        }
    }
}
