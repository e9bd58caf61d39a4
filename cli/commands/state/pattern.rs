//! Which keys of shared state are meant: a glob over whole keys.

use globset::{GlobBuilder, GlobMatcher};

use crate::failure::Failure;

/// Keys that match a glob; without one all of them.
#[derive(Debug)]
pub(crate) struct KeyPattern(Option<GlobMatcher>);

impl KeyPattern {
    /// Reads a glob: `*` any text (`/` and `:` included), `?` one character, `[ab]`, `{a,b}`, `\` before
    /// a character that is meant as it is.
    ///
    /// # Errors
    /// 2 if it is none.
    pub(crate) fn read(glob: Option<&str>) -> Result<KeyPattern, Failure> {
        let Some(glob) = glob else { return Ok(KeyPattern(None)) };
        let built = GlobBuilder::new(glob).literal_separator(false).backslash_escape(true).build();
        let built = built.map_err(|error| {
            Failure::usage(format!("`{glob}` is not a glob: {}", error.kind()))
                .hint("write `build*`, `task:*:result`, `[ab]*` or `{one,two}`, in quotes for the shell")
        })?;
        Ok(KeyPattern(Some(built.compile_matcher())))
    }

    /// Whether it means this key.
    pub(crate) fn means(&self, key: &str) -> bool {
        self.0.as_ref().is_none_or(|matcher| matcher.is_match(key))
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
        }
        assert!(KeyPattern::read(None).expect("all").means("anything"));
        assert!(KeyPattern::read(Some("[a")).is_err());
    }
}
