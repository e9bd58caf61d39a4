//! A sketch written as a workflow file. JSON is YAML, so no quoting rules of our own are needed.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::sketch::{
    Condition, Failing, ItemList, NOTHING, Offer, Read, RetryKind, RetrySketch, Script, Sketch, StepSketch,
    Test, Trigger,
};

/// The agent type of the tests: `sh -e` that may write to the folder of witnesses.
pub(crate) const PROBE: &str = "probe";
/// Longest time of an attempt that hangs, seconds.
const HANG_TIMEOUT_S: u32 = 3;

/// The text of the file. Agents write to `witness` when they start and when they end.
pub(crate) fn workflow_file(sketch: &Sketch, witness: &Path) -> String {
    let steps: Vec<Value> = sketch.file_order.iter().map(|index| step_of(sketch, *index)).collect();
    let mut file = json!({
        "name": sketch.name,
        "vars": sketch.vars,
        "defaults": {
            "agent": PROBE,
            "workspace": "task",
            "timeout": 60,
            "env": {"WITNESS": witness.to_str().expect("a plain path")},
        },
        "steps": steps,
    });
    if let Some(concurrency) = sketch.concurrency {
        file["concurrency"] = json!(concurrency);
    }
    if sketch.fail_fast {
        file["fail_fast"] = json!(true);
    }
    serde_json::to_string_pretty(&file).expect("plain data")
}

fn step_of(sketch: &Sketch, index: usize) -> Value {
    let step = &sketch.steps[index];
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("id", json!(step.id));
    if step.noop {
        put("agent", json!("noop"));
    } else {
        put("prompt", json!(prompt(sketch, index)));
    }
    let ids = |steps: &[usize]| -> Value {
        let ids: Vec<&str> = steps.iter().map(|step| sketch.steps[*step].id.as_str()).collect();
        // One id is written without a list, so that both forms occur.
        if let [only] = ids[..] { json!(only) } else { json!(ids) }
    };
    if !step.needs.is_empty() {
        put("depends_on", ids(&step.needs));
    }
    for (key, kind) in [("on_success", Trigger::Success), ("on_failure", Trigger::Failure)] {
        let named = |other: &usize| sketch.steps[*other].triggers.contains(&(index, kind));
        let named: Vec<usize> = (0..sketch.steps.len()).filter(named).collect();
        if !named.is_empty() {
            put(key, ids(&named));
        }
    }
    let continue_on: Vec<&str> = [("failed", step.continue_failed), ("skipped", step.continue_skipped)]
        .into_iter()
        .filter_map(|(word, wanted)| wanted.then_some(word))
        .collect();
    if !continue_on.is_empty() {
        put("continue_on", json!(continue_on));
    }
    if let Some(when) = &step.when {
        put("when", json!(condition(sketch, when)));
    }
    match &step.list {
        Some(ItemList::Literal(items)) => {
            let texts: Vec<String> = items.iter().map(|item| plain(&item.text)).collect();
            put("foreach", json!(texts));
        }
        Some(ItemList::OutputOf(source)) => {
            put("foreach", json!(format!("<< steps.{}.outputs.list >>", sketch.steps[*source].id)));
        }
        None => {}
    }
    if let Some(most) = step.max_parallel {
        put("max_parallel", json!(most));
    }
    if step.retry != RetrySketch::default() {
        put("retry", retry(&step.retry));
    }
    // A step that sleeps until it is cancelled must not be ended by anything else.
    if sketch.sleeper != Some(index) && hangs(sketch, step) {
        put("timeout", json!(HANG_TIMEOUT_S));
    }
    if let Some(priority) = step.priority {
        put("priority", json!(priority));
    }
    if !step.publish.is_empty() {
        let value = if step.noop { step.id.clone() } else { "<< outputs.v >>".to_owned() };
        put("publish", step.publish.iter().map(|key| (key.clone(), json!(value))).collect());
    }
    Value::Object(fields)
}

fn hangs(sketch: &Sketch, step: &StepSketch) -> bool {
    let hanging = |script: &Script| script.failure == Failing::Hang && script.fails_until > 0;
    let items = match &step.list {
        None => return !step.noop && hanging(&step.script),
        Some(ItemList::Literal(items)) => items,
        Some(ItemList::OutputOf(source)) => match &sketch.steps[*source].offers {
            Some(Offer::Items(items)) => items,
            _ => return false,
        },
    };
    !step.noop && items.iter().any(|item| hanging(&item.script))
}

fn retry(retry: &RetrySketch) -> Value {
    let mut fields = json!({
        "max_attempts": retry.max_attempts,
        "delay": format!("{}ms", retry.delay_ms),
        "jitter": retry.jitter,
    });
    match retry.only {
        Some(RetryKind::Exit) => fields["on"] = json!(["exit"]),
        Some(RetryKind::Timeout) => fields["on"] = json!(["timeout"]),
        None => {}
    }
    fields
}

fn condition(sketch: &Sketch, when: &Condition) -> String {
    let or_nothing = |default: bool| if default { format!(" | default('{NOTHING}')") } else { String::new() };
    let test = match &when.test {
        Test::Var { name, is } => format!("vars.{name} == '{is}'"),
        Test::Status { step, is } => format!("steps.{}.status == '{is}'", sketch.steps[*step].id),
        Test::Output { step, is, default } => {
            format!("(steps.{}.outputs.v{}) == '{is}'", sketch.steps[*step].id, or_nothing(*default))
        }
        Test::State { key, is, default } => format!("(state.{key}{}) == '{is}'", or_nothing(*default)),
    };
    let test = if when.negated { format!("not ({test})") } else { test };
    // A bare expression cannot begin with a bracket in marks alone, so both forms say the same.
    if when.marked { format!("<< {} >>", rooted(&test)) } else { test }
}

/// Text in marks is an expression only if it begins with a known root.
fn rooted(test: &str) -> String {
    if test.starts_with("vars.") || test.starts_with("steps.") {
        test.to_owned()
    } else {
        format!("run.id and ({test})")
    }
}

/// What the agent does, as a script. Each value it has read comes out again as `r<n>`.
fn prompt(sketch: &Sketch, index: usize) -> String {
    let step = &sketch.steps[index];
    let mut lines = vec!["echo \"S $MAESTRO_TASK_ID $MAESTRO_ATTEMPT\" >> \"$WITNESS\"".to_owned()];
    if sketch.sleeper == Some(index) {
        lines.push("exec sleep 60".to_owned());
        return lines.join("\n");
    }
    lines.extend(acts(sketch, step));
    lines.push("exec 3>> \"$MAESTRO_OUTPUT_FILE\"".to_owned());
    for (number, read) in step.reads.iter().enumerate() {
        let value = format!("<< {} | sh >>", expression(sketch, read));
        lines.push(format!("printf 'r{number}<<~~\\n%s\\n~~\\n' {value} >&3"));
    }
    let value = match step.list {
        None => quoted(&step.value),
        Some(_) => format!("{}' of '<< item | sh >>", quoted(&step.value)),
    };
    lines.push(format!("printf 'v=%s\\n' {value} >&3"));
    match &step.offers {
        Some(Offer::Items(items)) => {
            let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
            lines.push(format!("printf 'list=%s\\n' {} >&3", quoted(&json!(texts).to_string())));
        }
        Some(Offer::Nonsense) => lines.push("echo list=oops >&3".to_owned()),
        None => {}
    }
    lines.push(format!("printf 'out %s' {value}"));
    lines.push("echo \"E $MAESTRO_TASK_ID $MAESTRO_ATTEMPT\" >> \"$WITNESS\"".to_owned());
    lines.join("\n")
}

/// The part of a script that fails, or takes time.
fn acts(sketch: &Sketch, step: &StepSketch) -> Vec<String> {
    let items = match &step.list {
        None => return vec![act(&step.script)],
        Some(ItemList::Literal(items)) => items,
        Some(ItemList::OutputOf(source)) => match &sketch.steps[*source].offers {
            Some(Offer::Items(items)) => items,
            _ => return Vec::new(),
        },
    };
    let mut lines = vec!["case << item | sh >> in".to_owned()];
    for item in items {
        lines.push(format!("{}) {} ;;", quoted(&item.text), act(&item.script)));
    }
    lines.extend(["*) exit 99 ;;".to_owned(), "esac".to_owned()]);
    lines
}

fn act(script: &Script) -> String {
    let nap = match script.nap_ms {
        0 => String::new(),
        nap => format!("sleep 0.{nap:03}; "),
    };
    let end = "echo \"E $MAESTRO_TASK_ID $MAESTRO_ATTEMPT\" >> \"$WITNESS\"";
    let failure = match script.failure {
        Failing::Exit(code) => format!("{end}; exit {code}"),
        Failing::Hang => "exec sleep 30".to_owned(),
    };
    let until = script.fails_until;
    format!("{nap}if [ \"$MAESTRO_ATTEMPT\" -le {until} ]; then {failure}; fi")
}

fn expression(sketch: &Sketch, read: &Read) -> String {
    let or_nothing = |default: bool| if default { format!(" | default('{NOTHING}')") } else { String::new() };
    let id = |step: &usize| &sketch.steps[*step].id;
    match read {
        Read::Output { step, default } => format!("steps.{}.outputs.v{}", id(step), or_nothing(*default)),
        Read::Status(step) => format!("steps.{}.status", id(step)),
        Read::ListResult(step) => format!("steps.{}.result | default([]) | json", id(step)),
        Read::ListOutputs(step) => format!("steps.{}.outputs.v | default([]) | json", id(step)),
        Read::State { key, default } => format!("state.{key}{}", or_nothing(*default)),
        Read::Var(name) => format!("vars.{name}"),
        Read::Attempt => "attempt".to_owned(),
    }
}

/// Quoted for a shell, and kept from being a template.
fn quoted(text: &str) -> String {
    plain(&format!("'{}'", text.replace('\'', "'\\''")))
}

/// Text that templates leave as it is.
fn plain(text: &str) -> String {
    text.replace("<<", "\\<<")
}
