//! One POST to a webhook, with a limit to how long it may take. No redirect is followed: an alert goes where it was
//! told to go.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::message::SIGNATURE_HEADER;

/// Longest time of a POST, from looking the name up to the end of the answer.
const POST_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read; nobody looks at them.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where alerts go.
#[derive(Clone)]
pub struct AlertAddress {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

/// An address that no alert can be sent to.
#[derive(Debug, thiserror::Error)]
pub enum AlertAddressError {
    /// It is not one.
    #[error("`{text}` is not an address: expected `https://HOST/PATH` or `http://HOST/PATH`")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// It has a name or password in it, which would stand in logs and process lists.
    #[error("the address of the webhook has a user in it: sign alerts instead (`MAESTRO_ALERT_SECRET`)")]
    WithUser,
    /// TLS cannot be used here.
    #[error("TLS cannot be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// Why a POST did not arrive, or was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// Whoever it reached may take it another time.
    #[error("{0}")]
    Passing(String),
    /// The same words would be refused again.
    #[error("the webhook answered {0}")]
    Refused(StatusCode),
}

impl AlertAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// `AlertAddressError`, in words for whoever wrote it.
    pub fn read(text: &str) -> Result<AlertAddress, AlertAddressError> {
        let malformed = || AlertAddressError::Malformed { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(AlertAddressError::WithUser);
        }
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => (443, Some(tls_connector()?)),
            _ => return Err(malformed()),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(port);
        Ok(AlertAddress { host, port, tls, uri })
    }

    /// Host and port, for logs: the rest of an address may be a secret.
    pub fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Sends a body once.
    pub(super) async fn post(&self, body: Bytes, signature: Option<&str>) -> Result<(), PostError> {
        match tokio::time::timeout(POST_WITHIN, self.exchange(body, signature)).await {
            Ok(done) => done,
            Err(_) => Err(PostError::Passing(format!("no answer within {} s", POST_WITHIN.as_secs()))),
        }
    }

    async fn exchange(&self, body: Bytes, signature: Option<&str>) -> Result<(), PostError> {
        let request = self.request(body, signature)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(passing)?;
        let status = match &self.tls {
            None => send(stream, request).await?,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(passing)?;
                send(tls.connect(name, stream).await.map_err(passing)?, request).await?
            }
        };
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(PostError::Passing(format!("the webhook answered {status}")))
            }
            status if status.is_server_error() => {
                Err(PostError::Passing(format!("the webhook answered {status}")))
            }
            status => Err(PostError::Refused(status)),
        }
    }

    fn request(&self, body: Bytes, signature: Option<&str>) -> Result<Request<Full<Bytes>>, PostError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let mut request = Request::post(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("maestro/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(signature) = signature {
            request = request.header(SIGNATURE_HEADER, signature);
        }
        request.body(Full::new(body)).map_err(passing)
    }
}

fn passing(error: impl std::error::Error) -> PostError {
    PostError::Passing(error.to_string())
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, PostError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(passing)?;
    // Both ends together: dropped with this future, the connection is closed.
    let exchange = async {
        let response = sender.send_request(request).await.map_err(passing)?;
        let status = response.status();
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(status)
    };
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // The connection may end first, with the answer already here.
        _ = connection => exchange.await,
    }
}

/// The roots of this host, and where it has none those that browsers trust.
fn tls_connector() -> Result<TlsConnector, tokio_rustls::rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_no_user() {
        let shown = |text: &str| AlertAddress::read(text).map(|address| address.shown());
        assert_eq!(shown("http://alerts.internal/hook?key=1").expect("lawful"), "alerts.internal:80");
        assert_eq!(shown("https://[::1]:8443/").expect("lawful"), "::1:8443");
        for text in ["alerts.internal", "ftp://alerts.internal/", "http://", "/hook", ""] {
            assert!(matches!(shown(text), Err(AlertAddressError::Malformed { .. })), "{text}");
        }
        assert!(matches!(shown("http://ada:secret@alerts/"), Err(AlertAddressError::WithUser)));
    }
}
