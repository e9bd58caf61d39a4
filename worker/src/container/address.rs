//! Where an engine may be, and whether one answers there.
//!
//! The question is asked without a runtime, because what a host can serve is looked at from plain code; the
//! answer is kept for a moment. Everything else goes through `engine`.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for each step of an answer.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer counts.
const ANSWER_COUNTS: Duration = Duration::from_secs(2);
/// Most that is read of an answer, bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Where a container engine is looked for. Clones share what was found last.
#[derive(Debug, Clone)]
pub struct EngineAddress {
    places: Vec<EnginePlace>,
    last: Arc<Mutex<Option<LastAnswer>>>,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EnginePlace {
    /// A socket on this host.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
    /// What is no address of an engine.
    Unknown(String),
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineGreeting {
    /// Its version, `20.10.24`.
    pub version: String,
    /// The newest API it speaks, `1.41`.
    pub api: String,
    /// Where it answered.
    pub place: String,
}

impl EngineGreeting {
    /// The record of it that the cluster keeps.
    pub(crate) fn record(&self) -> serde_json::Value {
        serde_json::json!({"version": self.version, "api": self.api, "place": self.place})
    }
}

impl std::fmt::Display for EngineGreeting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let EngineGreeting { version, api, place } = self;
        write!(formatter, "engine {version} (API {api}) at {place}")
    }
}

#[derive(Debug, Clone)]
struct LastAnswer {
    at: Instant,
    answer: Result<EngineGreeting, String>,
}

impl EngineAddress {
    /// `docker_host` is `DOCKER_HOST`; without it Docker's socket counts, then Podman's of this user
    /// (`runtime_folder` is `XDG_RUNTIME_DIR`), then that of the host.
    pub fn find(docker_host: Option<&str>, runtime_folder: Option<&Path>) -> EngineAddress {
        let places = match docker_host.filter(|text| !text.is_empty()) {
            Some(text) => vec![EnginePlace::parse(text)],
            None => {
                let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
                sockets.extend(runtime_folder.map(|folder| folder.join("docker.sock")));
                sockets.extend(runtime_folder.map(|folder| folder.join("podman/podman.sock")));
                sockets.push(PathBuf::from("/run/podman/podman.sock"));
                sockets.into_iter().map(EnginePlace::Unix).collect()
            }
        };
        EngineAddress { places, last: Arc::default() }
    }

    /// The first place with a socket; the first of all, if there is none.
    pub(super) fn place(&self) -> &EnginePlace {
        let is_there = |place: &&EnginePlace| match place {
            EnginePlace::Unix(path) => path.exists(),
            EnginePlace::Tcp(_) | EnginePlace::Unknown(_) => true,
        };
        self.places.iter().find(is_there).unwrap_or(&self.places[0])
    }

    /// Whether an engine answers. Blocks for two seconds at most, and seldom: the answer is kept for a moment.
    ///
    /// # Errors
    /// Why not, in words that name the place.
    pub fn ask(&self) -> Result<EngineGreeting, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(LastAnswer { at, answer }) = &*last
            && at.elapsed() < ANSWER_COUNTS
        {
            return answer.clone();
        }
        let place = self.place();
        let answer = place.greet().map_err(|error| match place {
            EnginePlace::Unknown(text) => {
                format!("`DOCKER_HOST` is `{text}`, expected `unix://PATH` or `tcp://HOST:PORT`")
            }
            _ => format!("no container engine answers at {place}: {error}"),
        });
        *last = Some(LastAnswer { at: Instant::now(), answer: answer.clone() });
        answer
    }

    /// Whether the engine has an image. Blocks as `ask` does, each time.
    pub fn has_image(&self, image: &str) -> bool {
        let name = percent_encoding::utf8_percent_encode(image, percent_encoding::NON_ALPHANUMERIC);
        let answer = self.place().ask(&format!("/images/{name}/json"));
        answer.ok().flatten().is_some_and(|answer| answer["Id"].is_string())
    }
}

impl Default for EngineAddress {
    fn default() -> EngineAddress {
        EngineAddress::find(None, None)
    }
}

impl std::fmt::Display for EnginePlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnginePlace::Unix(path) => write!(formatter, "unix://{}", path.display()),
            EnginePlace::Tcp(address) => write!(formatter, "tcp://{address}"),
            EnginePlace::Unknown(text) => formatter.write_str(text),
        }
    }
}

impl EnginePlace {
    fn parse(text: &str) -> EnginePlace {
        if let Some(path) = text.strip_prefix("unix://") {
            return EnginePlace::Unix(path.into());
        }
        match text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) {
            Some(address) => EnginePlace::Tcp(address.trim_end_matches('/').to_owned()),
            None => EnginePlace::Unknown(text.to_owned()),
        }
    }

    fn greet(&self) -> io::Result<EngineGreeting> {
        let strange =
            || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no container engine");
        let answer =
            self.ask("/version")?.filter(|answer| answer["ApiVersion"].is_string()).ok_or_else(strange)?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok(EngineGreeting { version: text("Version"), api: text("ApiVersion"), place: self.to_string() })
    }

    /// The answer to a question; none if it is no document.
    fn ask(&self, path: &str) -> io::Result<Option<serde_json::Value>> {
        match self {
            EnginePlace::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(ASK_WITHIN))?;
                stream.set_write_timeout(Some(ASK_WITHIN))?;
                converse(stream, path)
            }
            EnginePlace::Tcp(address) => {
                let found = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let stream = TcpStream::connect_timeout(&found, ASK_WITHIN)?;
                stream.set_read_timeout(Some(ASK_WITHIN))?;
                stream.set_write_timeout(Some(ASK_WITHIN))?;
                converse(stream, path)
            }
            EnginePlace::Unknown(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Asks one question. HTTP/1.0, so that the engine closes the connection behind its answer.
fn converse(mut stream: impl Read + Write, path: &str) -> io::Result<Option<serde_json::Value>> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    if !head.lines().next().is_some_and(|line| line.contains(" 200")) {
        return Ok(None);
    }
    // A body in pieces has their lengths around it.
    let document = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
    Ok(document.and_then(|document| serde_json::from_str(document).ok()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_environment_counts_before_the_usual_sockets() {
        let place = |text| EngineAddress::find(Some(text), None).place().clone();
        assert_eq!(place("unix:///x/y.sock"), EnginePlace::Unix("/x/y.sock".into()));
        assert_eq!(place("tcp://engine:2375"), EnginePlace::Tcp("engine:2375".to_owned()));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("podman")).expect("a folder");
        let socket = folder.path().join("podman/podman.sock");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        if !Path::new("/var/run/docker.sock").exists() {
            let address = EngineAddress::find(None, Some(folder.path()));
            assert_eq!(*address.place(), EnginePlace::Unix(socket));
        }
    }

    #[test]
    fn what_does_not_answer_is_named() {
        let asked = EngineAddress::find(Some("unix:///no/such.sock"), None).ask();
        let expected =
            "no container engine answers at unix:///no/such.sock: No such file or directory (os error 2)";
        assert_eq!(asked, Err(expected.to_owned()));
        let asked = EngineAddress::find(Some("ssh://x"), None).ask();
        assert_eq!(
            asked,
            Err("`DOCKER_HOST` is `ssh://x`, expected `unix://PATH` or `tcp://HOST:PORT`".to_owned())
        );
    }

    #[test]
    fn an_engine_says_its_versions_and_something_else_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let answers = [
            ("engine", "HTTP/1.0 200 OK\r\n\r\n{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\"}"),
            ("other", "HTTP/1.0 200 OK\r\n\r\n<html>"),
        ];
        for (name, answer) in answers {
            let path = folder.path().join(name);
            let listener = UnixListener::bind(&path).expect("a socket");
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody asks");
                let mut buffer = [0; 256];
                let _ = stream.read(&mut buffer).expect("a request");
                stream.write_all(answer.as_bytes()).expect("it reads");
            });
            let place = format!("unix://{}", path.display());
            let greeting = EngineAddress::find(Some(&place), None).ask();
            serving.join().expect("no panic");
            match name {
                "engine" => {
                    let expected =
                        EngineGreeting { version: "20.10.24".to_owned(), api: "1.41".to_owned(), place };
                    assert_eq!(greeting, Ok(expected));
                }
                _ => assert!(greeting.is_err_and(|error| error.ends_with("is no container engine"))),
            }
        }
    }
}
