//! What colours mean. Code names a tone, never a colour; without colour everything still reads the same.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// The meaning of a piece of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// It went well.
    Good,
    /// It went badly.
    Bad,
    /// Something to look at.
    Warn,
    /// It is going on.
    Busy,
    /// Beside the point: waiting, skipped, times.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Busy => AnsiColor::Cyan.on_default(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        }
    }
}

/// Whether a stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// None at all.
    Plain,
    /// ANSI colours.
    Coloured,
}

impl Paint {
    /// Decides for standard output: a terminal that can, without `NO_COLOR` and `--no-color`.
    pub(crate) fn of_stdout(no_color: bool) -> Paint {
        Paint::from_choice(no_color, AutoStream::choice(&io::stdout()))
    }

    /// Decides for standard error.
    pub(crate) fn of_stderr(no_color: bool) -> Paint {
        Paint::from_choice(no_color, AutoStream::choice(&io::stderr()))
    }

    fn from_choice(no_color: bool, choice: ColorChoice) -> Paint {
        if no_color || choice == ColorChoice::Never { Paint::Plain } else { Paint::Coloured }
    }

    /// The text in its tone.
    pub(crate) fn apply(self, tone: Tone, text: &str) -> String {
        if self == Paint::Plain || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_the_text_is_untouched() {
        assert_eq!(Paint::Plain.apply(Tone::Bad, "failed"), "failed");
        assert_eq!(Paint::Coloured.apply(Tone::Plain, "text"), "text");
        let painted = Paint::Coloured.apply(Tone::Bad, "failed");
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), "failed");
        assert_ne!(painted, "failed");
    }

    #[test]
    fn the_flag_wins_over_the_terminal() {
        assert_eq!(Paint::from_choice(true, ColorChoice::Always), Paint::Plain);
        assert_eq!(Paint::from_choice(false, ColorChoice::Never), Paint::Plain);
        assert_eq!(Paint::from_choice(false, ColorChoice::Always), Paint::Coloured);
    }
}
