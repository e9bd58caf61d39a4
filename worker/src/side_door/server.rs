//! Connections of one door: HTTP in front of `answer`, with limits on all that a process can do to us.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use maestro_store::state::STATE_VALUE_BYTES_MAX;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::answer::{Answered, AttemptDoor, NewValue};
use super::peer::is_of_attempt;
use super::route::{DoorRequest, read_request};
use super::wire::{DoorError, DoorErrorCause, ErrorBody};

/// Connections of one attempt at a time; more wait until one is closed.
const CONNECTIONS_MAX: usize = 16;
/// Longest time for a request's head, and between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The same for a process that does not belong here, and only gets to hear so.
const STRANGER_WITHIN: Duration = Duration::from_secs(1);
/// Longest time for a request's body.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a connection's buffer, and so of a request's head.
const BUFFER_BYTES: usize = 16 * 1024;
/// Most bytes of a body that are looked at: JSON may be written more widely than it is stored.
const BODY_BYTES_MAX: usize = 2 * STATE_VALUE_BYTES_MAX;
/// Bytes of a body that is too large that are read and thrown away, so that its sender hears why.
const WASTE_BYTES_MAX: usize = 1024 * 1024;
/// Pause after a connection could not be taken: the host has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped; its connections end with it.
pub(super) async fn serve(listener: UnixListener, door: Arc<AttemptDoor>, supervisor: u32) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, door.clone(), supervisor));
                }
                Err(error) => {
                    tracing::warn!("a side door cannot take a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: UnixStream, door: Arc<AttemptDoor>, supervisor: u32) {
    let belongs = is_of_attempt(&stream, supervisor);
    if !belongs {
        tracing::warn!(task = %door.task(), "a process of another attempt knocked at the side door");
    }
    let service = service_fn(move |request| {
        let door = door.clone();
        async move {
            let answer = if belongs { respond(&door, request).await } else { Err(door.stranger()) };
            Ok::<_, Infallible>(answer.unwrap_or_else(refusal))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).max_buf_size(BUFFER_BYTES).keep_alive(belongs);
    server.header_read_timeout(if belongs { HEAD_WITHIN } else { STRANGER_WITHIN });
    // Whatever went wrong on the way is the other end's, which sees it as well.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(door: &AttemptDoor, request: Request<Incoming>) -> Result<Response<DoorBody>, DoorError> {
    let (head, body) = request.into_parts();
    let asked = read_request(&head.method, &head.uri)?;
    let value = match &asked {
        DoorRequest::Set { key, .. } => {
            door.may_write()?;
            let declared =
                head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            let bytes = read_value(key, body, declared).await?;
            let json = head.headers.get(CONTENT_TYPE).is_some_and(is_json);
            Some(NewValue { bytes, json })
        }
        _ => None,
    };
    Ok(match door.answer(asked, value).await? {
        Answered::Record(record) => json(StatusCode::OK, &record),
        Answered::Changes(lines) => {
            let mut response = Response::new(DoorBody::Lines(lines));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
            response
        }
    })
}

fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read_value(key: &str, body: Incoming, declared: Option<usize>) -> Result<Bytes, DoorError> {
    let reading = async {
        if declared.is_some_and(|size| size > BODY_BYTES_MAX) {
            let _ = Limited::new(body, WASTE_BYTES_MAX).collect().await;
            return Err(too_large(key, declared));
        }
        match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large(key, declared)),
            Err(error) => Err(DoorError::usage(format!("the value of `{key}` did not arrive: {error}"))),
        }
    };
    tokio::time::timeout(BODY_WITHIN, reading).await.unwrap_or_else(|_| {
        let message = format!("the value of `{key}` did not arrive within {BODY_WITHIN:.0?}");
        Err(DoorError::usage(message).with_status(StatusCode::REQUEST_TIMEOUT))
    })
}

fn too_large(key: &str, declared: Option<usize>) -> DoorError {
    let (what, limit) = (format!("the value of `{key}`"), STATE_VALUE_BYTES_MAX);
    match declared {
        Some(size) => DoorError::usage(format!("{what} has {size} bytes; the limit is {limit}"))
            .because(DoorErrorCause::TooLarge { what, size, limit }),
        None => {
            DoorError::usage(format!("{what} has more than {BODY_BYTES_MAX} bytes; the limit is {limit}"))
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
        }
    }
}

fn refusal(error: DoorError) -> Response<DoorBody> {
    let (status, details) = (error.status, error.details.clone());
    let mut response = json(status, &ErrorBody { error });
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, PUT, DELETE"));
    }
    if let Some(DoorErrorCause::TooOften { wait_ms }) = details {
        // The header counts in whole seconds.
        response.headers_mut().insert(RETRY_AFTER, wait_ms.div_ceil(1_000).max(1).into());
    }
    response
}

fn json(status: StatusCode, record: &impl Serialize) -> Response<DoorBody> {
    let mut text = serde_json::to_vec(record).expect("our records have text keys and plain values");
    text.push(b'\n');
    let mut response = Response::new(DoorBody::Whole(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is sent back.
pub(super) enum DoorBody {
    /// One document.
    Whole(Option<Bytes>),
    /// Lines as they come.
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for DoorBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            DoorBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            DoorBody::Lines(lines) => {
                lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, DoorBody::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            DoorBody::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            DoorBody::Lines(_) => hyper::body::SizeHint::default(),
        }
    }
}
