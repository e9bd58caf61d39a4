//! `maestro monitor start`: checks again and again, prints what changes, and tells a webhook.

use std::time::Duration;

use clap::Args;
use maestro_coordinator::alerts::{AlertAddress, AlertCourier, AlertMessage, AlertNotebook};
use maestro_coordinator::gauges::GaugeDesk;
use maestro_coordinator::health::{ChangeKind, HealthChange, HealthFacts, HealthWatch, problems};
use maestro_model::duration::parse_duration;
use maestro_store::{Store, StoreError};
use maestro_vitals::pulse::Pulse;
use tokio::sync::watch;

use super::entry::{PROBLEM_ROWS, ProblemEntry};
use crate::cluster::open_store;
use crate::commands::{CommandContext, Outcome};
use crate::endpoint::Endpoint;
use crate::engine::Interruptions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging::{LogRole, start_logging};
use crate::output::format::Form;
use crate::watched::WatchedCluster;

/// Threads of a monitor: a large answer to `/metrics` holds up no check.
const THREADS: usize = 1;
/// Shortest time between two checks.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The loop comes round at least so often, for its liveness.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// After Redis was away workers have so long to beat again before they are judged.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the last alerts are waited for.
const LAST_ALERTS_WAIT: Duration = Duration::from_secs(5);

/// Flags of `monitor start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints all that is wrong at once, and then what begins and what is over. An alert is JSON, sent by \
                  POST for each change; with MAESTRO_ALERT_SECRET its header X-Maestro-Signature is `sha256=` and the \
                  HMAC of the body. The leading coordinator checks as well, and writes changes into its log.\n\n\
                  Example:\n  maestro monitor start --interval 30 --alert-webhook https://alerts.internal/maestro"
)]
pub(crate) struct MonitorStartArgs {
    /// Between two checks
    #[arg(long, value_name = "TIME", default_value = "30s")]
    interval: String,
    /// Check once: ends with 0 if all is well, else with 1
    #[arg(long, conflicts_with_all = ["interval", "alert_webhook", "metrics_port"])]
    once: bool,
    /// Send each change to this address
    #[arg(long, value_name = "URL")]
    alert_webhook: Option<String>,
    /// Serve /metrics, /healthz and /readyz on this port (default: MAESTRO_METRICS_PORT)
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: Option<u16>,
}

/// Checks until it is told to end, or once.
pub(crate) fn run(args: &MonitorStartArgs, context: &CommandContext) -> Outcome {
    let interval = parse_duration(&args.interval).map_err(|error| {
        Failure::usage(format!("cannot use the value of `--interval`: {error}")).hint(error.hint())
    })?;
    if interval < INTERVAL_MIN {
        return Err(Failure::usage("`--interval` is at least 1s"));
    }
    let settings = context.settings()?;
    if args.once {
        return context.block_on(0, async { check_once(&open_store(&settings).await?, context).await });
    }
    start_logging(LogRole::Service, &settings, &context.printer);
    let address = args.alert_webhook.as_deref().map(AlertAddress::read).transpose();
    let address = address
        .map_err(|error| Failure::usage("cannot use the value of `--alert-webhook`").caused_by(&error))?;
    let secret = settings.alert_secret()?;
    context.block_on(THREADS, async {
        let mut interruptions = Interruptions::take_over()?;
        let store = watch::Sender::new(open_store(&settings).await?);
        let turn = Pulse::default();
        let watched =
            WatchedCluster { store: store.subscribe(), turn: turn.clone(), desk: GaugeDesk::default() };
        Endpoint::serve_at(args.metrics_port.or(settings.metrics_port()), watched).await?;
        let courier = address.map(|address| AlertCourier::start(address, secret));
        let notebook = args.alert_webhook.as_deref().map(AlertNotebook::of);
        let present = store.borrow().clone();
        let watch = match &notebook {
            Some(notebook) => notebook.resume(&present).await?,
            None => HealthWatch::default(),
        };
        let mut monitor = Monitor { store, alerts: courier.zip(notebook), context, watch, away: false };
        let ended = tokio::select! {
            failure = monitor.run(interval, &turn) => Err(failure),
            () = interruptions.next() => Ok(Exit::Done),
        };
        if let Some((courier, _)) = monitor.alerts.take() {
            courier.finish(LAST_ALERTS_WAIT).await;
        }
        ended
    })
}

async fn check_once(store: &Store, context: &CommandContext) -> Outcome {
    let entries: Vec<ProblemEntry> =
        problems(&HealthFacts::read(store).await?).into_iter().map(ProblemEntry::of).collect();
    context.printer.list(&entries, &PROBLEM_ROWS)?;
    Ok(if entries.is_empty() { Exit::Done } else { Exit::WorkFailed })
}

struct Monitor<'a> {
    store: watch::Sender<Store>,
    alerts: Option<(AlertCourier, AlertNotebook)>,
    context: &'a CommandContext,
    watch: HealthWatch,
    /// Whether Redis did not answer when it was asked last.
    away: bool,
}

impl Monitor<'_> {
    /// Ends only if nobody reads what it prints.
    async fn run(&mut self, interval: Duration, turn: &Pulse) -> Failure {
        let mut is_first = true;
        loop {
            turn.turn();
            let pause = match self.read().await {
                Ok(_) if self.away => {
                    self.context.printer.note("redis answers again");
                    self.away = false;
                    interval.min(SETTLE)
                }
                Ok(facts) => match self.tell(&facts, is_first).await {
                    Ok(()) => {
                        is_first = false;
                        interval
                    }
                    Err(failure) => return failure,
                },
                Err(error) => {
                    if !self.away {
                        self.context.printer.warn(&format!("cannot look: {error}"));
                    }
                    self.away = true;
                    interval.min(SETTLE)
                }
            };
            let until = tokio::time::Instant::now() + pause;
            while tokio::time::Instant::now() < until {
                turn.turn();
                tokio::time::sleep_until(until.min(tokio::time::Instant::now() + TURN_EVERY)).await;
            }
        }
    }

    async fn read(&self) -> Result<HealthFacts, StoreError> {
        let store = self.store.borrow().clone();
        let store = if store.is_in_force().await? {
            store
        } else {
            self.context.printer.note("the cluster was restored, or is another one");
            let fresh = store.reopened().await?;
            self.store.send_replace(fresh.clone());
            fresh
        };
        HealthFacts::read(&store).await
    }

    async fn tell(&mut self, facts: &HealthFacts, is_first: bool) -> Result<(), Failure> {
        let mut changes = self.watch.update(problems(facts), facts.now_ms);
        let store = self.store.borrow().clone();
        for change in &changes {
            self.alert(&store, change).await;
        }
        if is_first {
            let (workers, agents) = (facts.workers.len(), facts.assigned.len());
            let found = self.watch.firing().count();
            self.context
                .printer
                .note(&format!("looked at {workers} workers and {agents} agents: {found} problems"));
            // All that is wrong, also what the webhook was told of before this process began.
            changes.retain(|change| change.kind == ChangeKind::Resolved);
            changes.extend(self.watch.firing().map(|(since_ms, problem)| HealthChange {
                kind: ChangeKind::Firing,
                problem: problem.clone(),
                since_ms,
                at_ms: facts.now_ms,
            }));
        }
        let names = self.context.printer.form() == Form::Name;
        for entry in changes.into_iter().map(ProblemEntry::of_change) {
            self.context
                .printer
                .next(&entry, |entry| if names { entry.subject.clone() } else { entry.line() })?;
        }
        Ok(())
    }

    async fn alert(&self, store: &Store, change: &HealthChange) {
        let Some((courier, notebook)) = &self.alerts else { return };
        // Redis has just answered; if it does not now, it is better told twice than never.
        let claimed = notebook.claim(store, change).await.unwrap_or_else(|_| Some(change.clone()));
        if let Some(change) = claimed {
            courier.hand_over(AlertMessage::of(&change, store.cluster_id(), store.namespace()));
        }
    }
}
