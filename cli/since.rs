//! Times as users write them in the past: how long ago (`10m`), or when (`2026-11-20T09:00:00Z`).

use jiff::Timestamp;
use maestro_model::duration::parse_duration;

/// Reads a time; ms since 1970.
///
/// # Errors
/// What was expected, for the command line's own message.
pub(crate) fn parse_since(text: &str, now_ms: u64) -> Result<u64, String> {
    let text = text.trim();
    // Only a time has colons or a date's hyphens.
    if text.contains(':') || text.matches('-').count() >= 2 {
        let stamp: Timestamp = text.parse().map_err(|_| wrong(text))?;
        return u64::try_from(stamp.as_millisecond()).map_err(|_| wrong(text));
    }
    let ago = parse_duration(text).map_err(|_| wrong(text))?;
    Ok(now_ms.saturating_sub(ago.as_millis() as u64))
}

fn wrong(text: &str) -> String {
    format!("`{text}` is no time: write how long ago (`90s`, `1h30m`) or when (`2026-11-20T09:00:00Z`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_ago_or_a_moment() {
        let now = 1_795_166_401_000;
        assert_eq!(parse_since("10m", now), Ok(now - 600_000));
        assert_eq!(parse_since("90", now), Ok(now - 90_000));
        assert_eq!(parse_since("2026-11-20T09:20:00Z", now), Ok(now - 1_000));
        assert_eq!(parse_since("2026-11-20T10:20:00+01:00", now), Ok(now - 1_000));
        assert_eq!(parse_since("10000d", 5), Ok(0));
        for wrong in ["", "soon", "-5m", "2026-11-20", "10:00", "1969-01-01T00:00:00Z"] {
            assert!(parse_since(wrong, now).is_err(), "{wrong}");
        }
    }
}
