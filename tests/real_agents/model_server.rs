//! A model that follows a script: HTTP on loopback, one thread per connection, every request remembered.
//!
//! As much of HTTP/1.1 as the four programs speak: a length or chunks, and a connection that is kept or closed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::answers::{ModelAnswer, answer_to};

/// Until a connection on which nothing comes is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Largest request that is read, bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct ModelRequest {
    pub(crate) path: String,
    pub(crate) body: String,
}

/// The server. Dropped, it answers nobody any more.
pub(crate) struct ModelServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<ModelRequest>>>,
    ends: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl ModelServer {
    pub(crate) fn start() -> ModelServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound");
        let requests: Arc<Mutex<Vec<ModelRequest>>> = Arc::default();
        let ends = Arc::new(AtomicBool::new(false));
        let (seen, over) = (requests.clone(), ends.clone());
        let accepting = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let seen = seen.clone();
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || serve(&connection, &seen));
            }
        });
        ModelServer { address, requests, ends, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far whose path holds a word.
    pub(crate) fn requests_to(&self, word: &str) -> Vec<ModelRequest> {
        let requests = self.requests.lock().expect("no thread panics with it");
        requests.iter().filter(|request| request.path.contains(word)).cloned().collect()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // One more connection, so that the thread looks up.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(connection: &TcpStream, seen: &Mutex<Vec<ModelRequest>>) -> Option<()> {
    connection.set_read_timeout(Some(IDLE_MAX)).ok()?;
    connection.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(connection);
    while let Some((method, request)) = read_request(&mut reader) {
        seen.lock().expect("no thread panics with it").push(request.clone());
        let keeps = match method.as_str() {
            "POST" => write_answer(connection, answer_to(&request))?,
            "HEAD" => write_plain(connection, 200, "")?,
            _ => write_plain(connection, 404, r#"{"error":{"message":"no such thing"}}"#)?,
        };
        if !keeps {
            break;
        }
    }
    Some(())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, ModelRequest)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(("transfer-encoding", value)) => is_chunked = value.contains("chunked"),
            Some(_) => {}
        }
    }
    let body = if is_chunked { read_chunks(reader)? } else { read_bytes(reader, length)? };
    Some((method, ModelRequest { path, body: String::from_utf8_lossy(&body).into_owned() }))
}

fn read_bytes(reader: &mut impl Read, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length.min(REQUEST_BYTES_MAX)];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        body.extend(read_bytes(reader, length)?);
        reader.read_line(&mut String::new()).ok()?;
        if length == 0 || body.len() > REQUEST_BYTES_MAX {
            return Some(body);
        }
    }
}

/// Writes what the script says; answers whether the connection stays.
fn write_answer(mut connection: &TcpStream, answer: ModelAnswer) -> Option<bool> {
    match answer {
        ModelAnswer::Json { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
                body.len()
            );
            connection.write_all((head + &body).as_bytes()).ok()?;
            Some(true)
        }
        ModelAnswer::Stream { pieces, pause } => {
            let head = "HTTP/1.1 200 Said\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            connection.write_all(head.as_bytes()).ok()?;
            for piece in pieces {
                connection.write_all(&piece).ok()?;
                // The pause is what is being tested: a model that thinks between two words.
                std::thread::sleep(pause);
            }
            connection.shutdown(std::net::Shutdown::Write).ok()?;
            Some(false)
        }
    }
}

fn write_plain(mut connection: &TcpStream, status: u16, body: &str) -> Option<bool> {
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(head.as_bytes()).ok()?;
    Some(true)
}
