//! Launches per second of `/bin/true`, whole attempts beside `xargs -P2`, in turn.
//!
//! `launch_bench [LAUNCHES] [ROUNDS] [AT_ONE_TIME] [REDIS_URL]`. An attempt here is everything a task gets on
//! its host: workspace, environment, captured output, limits, tree verified empty, outputs read; Redis is not
//! in it. With the address of one, attempts with a side door are measured beside those without: nobody
//! knocks, so that Redis is only there to be spoken to.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_model::agent_type::AgentType;
use maestro_model::attempt::AttemptOutcome;
use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_store::{Store, StoreOptions};
use maestro_worker::attempt::{AttemptOrder, AttemptRunner, HostEnvironment};
use maestro_worker::launch::{Launcher, LauncherCommand, launcher_main};
use maestro_worker::log_capture::log_channel;
use maestro_worker::side_door::{SideDoors, SideDoorsSettings};
use maestro_worker::workspace::{WorkspacePlace, WorkspaceRoot};
use tokio::sync::watch;
use tokio::task::JoinSet;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(code) = launcher_main() {
        std::process::exit(code);
    }
    let mut numbers = std::env::args().skip(1).take(3).map(|number| number.parse::<u32>());
    let launches = numbers.next().transpose()?.unwrap_or(4_000);
    let rounds = numbers.next().transpose()?.unwrap_or(5);
    let at_one_time = numbers.next().transpose()?.unwrap_or(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let doors = std::env::args().nth(4).map(|url| runtime.block_on(side_doors(url))).transpose()?;
    let (mut rates, mut door_ratios) = (Vec::new(), Vec::new());
    // Removed only at the end: ext4 makes new files many times slower for minutes after thousands were deleted.
    let folder = std::env::temp_dir().join(format!("launch-bench-{}", RunId::random(0)));
    for _ in 0..rounds {
        let attempts = runtime.block_on(attempts_per_second(&folder, launches, at_one_time, None))?;
        if let Some((doors, _)) = &doors {
            let with_doors = attempts_per_second(&folder, launches, at_one_time, Some(doors));
            let with_doors = runtime.block_on(with_doors)?;
            writeln!(
                std::io::stdout(),
                "with side doors {with_doors:.0}/s, ratio {:.2}",
                with_doors / attempts
            )?;
            door_ratios.push(with_doors / attempts);
        }
        let xargs = xargs_per_second(launches)?;
        writeln!(
            std::io::stdout(),
            "attempts {attempts:.0}/s, xargs -P2 {xargs:.0}/s, ratio {:.2}",
            attempts / xargs
        )?;
        rates.push((attempts / xargs, attempts));
    }
    std::fs::remove_dir_all(&folder)?;
    rates.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (ratio, attempts) = rates[rates.len() / 2];
    writeln!(std::io::stdout(), "median ratio {ratio:.2} ({attempts:.0}/s)")?;
    door_ratios.sort_by(f64::total_cmp);
    if let Some(ratio) = door_ratios.get(door_ratios.len() / 2) {
        writeln!(std::io::stdout(), "median ratio with side doors to without {ratio:.3}")?;
    }
    Ok(())
}

/// Side doors, and what keeps their store.
async fn side_doors(url: String) -> Result<(SideDoors, watch::Sender<Store>), Box<dyn Error>> {
    let patience = Duration::from_secs(3);
    let options = StoreOptions { url, namespace: "launch-bench".to_owned(), patience };
    let present = watch::Sender::new(Store::connect(&options).await?);
    let settings = SideDoorsSettings {
        short_folders: Vec::new(),
        owner: "bench".to_owned(),
        state_ttl: Duration::from_secs(60),
    };
    Ok((SideDoors::new(settings, present.subscribe()), present))
}

async fn attempts_per_second(
    folder: &Path,
    launches: u32,
    at_one_time: u32,
    doors: Option<&SideDoors>,
) -> Result<f64, Box<dyn Error>> {
    let launcher = Launcher::new(LauncherCommand::this_program());
    launcher.start().await?;
    let host = HostEnvironment::of_this_process();
    let runner = AttemptRunner::new(launcher.clone(), WorkspaceRoot::open(folder)?, host)?;
    let agent: AgentType = serde_json::from_str(r#"{"slug": "true", "mode": "true", "command": []}"#)?;
    let (agent, run) = (Arc::new(agent), RunId::random(0));
    let (sender, mut receiver) = log_channel();
    let reader = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    let started = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..launches {
        if running.len() >= at_one_time as usize {
            let end = running.join_next().await.ok_or("nothing runs")??;
            check(end)?;
        }
        let order = AttemptOrder {
            task: TaskId { run: run.clone(), index },
            attempt: Attempt(1),
            step: "step".parse()?,
            workflow: "bench".to_owned(),
            worker: "bench".parse()?,
            agent: agent.clone(),
            argv: vec!["/bin/true".to_owned()],
            env: Default::default(),
            prompt: String::new(),
            place: WorkspacePlace::Task,
            template: None,
            copy_of: None,
            timeout: Duration::from_secs(60),
            stall_timeout: None,
            grace: Duration::from_secs(1),
        };
        let pass = doors.map(|doors| doors.pass(order.task.clone(), order.attempt, Incarnation::random()));
        let mut attempt = runner.attempt(order, Some(sender.clone()));
        if let Some(pass) = pass {
            attempt = attempt.with_door(pass);
        }
        running.spawn(async move { attempt.run().await.report.outcome });
    }
    while let Some(end) = running.join_next().await {
        check(end?)?;
    }
    let rate = f64::from(launches) / started.elapsed().as_secs_f64();
    launcher.close().await;
    drop(sender);
    reader.await?;
    Ok(rate)
}

fn check(outcome: AttemptOutcome) -> Result<(), Box<dyn Error>> {
    if outcome == AttemptOutcome::Completed { Ok(()) } else { Err(format!("{outcome:?}").into()) }
}

fn xargs_per_second(launches: u32) -> Result<f64, Box<dyn Error>> {
    let script = format!("seq {launches} | xargs -P2 -n1 /bin/true");
    let started = Instant::now();
    let status = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err("xargs failed".into());
    }
    Ok(f64::from(launches) / started.elapsed().as_secs_f64())
}
