//! How much disk the workspaces take: measured now and then, and only where somebody reads it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maestro_vitals::tally::tally;

/// Between two measurements.
const MEASURE_EVERY: Duration = Duration::from_secs(300);
/// Most files and folders that are counted: a look at more of them would itself be a load.
const COUNTED_MAX: u64 = 2_000_000;
/// Bytes of a block in which disks are counted.
const BLOCK_BYTES: u64 = 512;

/// Measures what lies below the workspace root, until dropped.
pub(crate) async fn measure_now_and_then(root: PathBuf) {
    loop {
        let folder = root.clone();
        // A measurement that broke down is made again.
        if let Ok(bytes) = tokio::task::spawn_blocking(move || measured(&folder)).await {
            tally().workspaces_measured(bytes);
        }
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

/// Bytes on disk below a folder; what comes or goes meanwhile may be in it or not.
fn measured(root: &Path) -> u64 {
    let (mut bytes, mut counted) = (0, 0);
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // A link is counted as such, and not followed.
            let Ok(found) = entry.metadata() else { continue };
            bytes += found.blocks() * BLOCK_BYTES;
            counted += 1;
            if counted >= COUNTED_MAX {
                return bytes;
            }
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("below")).expect("a folder");
        fs::write(folder.path().join("below/file"), vec![b'x'; 100_000]).expect("a file");
        std::os::unix::fs::symlink("/", folder.path().join("everything")).expect("a link");
        let bytes = measured(folder.path());
        assert!((100_000..1_000_000).contains(&bytes), "{bytes}");
    }
}
