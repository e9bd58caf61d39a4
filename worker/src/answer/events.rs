//! Bytes to JSON objects: one a line, an array of them on a line, or one that is printed over many lines.
//!
//! What is no JSON is passed over: programs print greetings and warnings where they please. A line beyond the
//! limit is passed over whole; the events that matter are never that long, what a tool printed may be.

use serde_json::Value;

/// Longest line, and longest object over many lines, that is looked at, bytes.
pub(super) const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts lines together and takes objects out of them.
#[derive(Debug, Default)]
pub(super) struct EventSplitter {
    line: Vec<u8>,
    is_too_long: bool,
    /// An object that began with a line of its own, `{` or `[`, and goes on until it is closed.
    document: Option<Vec<u8>>,
}

impl EventSplitter {
    /// Takes what was written next, and hands out what is complete.
    pub(super) fn add(&mut self, bytes: &[u8], found: &mut impl FnMut(Value)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            self.end_line(found);
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// Hands out what is complete without a last newline.
    pub(super) fn end(&mut self, found: &mut impl FnMut(Value)) {
        self.end_line(found);
        self.document = None;
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            self.is_too_long = true;
            self.line = Vec::new();
            return;
        }
        self.line.extend_from_slice(bytes);
    }

    fn end_line(&mut self, found: &mut impl FnMut(Value)) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_too_long) {
            self.document = None;
            return;
        }
        self.take_line(line.trim_ascii_end(), found);
        // The room is kept for the next line, but not that of a giant for ever.
        if line.capacity() <= EVENT_BYTES_MAX / 16 {
            self.line = line;
            self.line.clear();
        }
    }

    fn take_line(&mut self, line: &[u8], found: &mut impl FnMut(Value)) {
        let begins_object = line.starts_with(b"{\"") || line.starts_with(b"[{");
        if begins_object && let Ok(value) = serde_json::from_slice(line) {
            // What looked like the beginning of an object was something else.
            self.document = None;
            return hand_out(value, found);
        }
        if let Some(document) = &mut self.document {
            if document.len() + line.len() > EVENT_BYTES_MAX {
                self.document = None;
                return;
            }
            document.extend_from_slice(line);
            document.push(b'\n');
            if matches!(line, b"}" | b"]") {
                let document = self.document.take().unwrap_or_default();
                if let Ok(value) = serde_json::from_slice(&document) {
                    hand_out(value, found);
                }
            }
            return;
        }
        match line {
            b"{" | b"[" => self.document = Some([line, b"\n"].concat()),
            _ => {
                if let Ok(value @ (Value::Object(_) | Value::Array(_))) =
                    serde_json::from_slice(line.trim_ascii_start())
                {
                    hand_out(value, found);
                }
            }
        }
    }
}

fn hand_out(value: Value, found: &mut impl FnMut(Value)) {
    match value {
        Value::Object(_) => found(value),
        Value::Array(items) => items.into_iter().filter(Value::is_object).for_each(found),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = EventSplitter::default();
        let mut found = Vec::new();
        for piece in pieces {
            splitter.add(piece, &mut |value| found.push(value.to_string()));
        }
        splitter.end(&mut |value| found.push(value.to_string()));
        found
    }

    #[test]
    fn objects_are_found_wherever_reads_meet() {
        let text = b"hello\n{\"a\":1}\r\n[1, 2]\n{\"b\":\"\\n{\"}\n[{\"c\":1},{\"d\":2}]\n{\n  \"e\": {\n  }\n}\n{\"f\":1}";
        let expected = ["{\"a\":1}", "{\"b\":\"\\n{\"}", "{\"c\":1}", "{\"d\":2}", "{\"e\":{}}", "{\"f\":1}"];
        for cut in 0..=text.len() {
            assert_eq!(found_in(&[&text[..cut], &text[cut..]]), expected, "{cut}");
        }
    }

    #[test]
    fn garbage_is_passed_over_and_takes_no_event_with_it() {
        let garbage: &[&[u8]] = &[b"\xff\xfe\x00\n", b"{\n", b"{{{\n", b"{\"a\":\n", b"null\n\"text\"\n17\n"];
        assert_eq!(found_in(&[garbage.concat().as_slice(), b"{\"z\":1}\n"]), ["{\"z\":1}"]);
        let deep = "[".repeat(100_000);
        assert_eq!(found_in(&[deep.as_bytes(), b"\n{\"z\":1}"]), ["{\"z\":1}"]);
    }

    #[test]
    fn a_giant_line_takes_no_memory_and_hides_nothing() {
        let mut splitter = EventSplitter::default();
        let mut found = 0;
        splitter.add(b"{\"a\":\"", &mut |_| found += 1);
        for _ in 0..100 {
            splitter.add(&[b'x'; 100_000], &mut |_| found += 1);
            assert!(splitter.line.capacity() <= 2 * EVENT_BYTES_MAX);
        }
        splitter.add(b"\"}\n{\"b\":1}\n", &mut |_| found += 1);
        assert_eq!(found, 1);
    }
}
