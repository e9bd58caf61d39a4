//! What users read when something is wrong, with the place it points at.

use super::scope::scope;
use crate::template::Template;

/// The message, the marked text and the hint of what is wrong with each text.
fn report(texts: &[&str]) -> String {
    let mut report = String::new();
    for text in texts {
        report.push_str(&format!("{}\n", text.escape_debug()));
        let (message, hint) = match Template::parse(text) {
            Err(error) => {
                let marked = &text[error.span.clone()];
                (format!("{} at `{}`", error.message, marked.escape_debug()), error.hint)
            }
            Ok(template) => match template.render(&scope()) {
                Err(error) => (error.to_string(), error.hint()),
                Ok(value) => panic!("`{text}` is right: {value}"),
            },
        };
        report.push_str(&format!("  error: {message}\n"));
        if let Some(hint) = hint {
            report.push_str(&format!("  hint: {hint}\n"));
        }
    }
    report
}

#[test]
fn unknown_names_say_what_was_meant() {
    insta::assert_snapshot!(report(&[
        "<< state.nope >>",
        "x << state.buildid >>",
        "<< vars.deep.ab >>",
        "<< state.build_id.x >>",
        "<< state[\"task:none\"] >>",
        "<< steps.gitpull.result >>",
        "<< steps.git-pull.outputs.packages.x >>",
        "<< state.x | uper >>",
        "<< state.x is defind >>",
        "<< vars.x | default(braanch) >>",
        "<< vars.x | default(param.x) >>",
        "<< vars.x | default(main) >>",
        "<< item >>",
        "<< outputs.id >>",
        "<< steps.a.ouputs.x >>",
        "<< steps.a.version >>",
        "<< agent.rol >>",
    ]));
}

#[test]
fn broken_expressions_are_marked_where_they_break() {
    insta::assert_snapshot!(report(&[
        "a << state.x",
        "a << state.x and << state.y >>",
        "cout << state << endl;",
        "<< state.x | default('y) >>",
        "<< state.x && vars.y >>",
        "<< state.x ? 1 : 2 >>",
        "<< vars.x + >>",
        "<< vars.x vars.y >>",
        "<< vars.x | default('a' >>",
        "<< vars.x) >>",
        "<< vars.x[0 >>",
        "<< vars. >>",
        "<< vars..x >>",
        "<< vars.x = 1 >>",
        "<< vars.x + not (vars.y) >>",
        "<< vars.x and or vars.y >>",
        "<< vars.x not vars.y >>",
        "<< vars.x ~ ä >>",
        "<< vars.x ~ $y >>",
        "<< state[vars.x] >>",
        "<< state.x.upper() >>",
        "<< vars.x ~ range(3) >>",
        "<< vars.x ~ upper(vars.y) >>",
        "<< state >>",
        "<< vars.branch | default(1, 2, 3, 4) >>",
        "<< vars.branch is divisibleby >>",
    ]));
}

#[test]
fn values_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(report(&[
        "<< vars.branch + 1 >>",
        "<< vars.branch * 2 >>",
        "<< state.count / 0 >>",
        "<< vars.branch | fromjson >>",
        "<< vars.branch > 3 >>",
        "<< steps.git-pull.outputs.n + 1 >>",
        "<< vars.deep | int >>",
        "<< vars.list | join(1, 2) >>",
        "<< state.count | length >>",
        "<< vars.list | map('nope') | list >>",
        "<< vars.list[vars.branch] >>",
        "<< vars.branch if vars.on == false >>",
        "<< state.count in 3 >>",
    ]));
}
