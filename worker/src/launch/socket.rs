//! Packets with descriptors over a unix socket, for both ends.
//!
//! Waiting is the caller's business: the worker polls with its runtime, launcher and supervisors with `poll`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors in one packet: standard input, output and error, a ruleset, control groups, a memory file.
pub(super) const DESCRIPTORS_MAX: usize = 10;

/// What came in one packet.
#[derive(Debug)]
pub(super) struct Packet {
    /// How much of the buffer it filled.
    pub(super) length: usize,
    /// The descriptors that came along, closed on exec.
    pub(super) fds: Vec<OwnedFd>,
}

/// Two ends that keep packets apart; both close on exec.
pub(super) fn packet_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one packet whole. A peer that is gone is `PIPE`, never a signal.
pub(super) fn send_packet(
    socket: impl AsFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        let pushed = control.push(SendAncillaryMessage::ScmRights(fds));
        assert!(pushed, "a packet carries at most {DESCRIPTORS_MAX} descriptors, not {}", fds.len());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags).map(|_| ())
}

/// Takes one packet, or none if the other end is closed. One that does not fit is `MSGSIZE`.
pub(super) fn receive_packet(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Option<Packet>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
        // A peer that died with something unread resets the connection: for us it is gone, no more.
        Err(Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok(Some(Packet { length: message.bytes, fds }))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_packet_brings_its_descriptors_and_a_closed_end_is_none() {
        let (ours, theirs) = packet_pair().expect("a socket pair");
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        send_packet(&ours, b"hello", &[writer.as_fd()], SendFlags::empty()).expect("room for a packet");
        drop((ours, writer));

        let mut buffer = [0; 16];
        let packet = receive_packet(&theirs, &mut buffer, RecvFlags::empty()).expect("a packet");
        let packet = packet.expect("not closed yet");
        assert_eq!(&buffer[..packet.length], b"hello");
        rustix::io::write(&packet.fds[0], b"x").expect("the pipe's end came along");
        drop(packet);
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).expect("readable");
        assert_eq!(text, "x");
        assert!(receive_packet(&theirs, &mut buffer, RecvFlags::empty()).expect("no error").is_none());
    }

    #[test]
    fn a_packet_larger_than_the_buffer_is_refused() {
        let (ours, theirs) = packet_pair().expect("a socket pair");
        send_packet(&ours, &[7; 32], &[], SendFlags::empty()).expect("room for a packet");
        let refused = receive_packet(&theirs, &mut [0; 16], RecvFlags::empty());
        assert_eq!(refused.expect_err("it does not fit"), Errno::MSGSIZE);
    }
}
