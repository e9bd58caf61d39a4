//! What cannot be done, in words for an agent. Nothing in them says where Redis is.

use std::time::Duration;

use hyper::StatusCode;
use maestro_store::{Refusal, StoreError};

use super::wire::{DoorError, DoorErrorCause, DoorErrorKind};

/// An error of the store.
pub(super) fn failed(error: StoreError) -> DoorError {
    let refusal = match error {
        StoreError::Refused(refusal) => refusal,
        StoreError::Unreachable { .. } => {
            return DoorError::new(DoorErrorKind::Unavailable, "the cluster cannot be reached now")
                .hint("try again; the worker connects again by itself");
        }
        StoreError::Unreadable { .. } => {
            tracing::error!("a side door cannot answer: {error}");
            return DoorError::new(DoorErrorKind::Unavailable, "what is stored cannot be read")
                .hint("the worker's log says more")
                .with_status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let message = refusal.to_string();
    match refusal {
        Refusal::VersionConflict { key, current } => DoorError::new(DoorErrorKind::Refused, message)
            .hint(format!("read it again with `maestro state get {key} --format json`"))
            .because(DoorErrorCause::VersionConflict { key, current }),
        Refusal::TooLarge { what, size, limit } => DoorError::usage(message)
            .hint("put what is large into a file of the workspace, and its name into the state")
            .because(DoorErrorCause::TooLarge { what, size, limit }),
        Refusal::UnlawfulKey { .. } => {
            DoorError::usage(message).hint("name it, as in `maestro state get branch`")
        }
        Refusal::NotFound { .. } => DoorError::new(DoorErrorKind::NotFound, message),
        Refusal::Paused | Refusal::Frozen { .. } => {
            DoorError::new(DoorErrorKind::NothingToRunIt, message).hint("try again later")
        }
        Refusal::OutOfMemory => DoorError::new(DoorErrorKind::Unavailable, message)
            .hint("delete what is not needed; reading goes on")
            .with_status(StatusCode::INSUFFICIENT_STORAGE),
        other => {
            tracing::warn!("a side door cannot answer: {other}");
            DoorError::new(DoorErrorKind::Unavailable, "the cluster refuses to answer now")
                .hint("the worker's log says why")
        }
    }
}

/// There is nothing under that name.
pub(super) fn no_value(key: &str) -> DoorError {
    DoorError::new(DoorErrorKind::NotFound, format!("there is no state `{key}`"))
        .hint("`maestro state list` lists what there is; values go when their time to live has passed")
}

/// The attempt has to wait.
pub(super) fn too_often(wait: Duration, what: &str, rule: &str) -> DoorError {
    let wait_ms = (wait.as_millis() as u64).max(1);
    DoorError::new(DoorErrorKind::Refused, format!("the attempt {what} shared state too often"))
        .hint(rule)
        .because(DoorErrorCause::TooOften { wait_ms })
}
