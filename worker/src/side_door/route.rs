//! What a request asks for. Nothing is looked up here.

use std::time::Duration;

use hyper::{Method, StatusCode, Uri};
use maestro_model::duration::parse_duration;
use maestro_store::state::{WriteCondition, check_state_key};
use percent_encoding::percent_decode_str;

use super::pattern::{GlobError, KeyPattern};
use super::refusal::failed;
use super::wire::{DoorError, STATE_PATH, TASK_PATH, WATCH_PATH};

/// What is asked for.
#[derive(Debug)]
pub(super) enum DoorRequest {
    /// `GET /v1/task`
    WhoAmI,
    /// `GET /v1/state/<key>`
    Get { key: String },
    /// `PUT /v1/state/<key>?ttl=&if_version=`, the value as body
    Set { key: String, lives: Lives, condition: WriteCondition },
    /// `DELETE /v1/state/<key>`
    Delete { key: String },
    /// `GET /v1/state?glob=&after=`
    List { pattern: KeyPattern, after: Option<String> },
    /// `GET /v1/watch?glob=`
    Watch { pattern: KeyPattern },
}

/// How long a written value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lives {
    /// As long as the worker's settings say.
    AsSet,
    /// So long.
    For(Duration),
    /// Until it is deleted.
    ForEver,
}

/// Reads a request's line.
pub(super) fn read_request(method: &Method, uri: &Uri) -> Result<DoorRequest, DoorError> {
    let (path, query) = (uri.path(), Query::read(uri.query().unwrap_or_default())?);
    let key = path.strip_prefix(STATE_PATH).and_then(|rest| rest.strip_prefix('/'));
    match (path, key, method) {
        (TASK_PATH, _, &Method::GET) => query.only(&[]).map(|_| DoorRequest::WhoAmI),
        (STATE_PATH, _, &Method::GET) => {
            let mut query = query.only(&["glob", "after"])?;
            Ok(DoorRequest::List { pattern: query.pattern()?, after: query.take("after") })
        }
        (WATCH_PATH, _, &Method::GET) => {
            Ok(DoorRequest::Watch { pattern: query.only(&["glob"])?.pattern()? })
        }
        (_, Some(key), &Method::GET) => query.only(&[]).and(Ok(DoorRequest::Get { key: lawful_key(key)? })),
        (_, Some(key), &Method::DELETE) => {
            query.only(&[]).and(Ok(DoorRequest::Delete { key: lawful_key(key)? }))
        }
        (_, Some(key), &Method::PUT) => {
            let mut query = query.only(&["ttl", "if_version"])?;
            let (lives, condition) = (query.lives()?, query.condition()?);
            Ok(DoorRequest::Set { key: lawful_key(key)?, lives, condition })
        }
        (TASK_PATH | STATE_PATH | WATCH_PATH, ..) => Err(wrong_method(method, "GET")),
        (_, Some(_), _) => Err(wrong_method(method, "GET, PUT and DELETE")),
        _ => Err(DoorError::usage(format!("there is no `{}`", path.escape_debug()))
            .hint(format!("there are `{STATE_PATH}/<key>`, `{STATE_PATH}`, `{WATCH_PATH}` and `{TASK_PATH}`"))
            .with_status(StatusCode::NOT_FOUND)),
    }
}

fn wrong_method(method: &Method, known: &str) -> DoorError {
    let message = format!("`{}` is not understood here, expected {known}", method.as_str().escape_debug());
    DoorError::usage(message).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn decoded(text: &str) -> Result<String, DoorError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(DoorError::usage(format!("`{}` is not UTF-8", text.escape_debug()))),
    }
}

fn lawful_key(text: &str) -> Result<String, DoorError> {
    let key = decoded(text)?;
    check_state_key(&key).map_err(|refusal| failed(refusal.into()))?;
    Ok(key)
}

/// What follows the `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Result<Query, DoorError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        });
        pairs.collect::<Result<_, DoorError>>().map(Query)
    }

    /// Refuses what is not known, or is said twice.
    fn only(self, known: &[&str]) -> Result<Query, DoorError> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            let name = name.escape_debug();
            if !known.iter().any(|known| *known == self.0[place].0) {
                let error = DoorError::usage(format!("`?{name}=` is not known here"));
                return Err(match known {
                    [] => error.hint("nothing may follow the `?`"),
                    known => error.hint(format!("there is `{}`", known.join("` and `"))),
                });
            }
            if self.0[..place].iter().any(|(earlier, _)| *earlier == self.0[place].0) {
                return Err(DoorError::usage(format!("`?{name}=` is said twice")));
            }
        }
        Ok(self)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    fn pattern(&mut self) -> Result<KeyPattern, DoorError> {
        let glob = self.take("glob");
        KeyPattern::read(glob.as_deref())
            .map_err(|error| DoorError::usage(error.to_string()).hint(GlobError::HINT))
    }

    fn lives(&mut self) -> Result<Lives, DoorError> {
        let Some(text) = self.take("ttl") else { return Ok(Lives::AsSet) };
        match parse_duration(&text) {
            Ok(Duration::ZERO) => Ok(Lives::ForEver),
            Ok(time) => Ok(Lives::For(time)),
            Err(error) => {
                Err(DoorError::usage(format!("`ttl` is `{}`: {}", text.escape_debug(), error.rule))
                    .hint(error.hint()))
            }
        }
    }

    fn condition(&mut self) -> Result<WriteCondition, DoorError> {
        let Some(text) = self.take("if_version") else { return Ok(WriteCondition::Always) };
        match text.parse() {
            Ok(0) => Ok(WriteCondition::Absent),
            Ok(version) => Ok(WriteCondition::Version(version)),
            Err(_) => {
                let message = format!("`if_version` is `{}`, expected a whole number", text.escape_debug());
                Err(DoorError::usage(message).hint("0 writes only if there is no value"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str) -> Result<String, (u16, String)> {
        let method = method.parse().expect("a method");
        let request = read_request(&method, &uri.parse().expect("a uri"));
        request
            .map(|request| match request {
                DoorRequest::List { pattern, after } => format!("List {} {after:?}", pattern.prefix()),
                DoorRequest::Watch { pattern } => format!("Watch {}", pattern.prefix()),
                other => format!("{other:?}"),
            })
            .map_err(|error| (error.status.as_u16(), error.message))
    }

    #[test]
    fn requests_are_read_as_they_are_documented() {
        let table = [
            ("GET", "/v1/task", "WhoAmI"),
            ("GET", "/v1/state/a", "Get { key: \"a\" }"),
            ("GET", "/v1/state/a%2Fb/c%20d", "Get { key: \"a/b/c d\" }"),
            ("DELETE", "/v1/state/a", "Delete { key: \"a\" }"),
            ("PUT", "/v1/state/a", "Set { key: \"a\", lives: AsSet, condition: Always }"),
            (
                "PUT",
                "/v1/state/a?ttl=0&if_version=0",
                "Set { key: \"a\", lives: ForEver, condition: Absent }",
            ),
            (
                "PUT",
                "/v1/state/a?ttl=90s&if_version=3",
                "Set { key: \"a\", lives: For(90s), condition: Version(3) }",
            ),
            ("GET", "/v1/state", "List  None"),
            ("GET", "/v1/state?glob=build%2A&after=x", "List build Some(\"x\")"),
            ("GET", "/v1/watch?glob=build*", "Watch build"),
        ];
        for (method, uri, expected) in table {
            assert_eq!(read(method, uri).as_deref(), Ok(expected), "{method} {uri}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_would_be() {
        let table = [
            ("GET", "/", 404, "there is no `/`"),
            ("GET", "/v1/stat", 404, "there is no `/v1/stat`"),
            ("POST", "/v1/state/a", 405, "`POST` is not understood here, expected GET, PUT and DELETE"),
            ("PUT", "/v1/state", 405, "`PUT` is not understood here, expected GET"),
            ("GET", "/v1/state/%ff", 400, "`%ff` is not UTF-8"),
            ("GET", "/v1/state/", 400, "`` cannot be a key: it is empty, or holds a control character"),
            (
                "PUT",
                "/v1/state/a%0Ab",
                400,
                r"`a\nb` cannot be a key: it is empty, or holds a control character",
            ),
            ("GET", "/v1/state/a?version=1", 400, "`?version=` is not known here"),
            ("PUT", "/v1/state/a?ttl=1s&ttl=2s", 400, "`?ttl=` is said twice"),
            ("PUT", "/v1/state/a?if_version=-1", 400, "`if_version` is `-1`, expected a whole number"),
        ];
        for (method, uri, status, message) in table {
            assert_eq!(read(method, uri), Err((status, message.to_owned())), "{method} {uri}");
        }
        for uri in ["/v1/state/a?ttl=soon", "/v1/state/a?ttl="] {
            assert_eq!(read("PUT", uri).expect_err("no duration").0, 400, "{uri}");
        }
        assert_eq!(read("GET", "/v1/watch?glob=%5Ba").expect_err("no glob").0, 400);
    }
}
