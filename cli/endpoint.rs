//! What a daemon answers to those who watch it: `/metrics`, `/healthz` and `/readyz` over HTTP.
//!
//! Whoever reaches the port may ask; nothing can be changed here. A client that is slow costs a connection for some
//! seconds and nobody's time: each has a task of its own, and there is a limit to both.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::failure::Failure;

/// Connections at one time; more wait until one is closed.
const CONNECTIONS_MAX: usize = 64;
/// Longest time for a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(3);
/// Longest time of a connection, the answer included.
const CONNECTION_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a connection's buffer, and so of a request's head.
const BUFFER_BYTES: usize = 16 * 1024;
/// Pause after a connection could not be taken: the host has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What can be asked of a daemon.
pub(crate) trait Watched: Send + Sync + 'static {
    /// Whether its main loop turns; if not, since when it does not.
    fn alive(&self) -> Result<(), String>;
    /// Whether it does what it is there for; if not, why not.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Its numbers, as OpenMetrics.
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

/// An open port.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Opens a port on all addresses of this host.
    ///
    /// # Errors
    /// 69 if it is taken, or may not be used.
    pub(crate) async fn open(port: u16) -> Result<Endpoint, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(|error| {
            Failure::unavailable(format!("cannot listen on port {port}"))
                .caused_by(&error)
                .hint("name another one with `--metrics-port`")
        })?;
        tracing::info!(port, "watched at /metrics, /healthz and /readyz");
        Ok(Endpoint { listener })
    }

    /// Opens a port if one is asked for, and serves it as long as this process lives.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) async fn serve_at(port: Option<u16>, watched: impl Watched) -> Result<(), Failure> {
        let Some(port) = port else { return Ok(()) };
        let endpoint = Endpoint::open(port).await?;
        tokio::spawn(endpoint.serve(Arc::new(watched)));
        Ok(())
    }

    async fn serve(self, watched: Arc<impl Watched>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(tokio::time::timeout(CONNECTION_WITHIN, converse(stream, watched.clone())));
                    }
                    Err(error) => {
                        tracing::warn!("cannot take a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn converse(stream: TcpStream, watched: Arc<impl Watched>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let watched = watched.clone();
        async move { Ok::<_, Infallible>(respond(&request, watched.as_ref()).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER_BYTES)
        .keep_alive(false)
        .header_read_timeout(HEAD_WITHIN);
    // Whatever went wrong on the way is the other end's, which sees it as well.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: &Request<Incoming>, watched: &impl Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = plain(StatusCode::OK, watched.metrics().await);
            let kind = HeaderValue::from_static(maestro_vitals::text::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/healthz" => verdict(watched.alive()),
        "/readyz" => verdict(watched.ready().await),
        path => plain(
            StatusCode::NOT_FOUND,
            format!("there is no `{path}`, expected /metrics, /healthz or /readyz\n"),
        ),
    }
}

fn verdict(found: Result<(), String>) -> Response<Full<Bytes>> {
    match found {
        Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
