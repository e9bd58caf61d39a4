//! What workers and coordinators serve, against the command line and the Python package `prometheus_client`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{free_port, get};
use crate::support::{ClusterSetup, TestCluster, skip};

/// Until a daemon says what is waited for.
const WITHIN: Duration = Duration::from_secs(20);
/// The parser of OpenMetrics that Prometheus' own client for Python has: it refuses what breaks the rules.
const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
found = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name.startswith('maestro_'), family.name
    assert family.documentation, family.name
    if family.unit: assert family.name.endswith('_' + family.unit), family.name
    for sample in family.samples:
        labels = ','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))
        found[sample.name + '{' + labels + '}'] = sample.value
print(json.dumps(found))
";

/// Samples by name and labels, as the Python package reads them; none where it is not installed.
fn parsed_by_python(text: &str) -> Option<BTreeMap<String, f64>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/watching-venv/bin/python");
    if !python.exists() {
        return None;
    }
    let mut child = Command::new(python)
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}\n{text}");
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// A sample as it is written, without a parser.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

struct Ports {
    worker: u16,
    coordinator: u16,
}

fn watched_cluster() -> (TestCluster, Ports) {
    let ports = Ports { worker: free_port(), coordinator: free_port() };
    let setup = ClusterSetup {
        coordinators: 0,
        workers: 0,
        concurrency: 2,
        env: vec![("MAESTRO_LOG_FORMAT", "json".to_owned())],
        ..ClusterSetup::default()
    };
    let mut cluster = TestCluster::start(setup);
    let port = ports.coordinator.to_string();
    cluster.start_command("c0", &["coordinator", "start", "--metrics-port", &port]);
    let port = ports.worker.to_string();
    cluster.start_command_with(
        "w0",
        &["worker", "start", "--name", "w0"],
        &[("MAESTRO_METRICS_PORT", &port)],
    );
    cluster.wait_for_worker("w0");
    (cluster, ports)
}

fn wait_for_answer(cluster: &TestCluster, port: u16, path: &str, code: u16) -> String {
    cluster.wait_until(&format!("{code} of {path}"), WITHIN, |_| match get(port, path) {
        (found, body) if found == code => Ok(body),
        other => Err(format!("{other:?}")),
    })
}

/// Waits until a sample has a value; all that was served with it.
fn wait_for_sample(cluster: &TestCluster, port: u16, name: &str, value: f64) -> String {
    cluster.wait_until(&format!("{name} {value}"), WITHIN, |_| {
        let (_, text) = get(port, "/metrics");
        if sample(&text, name) == Some(value) { Ok(text) } else { Err(text) }
    })
}

/// Two tasks run, three wait, one has failed: said by `queue status`, `worker list` and `/metrics` at one moment.
#[test]
fn numbers_are_those_of_the_command_line() {
    let (cluster, ports) = watched_cluster();
    let failed = cluster.maestro(&["task", "dispatch", "exit 3", "--to", "probe", "--sync"]);
    assert_eq!(failed.code, 3, "{failed:?}");
    let go = cluster.witness().join("go");
    for _ in 0..5 {
        let prompt = format!("while ! test -e {}; do sleep 0.05; done", go.display());
        assert_eq!(cluster.maestro(&["task", "dispatch", &prompt, "--to", "probe"]).code, 0);
    }
    let depths = |text: &str| {
        ["queued", "running"].map(|state| {
            sample(text, &format!("maestro_queue_depth{{agent=\"probe\",state=\"{state}\"}}")).unwrap_or(-1.0)
        })
    };
    let text = cluster.wait_until("two tasks that run", WITHIN, |_| {
        let (_, text) = get(ports.coordinator, "/metrics");
        if depths(&text) == [3.0, 2.0] { Ok(text) } else { Err(text) }
    });
    let status = cluster.maestro(&["queue", "status", "--agent", "probe", "--format", "json"]);
    let rows: Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(
        (&rows[0]["queued"], &rows[0]["processing"]),
        (&Value::from(3), &Value::from(2)),
        "{status:?}"
    );
    assert_eq!(sample(&text, "maestro_queue_demand{agent=\"probe\"}"), Some(5.0), "{text}");
    assert_eq!(
        sample(&text, "maestro_queue_demand{agent=\"noop\"}"),
        Some(0.0),
        "registered, and nothing to do"
    );
    let list = cluster.maestro(&["worker", "list", "--format", "json"]);
    let workers: Value = serde_json::from_str(&list.out).expect("JSON");
    let worker =
        workers.as_array().expect("a list").iter().find(|one| one["name"] == "w0").expect("it is there");
    let used = worker["slots_used"].as_f64();
    assert_eq!(sample(&text, "maestro_worker_slots{state=\"used\"}"), used, "{text}");
    assert_eq!(sample(&text, "maestro_workers{state=\"up\"}"), Some(1.0), "{text}");
    assert_eq!(sample(&text, "maestro_workers{state=\"lost\"}"), Some(0.0), "{text}");
    std::fs::write(&go, "").expect("a file");
    let ends = "maestro_tasks_total{agent=\"probe\",status=\"completed\",reason=\"\"}";
    let text = wait_for_sample(&cluster, ports.worker, ends, 5.0);
    let failed = "maestro_tasks_total{agent=\"probe\",status=\"failed\",reason=\"exit\"}";
    assert_eq!(sample(&text, failed), Some(1.0), "{text}");
    for histogram in ["queue_wait", "task_duration"] {
        assert_eq!(
            sample(&text, &format!("maestro_{histogram}_seconds_count")),
            Some(6.0),
            "{histogram}\n{text}"
        );
    }
    let status = cluster.maestro(&["queue", "status", "--agent", "probe", "--format", "json"]);
    let rows: Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!((&rows[0]["completed"], &rows[0]["failed"]), (&Value::from(6), &Value::from(1)), "{status:?}");
    let (_, cluster_text) = get(ports.coordinator, "/metrics");
    assert!(!format!("{text}{cluster_text}").contains("task=\""), "no label with a task");
    for text in [&text, &cluster_text] {
        let Some(parsed) = parsed_by_python(text) else {
            return skip("numbers_are_those_of_the_command_line: the parser", "no target/watching-venv");
        };
        assert!(parsed.len() > 10, "{parsed:?}");
    }
    check_logged(&cluster, "w0", 6);
}

/// One line each for the start and the end of an attempt, with all that one searches for.
fn check_logged(cluster: &TestCluster, worker: &str, attempts: usize) {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let log = cluster.log(worker);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let message = line["message"].as_str().unwrap_or_default().to_owned();
        for word in ["started", "ended"] {
            if message == word {
                *lines.entry(word).or_default() += 1;
                for field in ["run", "task", "worker", "agent"] {
                    assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {line}");
                }
                assert_eq!(line["attempt"], 1, "{line}");
            }
        }
    }
    assert_eq!(lines, BTreeMap::from([("started", attempts), ("ended", attempts)]), "{log}");
}

/// A worker that drains is alive and not ready; one whose process stands still does not answer at all.
#[test]
fn a_worker_is_ready_while_it_claims() {
    let (mut cluster, ports) = watched_cluster();
    for port in [ports.worker, ports.coordinator] {
        assert_eq!(wait_for_answer(&cluster, port, "/healthz", 200), "ok\n");
        assert_eq!(wait_for_answer(&cluster, port, "/readyz", 200), "ok\n");
        assert_eq!(get(port, "/elsewhere").0, 404);
    }
    let go = cluster.witness().join("go");
    let prompt = format!("while ! test -e {}; do sleep 0.05; done", go.display());
    assert_eq!(cluster.maestro(&["task", "dispatch", &prompt, "--to", "probe"]).code, 0);
    let running = "maestro_queue_depth{agent=\"probe\",state=\"running\"}";
    wait_for_sample(&cluster, ports.coordinator, running, 1.0);
    cluster.member("w0").terminate();
    assert_eq!(wait_for_answer(&cluster, ports.worker, "/readyz", 503), "it takes no new tasks\n");
    assert_eq!(get(ports.worker, "/healthz").0, 200);
    wait_for_sample(&cluster, ports.coordinator, "maestro_workers{state=\"draining\"}", 1.0);
    std::fs::write(&go, "").expect("a file");
    assert_eq!(cluster.member("w0").wait(WITHIN), Ok(0));
    cluster.redis.pause();
    let why = wait_for_answer(&cluster, ports.coordinator, "/readyz", 503);
    assert!(why.contains("redis has not answered"), "{why}");
    cluster.redis.resume();
    wait_for_answer(&cluster, ports.coordinator, "/readyz", 200);
}

/// Clients that say nothing use up every connection for some seconds, and no worker waits for them.
#[test]
fn slow_clients_hold_up_neither_work_nor_others_for_long() {
    let (cluster, ports) = watched_cluster();
    wait_for_answer(&cluster, ports.worker, "/healthz", 200);
    let idle: Vec<std::net::TcpStream> = (0..80)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", ports.worker)).expect("the port is open"))
        .collect();
    let begun = Instant::now();
    let done = cluster.maestro(&["task", "dispatch", "true", "--to", "probe", "--sync"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(get(ports.worker, "/healthz").0, 200, "after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    drop(idle);
}
