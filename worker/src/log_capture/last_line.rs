//! The last line an agent wrote, as far as one line on a screen shows it.

/// Longest line that is remembered, bytes of the agent's text.
const LINE_BYTES_MAX: usize = 300;

/// Follows one stream and remembers the beginning of its last line that is not blank.
#[derive(Default)]
pub(super) struct LastLine {
    current: Vec<u8>,
    last: Vec<u8>,
}

impl LastLine {
    /// Takes what was written next. A carriage return ends a line too: so progress bars show their latest state.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let Some(end) = bytes.iter().rposition(is_end) else {
            self.extend(bytes);
            return;
        };
        // Only the last line that is not blank counts, and it is near the end.
        let whole = &bytes[..end];
        let mut rest = whole;
        loop {
            let start = rest.iter().rposition(is_end).map_or(0, |place| place + 1);
            let line = &rest[start..];
            if start == 0 {
                self.extend(line);
                self.finish();
                break;
            }
            if !is_blank(line) {
                self.current.clear();
                self.extend(line);
                self.finish();
                break;
            }
            rest = &rest[..start - 1];
        }
        self.current.clear();
        self.extend(&bytes[end + 1..]);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.current.len());
        self.current.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(&mut self) {
        if !is_blank(&self.current) {
            self.last.clear();
            self.last.extend_from_slice(&self.current);
        }
    }

    /// The line being written if there is something in it, else the last one that was not blank.
    pub(super) fn text(&self) -> String {
        plain_text(if is_blank(&self.current) { &self.last } else { &self.current })
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Text fit for one line of a terminal: no escape sequences, no control characters, no blanks around it.
fn plain_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                // `ESC [ … letter` is the usual kind; of the others the one character that follows goes.
                if letters.next() == Some('[') {
                    while letters.next().is_some_and(|inside| !('@'..='~').contains(&inside)) {}
                }
            }
            '\n' | '\t' => plain.push(' '),
            letter if letter.is_control() => {}
            letter => plain.push(letter),
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_of(pieces: &[&str]) -> String {
        let mut line = LastLine::default();
        pieces.iter().for_each(|piece| line.add(piece.as_bytes()));
        line.text()
    }

    #[test]
    fn the_last_line_is_the_same_however_it_comes() {
        let text = "first\nsecond line\n\n  \nthird, begun";
        for end in 0..=text.len() {
            let (head, tail) = text.split_at(end);
            assert_eq!(last_of(&[head, tail]), "third, begun", "{end}");
        }
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        assert_eq!(last_of(&pieces), "third, begun");
    }

    #[test]
    fn blank_lines_do_not_hide_what_was_said() {
        assert_eq!(last_of(&["said\n", "\n", " \n\n"]), "said");
        assert_eq!(last_of(&["sa", "id\n\n"]), "said");
        assert_eq!(last_of(&["one\ntw", "o\n  \n"]), "two");
        assert_eq!(last_of(&["", "\n"]), "");
    }

    #[test]
    fn a_progress_bar_shows_its_latest_state() {
        assert_eq!(last_of(&["10%\r50%\r"]), "50%");
        assert_eq!(last_of(&["10%\r\u{1b}[2K\u{1b}[32m50%\u{1b}[0m"]), "50%");
    }

    #[test]
    fn a_line_of_any_length_takes_bounded_memory() {
        let mut line = LastLine::default();
        for _ in 0..1_000 {
            line.add(&[b'x'; 10_000]);
        }
        line.add(b"\n");
        assert_eq!(line.text().len(), LINE_BYTES_MAX);
    }
}
