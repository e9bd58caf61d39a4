//! What an agent is started with, as bytes: command, surroundings, walls, limits.

use super::wire::{GarbledPacket, PacketReader, PacketWriter};

/// An agent to be started. No text holds a NUL: the worker has checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StartOrder {
    /// Working directory.
    pub(super) cwd: Vec<u8>,
    /// Paths to try in turn for the program, as `execvp` would.
    pub(super) candidates: Vec<Vec<u8>>,
    /// The argument list, the program's name first.
    pub(super) argv: Vec<Vec<u8>>,
    /// The whole environment, `NAME=value` each.
    pub(super) env: Vec<Vec<u8>>,
    /// What confines it; none = nothing does.
    pub(super) walls: Option<WallOrder>,
    /// How many descriptors of control groups to join come along, after the ruleset.
    pub(super) groups: u32,
    /// Most bytes of data one of its processes may have, where no control group limits memory.
    pub(super) data_bytes_max: Option<u64>,
}

/// What confines an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WallOrder {
    /// What it sees of the host beside the system's folders; only for a supervisor with a view.
    pub(super) entries: Vec<ViewEntry>,
    /// Whether a Landlock ruleset comes along, after standard input, output and error.
    pub(super) has_rules: bool,
    /// The rights that the ruleset governs, as the kernel numbers them.
    pub(super) handled: u64,
}

/// One path of an agent's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewEntry {
    /// What is to be seen there.
    pub kind: ViewKind,
    /// Where, the same as on the host; absolute.
    pub path: Vec<u8>,
    /// Where a link leads to; the path without links of what the host has; else empty.
    pub text: Vec<u8>,
}

/// What an agent sees at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewKind {
    /// What the host has there, to be read.
    Read,
    /// What the host has there, to be read and written.
    Write,
    /// A link.
    Link,
    /// An empty folder in place of what the host has there.
    Hidden,
}

impl ViewKind {
    const ALL: [ViewKind; 4] = [ViewKind::Read, ViewKind::Write, ViewKind::Link, ViewKind::Hidden];
}

impl StartOrder {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = PacketWriter::new(1).text(&self.cwd);
        for list in [&self.candidates, &self.argv, &self.env] {
            writer = writer.number(list.len() as u32);
            writer = list.iter().fold(writer, |writer, text| writer.text(text));
        }
        writer = writer.number(self.groups).long(self.data_bytes_max.unwrap_or(u64::MAX));
        writer = writer.number(u32::from(self.walls.is_some()));
        let Some(walls) = &self.walls else { return writer.done() };
        writer = writer.number(u32::from(walls.has_rules)).long(walls.handled);
        writer = writer.number(walls.entries.len() as u32);
        let entries = walls.entries.iter();
        entries
            .fold(writer, |writer, entry| {
                writer.number(entry.kind as u32).text(&entry.path).text(&entry.text)
            })
            .done()
    }

    pub(super) fn decode(packet: &[u8]) -> Result<StartOrder, GarbledPacket> {
        let (tag, mut rest) = PacketReader::open(packet)?;
        if tag != 1 {
            return Err(GarbledPacket);
        }
        let mut order = StartOrder {
            cwd: rest.text()?,
            candidates: rest.texts()?,
            argv: rest.texts()?,
            env: rest.texts()?,
            groups: rest.number()?,
            data_bytes_max: Some(rest.long()?).filter(|bytes| *bytes != u64::MAX),
            walls: None,
        };
        if rest.number()? == 1 {
            let (has_rules, handled) = (rest.number()? == 1, rest.long()?);
            let count = rest.number()?;
            let entries = (0..count).map(|_| ViewEntry::read(&mut rest)).collect::<Result<_, _>>()?;
            order.walls = Some(WallOrder { entries, has_rules, handled });
        }
        rest.end(order)
    }
}

impl ViewEntry {
    fn read(rest: &mut PacketReader<'_>) -> Result<ViewEntry, GarbledPacket> {
        let number = rest.number()?;
        let kind = ViewKind::ALL.into_iter().find(|kind| *kind as u32 == number).ok_or(GarbledPacket)?;
        Ok(ViewEntry { kind, path: rest.text()?, text: rest.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_wire_with_and_without_walls() {
        let entry = |kind| ViewEntry { kind, path: b"/srv/\xff".to_vec(), text: b"x".to_vec() };
        let walls = WallOrder {
            entries: ViewKind::ALL.into_iter().map(entry).collect(),
            has_rules: true,
            handled: 0x1fff,
        };
        for walls in [None, Some(WallOrder::default()), Some(walls)] {
            let order = StartOrder {
                cwd: b"/tmp/\xff".to_vec(),
                candidates: vec![b"/bin/true".to_vec()],
                argv: vec![b"true".to_vec(), Vec::new()],
                env: vec![b"A=b".to_vec()],
                walls,
                groups: 2,
                data_bytes_max: Some(7),
            };
            let whole = order.encode();
            assert_eq!(StartOrder::decode(&whole), Ok(order));
            for length in 0..whole.len() {
                assert_eq!(StartOrder::decode(&whole[..length]), Err(GarbledPacket), "{length}");
            }
        }
    }
}
