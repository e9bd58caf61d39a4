//! Times and durations as users read them.
//!
//! Everywhere else a time is a number of milliseconds of the Unix clock, as Redis counts them. In JSON a
//! time is RFC 3339 in UTC and a duration a number of seconds; for people durations are short.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serializer;

/// Now, by this host's clock, ms since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// RFC 3339 in UTC, with milliseconds only where there are some. A number no calendar has is shown as it is.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    match i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(timestamp) => timestamp.to_string(),
        None => format!("{unix_ms} ms"),
    }
}

/// A time as `rfc3339` writes it, ms since 1970; none if it is not one.
pub(crate) fn read_rfc3339(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok()
}

/// `12:00:01`, in UTC.
pub(crate) fn clock(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match stamp {
        Some(stamp) => {
            let time = stamp.to_zoned(TimeZone::UTC);
            format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
        }
        None => "--:--:--".to_owned(),
    }
}

/// `8.0s`, `1m 20s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{}.{}s", seconds, ms % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago, in one unit: `8s`, `20m`, `5h`, `3d`. A time in the future is `0s`.
pub(crate) fn age(unix_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(unix_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// For `#[serde(serialize_with = "…")]` on a time in ms.
pub(crate) fn as_rfc3339<S: Serializer>(unix_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*unix_ms))
}

/// For `#[serde(serialize_with = "…")]` on a time in ms that may not have come yet.
pub(crate) fn as_optional_rfc3339<S: Serializer>(
    unix_ms: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match unix_ms {
        Some(unix_ms) => serializer.serialize_some(&rfc3339(*unix_ms)),
        None => serializer.serialize_none(),
    }
}

/// For `#[serde(serialize_with = "…")]` on a duration in ms: a number of seconds.
pub(crate) fn as_seconds<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*ms as f64 / 1000.0)
}

/// For `#[serde(serialize_with = "…")]` on a duration in ms that may not be known.
pub(crate) fn as_optional_seconds<S: Serializer>(ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => serializer.serialize_some(&(*ms as f64 / 1000.0)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_795_166_401_000), "2026-11-20T09:20:01Z");
        assert_eq!(rfc3339(1_795_166_401_250), "2026-11-20T09:20:01.25Z");
        assert_eq!(read_rfc3339("2026-11-20T09:20:01.25Z"), Some(1_795_166_401_250));
        assert_eq!(read_rfc3339("soon"), None);
        assert_eq!(rfc3339(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(clock(1_795_166_401_250), "09:20:01");
    }

    #[test]
    fn durations_are_short() {
        let table = [
            (0, "0.0s"),
            (8_049, "8.0s"),
            (59_999, "59.9s"),
            (80_000, "1m 20s"),
            (7_500_000, "2h 05m"),
            (273_600_000, "3d 04h"),
        ];
        for (ms, shown) in table {
            assert_eq!(duration(ms), shown);
        }
    }

    #[test]
    fn an_age_has_one_unit_and_is_never_negative() {
        assert_eq!(age(1_000, 9_000), "8s");
        assert_eq!(age(0, 1_200_000), "20m");
        assert_eq!(age(0, 18_000_000), "5h");
        assert_eq!(age(0, 259_200_000), "3d");
        assert_eq!(age(9_000, 1_000), "0s");
    }
}
