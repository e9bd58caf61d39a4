//! Deleting all that is Maestro's, and nothing else.

use crate::cell::{Store, decode};
use crate::error::StoreError;
use crate::keys::pointer;
use crate::queues::glob_literal;

/// Keys looked at in one step of a scan.
const SCAN_COUNT: u32 = 1000;

impl Store {
    /// How many keys this namespace has, in every generation.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, `Unreadable`.
    pub async fn count_keys(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        self.each_portion(async |keys| {
            count += keys.len() as u64;
            Ok(())
        })
        .await?;
        Ok(count)
    }

    /// Deletes every key of this namespace; how many there were. The cell goes first, so that whatever is
    /// sent meanwhile finds no cluster, rather than half of one. Asked again, it deletes what is left.
    ///
    /// # Errors
    /// `Unreachable` (some may be gone), `Refused`.
    pub async fn flush(&self) -> Result<u64, StoreError> {
        let mut count: u64 = 0;
        let cell = redis::cmd("UNLINK").arg(self.keys().ctl()).to_owned();
        count += decode::<u64>("a number of keys", self.ask(&cell).await?)?;
        let pointer = redis::cmd("UNLINK").arg(pointer(self.namespace())).to_owned();
        count += decode::<u64>("a number of keys", self.ask_pointer(&pointer).await?)?;
        self.each_portion(async |keys| {
            let mut pipeline = redis::pipe();
            for key in keys {
                pipeline.cmd("UNLINK").arg(key);
            }
            for gone in self.ask_all(&pipeline).await? {
                count += decode::<u64>("a number of keys", gone)?;
            }
            Ok(())
        })
        .await?;
        Ok(count)
    }

    /// Hands out the keys of the namespace, a portion at a time; one may come twice.
    async fn each_portion(
        &self,
        mut work: impl AsyncFnMut(Vec<String>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let namespace = glob_literal(self.namespace());
        let cells = format!("{namespace}:{{");
        for pattern in [format!("{cells}*"), format!("{namespace}:ctl"), format!("{namespace}:restore")] {
            let mut cursor = "0".to_owned();
            loop {
                let mut command = redis::cmd("SCAN");
                command.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
                let (next, found): (String, Vec<String>) = decode("a scan", self.ask(&command).await?)?;
                if !found.is_empty() {
                    work(found).await?;
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }
}
