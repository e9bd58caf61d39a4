//! When a usage limit is lifted, as programs say it.
//!
//! As a moment, as a time from now, or as an o'clock in words for people. Words that are not understood give no
//! time: the message itself is always shown.

use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp, Zoned};

/// Longest time until a reset that is believed, seconds: a month and a bit, as plans are.
const RESET_SECONDS_MAX: i64 = 40 * 24 * 3600;

/// When a limit is lifted, before it is known what time it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ResetHint {
    /// Seconds since 1970.
    At(i64),
    /// Seconds from now.
    In(f64),
    /// At that time of day, on that day if it is said, else the next time.
    Clock(Option<Date>, Time),
}

impl ResetHint {
    /// The moment; none if it has passed or is too far off to be true.
    pub(super) fn resolve(self, now: &Zoned) -> Option<Timestamp> {
        let at = match self {
            ResetHint::At(seconds) => Timestamp::from_second(seconds).ok()?,
            ResetHint::In(seconds) => {
                now.timestamp().checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()?
            }
            ResetHint::Clock(date, time) => {
                let day = date.unwrap_or_else(|| now.date());
                let at = day.to_datetime(time).to_zoned(now.time_zone().clone()).ok()?;
                let next = if date.is_none() && at <= *now { at.tomorrow().ok()? } else { at };
                next.timestamp()
            }
        };
        let ahead = at.as_second() - now.timestamp().as_second();
        (0..=RESET_SECONDS_MAX).contains(&ahead).then_some(at)
    }

    /// What a sentence says: `try again at 2:07 PM`, `try again at Nov 21st, 2026 2:07 PM`,
    /// `reset after 3h22m10s`, `retry in 7200s`, `limit reached|1795183724`.
    pub(super) fn from_words(text: &str) -> Option<ResetHint> {
        if let Some(rest) = after(text, "limit reached|") {
            return leading_number(rest).map(|seconds| ResetHint::At(seconds as i64));
        }
        if let Some(rest) = after(text, "try again at ").or_else(|| after(text, "resets at ")) {
            return rest.parse().ok().map(at_second).or_else(|| clock(rest));
        }
        let marks = ["reset after ", "retry after ", "retry in ", "try again in ", "resets in "];
        marks.iter().find_map(|mark| span(after(text, mark)?)).map(ResetHint::In)
    }

    /// A number of seconds since 1970, or of milliseconds if it is too large for that.
    pub(super) fn from_number(number: f64) -> Option<ResetHint> {
        const MILLISECONDS_FROM: f64 = 1e11;
        let seconds = if number >= MILLISECONDS_FROM { number / 1000.0 } else { number };
        (seconds > 0.0).then_some(ResetHint::At(seconds as i64))
    }
}

fn at_second(at: Timestamp) -> ResetHint {
    ResetHint::At(at.as_second())
}

/// What follows a mark, whatever the case of its letters.
fn after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    let place = text.to_ascii_lowercase().find(mark)?;
    Some(&text[place + mark.len()..])
}

fn leading_number(text: &str) -> Option<f64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    text[..end].trim_end_matches('.').parse().ok()
}

/// `3h22m10s`, `3 days 4 hours`, `7200s`, `850ms`, in seconds.
fn span(text: &str) -> Option<f64> {
    let mut rest = text.trim_start();
    let mut seconds = None;
    while let Some(number) = leading_number(rest) {
        let unit =
            rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').trim_start();
        let word_end = unit.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(unit.len());
        let factor = match unit[..word_end].to_ascii_lowercase().as_str() {
            "ms" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        *seconds.get_or_insert(0.0) += number * factor;
        rest = unit[word_end..].trim_start_matches([' ', ',']);
    }
    seconds
}

/// `2:07 PM` or `Nov 21st, 2026 2:07 PM`.
fn clock(text: &str) -> Option<ResetHint> {
    let cleaned = text.replace([',', '.'], " ");
    let words: Vec<&str> = cleaned.split_whitespace().take(5).collect();
    if let Some(time) = time_of_day(&words) {
        return Some(ResetHint::Clock(None, time));
    }
    let [month, day, year, ..] = words[..] else { return None };
    let date = date(month, day, year)?;
    time_of_day(&words[3..]).map(|time| ResetHint::Clock(Some(date), time))
}

fn time_of_day(words: &[&str]) -> Option<Time> {
    let [clock, half, ..] = words[..] else { return None };
    let (hour, minute) = clock.split_once(':')?;
    let (hour, minute): (i8, i8) = (hour.parse().ok()?, minute.parse().ok()?);
    let hour = match (half.to_ascii_lowercase().as_str(), hour) {
        ("am", 12) => 0,
        ("am", 1..=11) | ("pm", 12) => hour,
        ("pm", 1..=11) => hour + 12,
        _ => return None,
    };
    Time::new(hour, minute, 0, 0).ok()
}

fn date(month: &str, day: &str, year: &str) -> Option<Date> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = month.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| month.starts_with(name))? as i8 + 1;
    Date::new(year.parse().ok()?, month, leading_number(day)? as i8).ok()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn resolved(text: &str) -> Option<String> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-11-20T10:00:00Z".parse::<Timestamp>().expect("a time").to_zoned(zone);
        ResetHint::from_words(text).and_then(|hint| hint.resolve(&now)).map(|at| at.to_string())
    }

    #[test]
    fn words_of_programs_become_moments() {
        let cases = [
            ("You’ve hit your usage limit. Upgrade or try again at 2:07 PM.", Some("2026-11-20T12:07:00Z")),
            ("You’ve hit your usage limit. Try again at 9:30 AM.", Some("2026-11-21T07:30:00Z")),
            ("… or try again at Nov 24th, 2026 12:05 AM.", Some("2026-11-23T22:05:00Z")),
            ("Your quota will reset after 3h22m10s.", Some("2026-11-20T13:22:10Z")),
            ("Please retry in 7200s", Some("2026-11-20T12:00:00Z")),
            ("Suggested retry after 90.5s.", Some("2026-11-20T10:01:30.5Z")),
            ("Try again in 3 days 4 hours 5 minutes.", Some("2026-11-23T14:05:00Z")),
            ("Claude AI usage limit reached|1795183724", Some("2026-11-20T14:08:44Z")),
            ("resets at 2026-11-20T15:00:00Z", Some("2026-11-20T15:00:00Z")),
            ("You've hit your usage limit, or try again later.", None),
            ("try again at some other time", None),
            ("retry in a while", None),
            ("limit reached|17", None),
            ("try again at 25:99 PM", None),
            ("try again in 99999999999999999999999 days", None),
        ];
        for (text, expected) in cases {
            assert_eq!(resolved(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_may_be_seconds_or_milliseconds() {
        assert_eq!(ResetHint::from_number(1_795_183_724.0), Some(ResetHint::At(1_795_183_724)));
        assert_eq!(ResetHint::from_number(1_795_183_724_000.0), Some(ResetHint::At(1_795_183_724)));
        assert_eq!(ResetHint::from_number(0.0), None);
    }
}
