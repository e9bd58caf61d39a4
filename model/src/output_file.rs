//! What an agent writes into `MAESTRO_OUTPUT_FILE`: lines `name=value`, or `name<<DELIM` … `DELIM`.
//!
//! Only the bytes are read here; opening the file safely is the worker's business. Values stay text, whatever
//! they look like: nothing an agent writes is evaluated or guessed at.

use indexmap::IndexMap;

/// The largest output file that is read, bytes.
pub const OUTPUT_FILE_BYTES_MAX: usize = 256 * 1024;
/// The largest value in it, bytes.
pub const OUTPUT_VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest name in it, bytes.
pub const OUTPUT_NAME_BYTES_MAX: usize = 128;

/// How much of a line a message repeats, characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What is wrong with an output file. All of it is the agent's to mend: the task fails with `config`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputFileError {
    /// The file as a whole is too large.
    #[error("the output file has {bytes} bytes, {OUTPUT_FILE_BYTES_MAX} are allowed")]
    FileTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A value is too large.
    #[error(
        "line {line} of the output file: `{name}` has {bytes} bytes, {OUTPUT_VALUE_BYTES_MAX} are allowed"
    )]
    ValueTooLarge {
        /// The line on which it begins, from 1.
        line: usize,
        /// Whose value it is.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// A line is neither of the two forms.
    #[error("line {line} of the output file: expected `name=value` or `name<<DELIMITER`, found `{found}`")]
    NoAssignment {
        /// The line, from 1.
        line: usize,
        /// Its beginning.
        found: String,
    },
    /// The text before `=` or `<<` is not a name.
    #[error(
        "line {line} of the output file: `{name}` is not a name: 1 to {OUTPUT_NAME_BYTES_MAX} letters, digits, \
         `_`, `-` and `.` are, and the first is no `-` or `.`"
    )]
    BadName {
        /// The line, from 1.
        line: usize,
        /// The beginning of what stands there.
        name: String,
    },
    /// Nothing follows `<<`.
    #[error(
        "line {line} of the output file: expected a delimiter after `{name}<<`, found the end of the line"
    )]
    NoDelimiter {
        /// The line, from 1.
        line: usize,
        /// Whose value would begin there.
        name: String,
    },
    /// The delimiter does not come again.
    #[error(
        "line {line} of the output file: the value of `{name}` begins here, but no later line is `{delimiter}`"
    )]
    Unclosed {
        /// The line on which the value begins, from 1.
        line: usize,
        /// Whose value it is.
        name: String,
        /// What should have ended it.
        delimiter: String,
    },
    /// A line is not UTF-8.
    #[error("line {line} of the output file: expected UTF-8 text, found other bytes")]
    NotText {
        /// The line, from 1.
        line: usize,
    },
}

/// Reads an output file. The last of two equal names wins.
///
/// Empty lines between assignments are skipped. A value after `=` goes to the end of its line, as it stands;
/// one after `<<` has every line up to the one that is exactly the delimiter, without the last line's end.
/// Lines may end with CR LF.
pub fn parse_output_file(bytes: &[u8]) -> Result<IndexMap<String, String>, OutputFileError> {
    if bytes.len() > OUTPUT_FILE_BYTES_MAX {
        return Err(OutputFileError::FileTooLarge { bytes: bytes.len() });
    }
    let mut lines = Lines { rest: text_of(bytes)?, number: 0 };
    let mut outputs = IndexMap::new();
    while let Some(line) = lines.take() {
        if line.trim().is_empty() {
            continue;
        }
        let number = lines.number;
        let (name, value) = assignment(line, &mut lines)?;
        if value.len() > OUTPUT_VALUE_BYTES_MAX {
            return Err(OutputFileError::ValueTooLarge { line: number, name, bytes: value.len() });
        }
        outputs.insert(name, value);
    }
    Ok(outputs)
}

/// The lines that are left, and the number of the one taken last.
struct Lines<'t> {
    rest: &'t str,
    number: usize,
}

impl<'t> Lines<'t> {
    /// The next line without its end.
    fn take(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// All up to a line that is the delimiter, which is taken as well.
    fn take_until(&mut self, delimiter: &str) -> Option<&'t str> {
        let all = self.rest;
        loop {
            let before = all.len() - self.rest.len();
            if self.take()? == delimiter {
                let value = &all[..before];
                let value = value.strip_suffix('\n').unwrap_or(value);
                return Some(value.strip_suffix('\r').unwrap_or(value));
            }
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, OutputFileError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        OutputFileError::NotText { line: 1 + good.iter().filter(|byte| **byte == b'\n').count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// One name and its value; `lines` stands behind the line that is given.
fn assignment(line: &str, lines: &mut Lines<'_>) -> Result<(String, String), OutputFileError> {
    let number = lines.number;
    let equals = line.find('=').unwrap_or(line.len());
    let marker = line.find("<<").unwrap_or(line.len());
    if equals == marker {
        return Err(OutputFileError::NoAssignment { line: number, found: shown(line) });
    }
    let name = &line[..equals.min(marker)];
    if !is_output_name(name) {
        return Err(OutputFileError::BadName { line: number, name: shown(name) });
    }
    let name = name.to_owned();
    if equals < marker {
        return Ok((name, line[equals + 1..].to_owned()));
    }
    let delimiter = line[marker + 2..].trim();
    if delimiter.is_empty() {
        return Err(OutputFileError::NoDelimiter { line: number, name });
    }
    match lines.take_until(delimiter) {
        Some(value) => Ok((name, value.to_owned())),
        None => Err(OutputFileError::Unclosed { line: number, name, delimiter: shown(delimiter) }),
    }
}

/// Whether a text can be the name of an output.
pub fn is_output_name(text: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty()
        && text.len() <= OUTPUT_NAME_BYTES_MAX
        && text.bytes().all(lawful)
        && !text.starts_with(['-', '.'])
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse_output_file(text.as_bytes()).expect(text).into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let table: [(&str, &[(&str, &str)]); 14] = [
            ("", &[]),
            ("\n\n", &[]),
            ("id=42", &[("id", "42")]),
            ("id=42\n", &[("id", "42")]),
            ("id=42\r\nb=c\r\n", &[("id", "42"), ("b", "c")]),
            ("id=", &[("id", "")]),
            ("id= a = b ", &[("id", " a = b ")]),
            ("a=1<<2", &[("a", "1<<2")]),
            ("notes<<EOF\none\n\ntwo\nEOF\nid=1\n", &[("notes", "one\n\ntwo"), ("id", "1")]),
            ("notes<<EOF\nEOF", &[("notes", "")]),
            ("notes<<EOF\n\nEOF", &[("notes", "")]),
            ("notes<< EOF \na=b\nEOF", &[("notes", "a=b")]),
            ("notes<<EOF\r\none\r\ntwo\r\nEOF\r\n", &[("notes", "one\r\ntwo")]),
            ("x<<A=B\nv\nA=B\n", &[("x", "v")]),
        ];
        for (text, expected) in table {
            assert_eq!(parsed(text), pairs(expected), "{text:?}");
        }
    }

    #[test]
    fn the_last_of_two_equal_names_wins() {
        assert_eq!(parsed("a=1\nb=2\na=3\n"), pairs(&[("a", "3"), ("b", "2")]));
    }

    #[test]
    fn a_value_stays_text_whatever_it_looks_like() {
        let text = "a=1\nb=true\nc=[1,2]\nd=<< state.x >>\ne=null\n";
        let expected = [("a", "1"), ("b", "true"), ("c", "[1,2]"), ("d", "<< state.x >>"), ("e", "null")];
        assert_eq!(parsed(text), pairs(&expected));
    }

    #[test]
    fn each_broken_line_is_named() {
        let table: [(&[u8], &str); 10] = [
            (
                b"id=1\nwhat is this\n",
                "line 2 of the output file: expected `name=value` or `name<<DELIMITER`, found `what is this`",
            ),
            (
                b"=1",
                "line 1 of the output file: `` is not a name: 1 to 128 letters, digits, `_`, `-` and `.` are, \
                 and the first is no `-` or `.`",
            ),
            (
                b"\n\nmy name=1",
                "line 3 of the output file: `my name` is not a name: 1 to 128 letters, digits, `_`, `-` and `.` \
                 are, and the first is no `-` or `.`",
            ),
            (
                b"-x=1",
                "line 1 of the output file: `-x` is not a name: 1 to 128 letters, digits, `_`, `-` and `.` are, \
                 and the first is no `-` or `.`",
            ),
            (
                b"a<<\nb\n",
                "line 1 of the output file: expected a delimiter after `a<<`, found the end of the line",
            ),
            (
                b"a=1\nb<<EOF\nx\nEOF \n",
                "line 2 of the output file: the value of `b` begins here, but no later line is `EOF`",
            ),
            (b"a=1\nb=\xff\n", "line 2 of the output file: expected UTF-8 text, found other bytes"),
            (
                b"a<<E\nE\nE\n",
                "line 3 of the output file: expected `name=value` or `name<<DELIMITER`, found `E`",
            ),
            (b"a<<E\nx\n\xc3(\nE\n", "line 3 of the output file: expected UTF-8 text, found other bytes"),
            (b"a\0b", "line 1 of the output file: expected `name=value` or `name<<DELIMITER`, found `a\0b`"),
        ];
        for (bytes, message) in table {
            let refused = parse_output_file(bytes).expect_err(message);
            assert_eq!(refused.to_string(), message);
        }
    }

    #[test]
    fn sizes_are_bounded_per_value_and_in_all() {
        let largest = format!("a={}\n", "x".repeat(OUTPUT_VALUE_BYTES_MAX));
        assert_eq!(parsed(&largest)[0].1.len(), OUTPUT_VALUE_BYTES_MAX);

        let larger = format!("ok=1\na={}\n", "x".repeat(OUTPUT_VALUE_BYTES_MAX + 1));
        assert_eq!(
            parse_output_file(larger.as_bytes()),
            Err(OutputFileError::ValueTooLarge {
                line: 2,
                name: "a".to_owned(),
                bytes: OUTPUT_VALUE_BYTES_MAX + 1
            })
        );

        let longer = format!("ok=1\na<<E\n{}\nE\n", "x\n".repeat(OUTPUT_VALUE_BYTES_MAX / 2 + 1));
        let refused = parse_output_file(longer.as_bytes()).expect_err("the value is too large");
        assert!(matches!(refused, OutputFileError::ValueTooLarge { line: 2, .. }), "{refused}");

        let full = "a=1\n".repeat(OUTPUT_FILE_BYTES_MAX / 4);
        assert_eq!(parsed(&full), pairs(&[("a", "1")]));
        assert_eq!(
            parse_output_file(format!("{full}\n").as_bytes()),
            Err(OutputFileError::FileTooLarge { bytes: OUTPUT_FILE_BYTES_MAX + 1 })
        );
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let refused = parse_output_file("ä".repeat(500).as_bytes()).expect_err("no assignment");
        let OutputFileError::NoAssignment { found, .. } = refused else { panic!("{refused}") };
        assert_eq!(found.chars().count(), SHOWN_CHARS_MAX + 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_output_file(&bytes);
        }

        #[test]
        fn what_is_written_is_read(values in prop::collection::vec("[a-z <=\n]{0,20}", 0..6)) {
            let text: String = values
                .iter()
                .enumerate()
                .map(|(place, value)| format!("v{place}<<~~\n{value}\n~~\n"))
                .collect();
            let expected: Vec<_> =
                values.iter().enumerate().map(|(place, value)| (format!("v{place}"), value.clone())).collect();
            prop_assert_eq!(parsed(&text), expected);
        }
    }
}
