//! A client that asks a daemon, and a webhook that takes alerts in the way that a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Longest time of one exchange.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Status and body of a GET on this host; 0 if nobody listens or answers.
pub(crate) fn get(port: u16, path: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(EXCHANGE_WITHIN))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = ask() else { return (0, String::new()) };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// What a webhook does with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes it.
    Takes,
    /// Answers with a code.
    Answers(u16),
    /// Never answers.
    Hangs,
}

/// A POST as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) signature: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

/// A webhook on a port of its own, which ends with the value.
pub(crate) struct Webhook {
    pub(crate) port: u16,
    pub(crate) manner: Arc<Mutex<Manner>>,
    received: Arc<Mutex<Vec<Received>>>,
    ended: Arc<AtomicBool>,
}

impl Webhook {
    pub(crate) fn start(manner: Manner) -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (manner, received) = (Arc::new(Mutex::new(manner)), Arc::new(Mutex::new(Vec::new())));
        let ended = Arc::new(AtomicBool::new(false));
        let (now, list, end) = (manner.clone(), received.clone(), ended.clone());
        std::thread::spawn(move || {
            // Connections that hang are kept open until the webhook goes.
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                let taken = read_post(&mut stream);
                list.lock().expect("no holder panics").extend(taken);
                let code = match *now.lock().expect("no holder panics") {
                    Manner::Takes => 204,
                    Manner::Answers(code) => code,
                    Manner::Hangs => {
                        kept.push(stream);
                        continue;
                    }
                };
                let _ =
                    write!(stream, "HTTP/1.1 {code} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Webhook { port, manner, received, ended }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no holder panics").clone()
    }

    /// Status, rule and subject of what came in, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let text = |json: &Value, field: &str| json[field].as_str().unwrap_or_default().to_owned();
        let line = |one: &Received| {
            format!(
                "{} {} {}",
                text(&one.json, "status"),
                text(&one.json, "rule"),
                text(&one.json, "subject")
            )
        };
        self.received().iter().map(line).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // It looks up only when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn read_post(stream: &mut TcpStream) -> Option<Received> {
    stream.set_read_timeout(Some(EXCHANGE_WITHIN)).ok()?;
    let mut bytes = Vec::new();
    let mut portion = [0; 4096];
    loop {
        let count = stream.read(&mut portion).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&portion[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let header = |name: &str| {
            head.lines().skip(1).find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("content-length")?.parse().ok()?;
        if bytes.len() < end + 4 + length {
            continue;
        }
        let body = bytes[end + 4..end + 4 + length].to_vec();
        let json = serde_json::from_slice(&body).ok()?;
        return Some(Received { signature: header("x-maestro-signature"), body, json });
    }
}
