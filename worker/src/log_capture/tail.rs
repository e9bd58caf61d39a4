//! The end of standard output, which becomes a task's result.

/// Longest result, bytes.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;

/// The last [`RESULT_BYTES_MAX`] bytes of what was added, in at most twice that memory.
#[derive(Default)]
pub(super) struct OutputTail {
    bytes: Vec<u8>,
    cut: bool,
}

impl OutputTail {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(RESULT_BYTES_MAX)..];
        self.cut |= self.bytes.len() + bytes.len() > RESULT_BYTES_MAX;
        if self.bytes.len() + kept.len() > 2 * RESULT_BYTES_MAX {
            let surplus = (self.bytes.len() + kept.len() - RESULT_BYTES_MAX).min(self.bytes.len());
            self.bytes.drain(..surplus);
        }
        self.bytes.extend_from_slice(kept);
    }

    /// The tail as text: what is no UTF-8 becomes U+FFFD, newlines at the end are left out as the shell's
    /// `$(…)` does, and no character is cut in half. At most [`RESULT_BYTES_MAX`] bytes, from the end.
    pub(super) fn text(&self) -> String {
        let mut bytes = &self.bytes[self.bytes.len().saturating_sub(RESULT_BYTES_MAX)..];
        if self.cut {
            // Bytes of a character whose beginning has been cut off; there are at most three.
            let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
            bytes = &bytes[rest..];
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        // A byte that is no UTF-8 takes three as U+FFFD.
        let mut start = text.len().saturating_sub(RESULT_BYTES_MAX);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text[start..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(pieces: &[&[u8]]) -> String {
        let mut tail = OutputTail::default();
        for piece in pieces {
            tail.add(piece);
            assert!(tail.bytes.len() <= 2 * RESULT_BYTES_MAX);
        }
        tail.text()
    }

    #[test]
    fn short_output_is_the_result_without_its_last_newlines() {
        assert_eq!(tail_of(&[b"one\n", b"two\r\n\n"]), "one\ntwo");
        assert_eq!(tail_of(&[b"  x  "]), "  x  ");
        assert_eq!(tail_of(&[]), "");
    }

    #[test]
    fn of_long_output_the_last_64_kib_count_however_it_came() {
        let long: Vec<u8> = (0..500_000_u32).map(|number| b'a' + (number % 26) as u8).collect();
        let expected = str::from_utf8(&long[long.len() - RESULT_BYTES_MAX..]).expect("letters");
        assert_eq!(tail_of(&[&long]), expected);
        for size in [1_000, 65_536, 65_537, 100_000] {
            let pieces: Vec<&[u8]> = long.chunks(size).collect();
            assert_eq!(tail_of(&pieces), expected, "{size}");
        }
    }

    #[test]
    fn no_character_is_cut_and_bad_bytes_stay_within_the_limit() {
        let euros = "€".repeat(RESULT_BYTES_MAX / 3 + 100);
        let text = tail_of(&[euros.as_bytes()]);
        assert!(text.chars().all(|letter| letter == '€'), "no half of one");
        assert_eq!(text.len(), RESULT_BYTES_MAX / 3 * 3);
        let text = tail_of(&[&[0xFF; RESULT_BYTES_MAX]]);
        assert!(text.len() <= RESULT_BYTES_MAX && text.chars().all(|letter| letter == '\u{FFFD}'));
        assert_eq!(tail_of(&[b"a\x80b"]), "a\u{FFFD}b", "a whole output is not taken for a cut one");
    }
}
