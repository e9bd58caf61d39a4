//! Sizes as people write them: `512m`, `1g`, `64KiB`, or bare bytes.
//!
//! Every unit is a power of 1024, whether written `m`, `MB` or `MiB`, as with `docker run --memory`.

use std::fmt;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size: {rule}")]
pub struct SizeError {
    /// What the caller gave.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl SizeError {
    /// How a size is written.
    pub fn hint(&self) -> &'static str {
        "write `512m`, `1g`, `64KiB`, or bare bytes"
    }
}

/// The largest size that is read, bytes: an exbibyte, which every sum of a few still fits into a `u64`.
pub const SIZE_BYTES_MAX: u64 = 1 << 60;

/// The letters of the units above a byte; each is 1024 times the one before.
const LETTERS: [char; 5] = ['k', 'm', 'g', 't', 'p'];

/// Reads a size in bytes.
///
/// A unit is a letter (`k`, `m`, `g`, `t`, `p`), perhaps with `b`, `i` or `ib` behind it, in either case; a
/// number may have a fraction (`1.5g`) if a unit follows, and a part of a byte is dropped.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let refuse = |rule| SizeError { text: text.to_owned(), rule };
    let trimmed = text.trim();
    let number_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(number_end);
    let unit_bytes =
        unit_bytes(unit.trim_start()).ok_or_else(|| refuse("the units are `k`, `m`, `g`, `t` and `p`"))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(refuse("a number is expected first"));
    }
    if unit_bytes == 1 && number.contains('.') {
        return Err(refuse("a byte has no parts"));
    }
    let too_large = || refuse("it is larger than 1024 PiB");
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let part: f64 = format!("0.{fraction}").parse().expect("digits behind a point are a number");
    let part_bytes = (part * unit_bytes as f64) as u64;
    whole
        .checked_mul(unit_bytes)
        .and_then(|bytes| bytes.checked_add(part_bytes))
        .filter(|bytes| *bytes <= SIZE_BYTES_MAX)
        .ok_or_else(too_large)
}

/// The bytes of a unit, 1 for none.
fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let letter = unit.chars().next()?;
    let place = LETTERS.iter().position(|known| *known == letter)?;
    matches!(&unit[1..], "" | "b" | "i" | "ib").then(|| 1024_u64.pow(place as u32 + 1))
}

/// Shows a size in the form `parse_size` reads, without loss: `512MiB`, `1025B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownSize(pub u64);

impl fmt::Display for ShownSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut count = self.0;
        let mut unit = "B";
        for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
            if count == 0 || !count.is_multiple_of(1024) {
                break;
            }
            count /= 1024;
            unit = larger;
        }
        write!(f, "{count}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let table = [
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("512Mi", 512 << 20),
            ("512MB", 512 << 20),
            ("1g", 1 << 30),
            ("64KiB", 64 << 10),
            ("64 KiB", 64 << 10),
            ("1.5g", 3 << 29),
            ("4096", 4096),
            ("4096b", 4096),
            ("0", 0),
            ("1024p", SIZE_BYTES_MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_its_rule() {
        let table = [
            ("", "a number is expected first"),
            ("m", "a number is expected first"),
            (".5g", "a number is expected first"),
            ("1.2.3g", "a number is expected first"),
            ("-1m", "the units are `k`, `m`, `g`, `t` and `p`"),
            ("5x", "the units are `k`, `m`, `g`, `t` and `p`"),
            ("5mm", "the units are `k`, `m`, `g`, `t` and `p`"),
            ("5ä", "the units are `k`, `m`, `g`, `t` and `p`"),
            ("1.5", "a byte has no parts"),
            ("1025p", "it is larger than 1024 PiB"),
            ("99999999999999999999", "it is larger than 1024 PiB"),
        ];
        for (text, rule) in table {
            let refused = parse_size(text).expect_err(text);
            assert_eq!((refused.text.as_str(), refused.rule), (text, rule));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(bytes in 0..=SIZE_BYTES_MAX) {
            prop_assert_eq!(parse_size(&ShownSize(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn whole_units_are_shown_short(count in 1_u64..1024) {
            prop_assert_eq!(ShownSize(count << 20).to_string(), format!("{count}MiB"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.kmgtpbi -]{0,12}|.{0,12}") {
            let _ = parse_size(&text);
        }
    }
}
