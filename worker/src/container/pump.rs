//! A container's streams: from the engine's one connection into the two pipes that are read for every agent.
//!
//! Nothing is kept back or thrown away here: a pipe that is full makes the engine wait, and so the agent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe::Sender;
use tokio::task::JoinHandle;

/// How long the engine has to send the rest of the output once the container has ended.
const REST_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of the prompt sent at once.
const PROMPT_PART: usize = 64 * 1024;

/// The worker's ends of an agent's streams.
pub(super) struct AgentStreams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The streams of one container on their way.
pub(super) struct Pump {
    output: JoinHandle<io::Result<()>>,
    input: Option<JoinHandle<()>>,
}

impl Pump {
    pub(super) fn start(attached: AttachContainerResults, streams: AgentStreams) -> Pump {
        let AttachContainerResults { output, input } = attached;
        let AgentStreams { stdin, stdout, stderr } = streams;
        let input = match stdin {
            Some(stdin) => Some(tokio::spawn(send_prompt(stdin, input))),
            // Closed only with the output: some engines end both with either.
            None => Some(tokio::spawn(async move {
                let _input = input;
                std::future::pending::<()>().await;
            })),
        };
        Pump { output: tokio::spawn(carry_output(output, stdout, stderr)), input }
    }

    /// Whether the engine still sends, or may.
    pub(super) fn is_open(&self) -> bool {
        !self.output.is_finished()
    }

    /// Waits for the rest of the output. False if it did not come to its end.
    pub(super) async fn finish(&mut self) -> bool {
        match tokio::time::timeout(REST_WITHIN, &mut self.output).await {
            Ok(Ok(carried)) => {
                if let Err(error) = &carried {
                    tracing::warn!("the output of a container was cut off: {error}");
                }
                carried.is_ok()
            }
            Ok(Err(_)) => false,
            Err(_) => {
                tracing::warn!("the engine does not send the end of a container's output");
                false
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.output.abort();
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

async fn carry_output(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<()> {
    let (mut stdout, mut stderr) = (Sender::from_owned_fd(stdout)?, Sender::from_owned_fd(stderr)?);
    while let Some(part) = output.next().await {
        match part.map_err(io::Error::other)? {
            LogOutput::StdErr { message } => stderr.write_all(&message).await?,
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                stdout.write_all(&message).await?
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(())
}

/// Sends the prompt and closes. An agent that does not read it, or ends before, is not an error.
async fn send_prompt(stdin: OwnedFd, mut input: std::pin::Pin<Box<dyn AsyncWrite + Send>>) {
    let mut file = File::from(stdin);
    // A file in memory, which never waits.
    let mut part = vec![0; PROMPT_PART];
    loop {
        match file.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if input.write_all(&part[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = input.shutdown().await;
}
