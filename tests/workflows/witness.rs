//! What agents wrote about themselves: one line when an attempt starts, one when it ends, in one file.

use std::collections::HashMap;
use std::path::Path;

/// The lines of one run, by task.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    lines: HashMap<String, Vec<Line>>,
}

#[derive(Debug)]
struct Line {
    place: usize,
    starts: bool,
    attempt: u32,
}

impl Witness {
    /// Reads `S <task> <attempt>` and `E <task> <attempt>`; a file that is not there has no lines.
    pub(crate) fn read(file: &Path) -> Witness {
        Witness::parse(&std::fs::read_to_string(file).unwrap_or_default())
    }

    fn parse(text: &str) -> Witness {
        let mut witness = Witness::default();
        for (place, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let [letter @ ("S" | "E"), task, attempt] = words[..] else { panic!("no such line: {line:?}") };
            let attempt = attempt.parse().expect("attempts are numbers");
            let line = Line { place, starts: letter == "S", attempt };
            witness.lines.entry(task.to_owned()).or_default().push(line);
        }
        witness
    }

    /// Attempts of a task that started, in order.
    pub(crate) fn tries(&self, task: &str) -> Vec<u32> {
        let lines = self.lines.get(task).into_iter().flatten();
        lines.filter(|line| line.starts).map(|line| line.attempt).collect()
    }

    /// Where in the file a task's lines stand.
    pub(crate) fn places(&self, task: &str) -> Vec<usize> {
        self.lines.get(task).into_iter().flatten().map(|line| line.place).collect()
    }
}
