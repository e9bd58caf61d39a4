//! Workflows for faults, and scripts whose agents write down what they do.

use std::path::Path;

use serde_json::{Value, json};

/// The file in the witness folder to which all agents of a test write.
pub(crate) const WITNESS: &str = "agents";

/// A workflow of the agent type `probe`, from steps; `WITNESS` is set for all of them.
pub(crate) fn workflow(name: &str, witness: &Path, steps: Vec<Value>) -> String {
    let file = witness.join(WITNESS);
    let file = json!({
        "name": name,
        "defaults": {
            "agent": "probe",
            "workspace": "task",
            "env": {"WITNESS": file.to_str().expect("a plain path")},
        },
        "steps": steps,
    });
    serde_json::to_string_pretty(&file).expect("plain data")
}

/// A step.
pub(crate) fn step(id: &str, needs: &[String], prompt: &str) -> Value {
    json!({"id": id, "depends_on": needs, "prompt": prompt})
}

/// Steps in layers, each of which needs two of the layer before.
pub(crate) fn layers(width: usize, depth: usize, prompt: &str) -> Vec<Value> {
    let id = |layer: usize, place: usize| format!("l{layer}-{}", place % width);
    let mut steps = Vec::new();
    for layer in 0..depth {
        for place in 0..width {
            let needs = match layer {
                0 => Vec::new(),
                _ => vec![id(layer - 1, place), id(layer - 1, place + 1)],
            };
            steps.push(step(&id(layer, place), &needs, prompt));
        }
    }
    steps
}

/// Writes `S`, sleeps, writes `E`.
pub(crate) fn napping(seconds: f64) -> String {
    format!("{}\nsleep {seconds}\n{}", noting("S"), noting("E"))
}

/// In the first attempt writes `T` ten times a second for so long; in later ones it is done at once.
pub(crate) fn ticking(seconds: u32) -> String {
    format!(
        "{}\nif [ \"$MAESTRO_ATTEMPT\" = 1 ]; then\n  i=0\n  while [ $i -lt {} ]; do {}; sleep 0.1; i=$((i + 1)); done\nfi\n{}",
        noting("S"),
        seconds * 10,
        noting("T"),
        noting("E"),
    )
}

/// In the first attempt sleeps for a minute; in later ones it is done at once.
pub(crate) fn long_at_first() -> String {
    format!("{}\nif [ \"$MAESTRO_ATTEMPT\" = 1 ]; then sleep 60; fi\n{}", noting("S"), noting("E"))
}

/// A line about this attempt.
pub(crate) fn noting(letter: &str) -> String {
    format!("echo \"{letter} $MAESTRO_STEP_ID $MAESTRO_ATTEMPT $MAESTRO_WORKER\" >> \"$WITNESS\"")
}
