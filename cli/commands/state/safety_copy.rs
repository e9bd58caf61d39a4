//! Copies of what is there, taken before something replaces or ends it. They never move `latest`.

use std::time::Duration;

use maestro_coordinator::snapshot::{SnapshotError, SnapshotFolder, SnapshotRequest, stamp};
use maestro_store::Store;

use super::snapshot_progress::take_shown;
use crate::commands::CommandContext;
use crate::config::settings::Settings;
use crate::output::moment::now_ms;

/// How long a safety copy may hold the cluster still.
const COPY_DEADLINE: Duration = Duration::from_secs(600);

/// Takes one: `auto/pre-<cause>-<time>.tar.gz` below the snapshot folder; where it is.
///
/// # Errors
/// See [`SnapshotError`]; then there is none.
pub(crate) async fn take_safety_copy(
    store: &Store,
    settings: &Settings,
    cause: &str,
    by: &str,
    context: &CommandContext,
) -> Result<String, SnapshotError> {
    context.printer.detail("taking a safety copy of what is there now");
    let folder = SnapshotFolder::open(&settings.snapshot_dir())?;
    let request = SnapshotRequest {
        output: folder.safety_copy(cause, &stamp(now_ms()))?,
        label: Some(format!("before a {cause}")),
        include_logs: false,
        by: by.to_owned(),
        deadline: COPY_DEADLINE,
        failed_agents: Vec::new(),
    };
    let taken = take_shown(store, &request, context).await?;
    Ok(taken.path.display().to_string())
}
