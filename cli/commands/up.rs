//! `maestro up`: a whole cluster on this host, in one process and a private Redis beside it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use maestro_store::StoreOptions;
use maestro_worker::settings::WorkerSettings;

use super::{CommandContext, Outcome};
use crate::catalogue::agents_to_serve;
use crate::cluster::{DAEMON_PATIENCE, connect, store_options};
use crate::config::folders;
use crate::config::settings::Settings;
use crate::engine::{
    Interruptions, RunningCoordinator, RunningWorker, coordinator_settings, say_serving, worker_settings,
};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging::{LogRole, start_logging};
use crate::private_redis::{PrivateRedis, PrivateRedisPlan};
use crate::up_file::{UpClaim, UpFile};
use crate::within_task::refuse_within_task;

/// Threads of a cluster on one host.
const THREADS: usize = 2;
/// Most workers of one `up`.
const WORKERS_MAX: u32 = 64;
/// How long a detached cluster may take to come up.
const DETACH_WAIT: Duration = Duration::from_secs(30);
const DETACH_LOOK: Duration = Duration::from_millis(50);
/// The last part of a log that is shown when it does not.
const LOG_TAIL_LINES: usize = 12;

/// Flags of `up`.
#[derive(Debug, Args)]
#[command(
    after_help = "It starts a private redis unless one is chosen (--redis-url, MAESTRO_REDIS_URL, maestro.yaml).\n\n\
                        Example:\n  maestro up --workers 2 --detach"
)]
pub(crate) struct UpArgs {
    /// Workers in this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    workers: u32,
    /// Come back once the cluster is up; it goes on by itself
    #[arg(long)]
    detach: bool,
}

/// Starts the cluster and keeps it until told to end.
pub(crate) fn run(args: &UpArgs, context: &CommandContext) -> Outcome {
    let settings = context.settings()?;
    refuse_within_task(&settings, context)?;
    settings.check_lease()?;
    settings.check_failsafe()?;
    if args.detach {
        return detach(context, &settings);
    }
    start_logging(LogRole::Service, &settings, &context.printer);
    let agents = agents_to_serve(&settings, context)?;
    let surroundings = context.surroundings()?;
    let mut claim = UpClaim::claim(&surroundings, &settings.namespace())?;
    let given = settings.redis_is_given();
    context.block_on(THREADS, async {
        let mut interruptions = Interruptions::take_over()?;
        let redis = match given {
            true => None,
            false => {
                let plan = PrivateRedisPlan::of_up(&surroundings, &settings.namespace())?;
                Some(PrivateRedis::start(plan, &surroundings)?)
            }
        };
        let url = redis.as_ref().map_or_else(|| settings.redis_url(), PrivateRedis::url);
        let options = StoreOptions { url: url.clone(), ..store_options(&settings, DAEMON_PATIENCE) };
        let store = connect(&options).await?;
        let mut coordinator = RunningCoordinator::start(coordinator_settings(&settings), store);
        let mut workers = Vec::new();
        for _ in 0..args.workers {
            let settings: WorkerSettings = worker_settings(&settings, agents.clone());
            let concurrency = settings.concurrency;
            let (worker, ready) = RunningWorker::start(settings, options.clone()).await?;
            say_serving(&ready, concurrency);
            workers.push(worker);
        }
        claim.announce(&url)?;
        context
            .printer
            .note("the cluster is up: run something with `maestro workflow run hello`, end it with Ctrl-C");
        let why = wait(redis.as_ref(), &mut coordinator, &mut interruptions).await;
        let ended = end_all(&mut workers, &mut coordinator, &mut interruptions, &why).await;
        if let Some(redis) = redis {
            redis.stop();
        }
        match why {
            UpEnd::RedisGone(failure) => Err(failure),
            UpEnd::Interrupted | UpEnd::CoordinatorEnded(_) => ended.map(|()| Exit::Done),
        }
    })
}

/// Why a cluster ends.
enum UpEnd {
    /// Somebody at this process wants it to.
    Interrupted,
    /// Its coordinator has ended, as `maestro shutdown --workers` tells it to; with how it ended.
    CoordinatorEnded(Result<(), Failure>),
    /// Redis is gone: that is a failure.
    RedisGone(Failure),
}

async fn wait(
    redis: Option<&PrivateRedis>,
    coordinator: &mut RunningCoordinator,
    interruptions: &mut Interruptions,
) -> UpEnd {
    let redis_ends = async {
        match redis {
            Some(redis) => redis.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interruptions.next() => UpEnd::Interrupted,
        ended = coordinator.ended() => UpEnd::CoordinatorEnded(ended),
        how = redis_ends => UpEnd::RedisGone(Failure::unavailable("the private redis ended").cause(how)),
    }
}

/// Workers end after their tasks; a second signal, or a Redis that is gone, ends them at once.
async fn end_all(
    workers: &mut [RunningWorker],
    coordinator: &mut RunningCoordinator,
    interruptions: &mut Interruptions,
    why: &UpEnd,
) -> Result<(), Failure> {
    let at_once = matches!(why, UpEnd::RedisGone(_));
    for worker in workers.iter() {
        worker.terminate();
        if at_once {
            worker.terminate();
        }
    }
    if at_once {
        // Nobody can be told any more how tasks ended; what runs is killed with the launchers.
        return Ok(());
    }
    let mut result = Ok(());
    for number in 0..workers.len() {
        loop {
            tokio::select! {
                ended = workers[number].ended() => {
                    result = result.and(ended);
                    break;
                }
                () = interruptions.next() => workers.iter().for_each(RunningWorker::terminate),
            }
        }
    }
    if let UpEnd::CoordinatorEnded(ended) = why {
        return result.and(ended.clone());
    }
    coordinator.terminate();
    result.and(coordinator.ended().await)
}

/// Starts the same command again, apart from this terminal, and waits until it has announced itself.
fn detach(context: &CommandContext, settings: &Settings) -> Outcome {
    let surroundings = context.surroundings()?;
    let folder = folders::runtime_folder(&surroundings);
    let namespace = settings.namespace();
    if UpFile::read_living(&folder, &namespace, surroundings.uid()).is_some() {
        return Err(Failure::refused(format!("a cluster of namespace `{namespace}` is up already")));
    }
    let log = folders::own_runtime_folder(&surroundings)?.join(format!("up-{namespace}.log"));
    let mut child = start_apart(&log)?;
    let begun = Instant::now();
    while begun.elapsed() < DETACH_WAIT {
        if let Some(up) = UpFile::read_living(&folder, &namespace, surroundings.uid())
            && up.record.pid == child.id()
            && !up.record.address.is_empty()
        {
            context.printer.note(&format!(
                "the cluster is up (pid {}): its log is {}, end it with `kill {}`",
                child.id(),
                log.display(),
                child.id()
            ));
            return Ok(Exit::Done);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let tail = log_tail(&log);
            let failure = Failure::unavailable(format!("the cluster did not come up ({status})"));
            return Err(tail.into_iter().fold(failure, |failure, line| failure.cause(line)));
        }
        std::thread::park_timeout(DETACH_LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Failure::unavailable(format!("the cluster did not come up within {} s", DETACH_WAIT.as_secs()))
        .cause(format!("its log is {}", log.display())))
}

fn start_apart(log: &Path) -> Result<std::process::Child, Failure> {
    let cannot = |error: std::io::Error| Failure::unavailable("cannot start the cluster").caused_by(&error);
    let out = std::fs::File::create(log).map_err(cannot)?;
    let err = out.try_clone().map_err(cannot)?;
    let program: PathBuf = std::env::current_exe().map_err(cannot)?;
    // The same words, so that every flag counts as it did here.
    let words = std::env::args_os().skip(1).filter(|word| word != "--detach");
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    command.spawn().map_err(cannot)
}

fn log_tail(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
