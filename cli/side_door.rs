//! The way from a command that runs inside a task to its worker: HTTP over the socket in `MAESTRO_SOCKET`.
//!
//! The other end is `worker/src/side_door`, and what is said is declared there. A request is a connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use maestro_worker::side_door::{DoorError, DoorErrorCause, DoorErrorKind, ErrorBody};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::exit::Exit;
use crate::failure::Failure;

/// Longest wait for an answer to begin, and for one to be read whole.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a request is made again that came too often.
const AGAIN_MAX: u32 = 50;
/// The host of every request: there is only one behind a socket.
const HOST_NAME: &str = "maestro";

/// A worker, as a process of one of its attempts reaches it.
#[derive(Debug)]
pub(crate) struct SideDoorClient {
    path: PathBuf,
}

/// Why there is no answer to a request.
#[derive(Debug)]
pub(crate) enum DoorFailure {
    /// The worker says why.
    Answered(DoorError),
    /// There was nobody to say anything, or nothing that makes sense.
    Silent(Failure),
}

impl From<DoorFailure> for Failure {
    fn from(failure: DoorFailure) -> Failure {
        let error = match failure {
            DoorFailure::Answered(error) => error,
            DoorFailure::Silent(failure) => return failure,
        };
        let exit = match error.kind {
            DoorErrorKind::Usage => Exit::Usage,
            DoorErrorKind::NotFound => Exit::NotFound,
            DoorErrorKind::Refused => Exit::Refused,
            DoorErrorKind::Unavailable => Exit::Unavailable,
            DoorErrorKind::NothingToRunIt => Exit::NothingToRunIt,
        };
        let failure = Failure::new(exit, error.message);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What a request brings.
#[derive(Debug, Clone, Default)]
pub(crate) struct DoorPayload {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Whether they are JSON.
    pub(crate) json: bool,
}

impl SideDoorClient {
    /// Connects to nothing yet.
    pub(crate) fn new(path: &Path) -> SideDoorClient {
        SideDoorClient { path: path.to_owned() }
    }

    /// Asks, and reads the answer as one record. Who asks too often is made to wait for a while.
    pub(crate) async fn record<T: DeserializeOwned>(
        &self,
        method: &Method,
        target: &str,
        body: &DoorPayload,
    ) -> Result<T, DoorFailure> {
        let mut tries = 0;
        loop {
            let failure = match self.open(method, target, body).await {
                Ok(answer) => {
                    let bytes = self.whole(answer).await?;
                    return serde_json::from_slice(&bytes)
                        .map_err(|error| DoorFailure::Silent(self.senseless(&error)));
                }
                Err(failure) => failure,
            };
            let wait_ms = match &failure {
                DoorFailure::Answered(DoorError {
                    details: Some(DoorErrorCause::TooOften { wait_ms }),
                    ..
                }) if tries < AGAIN_MAX => *wait_ms,
                _ => return Err(failure),
            };
            tries += 1;
            sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Asks, and returns an answer whose body is yet to be read.
    pub(crate) async fn open(
        &self,
        method: &Method,
        target: &str,
        body: &DoorPayload,
    ) -> Result<Response<Incoming>, DoorFailure> {
        let answer = match timeout(ANSWER_WITHIN, self.send(method, target, body)).await {
            Ok(answer) => answer.map_err(DoorFailure::Silent)?,
            Err(_) => return Err(DoorFailure::Silent(self.unanswered(&"no answer came in time"))),
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let bytes = self.whole(answer).await?;
        let read = serde_json::from_slice::<ErrorBody>(&bytes);
        Err(read.map_or_else(
            |error| DoorFailure::Silent(self.senseless(&error)),
            |body| DoorFailure::Answered(body.error),
        ))
    }

    async fn send(
        &self,
        method: &Method,
        target: &str,
        body: &DoorPayload,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| {
            Failure::unavailable(format!("cannot reach the worker at `{}`", self.path.display()))
                .caused_by(&error)
                .hint("`MAESTRO_SOCKET` is answered only while its task runs")
        })?;
        let lost = |error: hyper::Error| self.unanswered(&error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // It ends with the answer, or with the process.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header(HOST, HOST_NAME);
        if body.json {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.bytes.clone()));
        let request = request
            .map_err(|error| Failure::usage("this cannot be asked of the worker").caused_by(&error))?;
        sender.send_request(request).await.map_err(lost)
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, DoorFailure> {
        match timeout(ANSWER_WITHIN, answer.into_body().collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(DoorFailure::Silent(self.unanswered(&error))),
            Err(_) => Err(DoorFailure::Silent(self.unanswered(&"no answer came in time"))),
        }
    }

    /// The worker took the request, and then there was silence.
    pub(crate) fn unanswered(&self, cause: &dyn std::fmt::Display) -> Failure {
        Failure::unavailable(format!("the worker at `{}` does not answer", self.path.display()))
            .cause(cause)
            .hint("whether it did what was asked is not known; the task may be about to end")
    }

    fn senseless(&self, error: &serde_json::Error) -> Failure {
        Failure::unavailable(format!("the answer of the worker at `{}` makes no sense", self.path.display()))
            .caused_by(error)
            .hint("`maestro` inside the task and the worker should be of one version")
    }
}

/// Lines of an answer as they come.
#[derive(Debug)]
pub(crate) struct DoorLines {
    body: Incoming,
    read: Vec<u8>,
}

impl DoorLines {
    /// The lines of an answer.
    pub(crate) fn of(answer: Response<Incoming>) -> DoorLines {
        DoorLines { body: answer.into_body(), read: Vec::new() }
    }

    /// The next line without its end; none at the end of the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, hyper::Error> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => self.read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                None => return Ok(None),
            }
        }
    }
}
