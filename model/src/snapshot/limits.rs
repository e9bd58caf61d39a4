//! How much an archive may bring. Whoever writes one keeps to it as well.

/// Most entries of one archive.
pub const ENTRIES_MAX: u64 = 2_000_000;
/// Most bytes of all files, holes of sparse files not counted.
pub const STORED_BYTES_MAX: u64 = 16 << 40;
/// Most bytes of all holes: they cost no room in an archive, but time to whoever reads it.
pub const HOLE_BYTES_MAX: u64 = 1 << 40;
/// Largest `manifest.json`, bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 30;
/// Largest `index.json`, `agents.yaml` and description of a container, bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;
/// Largest value of one key as it is dumped, bytes: more does not fit into one request of Redis.
pub const PAYLOAD_BYTES_MAX: u64 = 512 << 20;
/// Bits of a mode that may be in an archive.
pub const MODE_MASK: u32 = 0o777;
/// Longest target of a symbolic link, bytes.
pub const LINK_BYTES_MAX: usize = 4095;
