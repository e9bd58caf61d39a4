//! What a test has tried: counts by word, so that a run of it shows what it tested.

use std::collections::BTreeMap;

/// Counts by word.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    counts: BTreeMap<String, u64>,
}

impl Statistics {
    pub fn count(&mut self, word: &str) {
        self.add(word, 1);
    }

    pub fn add(&mut self, word: &str, number: u64) {
        *self.counts.entry(word.to_owned()).or_default() += number;
    }

    pub fn of(&self, word: &str) -> u64 {
        self.counts.get(word).copied().unwrap_or(0)
    }

    pub fn merge(&mut self, other: &Statistics) {
        for (word, number) in &other.counts {
            self.add(word, *number);
        }
    }

    /// All counts, one line for every six words.
    pub fn lines(&self) -> String {
        let words: Vec<String> =
            self.counts.iter().map(|(word, number)| format!("{word} {number}")).collect();
        words.chunks(6).map(|line| line.join(" · ")).collect::<Vec<_>>().join("\n")
    }
}
