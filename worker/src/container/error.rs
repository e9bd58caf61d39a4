//! Why an agent could not be started in a container. What follows from it for the task is decided in `attempt`.

use bollard::errors::Error as ApiError;

/// A start that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The engine cannot be reached, does not answer in time, or is shutting down.
    #[error("the container engine cannot be used: {0}")]
    Engine(String),
    /// The engine refuses what it was asked for.
    #[error("the container engine refused to {action}: {message}")]
    Refused {
        /// What it was asked for.
        action: &'static str,
        /// Its words.
        message: String,
    },
    /// The image is not there and may not, or cannot, be pulled.
    #[error("image `{image}` is not there: {message}")]
    NoImage {
        /// The image.
        image: String,
        /// Why.
        message: String,
    },
    /// The image has no such program.
    #[error("binary not found: `{program}` in image `{image}`")]
    NoProgram {
        /// The command's first word.
        program: String,
        /// The image.
        image: String,
    },
    /// The engine does not see the workspace: it runs elsewhere, or in a container itself.
    #[error(
        "the container engine does not see `{path}`: it and the worker need the same workspace root at the same path"
    )]
    OtherRoot {
        /// The path.
        path: String,
    },
    /// What the agent type asks for cannot be done in a container.
    #[error("{0}")]
    Order(String),
}

impl ContainerError {
    /// What a call's failure means.
    pub(super) fn of(action: &'static str, error: ApiError) -> ContainerError {
        match error {
            ApiError::DockerResponseServerError { status_code: 503, message } => {
                ContainerError::Engine(message)
            }
            ApiError::DockerResponseServerError { message, .. } => {
                ContainerError::Refused { action, message: one_line(&message) }
            }
            ApiError::RequestTimeoutError => ContainerError::Engine(format!("it did not {action} in time")),
            error => ContainerError::Engine(causes(&error)),
        }
    }
}

/// An error with all its causes, which `bollard` leaves out of its words.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    // The client's name for itself says nothing to people.
    text.replace("Error in the hyper legacy client: ", "")
}

/// The engine's words without line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_missing(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: 404, .. })
}
