//! Taking secrets out of what an agent writes, before anything else sees it.
//!
//! A secret is found wherever it stands, also where two reads meet: bytes that may be the beginning of one
//! are held back until more have come. It is found as it is and as JSON writes it, also in JSON within JSON,
//! since that is what agent programs print. What an agent writes in another form (encoded, split, reversed)
//! is not found; this guards against carelessness, not against intent.

use std::sync::Arc;

/// What stands in place of a secret.
const MASK: &[u8] = b"***";
/// Shortest secret, or line of one, that is looked for: a shorter one would tear holes into ordinary text.
const SECRET_BYTES_MIN: usize = 4;

/// The secrets of one attempt.
#[derive(Debug, Default)]
pub(crate) struct SecretMask {
    /// Longest first, so that of two that begin alike the whole one goes.
    secrets: Vec<Vec<u8>>,
    /// Whether a byte begins one of them.
    begins: Vec<bool>,
}

impl SecretMask {
    /// A mask for these values; none if there is nothing to look for. Of a value of several lines each
    /// line counts for itself as well.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Arc<SecretMask>> {
        let mut secrets: Vec<Vec<u8>> = Vec::new();
        for value in values {
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let long_enough = lines.chain([value]).filter(|text| text.len() >= SECRET_BYTES_MIN);
            secrets.extend(long_enough.flat_map(written_forms));
        }
        secrets.sort_by(|left, right| right.len().cmp(&left.len()).then(left.cmp(right)));
        secrets.dedup();
        if secrets.is_empty() {
            return None;
        }
        let mut begins = vec![false; 256];
        secrets.iter().for_each(|secret| begins[usize::from(secret[0])] = true);
        Some(Arc::new(SecretMask { secrets, begins }))
    }

    /// A whole text without its secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut masked = Vec::with_capacity(text.len());
        let rest = self.pass(text.as_bytes(), &mut masked, Rest::Shown);
        debug_assert_eq!(rest, text.len());
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Writes masked bytes to `out` and returns how many of `bytes` it has dealt with.
    fn pass(&self, bytes: &[u8], out: &mut Vec<u8>, rest: Rest) -> usize {
        let mut place = 0;
        while place < bytes.len() {
            let ahead = &bytes[place..];
            let plain = ahead.iter().position(|byte| self.begins[usize::from(*byte)]).unwrap_or(ahead.len());
            if plain > 0 {
                out.extend_from_slice(&ahead[..plain]);
                place += plain;
                continue;
            }
            if rest == Rest::Held && self.secrets.iter().any(|secret| begins_only(secret, ahead)) {
                return place;
            }
            match self.secrets.iter().find(|secret| ahead.starts_with(secret)) {
                Some(secret) => {
                    out.extend_from_slice(MASK);
                    place += secret.len();
                }
                None => {
                    out.push(ahead[0]);
                    place += 1;
                }
            }
        }
        place
    }
}

/// How a text may stand in what a program prints: as it is, and escaped as one or another writer of JSON does.
/// Most secrets have no letter that needs it, and one form.
fn written_forms(text: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![text.to_vec()];
    if let Ok(text) = str::from_utf8(text) {
        let plain = escaped(text, |_| false);
        let ascii = escaped(text, |letter| !letter.is_ascii());
        let html = escaped(text, |letter| matches!(letter, '<' | '>' | '&'));
        let slashes = plain.replace('/', "\\/");
        let nested = escaped(&plain, |_| false);
        forms.extend([plain, ascii, html, slashes, nested].map(String::into_bytes));
    }
    forms
}

/// A text as it stands between the quotes of JSON, with these letters as `\u` and four digits too.
fn escaped(text: &str, by_number: impl Fn(char) -> bool) -> String {
    let quoted = serde_json::to_string(text).expect("text is plain data");
    let mut written = String::with_capacity(quoted.len());
    for letter in quoted[1..quoted.len() - 1].chars() {
        if by_number(letter) {
            let mut units = [0; 2];
            let units = letter.encode_utf16(&mut units).iter();
            units.for_each(|unit| written.push_str(&format!("\\u{unit:04x}")));
        } else {
            written.push(letter);
        }
    }
    written
}

/// What happens to bytes at the end that may be the beginning of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Held,
    Shown,
}

/// Whether all that there is begins a longer secret.
fn begins_only(secret: &[u8], ahead: &[u8]) -> bool {
    ahead.len() < secret.len() && secret.starts_with(ahead)
}

/// One stream on its way through a mask.
pub(super) struct MaskedStream {
    mask: Arc<SecretMask>,
    held: Vec<u8>,
}

impl MaskedStream {
    pub(super) fn new(mask: Arc<SecretMask>) -> MaskedStream {
        MaskedStream { mask, held: Vec::new() }
    }

    /// What can be shown now that these bytes have come.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(self.held.len());
        let passed = self.mask.pass(&self.held, &mut shown, Rest::Held);
        self.held.drain(..passed);
        shown
    }

    /// What was still held when the stream ended.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        self.mask.pass(&self.held, &mut shown, Rest::Shown);
        self.held.clear();
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let mask = SecretMask::new(secrets.iter().map(|secret| secret.as_bytes())).expect("secrets");
        let longest = mask.secrets[0].len();
        let mut stream = MaskedStream::new(mask);
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(stream.add(piece.as_bytes()));
            assert!(stream.held.len() < longest, "no more is held than may begin a secret");
        }
        shown.extend(stream.end());
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn a_secret_is_found_wherever_reads_meet() {
        let text = "key=s3cr3t! s3cr3s s3cr3t";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(masked(&["s3cr3t"], &pieces), "key=***! s3cr3s ***");
            }
        }
    }

    #[test]
    fn a_secret_is_found_as_json_writes_it() {
        let secret = "p\"a\\s/s\tw<ö𝄞";
        let as_json = serde_json::to_string(secret).expect("text");
        let in_json = serde_json::to_string(&as_json).expect("text");
        let others =
            [r#""p\"a\\s/s\tw<\u00f6\ud834\udd1e""#, r#""p\"a\\s/s\tw\u003cö𝄞""#, r#""p\"a\\s\/s\tw<ö𝄞""#];
        for text in [as_json.as_str(), others[0], others[1], others[2]] {
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                assert_eq!(masked(&[secret], &[&text[..cut], &text[cut..]]), r#""***""#, "{text}");
            }
        }
        assert_eq!(masked(&[secret], &[&in_json]), r#""\"***\"""#);
    }

    #[test]
    fn of_two_that_begin_alike_the_longer_goes() {
        for pieces in [&["token-long token-x"][..], &["token-", "long toke", "n-x"][..]] {
            assert_eq!(masked(&["token", "token-long"], pieces), "*** ***-x");
        }
        assert_eq!(masked(&["aaab"], &["aaaaab"]), "aa***");
    }

    #[test]
    fn lines_of_a_secret_count_for_themselves_and_short_values_do_not() {
        assert_eq!(masked(&["BEGIN\nabcdef\nxy\n"], &["> abcdef\n> xy"]), "> ***\n> xy");
        assert!(SecretMask::new([b"abc".as_slice(), b""]).is_none());
    }

    #[test]
    fn a_stream_that_ends_within_a_secret_shows_what_there_was() {
        assert_eq!(masked(&["s3cr3t"], &["it is s3cr"]), "it is s3cr");
        let mask = SecretMask::new([b"s3cr3t".as_slice()]).expect("a secret");
        assert_eq!(mask.text("a s3cr3t, s3c"), "a ***, s3c");
    }
}
