//! Which keys of shared state are meant: a glob over whole keys.

use globset::{GlobBuilder, GlobMatcher};

/// Characters that mean something in a glob.
const SPECIAL: &str = r"*?[]{}\!";

/// Why a text is no glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{glob}` is not a glob: {reason}")]
pub struct GlobError {
    /// What was written.
    pub glob: String,
    /// What is wrong with it.
    pub reason: String,
}

impl GlobError {
    /// What could be written.
    pub const HINT: &str = "write `build*`, `task:*:result`, `[ab]*` or `{one,two}`, in quotes for the shell";
}

/// Keys that match a glob; without one all of them.
#[derive(Debug, Clone)]
pub struct KeyPattern {
    matcher: Option<GlobMatcher>,
    prefix: String,
}

impl KeyPattern {
    /// Reads a glob: `*` any text (`/` and `:` included), `?` one character, `[ab]`, `{a,b}`, `\` before
    /// a character that is meant as it is.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(glob: Option<&str>) -> Result<KeyPattern, GlobError> {
        let Some(glob) = glob else { return Ok(KeyPattern { matcher: None, prefix: String::new() }) };
        let built = GlobBuilder::new(glob).literal_separator(false).backslash_escape(true).build();
        let built =
            built.map_err(|error| GlobError { glob: glob.to_owned(), reason: error.kind().to_string() })?;
        let prefix = glob.chars().take_while(|letter| !SPECIAL.contains(*letter)).collect();
        Ok(KeyPattern { matcher: Some(built.compile_matcher()), prefix })
    }

    /// Whether it means this key.
    pub fn means(&self, key: &str) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.is_match(key))
    }

    /// What every key that it means begins with, for reading no more than needed.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_crosses_every_separator() {
        let table = [
            ("build*", "build_id", true),
            ("build*", "rebuild", false),
            ("task:*:result", "task:a/b:c:result", true),
            ("{a,b}", "b", true),
            ("[ab]x", "cx", false),
            ("a?c", "abc", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ];
        for (glob, key, expected) in table {
            let pattern = KeyPattern::read(Some(glob)).expect("a glob");
            assert_eq!(pattern.means(key), expected, "{glob} {key}");
            assert!(!expected || key.starts_with(pattern.prefix()), "{glob} {key}");
        }
        assert!(KeyPattern::read(None).expect("all").means("anything"));
        assert_eq!(KeyPattern::read(Some("build_*")).expect("a glob").prefix(), "build_");
        let error = KeyPattern::read(Some("[a")).expect_err("no glob");
        assert!(error.to_string().starts_with("`[a` is not a glob: "), "{error}");
    }
}
