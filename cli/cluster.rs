//! The way from a command to the cluster: connecting, and what its refusals mean for the user.

use std::time::Duration;

use maestro_coordinator::submission::SubmissionError;
use maestro_model::diagnostic::Colour;
use maestro_store::{Refusal, Store, StoreError, StoreOptions};

use crate::config::settings::Settings;
use crate::exit::Exit;
use crate::failure::Failure;

/// How long a command that asks once tries to reach Redis.
pub(crate) const COMMAND_PATIENCE: Duration = Duration::from_secs(3);
/// How long a daemon's requests are tried before they count as failed; its loops go on after that.
pub(crate) const DAEMON_PATIENCE: Duration = Duration::from_secs(15);

/// Where the cluster is, by the settings.
pub(crate) fn store_options(settings: &Settings, patience: Duration) -> StoreOptions {
    StoreOptions { url: settings.redis_url(), namespace: settings.namespace(), patience }
}

/// Connects for a command that asks and ends.
///
/// # Errors
/// 69 with the way to mend it.
pub(crate) async fn open_store(settings: &Settings) -> Result<Store, Failure> {
    connect(&store_options(settings, COMMAND_PATIENCE)).await
}

/// Connects as told.
///
/// # Errors
/// 69 with the way to mend it.
pub(crate) async fn connect(options: &StoreOptions) -> Result<Store, Failure> {
    Store::connect(options).await.map_err(store_failure)
}

/// An error of the store, in the command's words and with its exit code.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    match &error {
        StoreError::Unreachable { address, source } => {
            Failure::unavailable(format!("cannot reach redis at `{address}`"))
                .caused_by(source)
                .hint("start a cluster here with `maestro up`, or name its redis with `--redis-url`")
        }
        StoreError::Refused(refusal) => refusal_failure(refusal),
        StoreError::Unreadable { .. } => Failure::unavailable(error.to_string()).hint(
            "something else wrote under this namespace, or a newer version did: look at it with `redis-cli`",
        ),
    }
}

/// Why a run was not submitted; `what` it was: `workflow `x``, `the dispatch`.
pub(crate) fn submission_failure(what: &str, error: SubmissionError) -> Failure {
    match error {
        SubmissionError::Store(error) => store_failure(error),
        SubmissionError::Dispatch(error) => Failure::usage(error.to_string()),
        SubmissionError::Invalid(problems) => {
            Failure::invalid_file(format!("{what} cannot be run as it is given"))
                .details(problems.to_json())
                .shown_as(problems.render(Colour::Plain))
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        store_failure(error)
    }
}

fn refusal_failure(refusal: &Refusal) -> Failure {
    let message = refusal.to_string();
    match refusal {
        Refusal::NotFound { .. } => Failure::not_found(message),
        Refusal::Paused => Failure::new(Exit::NothingToRunIt, message).hint("see `maestro queue status`"),
        Refusal::Frozen { .. } => {
            Failure::new(Exit::NothingToRunIt, message).hint("it goes on by itself: try again")
        }
        Refusal::TooOld { .. } => Failure::unavailable(message).hint("install redis 7, or valkey"),
        Refusal::Evicting { .. } => Failure::unavailable(message)
            .hint("set `maxmemory-policy noeviction`: an evicted key is a lost task"),
        Refusal::Credentials { .. } => {
            Failure::unavailable(message).hint("put user and password into the url: `redis://USER:PASSWORD@HOST:PORT`")
        }
        Refusal::OutOfMemory => Failure::unavailable(message)
            .hint("running work goes on; raise `maxmemory`, or lower `MAESTRO_RUN_BYTES` or `MAESTRO_RUN_RETENTION`"),
        Refusal::TooLarge { .. } | Refusal::UnlawfulKey { .. } => Failure::usage(message),
        Refusal::NameTaken { .. } => Failure::refused(message).hint("give this one another name with `--name`"),
        Refusal::VersionConflict { .. } | Refusal::RunConflict { .. } => Failure::refused(message),
        Refusal::Busy { .. } => Failure::new(Exit::NothingToRunIt, message).hint("run the command again in a moment"),
        Refusal::WrongMode { .. } => Failure::refused(message).hint("see `maestro queue status`"),
        Refusal::TooManyWait { .. } => Failure::refused(message).hint("wait for a task that waits for it"),
        Refusal::Epoch { .. } | Refusal::ClusterGone | Refusal::Fenced | Refusal::Recover => {
            Failure::unavailable(message).hint("run the command again")
        }
        Refusal::Schema { .. } => Failure::unavailable(message).hint("use the version of maestro that wrote it"),
        Refusal::Address(_) => Failure::usage(message),
        Refusal::UnknownMaster { .. } => Failure::unavailable(message)
            .hint("`redis-cli -p 26379 sentinel masters` lists the names; the address ends with one: `…/<master>`"),
        Refusal::Server { .. } => Failure::unavailable(message),
    }
}
