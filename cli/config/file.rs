//! Reads one configuration file: `key: value`, the keys of `variables`, nothing nested.
//!
//! Everything that is wrong in a file is found in one reading and shown with its line. A wrong file is
//! an error even where a flag would win: half a configuration is worse than none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use maestro_model::diagnostic::{Colour, Diagnostics, SourceText};
use maestro_model::yaml::{self, Entry, NodeContent};

use super::layers::{Chosen, Layer, Origin};
use super::value::SettingValue;
use super::variables;
use crate::exit::Exit;
use crate::failure::Failure;

/// Largest configuration file that is read, bytes.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;

/// Reads a file that was looked for, or was named; none if it is not there.
///
/// # Errors
/// If it cannot be read, or anything in it is wrong (2).
pub(crate) fn read_config(path: &Path, home: Option<&Path>) -> Result<Option<Layer>, Failure> {
    let cannot_read = || format!("cannot read the configuration file `{}`", path.display());
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // A parent that is no folder means that there is no such file either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::usage(cannot_read()).caused_by(&error)),
    };
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Failure::usage(cannot_read())
            .cause(format!("it has {} bytes, more than {CONFIG_BYTES_MAX}", bytes.len())));
    }
    let name = path.display().to_string();
    let source = SourceText::from_bytes(name, bytes).map_err(|problems| wrong_file(path, &problems))?;
    parse_config(&source, path, home).map(Some).map_err(|problems| wrong_file(path, &problems))
}

/// The failure that shows what is wrong in a configuration file.
fn wrong_file(path: &Path, problems: &Diagnostics) -> Failure {
    let first = problems.list.first().map(|problem| format!("line {}: {}", problem.line, problem.message));
    let failure = Failure::new(Exit::Usage, format!("the configuration file `{}` is wrong", path.display()));
    failure
        .cause(first.unwrap_or_default())
        .details(problems.to_json())
        .shown_as(problems.render(Colour::Plain))
}

fn parse_config(source: &SourceText, path: &Path, home: Option<&Path>) -> Result<Layer, Diagnostics> {
    let mut problems = Diagnostics::default();
    if says_nothing(source.text()) {
        return Ok(Layer::new());
    }
    let mut layer = Layer::new();
    match yaml::load(source, &mut problems).map(|root| (root.place.clone(), root.content)) {
        Some((_, NodeContent::Map(entries))) => {
            for entry in &entries {
                if let Some(chosen) = read_entry(source, path, home, entry, &mut problems) {
                    layer.push(chosen);
                }
            }
        }
        Some((place, _)) => {
            problems.push(source.error(place, "the file is not a map").expecting("lines of `key: value`"));
        }
        None => {}
    }
    if problems.has_errors() { Err(problems.sorted()) } else { Ok(layer) }
}

/// The file that `config reset` writes holds comments alone.
fn says_nothing(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line == "---" || line.starts_with('#'))
}

fn read_entry(
    source: &SourceText,
    path: &Path,
    home: Option<&Path>,
    entry: &Entry,
    problems: &mut Diagnostics,
) -> Option<Chosen> {
    let Some(variable) = variables::by_key(&entry.key) else {
        let known = variables::ALL.iter().map(|variable| variable.key);
        let problem = source
            .error(entry.key_place.clone(), format!("unknown key `{}`", entry.key))
            .expecting("a setting")
            .nearest(&entry.key, known)
            .hint("`maestro config show` lists them all");
        problems.push(problem);
        return None;
    };
    let place = entry.value.place.clone();
    let Some(text) = text_of(&entry.value.content) else {
        let message = format!("`{}` is {}", entry.key, entry.value.kind());
        problems.push(source.error(place, message).expecting(variable.expectation()));
        return None;
    };
    let base = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    match SettingValue::read(variable, &text, &base, home) {
        Ok(value) => {
            let origin = Origin::File { path: path.to_owned(), line: source.line_of(entry.key_place.start) };
            Some(Chosen { variable, value, origin })
        }
        Err(rule) => {
            problems.push(source.error(place, rule).expecting(variable.expectation()));
            None
        }
    }
}

/// A single value, or a list of single values joined as in the environment.
fn text_of(content: &NodeContent) -> Option<String> {
    match content {
        NodeContent::Scalar(scalar) if scalar.is_null() => None,
        NodeContent::Scalar(scalar) => Some(scalar.text.clone()),
        NodeContent::List(items) => {
            let texts: Option<Vec<&str>> =
                items.iter().map(|item| item.scalar().map(|scalar| scalar.text.as_str())).collect();
            texts.map(|texts| texts.join(":"))
        }
        NodeContent::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Layer, Diagnostics> {
        parse_config(&SourceText::new("maestro.yaml", text), Path::new("/project/maestro.yaml"), None)
    }

    #[test]
    fn a_file_gives_values_with_their_lines() {
        let layer = parse("# ours\nlease: 1m\nagents_dir: [agents, /opt/agents]\n").expect("a lawful file");
        let at = |line| Origin::File { path: "/project/maestro.yaml".into(), line };
        let paths = vec!["/project/agents".into(), "/opt/agents".into()];
        let expected = [
            Chosen {
                variable: variables::LEASE,
                value: SettingValue::Duration(Duration::from_secs(60)),
                origin: at(2),
            },
            Chosen { variable: variables::AGENTS_DIR, value: SettingValue::Paths(paths), origin: at(3) },
        ];
        assert_eq!(layer, expected);
    }

    #[test]
    fn a_file_of_comments_says_nothing() {
        for text in ["", "\n\n", "# lease: 30s\n", "---\n# nothing\n"] {
            assert_eq!(parse(text), Ok(Layer::new()), "{text:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_found_at_once() {
        let problems =
            parse("leese: 1m\nheartbeat: soon\nnamespace:\nrun_bytes: {a: 1}\n").expect_err("wrong");
        insta::assert_snapshot!(problems.render(Colour::Plain), @r"
        error: unknown key `leese`
         --> maestro.yaml:1:1
          |
        1 | leese: 1m
          | ^^^^^ a setting
          |
          = hint: did you mean `lease`? `maestro config show` lists them all

        error: `soon` is not a duration: a number and a unit are expected
         --> maestro.yaml:2:12
          |
        2 | heartbeat: soon
          |            ^^^^ a duration: `90s`, `1h30m`, or bare seconds

        error: `namespace` is nothing
         --> maestro.yaml:3:10
          |
        3 | namespace:
          |          ^ prefix of every key, so that a shared Redis is safe

        error: `run_bytes` is a map
         --> maestro.yaml:4:12
          |
        4 | run_bytes: {a: 1}
          |            ^^^^^ a size: `512m`, `1g`, or bare bytes
        ");
    }

    #[test]
    fn a_file_that_is_no_map_is_refused() {
        for text in ["- lease\n", "lease\n", "lease: 1\nlease: 2\n", "lease: 1\n---\nlease: 2\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
