//! A road to Redis over TCP on which things go wrong: connections cut, replies lost, everything slow or silent.
//!
//! Threads and blocking sockets only. It does not understand what it carries, so a lost reply is any portion
//! that comes back from Redis, and the connection ends with it, as after a crash of a host in between.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How soon a change of the rules is noticed by a silent connection.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Carried in one portion, bytes.
const PORTION: usize = 64 * 1024;

/// The proxy; dropped, it carries nothing any more.
#[derive(Debug)]
pub struct FaultProxy {
    rules: Arc<Rules>,
    port: u16,
}

#[derive(Debug, Default)]
struct Rules {
    /// Connections are refused and the present ones are gone.
    cut: AtomicBool,
    /// Nothing is carried, in either direction; connections stand.
    frozen: AtomicBool,
    /// Each portion waits so long, ms.
    delay_ms: AtomicU64,
    /// So many portions from Redis are still to be lost.
    replies_to_lose: AtomicU32,
    /// How many were lost.
    replies_lost: AtomicU32,
    closed: AtomicBool,
    streams: Mutex<Vec<(TcpStream, UnixStream)>>,
}

impl FaultProxy {
    /// Opens a port on loopback that leads to a Redis on a socket.
    pub fn open(socket: &Path) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let rules = Arc::new(Rules::default());
        let (shared, socket) = (rules.clone(), socket.to_path_buf());
        thread::spawn(move || accept(&listener, &shared, &socket));
        FaultProxy { rules, port }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends every connection now; new ones are accepted.
    pub fn reset(&self) {
        for (client, server) in self.rules.streams.lock().expect("no holder panics").drain(..) {
            let _ended = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        }
    }

    /// Ends every connection and refuses new ones.
    pub fn cut(&self) {
        self.rules.cut.store(true, Ordering::SeqCst);
        self.reset();
    }

    /// Carries nothing any more and says nothing about it: a partition.
    pub fn freeze(&self) {
        self.rules.frozen.store(true, Ordering::SeqCst);
    }

    /// Carries again. What was held back while it was frozen is lost with its connections.
    pub fn heal(&self) {
        self.rules.cut.store(false, Ordering::SeqCst);
        self.rules.delay_ms.store(0, Ordering::SeqCst);
        if self.rules.frozen.load(Ordering::SeqCst) {
            self.reset();
        }
        self.rules.frozen.store(false, Ordering::SeqCst);
    }

    /// Holds each portion back for so long.
    pub fn delay(&self, each: Duration) {
        self.rules.delay_ms.store(each.as_millis() as u64, Ordering::SeqCst);
    }

    /// The next so many portions from Redis never arrive, and their connections end.
    pub fn lose_replies(&self, count: u32) {
        self.rules.replies_to_lose.store(count, Ordering::SeqCst);
    }

    /// How many never arrived so far.
    pub fn lost(&self) -> u32 {
        self.rules.replies_lost.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.rules.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts, which then ends.
        let _refused = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, rules: &Arc<Rules>, socket: &PathBuf) {
    for client in listener.incoming() {
        if rules.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if rules.cut.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(server) = UnixStream::connect(socket) else { continue };
        let copies = (client.try_clone(), server.try_clone());
        let (Ok(client_copy), Ok(server_copy)) = copies else { continue };
        let keep = (client.try_clone(), server.try_clone());
        if let (Ok(client), Ok(server)) = keep {
            rules.streams.lock().expect("no holder panics").push((client, server));
        }
        let _no_delay = client.set_nodelay(true);
        let (up, down) = (rules.clone(), rules.clone());
        thread::spawn(move || {
            carry(client_copy, server_copy, &up, |_| true);
        });
        thread::spawn(move || {
            carry(server, client, &down, |rules| {
                let take = |left: u32| left.checked_sub(1);
                let lost =
                    rules.replies_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                if lost {
                    rules.replies_lost.fetch_add(1, Ordering::SeqCst);
                }
                !lost
            });
        });
    }
}

/// What both kinds of stream can do.
trait Ends {
    fn end(&self);
}

impl Ends for TcpStream {
    fn end(&self) {
        let _ended_before = self.shutdown(Shutdown::Both);
    }
}

impl Ends for UnixStream {
    fn end(&self) {
        let _ended_before = self.shutdown(Shutdown::Both);
    }
}

/// Carries one direction until it ends; then the other ends as well.
fn carry(
    mut from: impl Read + Ends,
    mut to: impl Write + Ends,
    rules: &Rules,
    arrives: impl Fn(&Rules) -> bool,
) {
    let mut portion = vec![0; PORTION];
    while let Ok(length @ 1..) = from.read(&mut portion) {
        let delay = rules.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            // Time itself is the fault here.
            thread::sleep(Duration::from_millis(delay));
        }
        while rules.frozen.load(Ordering::SeqCst) && !rules.closed.load(Ordering::SeqCst) {
            // The test that froze it is the deadline.
            thread::sleep(LOOK_EVERY);
        }
        if !arrives(rules) || to.write_all(&portion[..length]).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}
