//! The requests under way, driven by the worker's own loop.
//!
//! A task of the runtime for each would answer the same, and later: it would have to be started, and woken,
//! and to wake the loop in turn. What a request is about, `requests` knows.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::events::WorkerEvent;
use crate::requests::LANES;

type UnderWay = Pin<Box<dyn Future<Output = WorkerEvent> + Send>>;

/// At most one request for each lane.
#[derive(Default)]
pub struct StepsUnderWay {
    lanes: [Option<UnderWay>; LANES],
}

impl StepsUnderWay {
    /// Sends a lane's next request. One that was still under way is given up: its answer would concern
    /// nobody any more.
    pub fn start(&mut self, lane: u8, request: impl Future<Output = WorkerEvent> + Send + 'static) {
        self.lanes[usize::from(lane)] = Some(Box::pin(request));
    }

    /// What the next of them comes to; waits for ever while there is none. Dropping the future changes
    /// nothing.
    pub async fn next(&mut self) -> WorkerEvent {
        poll_fn(|context| {
            for lane in &mut self.lanes {
                let Some(request) = lane else { continue };
                if let Poll::Ready(event) = request.as_mut().poll(context) {
                    *lane = None;
                    return Poll::Ready(event);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_lane_answers_once_and_the_last_request_of_a_lane_counts() {
        let mut steps = StepsUnderWay::default();
        steps.start(0, std::future::pending());
        steps.start(0, async { WorkerEvent::StepPaused(0, 2) });
        steps.start(1, async { WorkerEvent::StepPaused(1, 3) });
        assert!(matches!(steps.next().await, WorkerEvent::StepPaused(0, 2)));
        assert!(matches!(steps.next().await, WorkerEvent::StepPaused(1, 3)));
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(1), steps.next()).await;
        assert!(nothing.is_err());
    }
}
