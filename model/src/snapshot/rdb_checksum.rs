//! The checksum at the end of an RDB file and of what DUMP gives: CRC-64 with the polynomial of Jones, reflected.

/// The polynomial, bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Tables for eight bytes at a time.
const TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A checksum that grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RdbChecksum(u64);

impl RdbChecksum {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut value = self.0;
        let mut portions = bytes.chunks_exact(8);
        for portion in &mut portions {
            let mut eight = [0; 8];
            eight.copy_from_slice(portion);
            value ^= u64::from_le_bytes(eight);
            let mut next = 0;
            for (place, table) in TABLES.iter().rev().enumerate() {
                next ^= table[((value >> (8 * place)) & 0xff) as usize];
            }
            value = next;
        }
        for byte in portions.remainder() {
            value = (value >> 8) ^ TABLES[0][((value ^ u64::from(*byte)) & 0xff) as usize];
        }
        self.0 = value;
    }

    /// Of all bytes so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_redis() {
        // The value that the source of Redis gives for this text.
        let mut sum = RdbChecksum::default();
        sum.add(b"123456789");
        assert_eq!(sum.value(), 0xe9c6_d914_c4b8_d9ca);
        let mut parts = RdbChecksum::default();
        parts.add(b"1234");
        parts.add(b"56789");
        assert_eq!(parts, sum);
    }
}
