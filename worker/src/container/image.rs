//! The image of an agent type: asked for when a container cannot be made without it, pulled if it may be.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::engine::EngineLink;
use super::error::{ContainerError, causes, one_line};

/// Longest silence of an engine that pulls.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Lines for the log of the task that waits for an image.
pub(super) type ProgressLines = mpsc::UnboundedSender<String>;

/// Pulls an image, and says now and again how far it is.
pub(super) async fn pull(
    link: &EngineLink,
    image: &str,
    progress: &ProgressLines,
) -> Result<(), ContainerError> {
    let failed = |message: String| ContainerError::NoImage { image: image.to_owned(), message };
    let say = |text: String| {
        let _ = progress.send(format!("maestro: {text}\n"));
    };
    say(format!("pulling image {image}"));
    let begun = Instant::now();
    let mut layers = LayersProgress::default();
    let mut said = begun;
    let options = CreateImageOptions { from_image: Some(tagged(image)), ..CreateImageOptions::default() };
    let docker = link.lasting();
    let mut answers = pin!(docker.create_image(Some(options), None, None));
    loop {
        let next = timeout(SILENCE_MAX, answers.next());
        let answer = next.await.map_err(|_| failed("the engine pulls it no further".to_owned()))?;
        let Some(answer) = answer else { break };
        let info = answer.map_err(|error| failed(one_line(&causes(&error))))?;
        if let Some(message) = info.error_detail.and_then(|detail| detail.message) {
            return Err(failed(one_line(&message)));
        }
        let detail = info.progress_detail.unwrap_or_default();
        layers.note(info.id, detail.current, detail.total);
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            say(format!("pulling image {image}: {}", layers.words()));
        }
    }
    say(format!("pulled image {image} in {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// Without a tag an engine would pull all there are.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// How far the parts of an image have come.
#[derive(Debug, Default)]
struct LayersProgress(HashMap<String, (i64, i64)>);

impl LayersProgress {
    fn note(&mut self, layer: Option<String>, current: Option<i64>, total: Option<i64>) {
        if let (Some(layer), Some(current), Some(total)) = (layer, current, total)
            && total > 0
        {
            self.0.insert(layer, (current, total));
        }
    }

    fn words(&self) -> String {
        let (done, all) =
            self.0.values().fold((0, 0), |(done, all), (current, total)| (done + current, all + total));
        let mib = |bytes: i64| bytes as f64 / (1024.0 * 1024.0);
        format!("{:.1} of {:.1} MiB known so far", mib(done), mib(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        assert_eq!(tagged("agent"), "agent:latest");
        assert_eq!(tagged("host:5000/team/agent"), "host:5000/team/agent:latest");
        assert_eq!(tagged("host:5000/team/agent:1"), "host:5000/team/agent:1");
        assert_eq!(tagged("agent@sha256:0"), "agent@sha256:0");
    }

    #[test]
    fn progress_is_summed_over_the_parts() {
        let mut layers = LayersProgress::default();
        layers.note(Some("a".to_owned()), Some(1 << 20), Some(2 << 20));
        layers.note(Some("a".to_owned()), Some(2 << 20), Some(2 << 20));
        layers.note(Some("b".to_owned()), Some(1 << 20), Some(4 << 20));
        layers.note(Some("c".to_owned()), None, None);
        assert_eq!(layers.words(), "3.0 of 6.0 MiB known so far");
    }
}
