//! Kilo's notice that it does not know a mode.
//!
//! To Kilo that is no failure: it says so on standard error before anything else and goes on as its default
//! agent, which may do what the mode was not to do. So the notice is looked for while the agent runs.

/// Words of the notice, behind the name of the mode.
const FALLBACK: &str = "Falling back to default agent";
/// The notice comes first; what an agent's tools print later may hold the same words.
const LOOKED_AT_BYTES: usize = 8 * 1024;

/// Looks for the notice in standard error, however it is cut.
#[derive(Debug)]
pub struct FallbackNotice {
    mode: String,
    seen: Vec<u8>,
}

impl FallbackNotice {
    /// For a mode that the program was told to be.
    pub fn new(mode: &str) -> FallbackNotice {
        FallbackNotice { mode: mode.to_owned(), seen: Vec::new() }
    }

    /// Takes what was written next; answers with what is wrong once the notice is there.
    pub fn add(&mut self, bytes: &[u8]) -> Option<String> {
        let room = LOOKED_AT_BYTES.saturating_sub(self.seen.len());
        if room == 0 {
            return None;
        }
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let text = String::from_utf8_lossy(&self.seen);
        let name = format!("agent \"{}\"", self.mode);
        let is_there = text.lines().any(|line| line.contains(&name) && line.contains(FALLBACK));
        is_there.then(|| {
            self.seen = Vec::new();
            format!(
                "mode not found: kilo does not know the mode `{}` and would go on as its default agent \
                 (hint: define it in `~/.config/kilo/agent/{}.md`, or give the type another `mode`)",
                self.mode, self.mode
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: &[u8] =
        b"\x1b[93m\x1b[1m! \x1b[0m agent \"nosuch\" not found. Falling back to default agent\n";

    #[test]
    fn the_notice_is_found_however_it_is_cut() {
        for cut in 0..=NOTICE.len() {
            let mut notice = FallbackNotice::new("nosuch");
            let first = notice.add(&NOTICE[..cut]);
            let found = first.or_else(|| notice.add(&NOTICE[cut..])).expect("found");
            assert!(found.starts_with("mode not found: kilo does not know the mode `nosuch`"), "{found}");
        }
    }

    #[test]
    fn other_modes_and_later_words_are_no_notice() {
        assert_eq!(FallbackNotice::new("other").add(NOTICE), None);
        let mut late = FallbackNotice::new("nosuch");
        assert_eq!(late.add(&[b'.'; LOOKED_AT_BYTES]), None);
        assert_eq!(late.add(NOTICE), None);
        assert!(late.seen.len() <= LOOKED_AT_BYTES);
    }
}
