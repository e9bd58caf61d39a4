//! Text that comes from agents, files and Redis, made harmless before a terminal sees it.
//!
//! An agent may print escape sequences that move the cursor, rename the window or answer for the user.
//! None of them passes: what is shown is one line of printable characters. Logs that are asked for as
//! they are (`task logs` into a pipe) do not come this way.

use anstream::adapter::strip_str;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Most bytes of a foreign text that are looked at for one line of output.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// One printable line: line breaks and tabs as spaces; escape sequences, other control characters,
/// characters that turn the reading direction and those that change the width of others removed.
pub(crate) fn harmless(text: &str) -> String {
    let bounded = head(text, LINE_BYTES_MAX);
    let stripped = strip_str(bounded).to_string();
    let mut line = String::with_capacity(stripped.len());
    for letter in stripped.chars() {
        match letter {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => line.push(' '),
            _ if turns_direction(letter) || changes_width(letter) || letter.is_control() => {}
            _ => line.push(letter),
        }
    }
    line
}

/// The same, but line breaks stay, for texts that are shown as a block.
pub(crate) fn harmless_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(harmless).collect();
    lines.join("\n")
}

/// What a terminal would show of a line that was written over itself with carriage returns
/// (progress bars): the part after the last of them.
pub(crate) fn last_overwrite(line: &str) -> &str {
    let line = line.trim_end_matches(['\r', '\n']);
    line.rsplit('\r').next().unwrap_or(line)
}

/// Columns a harmless text takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text cut to `width` columns, with `…` where something is missing. Wide characters are never halved.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut used = 0;
    let mut kept = String::new();
    for letter in text.chars() {
        let wide = letter.width().unwrap_or(0);
        if used + wide > width - 1 {
            break;
        }
        used += wide;
        kept.push(letter);
    }
    kept.push('…');
    kept
}

/// The text filled up with spaces to `width` columns; longer text stays as it is.
pub(crate) fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Marks and overrides with which a text can make the line around it read differently.
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Joiners and variation selectors: terminals disagree about the width of what they make.
fn changes_width(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_shown_keeps_to_its_width(text in "\\PC{0,40}|.{0,40}|[☺✔👩👍🏽‍️日a]{0,20}", width in 0_usize..30) {
            let shown = cut(&harmless(&text), width);
            prop_assert!(columns(&shown) <= width, "{:?} in {}", shown, width);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }

    #[test]
    fn no_escape_sequence_passes() {
        let table = [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[1;1Hgone", "gone"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("a\u{8}b\u{7f}", "ab"),
            ("one\ttwo\r\nthree", "one two  three"),
            ("abc\u{202e}txt.exe", "abctxt.exe"),
            ("日本 ok", "日本 ok"),
        ];
        for (given, shown) in table {
            assert_eq!(harmless(given), shown, "{given:?}");
        }
    }

    #[test]
    fn nothing_printed_is_a_control_character() {
        let everything: String = (0..0x300).filter_map(char::from_u32).collect();
        assert!(!harmless(&everything).chars().any(char::is_control));
        assert!(!harmless("\u{9b}31mx\u{90}y").chars().any(char::is_control));
    }

    #[test]
    fn a_progress_bar_shows_its_last_state() {
        assert_eq!(last_overwrite("10%\r20%\r30%\r"), "30%");
        assert_eq!(last_overwrite("plain\r\n"), "plain");
    }

    #[test]
    fn a_cut_never_exceeds_the_width() {
        for width in 0..12 {
            for text in ["", "short", "日本語のテキスト", "a日b本c"] {
                assert!(columns(&cut(text, width)) <= width, "{text} in {width}");
            }
        }
        assert_eq!(cut("日本語", 5), "日本…");
    }
}
