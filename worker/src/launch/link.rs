//! Sockets to the launcher and its supervisors, as the worker's runtime sees them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::socket::{Packet, packet_pair, receive_packet, send_packet};
use super::spec::LauncherCommand;
use super::tree::KILL_LIMIT;
use super::wire::{LauncherReply, LauncherRequest, WallKind};

/// Longest wait for an answer of the launcher. A sweep kills a supervisor, and then what it leaves.
const ANSWER_LIMIT: Duration = Duration::from_secs(2).saturating_add(KILL_LIMIT).saturating_add(KILL_LIMIT);

/// One end of a packet socket. The runtime has no type for these; it only waits here, for which any unix
/// socket is like another.
pub(super) struct PacketSocket(UnixDatagram);

impl PacketSocket {
    pub(super) fn new(fd: OwnedFd) -> io::Result<PacketSocket> {
        let socket = std::os::unix::net::UnixDatagram::from(fd);
        socket.set_nonblocking(true)?;
        UnixDatagram::from_std(socket).map(PacketSocket)
    }

    /// Sends at once. The other side reads all that it is sent, so its buffer has room for our few packets.
    pub(super) fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        send_packet(&self.0, packet, fds, SendFlags::DONTWAIT)
    }

    /// Waits for a packet; none if the other end is closed. May be cancelled: a packet is taken whole or not.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        loop {
            self.0.readable().await?;
            let taken = self.0.try_io(Interest::READABLE, || {
                receive_packet(&self.0, buffer, RecvFlags::DONTWAIT).map_err(io::Error::from)
            });
            match taken {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Whether the other end is there and has said nothing, as one that waits should.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = rustix::net::recv(&self.0, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        matches!(peeked, Err(Errno::AGAIN))
    }
}

/// A supervisor as the launcher sent it.
pub(super) struct SupervisorLink {
    pub(super) socket: PacketSocket,
    pub(super) pid: u32,
    /// The walls it stands in.
    pub(super) kind: WallKind,
}

/// A launcher process and the socket to it. Closing the socket ends the process.
pub(super) struct LauncherLink {
    socket: Option<PacketSocket>,
    process: Option<Child>,
    /// Questions that were asked and whose answer nobody has taken: who waited for it was cancelled.
    unanswered: u32,
}

impl LauncherLink {
    /// Starts a launcher with an empty environment, which `/proc` would show to every agent.
    pub(super) fn start(command: &LauncherCommand) -> io::Result<LauncherLink> {
        let (ours, theirs) = packet_pair()?;
        let process = Command::new(&command.program)
            .arg0("maestro")
            .args(&command.args)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        // Made before the socket is registered, so that a failure there ends the process as well.
        let mut link = LauncherLink { socket: None, process: Some(process), unanswered: 0 };
        link.socket = Some(PacketSocket::new(ours)?);
        Ok(link)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// One question, one answer with its descriptors. May be cancelled: the answer is then passed over.
    pub(super) async fn ask(
        &mut self,
        request: LauncherRequest,
    ) -> io::Result<(LauncherReply, Vec<OwnedFd>)> {
        let socket = self.socket.as_ref().expect("only `close` and drop take the socket");
        socket.send(&request.encode(), &[])?;
        self.unanswered += 1;
        loop {
            let mut buffer = [0; 64];
            let packet = timeout(ANSWER_LIMIT, socket.receive(&mut buffer)).await??;
            let packet = packet.ok_or(io::ErrorKind::BrokenPipe)?;
            self.unanswered -= 1;
            if self.unanswered == 0 {
                let reply = LauncherReply::decode(&buffer[..packet.length])
                    .map_err(|garbled| io::Error::new(io::ErrorKind::InvalidData, garbled))?;
                return Ok((reply, packet.fds));
            }
        }
    }

    /// Ends the launcher and waits until it is gone. It limits itself: see `launcher`.
    pub(super) async fn close(mut self) {
        self.socket = None;
        if let Some(mut process) = self.process.take() {
            let waited = tokio::task::spawn_blocking(move || process.wait()).await;
            if let Ok(Err(error)) = waited {
                tracing::warn!(%error, "cannot wait for the launcher process");
            }
        }
    }
}

impl Drop for LauncherLink {
    /// The process ends by itself once the socket is closed; a thread takes its end, so that no zombie stays.
    fn drop(&mut self) {
        self.socket = None;
        if let Some(mut process) = self.process.take() {
            std::thread::spawn(move || {
                let _ = process.wait();
            });
        }
    }
}
