//! An RDB file put together from what `DUMP` gives: framing, times to live, checksum.
//!
//! The values are written as Redis wrote them. Reading them back needs no parser: the index says where each lies.

use std::io::{self, Write};

use maestro_model::snapshot::{KeyEntry, KeyType, PAYLOAD_BYTES_MAX, RdbChecksum};
use maestro_store::key_dump::DumpedKey;

use super::error::SnapshotError;

/// Two bytes of version and eight of CRC-64, behind each dumped value.
const FOOTER_BYTES: usize = 10;
const OP_AUX: u8 = 0xfa;
const OP_EXPIRE_MS: u8 = 0xfc;
const OP_SELECT_DB: u8 = 0xfe;
const OP_END: u8 = 0xff;

/// Writes one RDB file.
pub(super) struct RdbWriter<W: Write> {
    output: W,
    checksum: RdbChecksum,
    written: u64,
    /// The version of the values; none before the first.
    version: Option<u16>,
    redis_version: String,
    /// Added to what is left of a time to live.
    now_ms: u64,
}

impl<W: Write> RdbWriter<W> {
    /// Nothing is written before the first key is known.
    pub(super) fn new(output: W, redis_version: String, now_ms: u64) -> RdbWriter<W> {
        let checksum = RdbChecksum::default();
        RdbWriter { output, checksum, written: 0, version: None, redis_version, now_ms }
    }

    /// Adds a key; where its value lies.
    ///
    /// # Errors
    /// `Disk` of the output comes as `io::Error` in `Err(Ok)`; what cannot be in an archive as `Unlawful`.
    pub(super) fn add(&mut self, dumped: &DumpedKey) -> Result<KeyEntry, RdbFailure> {
        let Ok(key) = std::str::from_utf8(&dumped.key) else {
            let shown = String::from_utf8_lossy(&dumped.key).into_owned();
            return Err(SnapshotError::unlawful(format!("the key `{shown}`")).into());
        };
        let unlawful = |why: &str| SnapshotError::unlawful(format!("the key `{key}`, whose value {why},"));
        let Some((body, footer)) = dumped.payload.split_last_chunk::<FOOTER_BYTES>() else {
            return Err(unlawful("is cut short").into());
        };
        let Some((encoding, value)) = body.split_first() else { return Err(unlawful("is empty").into()) };
        let version = u16::from_le_bytes([footer[0], footer[1]]);
        self.begin(version)?;
        if self.version != Some(version) {
            return Err(unlawful("is of another version than others").into());
        }
        let Some(key_type) = type_of(*encoding) else { return Err(unlawful("is of an unknown type").into()) };
        if value.len() as u64 > PAYLOAD_BYTES_MAX {
            return Err(unlawful("is larger than 512 MiB").into());
        }
        if let Some(ttl) = dumped.ttl_ms {
            self.write(&[OP_EXPIRE_MS])?;
            self.write(&(self.now_ms + ttl).to_le_bytes())?;
        }
        self.write(&[*encoding])?;
        self.write_text(key.as_bytes())?;
        let offset = self.written;
        self.write(value)?;
        let length = value.len() as u64;
        Ok(KeyEntry {
            key: key.to_owned(),
            key_type,
            ttl_ms: dumped.ttl_ms,
            encoding: *encoding,
            offset,
            length,
        })
    }

    /// Ends the file. What was written to comes back with the version of the values.
    pub(super) fn finish(mut self) -> io::Result<(W, u16)> {
        self.begin(OLDEST_VERSION)?;
        self.write(&[OP_END])?;
        let checksum = self.checksum.value().to_le_bytes();
        self.output.write_all(&checksum)?;
        Ok((self.output, self.version.unwrap_or(OLDEST_VERSION)))
    }

    fn begin(&mut self, version: u16) -> io::Result<()> {
        if self.version.is_some() {
            return Ok(());
        }
        self.version = Some(version);
        self.write(format!("REDIS{version:04}").as_bytes())?;
        self.write(&[OP_AUX])?;
        self.write_text(b"redis-ver")?;
        self.write_text(self.redis_version.clone().as_bytes())?;
        self.write(&[OP_SELECT_DB, 0])
    }

    /// A text behind its length, as RDB writes lengths.
    fn write_text(&mut self, text: &[u8]) -> io::Result<()> {
        let length = text.len();
        if length < 1 << 6 {
            self.write(&[length as u8])?;
        } else if length < 1 << 14 {
            self.write(&[0x40 | (length >> 8) as u8, length as u8])?;
        } else {
            self.write(&[0x80])?;
            self.write(&(length as u32).to_be_bytes())?;
        }
        self.write(text)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.add(bytes);
        self.written += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

/// The version of a file without keys: of Redis 7.0.
const OLDEST_VERSION: u16 = 10;

/// Why a key was not written.
pub(super) enum RdbFailure {
    /// The disk failed.
    Disk(io::Error),
    /// The key cannot be in an archive.
    Key(SnapshotError),
}

impl From<io::Error> for RdbFailure {
    fn from(error: io::Error) -> RdbFailure {
        RdbFailure::Disk(error)
    }
}

impl From<SnapshotError> for RdbFailure {
    fn from(error: SnapshotError) -> RdbFailure {
        RdbFailure::Key(error)
    }
}

fn type_of(encoding: u8) -> Option<KeyType> {
    let all = [KeyType::String, KeyType::Hash, KeyType::List, KeyType::Set, KeyType::Zset, KeyType::Stream];
    all.into_iter().find(|key_type| key_type.has_encoding(encoding))
}
