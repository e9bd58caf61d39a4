//! Workers of the chart come from nothing on the demand that a scaler reads, and are taken away while they work.
//!
//! `scripts/test-scaling.sh` runs the same with six workers and sixty tasks of twenty seconds, which takes minutes.

use std::time::Duration;

use serde_json::json;

use crate::checks::python;
use crate::pods::{Pods, until};
use crate::stage::{
    DESK, WORKER, Wishes, count, events, sleeping, start_cluster, submit, told, until_begun, until_ready,
    wait_for_run, witness_folder,
};
use crate::support::engine::TestEngine;

/// How much there is to do.
struct Scale {
    workers: usize,
    workers_left: usize,
    tasks: usize,
    task_seconds: u32,
    /// Of one task more, which outlasts the drain of its worker.
    long_task_seconds: u32,
    grace_seconds: u32,
}

const SMALL: Scale = Scale {
    workers: 3,
    workers_left: 1,
    tasks: 12,
    task_seconds: 2,
    long_task_seconds: 12,
    grace_seconds: 36,
};
const FULL: Scale = Scale {
    workers: 6,
    workers_left: 2,
    tasks: 60,
    task_seconds: 20,
    long_task_seconds: 60,
    grace_seconds: 60,
};

fn scale() -> Scale {
    if std::env::var("MAESTRO_TEST_SCALE").is_ok_and(|word| word == "full") { FULL } else { SMALL }
}

/// What the scaler of the pool would ask for: the rendered ScaledObject, read as KEDA does.
fn wanted_workers(pods: &Pods) -> Result<usize, String> {
    let scaled = pods.rendered("ScaledObject/demo-maestro-worker-default");
    let trigger = &scaled["spec"]["triggers"][0]["metadata"];
    let word = |name: &str| trigger[name].as_str().expect("the chart says it");
    let place = word("url").strip_prefix("http://").expect("http");
    let (host, path) = place.split_once('/').expect("a path");
    let (host, port) = host.split_once(':').expect("a port");
    let service = host.split('.').next().expect("a name");
    let metrics = pods.read(service, port.parse().expect("a number"), &format!("/{path}"))?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(word("valueLocation")));
    let demand = line.ok_or_else(|| format!("no {} in\n{metrics}", word("valueLocation")))?.trim();
    let demand: usize = demand.parse().map_err(|_| format!("the demand is `{demand}`"))?;
    let most = scaled["spec"]["maxReplicaCount"].as_u64().expect("a number") as usize;
    let each: usize = word("targetValue").parse().expect("a number");
    Ok(demand.div_ceil(each).min(most))
}

fn until_wanted(pods: &Pods, number: usize) {
    until("the demand to ask for workers", || match wanted_workers(pods) {
        Ok(wanted) if wanted == number => Ok(()),
        other => Err(format!("{other:?}, expected {number}")),
    });
}

#[test]
fn workers_come_on_demand_and_go_without_a_task_lost_burned_or_run_twice() {
    let test = "chart::scaling";
    let (Some(python), Some(engine)) = (python(test), TestEngine::shared(test)) else { return };
    let scale = scale();
    let witness = witness_folder();
    let scaling = json!({"type": "keda", "min": 0, "max": scale.workers, "agents": ["shell"]});
    let wishes = Wishes { grace_seconds: scale.grace_seconds, settings: json!({}), scaling };
    let mut pods = start_cluster(engine, &python, witness.path(), &wishes);
    let names: Vec<String> = (0..scale.workers).map(|number| format!("worker-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();

    // From nothing: the demand of one task asks for one worker, that of many for as many as there may be.
    assert_eq!(wanted_workers(&pods), Ok(0));
    let script = sleeping(scale.long_task_seconds);
    let long = submit(&pods, &format!("  - {{id: long, agent: shell, prompt: '{script}'}}"));
    until_wanted(&pods, 1);
    pods.start(WORKER, names[0]);
    until_ready(&pods, WORKER, &names[..1]);
    until_begun(witness.path(), 1);
    let items: Vec<String> = (0..scale.tasks).map(|number| number.to_string()).collect();
    let (items, script) = (items.join(","), sleeping(scale.task_seconds));
    let many =
        submit(&pods, &format!("  - {{id: each, foreach: [{items}], agent: shell, prompt: '{script}'}}"));
    until_wanted(&pods, scale.workers);
    for name in &names[1..] {
        pods.start(WORKER, name);
    }
    until_ready(&pods, WORKER, &names);
    until_begun(witness.path(), 2 * scale.workers);

    // The one with the long task is among those that go.
    let holder = events(&pods, &long).into_iter().find(|event| event["event"] == "started");
    let holder = holder.and_then(|event| event["actor"].as_str().map(str::to_owned)).expect("it runs");
    let mut going: Vec<&str> = names.iter().copied().filter(|name| *name != holder).collect();
    going.insert(0, &holder);
    going.truncate(scale.workers - scale.workers_left);
    let pods_here = &pods;
    let ends = std::thread::scope(|scope| {
        let end = |name: &&str| {
            let name = (*name).to_owned();
            scope.spawn(move || (pods_here.end(WORKER, &name), name))
        };
        let ending: Vec<_> = going.iter().map(end).collect();
        // A worker that drains is alive, and says that it takes nothing.
        until("it to be unready", || match pods_here.probe(WORKER, &holder, "readinessProbe") {
            Err(heard) if heard.contains(" 503 ") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        pods_here.probe(WORKER, &holder, "livenessProbe").unwrap_or_else(|heard| panic!("{heard}"));
        ending.into_iter().map(|one| one.join().expect("it ends")).collect::<Vec<_>>()
    });
    for (end, name) in ends {
        assert_eq!(end.exit_code, 0, "{name}: {end:?}\n{}", pods.logs(&name));
        assert!(end.took < Duration::from_secs(u64::from(scale.grace_seconds)), "{name}: {end:?}");
    }

    let seconds = scale.task_seconds as usize * scale.tasks / (2 * scale.workers_left);
    let longest = Duration::from_secs(seconds as u64 + u64::from(scale.long_task_seconds) + 60);
    wait_for_run(&pods, &long, longest);
    wait_for_run(&pods, &many, longest);
    let greeted =
        pods.maestro(DESK, &["workflow", "run", "/etc/maestro/workflows/greet.yaml", "--result", "hello"]);
    assert!(greeted.contains("hello from the chart"), "{greeted}");
    // To nothing: nobody is needed any more.
    until_wanted(&pods, 0);
    for name in names.iter().filter(|name| !going.contains(name)) {
        assert_eq!(pods.end(WORKER, name).exit_code, 0, "{}", pods.logs(name));
    }

    let told = told(witness.path());
    assert_eq!(told.len(), scale.tasks + 1, "every task has run");
    assert!(told.iter().all(|(_, ended)| *ended == 1), "none has run to its end twice: {told:?}");
    let events = [events(&pods, &long), events(&pods, &many)].concat();
    for word in ["lost", "retried", "failed", "fenced"] {
        assert_eq!(count(&events, word), 0, "{word}: {events:#?}");
    }
    let returned = count(&events, "returned");
    assert!(returned >= 1, "the long task outlasts the drain: {events:#?}");
    assert_eq!(count(&events, "started"), scale.tasks + 1 + returned, "only what was given back began again");
    assert_eq!(count(&events, "completed"), scale.tasks + 1);
}
