//! Containers per second without Maestro: `bare_containers SOCKET IMAGE [CONTAINERS] [AT_ONE_TIME]`.
//!
//! Prints one line, `{"tasks_per_second":N}`; `bench/table.sh` runs it in turn with `maestro bench --agent docker`.

mod calls;

use std::error::Error;
use std::io::Write;

use bollard::{API_DEFAULT_VERSION, Docker};

/// Seconds that one answer of the engine may take.
const ANSWER_SECONDS_MAX: u64 = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (socket, image) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let containers: usize = words.next().map_or(Ok(40), |word| word.parse())?;
    let at_one_time: usize = words.next().map_or(Ok(4), |word| word.parse())?;
    let docker = Docker::connect_with_unix(&socket, ANSWER_SECONDS_MAX, API_DEFAULT_VERSION)?;
    let docker = docker.negotiate_version().await?;
    // Nothing is done for the first time in what is measured.
    calls::bare(docker.clone(), image.clone()).await?;
    let took = calls::in_lanes(containers, at_one_time, || {
        let one = calls::bare(docker.clone(), image.clone());
        async { one.await.expect("the engine makes, runs and removes it") }
    });
    let rate = containers as f64 / took.await.as_secs_f64();
    writeln!(std::io::stdout(), "{{\"tasks_per_second\":{rate:.2}}}")?;
    Ok(())
}
