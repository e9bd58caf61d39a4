//! Parameters of a run: `--param-file`, then each `--param`.

use std::path::{Path, PathBuf};

use clap::Args;
use indexmap::IndexMap;
use serde_json::Value;

use crate::failure::Failure;

/// Most bytes of a file of parameters.
const PARAM_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Flags that give parameters.
#[derive(Debug, Args)]
pub(super) struct ParamArgs {
    /// A parameter: `<< params.K >>`, and it overrides `vars` of that name (repeatable)
    #[arg(long = "param", value_name = "K=V")]
    params: Vec<String>,
    /// Parameters as a JSON or YAML object
    #[arg(long, value_name = "FILE")]
    param_file: Option<PathBuf>,
}

/// `--param-file`, then each `--param`; a value that is JSON keeps its type, anything else is text.
pub(super) fn parameters(args: &ParamArgs) -> Result<IndexMap<String, Value>, Failure> {
    let mut params = match &args.param_file {
        Some(path) => read_parameters(path)?,
        None => IndexMap::new(),
    };
    for pair in &args.params {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::usage(format!("`{pair}` is not a parameter: expected `NAME=VALUE`")));
        };
        params.insert(name.to_owned(), typed(value));
    }
    Ok(params)
}

/// Numbers, truths, lists and objects keep their type, as they would in YAML.
fn typed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn read_parameters(path: &Path) -> Result<IndexMap<String, Value>, Failure> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::not_found(format!("there is no file `{shown}`")),
        _ => Failure::invalid_file(format!("cannot read `{shown}`")).caused_by(&error),
    })?;
    if size.len() > PARAM_FILE_BYTES_MAX {
        return Err(Failure::invalid_file(format!("`{shown}` has more than {PARAM_FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid_file(format!("cannot read `{shown}`")).caused_by(&error))?;
    serde_saphyr::from_str(&text).map_err(|error| {
        Failure::invalid_file(format!("`{shown}` does not hold parameters: expected one object"))
            .cause(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_is_json_keeps_its_type_and_all_else_is_text() {
        let table = [
            ("3", json!(3)),
            ("true", json!(true)),
            ("[1, 2]", json!([1, 2])),
            ("null", json!("null")),
            ("\"quoted\"", json!("\"quoted\"")),
            ("main", json!("main")),
            ("", json!("")),
        ];
        for (text, value) in table {
            assert_eq!(typed(text), value, "{text}");
        }
    }
}
