//! What worker, launcher and supervisors say to each other, as bytes.
//!
//! Every message is one packet. A start whose text is too long for a packet travels in a memory file
//! whose descriptor comes along. Both sides are the same binary, so there is no version here.

pub(super) use super::wire_order::StartOrder;

/// Longest packet; a start that is longer goes into a memory file.
pub(super) const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Longest start: the kernel itself allows 2 MiB of arguments and environment unless told otherwise.
pub(super) const START_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the worker asks of the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LauncherRequest {
    /// Fork another supervisor and send its socket.
    Supervise(WallKind),
    /// Kill a supervisor unless it is dead already, and all that it leaves behind; answer when nothing is left.
    Sweep {
        /// The supervisor's process id.
        supervisor: u32,
    },
}

/// Which walls a supervisor stands in, and its agents with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WallKind {
    /// None: it sees what the worker sees.
    Open,
    /// Namespaces of its own for mounts and processes, made with the worker's own rights.
    Namespaces,
    /// The same within a user namespace: what an ordinary user may make.
    UserNamespaces,
}

impl WallKind {
    const ALL: [WallKind; 3] = [WallKind::Open, WallKind::Namespaces, WallKind::UserNamespaces];
}

/// What the launcher answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LauncherReply {
    /// The socket of a new supervisor comes with this packet.
    Supervisor {
        /// Its process id.
        pid: u32,
    },
    /// There could be none.
    Refused {
        /// The kernel's number for why.
        errno: i32,
    },
    /// Orphans are gone, but for this many that could not be killed in time.
    Swept {
        /// Processes still there.
        survivors: u32,
    },
}

/// What the worker asks of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SupervisorRequest {
    /// Start an agent; standard input, output and error come along.
    Start(StartOrder),
    /// The same, its text in a memory file that comes as the last descriptor.
    StartFromFile,
    /// SIGTERM for the whole tree, which then has until `Kill` to end.
    Terminate,
    /// SIGKILL for the whole tree.
    Kill,
    /// SIGSTOP for the whole tree.
    Pause,
    /// SIGCONT for the whole tree.
    Resume,
}

/// What a supervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SupervisorReply {
    /// It stands within its walls and waits for an order. Only one with walls says so.
    Ready,
    /// Its walls cannot be built, and it has ended.
    Unwalled {
        /// What could not be done.
        step: WallStep,
        /// The kernel's number for why.
        errno: i32,
    },
    /// The agent runs. From within a process namespace a descriptor comes along that names it to all.
    Started {
        /// Its process id where its supervisor is.
        pid: u32,
    },
    /// It could not be started.
    NotStarted {
        /// What could not be done.
        step: StartStep,
        /// The kernel's number for why.
        errno: i32,
        /// Which path of its view could not be shown, if it was that, counted from 0.
        entry: Option<u32>,
    },
    /// The agent has ended and nothing is left of it (or as many processes as it says).
    Ended(TreeEnd),
}

/// What was being done when a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartStep {
    /// Reading the order.
    Order,
    /// Making the process.
    Clone,
    /// Preparing it: session, descriptors.
    Prepare,
    /// Joining a control group, or setting a limit.
    Limit,
    /// Making its view of the host, or giving up rights.
    Confine,
    /// Entering the working directory.
    Chdir,
    /// Executing the program.
    Exec,
}

/// What was being done when walls could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WallStep {
    /// Standing for the worker's user in a user namespace.
    User,
    /// Watching the launcher.
    Parent,
    /// Making mounts private.
    Private,
    /// Mounting a `/proc` of its own.
    Proc,
    /// Making the folder that becomes the root.
    Root,
    /// Showing the system's folders in it.
    System,
    /// Making devices in it.
    Devices,
}

impl WallStep {
    const ALL: [WallStep; 7] = [
        WallStep::User,
        WallStep::Parent,
        WallStep::Private,
        WallStep::Proc,
        WallStep::Root,
        WallStep::System,
        WallStep::Devices,
    ];
}

/// How an agent's process tree ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEnd {
    /// How the first process ended.
    pub main: MainEnd,
    /// Who ended the tree.
    pub cause: TreeEndCause,
    /// Processes that did not die within the supervisor's limit (in the kernel's hands, or another user's).
    pub survivors: u32,
    /// Processes that were still there when the first one had ended, and were killed.
    pub leftovers: u32,
    /// Largest resident size of any one process, KiB.
    pub max_rss_kib: u64,
    /// Processor time in user mode, µs.
    pub user_us: u64,
    /// Processor time in the kernel, µs.
    pub system_us: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainEnd {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Who ended a process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeEndCause {
    /// The agent itself, or the worker asked for it.
    Asked,
    /// The launcher died.
    LauncherLost,
}

/// A packet that does not say what it should: a bug, or a stranger on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet between worker and launcher cannot be read")]
pub(super) struct GarbledPacket;

impl LauncherRequest {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            LauncherRequest::Supervise(kind) => PacketWriter::new(1).number(kind as u32).done(),
            LauncherRequest::Sweep { supervisor } => PacketWriter::new(2).number(supervisor).done(),
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Result<LauncherRequest, GarbledPacket> {
        let (tag, mut rest) = PacketReader::open(packet)?;
        let request = match tag {
            1 => {
                let number = rest.number()?;
                let kind = WallKind::ALL.into_iter().find(|kind| *kind as u32 == number);
                LauncherRequest::Supervise(kind.ok_or(GarbledPacket)?)
            }
            2 => LauncherRequest::Sweep { supervisor: rest.number()? },
            _ => return Err(GarbledPacket),
        };
        rest.end(request)
    }
}

impl LauncherReply {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            LauncherReply::Supervisor { pid } => PacketWriter::new(1).number(pid).done(),
            LauncherReply::Refused { errno } => PacketWriter::new(2).number(errno as u32).done(),
            LauncherReply::Swept { survivors } => PacketWriter::new(3).number(survivors).done(),
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Result<LauncherReply, GarbledPacket> {
        let (tag, mut rest) = PacketReader::open(packet)?;
        let reply = match tag {
            1 => LauncherReply::Supervisor { pid: rest.number()? },
            2 => LauncherReply::Refused { errno: rest.number()? as i32 },
            3 => LauncherReply::Swept { survivors: rest.number()? },
            _ => return Err(GarbledPacket),
        };
        rest.end(reply)
    }
}

impl SupervisorRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            SupervisorRequest::Start(order) => order.encode(),
            SupervisorRequest::StartFromFile => vec![2],
            SupervisorRequest::Terminate => vec![3],
            SupervisorRequest::Kill => vec![4],
            SupervisorRequest::Pause => vec![5],
            SupervisorRequest::Resume => vec![6],
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Result<SupervisorRequest, GarbledPacket> {
        match packet {
            [1, ..] => StartOrder::decode(packet).map(SupervisorRequest::Start),
            [2] => Ok(SupervisorRequest::StartFromFile),
            [3] => Ok(SupervisorRequest::Terminate),
            [4] => Ok(SupervisorRequest::Kill),
            [5] => Ok(SupervisorRequest::Pause),
            [6] => Ok(SupervisorRequest::Resume),
            _ => Err(GarbledPacket),
        }
    }
}

impl SupervisorReply {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            SupervisorReply::Started { pid } => PacketWriter::new(1).number(pid).done(),
            SupervisorReply::NotStarted { step, errno, entry } => {
                let writer = PacketWriter::new(2).number(step as u32).number(errno as u32);
                writer.number(entry.unwrap_or(u32::MAX)).done()
            }
            SupervisorReply::Ended(end) => {
                let (kind, value) = match end.main {
                    MainEnd::Exited(code) => (0, code),
                    MainEnd::Signaled(signal) => (1, signal),
                };
                PacketWriter::new(3)
                    .number(kind)
                    .number(value as u32)
                    .number(u32::from(end.cause == TreeEndCause::LauncherLost))
                    .number(end.survivors)
                    .number(end.leftovers)
                    .long(end.max_rss_kib)
                    .long(end.user_us)
                    .long(end.system_us)
                    .done()
            }
            SupervisorReply::Ready => vec![4],
            SupervisorReply::Unwalled { step, errno } => {
                PacketWriter::new(5).number(step as u32).number(errno as u32).done()
            }
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Result<SupervisorReply, GarbledPacket> {
        let (tag, mut rest) = PacketReader::open(packet)?;
        let reply = match tag {
            1 => SupervisorReply::Started { pid: rest.number()? },
            2 => {
                let step = StartStep::from_number(rest.number()?)?;
                let errno = rest.number()? as i32;
                let entry = Some(rest.number()?).filter(|entry| *entry != u32::MAX);
                SupervisorReply::NotStarted { step, errno, entry }
            }
            3 => SupervisorReply::Ended(rest.tree_end()?),
            4 => SupervisorReply::Ready,
            5 => {
                let number = rest.number()?;
                let step = WallStep::ALL.into_iter().find(|step| *step as u32 == number);
                SupervisorReply::Unwalled { step: step.ok_or(GarbledPacket)?, errno: rest.number()? as i32 }
            }
            _ => return Err(GarbledPacket),
        };
        rest.end(reply)
    }
}

impl StartStep {
    const ALL: [StartStep; 7] = [
        StartStep::Order,
        StartStep::Clone,
        StartStep::Prepare,
        StartStep::Limit,
        StartStep::Confine,
        StartStep::Chdir,
        StartStep::Exec,
    ];

    /// The step of a number, as `as u32` gives it.
    pub(super) fn from_number(number: u32) -> Result<StartStep, GarbledPacket> {
        StartStep::ALL.into_iter().find(|step| *step as u32 == number).ok_or(GarbledPacket)
    }
}

pub(super) struct PacketWriter(Vec<u8>);

impl PacketWriter {
    pub(super) fn new(tag: u8) -> PacketWriter {
        PacketWriter(vec![tag])
    }

    pub(super) fn number(mut self, number: u32) -> PacketWriter {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(super) fn long(mut self, number: u64) -> PacketWriter {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(super) fn text(self, text: &[u8]) -> PacketWriter {
        let mut writer = self.number(text.len() as u32);
        writer.0.extend_from_slice(text);
        writer
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

pub(super) struct PacketReader<'a>(&'a [u8]);

impl<'a> PacketReader<'a> {
    pub(super) fn open(packet: &'a [u8]) -> Result<(u8, PacketReader<'a>), GarbledPacket> {
        let (tag, rest) = packet.split_first().ok_or(GarbledPacket)?;
        Ok((*tag, PacketReader(rest)))
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], GarbledPacket> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(GarbledPacket)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u32, GarbledPacket> {
        let bytes = self.take(4)?.try_into().map_err(|_| GarbledPacket)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn long(&mut self) -> Result<u64, GarbledPacket> {
        let bytes = self.take(8)?.try_into().map_err(|_| GarbledPacket)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn text(&mut self) -> Result<Vec<u8>, GarbledPacket> {
        let length = self.number()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    pub(super) fn texts(&mut self) -> Result<Vec<Vec<u8>>, GarbledPacket> {
        let count = self.number()?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(super) fn tree_end(&mut self) -> Result<TreeEnd, GarbledPacket> {
        let kind = self.number()?;
        let value = self.number()? as i32;
        let main = match kind {
            0 => MainEnd::Exited(value),
            1 => MainEnd::Signaled(value),
            _ => return Err(GarbledPacket),
        };
        let cause = if self.number()? == 0 { TreeEndCause::Asked } else { TreeEndCause::LauncherLost };
        Ok(TreeEnd {
            main,
            cause,
            survivors: self.number()?,
            leftovers: self.number()?,
            max_rss_kib: self.long()?,
            user_us: self.long()?,
            system_us: self.long()?,
        })
    }

    pub(super) fn end<T>(self, message: T) -> Result<T, GarbledPacket> {
        if self.0.is_empty() { Ok(message) } else { Err(GarbledPacket) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> TreeEnd {
        TreeEnd {
            main: MainEnd::Exited(-3),
            cause: TreeEndCause::LauncherLost,
            survivors: 1,
            leftovers: 2,
            max_rss_kib: u64::MAX,
            user_us: 4,
            system_us: 5,
        }
    }

    #[test]
    fn every_message_survives_the_wire() {
        let supervise = WallKind::ALL.map(LauncherRequest::Supervise);
        for request in [&supervise[..], &[LauncherRequest::Sweep { supervisor: 8 }]].concat() {
            assert_eq!(LauncherRequest::decode(&request.encode()), Ok(request));
        }
        for reply in [
            LauncherReply::Supervisor { pid: 9 },
            LauncherReply::Refused { errno: 11 },
            LauncherReply::Swept { survivors: 7 },
        ] {
            assert_eq!(LauncherReply::decode(&reply.encode()), Ok(reply));
        }
        for request in [
            SupervisorRequest::Start(StartOrder::default()),
            SupervisorRequest::StartFromFile,
            SupervisorRequest::Terminate,
            SupervisorRequest::Kill,
            SupervisorRequest::Pause,
            SupervisorRequest::Resume,
        ] {
            assert_eq!(SupervisorRequest::decode(&request.encode()), Ok(request));
        }
        for reply in [
            SupervisorReply::Ready,
            SupervisorReply::Unwalled { step: WallStep::Devices, errno: 1 },
            SupervisorReply::Started { pid: 9 },
            SupervisorReply::NotStarted { step: StartStep::Exec, errno: 2, entry: None },
            SupervisorReply::NotStarted { step: StartStep::Confine, errno: 2, entry: Some(3) },
            SupervisorReply::Ended(end()),
        ] {
            assert_eq!(SupervisorReply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn a_packet_cut_short_or_too_long_is_garbled() {
        let whole = SupervisorReply::Ended(end()).encode();
        for length in 0..whole.len() {
            assert_eq!(SupervisorReply::decode(&whole[..length]), Err(GarbledPacket), "{length}");
        }
        let longer = [whole, vec![0]].concat();
        assert_eq!(SupervisorReply::decode(&longer), Err(GarbledPacket));
        assert_eq!(StartOrder::decode(&[1, 255, 255, 255, 255]), Err(GarbledPacket));
    }
}
