//! Durations as people write them: `90s`, `1h30m`, `250ms`, `7d`, or a bare number.
//!
//! Nothing here knows which durations make sense where; a limit on a timeout belongs to the timeout.

use std::fmt;
use std::time::Duration;

/// The longest duration that is read: ten thousand days, so that sums of a few never overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(10_000 * 86_400);

/// The units, longest first, each with its milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What a number without a unit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNumber {
    /// Everywhere but in a retention time.
    Seconds,
    /// In `*_RETENTION`.
    Days,
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: {rule}")]
pub struct DurationError {
    /// What the caller gave.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl DurationError {
    /// How a duration is written.
    pub fn hint(&self) -> &'static str {
        "write `90s`, `1h30m`, `250ms`, or bare seconds"
    }
}

/// Reads a duration; a bare number counts seconds.
///
/// Parts follow each other from the longest unit to the shortest, each unit once: `d`, `h`, `m`, `s`, `ms`.
/// A number may have a fraction (`1.5h`); what is finer than a millisecond is rounded, but never to nothing.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration_with(text, BareNumber::Seconds)
}

/// Reads a duration, with a choice of what a bare number counts.
pub fn parse_duration_with(text: &str, bare: BareNumber) -> Result<Duration, DurationError> {
    let refuse = |rule| DurationError { text: text.to_owned(), rule };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refuse("it is empty"));
    }
    if rest.starts_with('-') {
        return Err(refuse("it is less than nothing"));
    }
    if is_number(rest) {
        let unit_ms = match bare {
            BareNumber::Seconds => 1_000,
            BareNumber::Days => 86_400_000,
        };
        return bounded(number_ms(rest, unit_ms)).ok_or_else(|| refuse(TOO_LONG));
    }
    let mut total_ms = 0.0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        if !is_number(number) {
            return Err(refuse("a number and a unit are expected"));
        }
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let place = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| refuse("the units are `d`, `h`, `m`, `s` and `ms`"))?;
        if place < next_unit {
            return Err(refuse("each unit stands once, longer ones first"));
        }
        total_ms += number_ms(number, UNITS[place].1);
        next_unit = place + 1;
        rest = tail;
    }
    bounded(total_ms).ok_or_else(|| refuse(TOO_LONG))
}

/// Reads a number of seconds, as a YAML or JSON number gives it.
pub fn duration_from_seconds(seconds: f64) -> Result<Duration, DurationError> {
    let refuse = |rule| DurationError { text: seconds.to_string(), rule };
    if !seconds.is_finite() {
        return Err(refuse("it is not finite"));
    }
    if seconds < 0.0 {
        return Err(refuse("it is less than nothing"));
    }
    bounded(round_ms(seconds * 1_000.0)).ok_or_else(|| refuse(TOO_LONG))
}

const TOO_LONG: &str = "it is longer than 10000 days";

/// Digits, and perhaps a point with more digits behind it.
fn is_number(text: &str) -> bool {
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => all_digits(text),
    }
}

/// The milliseconds of a number that `is_number` has accepted.
fn number_ms(number: &str, unit_ms: u64) -> f64 {
    let value: f64 = number.parse().expect("digits with at most one point are a number");
    round_ms(value * unit_ms as f64)
}

fn round_ms(exact: f64) -> f64 {
    if exact > 0.0 { exact.round().max(1.0) } else { 0.0 }
}

fn bounded(total_ms: f64) -> Option<Duration> {
    (total_ms <= DURATION_MAX.as_millis() as f64).then(|| Duration::from_millis(total_ms as u64))
}

/// Shows a duration in the form `parse_duration` reads, to the millisecond: `1h30m`, `250ms`, `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownDuration(pub Duration);

impl fmt::Display for ShownDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = self.0.as_millis();
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (name, unit_ms) in UNITS {
            let count = rest_ms / u128::from(unit_ms);
            rest_ms %= u128::from(unit_ms);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let table = [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1s250ms", 1_250),
            ("7d", 604_800_000),
            ("1.5h", 5_400_000),
            ("600", 600_000),
            ("0.25", 250),
            ("0", 0),
            ("0.0001", 1),
            (" 10s ", 10_000),
            ("1d2h3m4s5ms", 93_784_005),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_its_rule() {
        let table = [
            ("", "it is empty"),
            ("-1s", "it is less than nothing"),
            ("1x", "the units are `d`, `h`, `m`, `s` and `ms`"),
            ("1S", "the units are `d`, `h`, `m`, `s` and `ms`"),
            ("5 s", "the units are `d`, `h`, `m`, `s` and `ms`"),
            ("1h30", "the units are `d`, `h`, `m`, `s` and `ms`"),
            ("30m1h", "each unit stands once, longer ones first"),
            ("1s1s", "each unit stands once, longer ones first"),
            ("s", "a number and a unit are expected"),
            ("1.2.3s", "a number and a unit are expected"),
            (".5s", "a number and a unit are expected"),
            ("soon", "a number and a unit are expected"),
            ("1e9", "the units are `d`, `h`, `m`, `s` and `ms`"),
            ("99999d", TOO_LONG),
            ("99999999999999999999999", TOO_LONG),
        ];
        for (text, rule) in table {
            let refused = parse_duration(text).expect_err(text);
            assert_eq!((refused.text.as_str(), refused.rule), (text, rule));
        }
    }

    #[test]
    fn a_bare_number_may_count_days() {
        let week = parse_duration_with("7", BareNumber::Days);
        assert_eq!(week, Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration_with("7s", BareNumber::Days), Ok(Duration::from_secs(7)));
    }

    #[test]
    fn seconds_as_a_number_follow_the_same_rules() {
        assert_eq!(duration_from_seconds(1.5), Ok(Duration::from_millis(1_500)));
        assert!(duration_from_seconds(-1.0).is_err());
        assert!(duration_from_seconds(f64::NAN).is_err());
        assert!(duration_from_seconds(f64::INFINITY).is_err());
        assert!(duration_from_seconds(1e30).is_err());
    }

    #[test]
    fn a_message_says_what_is_expected_and_what_was_found() {
        let refused = parse_duration("1x").expect_err("`x` is no unit");
        insta::assert_snapshot!(refused, @"`1x` is not a duration: the units are `d`, `h`, `m`, `s` and `ms`");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(ms in 0..=DURATION_MAX.as_millis() as u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&ShownDuration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.dhms -]{0,12}|.{0,12}") {
            let _ = parse_duration(&text);
        }
    }
}
