//! The side door as agents find it: what goes through it, and what does not.

#[path = "../upkeep/support.rs"]
#[allow(dead_code, reason = "the tests of upkeep use the rest")]
mod cluster;

use std::path::PathBuf;
use std::time::Duration;

use maestro_model::ids::{Attempt, Incarnation, RunId, TaskId};
use maestro_model::plan::QueueName;
use maestro_store::Store;
use maestro_store::events::{EventKind, EventPosition};
use maestro_store::state::{StateActor, WriteCondition};
use maestro_store::step::StepRequest;
use maestro_worker::attempt::{AttemptOrder, StopKind};
use maestro_worker::side_door::{
    AccessKind, DoorAccess, DoorPass, SideDoors, SideDoorsSettings, WRITES_BURST,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use self::cluster::{TestRedis, attach_worker, submit_run};
use crate::host::{KNOCK_COMMAND, host_program};
use crate::support::{DEADLINE, Site, eventually, file_appears, result};

/// Shell words that agents begin with: `ask METHOD TARGET BODY` prints the status line and the body,
/// `say METHOD TARGET BODY HEADER` only makes a request.
const WORDS: &str = r#"
say() { printf '%s %s HTTP/1.1\r\nHost: maestro\r\nContent-Length: %s\r\n%s\r\n%s' "$1" "$2" "${#3}" "${4:-}" "$3"; }
last=$(printf 'Connection: close\r\n.'); last=${last%.}
json=$(printf 'Content-Type: application/json; charset=utf-8\r\n.'); json=${json%.}
ask() { say "$1" "$2" "${3:-}" "$last${4:-}" | "$KNOCK" __knock "${AT:-$MAESTRO_SOCKET}" | sed -n '1p;/^{/p' | tr -d '\r'; }
"#;

/// A cluster of one Redis and one worker that only the store knows, with tasks it has been granted.
pub(crate) struct DoorSite {
    pub(crate) site: Site,
    pub(crate) redis: TestRedis,
    pub(crate) store: Store,
    pub(crate) incarnation: Incarnation,
    pub(crate) doors: SideDoors,
    _present: watch::Sender<Store>,
}

impl DoorSite {
    pub(crate) async fn new() -> DoorSite {
        DoorSite::with_site(Site::new()).await
    }

    async fn with_site(site: Site) -> DoorSite {
        let redis = TestRedis::start();
        let store = redis.store().await;
        let incarnation = attach_worker(&store, "w1", Duration::from_secs(600)).await;
        let settings = SideDoorsSettings {
            short_folders: vec![site.folder.path().join("run")],
            owner: "w1".to_owned(),
            state_ttl: Duration::from_secs(60),
        };
        let present = watch::Sender::new(store.clone());
        let doors = SideDoors::new(settings, present.subscribe());
        DoorSite { site, redis, store, incarnation, doors, _present: present }
    }

    /// Tasks that the worker has been granted.
    pub(crate) async fn grants(&self, count: u32) -> Vec<(TaskId, Attempt)> {
        let run = submit_run(&self.store, count).await;
        let request = StepRequest {
            lane: 0,
            request_id: rand::random(),
            want: count as usize,
            queues: vec![QueueName::agent(&"noop".parse().expect("a lawful slug"))],
            reports: Vec::new(),
            state_ttl_ms: 0,
        };
        let reply = self.store.step(&self.incarnation, &request).await.expect("answered");
        assert_eq!(reply.grants.len(), count as usize);
        assert!(reply.grants.iter().all(|grant| grant.task.run == run));
        reply.grants.into_iter().map(|grant| (grant.task, grant.attempt)).collect()
    }

    /// An order for a script that knows how to knock, as this attempt of this task.
    pub(crate) fn order(&self, (task, attempt): &(TaskId, Attempt), script: &str) -> AttemptOrder {
        let mut order = self.site.script(&format!("{WORDS}{script}"));
        (order.task, order.attempt) = (task.clone(), *attempt);
        order.env.insert("KNOCK".to_owned(), host_program().to_str().expect("text").to_owned());
        order
    }

    pub(crate) fn pass(&self, (task, attempt): &(TaskId, Attempt)) -> DoorPass {
        self.doors.pass(task.clone(), *attempt, self.incarnation.clone())
    }

    /// Runs a script with a door and returns what it printed.
    async fn run(&self, grant: &(TaskId, Attempt), script: &str) -> Vec<String> {
        let attempt = self.site.runner.attempt(self.order(grant, script), None).with_door(self.pass(grant));
        let end = tokio::time::timeout(DEADLINE, attempt.run()).await.expect("it ends");
        self.site.assert_no_survivors();
        result(&end).lines().map(str::to_owned).collect()
    }

    fn socket(&self, grant: &(TaskId, Attempt)) -> PathBuf {
        self.site.paths(&self.order(grant, "")).own.join("socket")
    }
}

/// The status code and the JSON of an answer that `ask` printed.
pub(crate) fn read(answer: &[String]) -> (u16, Value) {
    let [status, body] = answer else { panic!("expected a status and a body, found {answer:?}") };
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("{status}")), serde_json::from_str(body).expect("JSON"))
}

fn answers(lines: &[String]) -> Vec<(u16, Value)> {
    lines.chunks(2).map(read).collect()
}

#[tokio::test]
async fn a_value_goes_in_and_out_and_the_audit_names_the_attempt() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let script = r#"
        ask PUT '/v1/state/build_id?ttl=0' 42
        ask GET /v1/state/build_id
        ask PUT '/v1/state/build_id?if_version=1' '{"n": 42}' "$json"
        ask PUT '/v1/state/build_id?if_version=7' x
        ask GET /v1/state/none
        ask GET '/v1/state?glob=b*'
        ask DELETE /v1/state/build_id
        ask GET /v1/task
        ask POST /v1/state/build_id
    "#;
    let lines = site.run(&grant, script).await;
    let answers = answers(&lines);
    let version = answers[0].1["version"].as_u64().expect("a version");
    assert_eq!(answers[0], (200, json!({"key": "build_id", "version": version})));
    assert_eq!(answers[1], (200, json!({"key": "build_id", "value": "42", "version": version, "ttl": null})));
    assert_eq!(answers[3].0, 409, "{:?}", answers[3]);
    assert_eq!(answers[3].1["error"]["details"]["cause"], "version_conflict");
    assert_eq!((answers[4].0, &answers[4].1["error"]["kind"]), (404, &json!("not_found")));
    assert_eq!(answers[5].1["items"].as_array().map(Vec::len), Some(1), "{:?}", answers[5]);
    assert_eq!(answers[5].1["next"], Value::Null);
    assert_eq!(answers[6], (200, json!({"key": "build_id", "deleted": true})));
    assert_eq!(answers[7].1["task"], json!(grant.0.to_string()));
    assert_eq!((&answers[7].1["attempt"], &answers[7].1["step"]), (&json!(1), &json!("build")));
    assert_eq!(answers[8].0, 405);

    let (events, _) = site.store.events_after(&EventPosition::start()).await.expect("readable");
    let who: Vec<String> = events
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::State { who, .. } => Some(who),
            _ => None,
        })
        .collect();
    let own = format!("{}.1", grant.0);
    assert!(!who.is_empty() && who.iter().all(|who| *who == own), "{who:?}");
    assert!(!site.socket(&grant).exists(), "the socket goes with its attempt");
}

#[tokio::test]
async fn a_process_of_another_attempt_is_refused_and_a_daemon_of_the_own_is_heard() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    let go = site.site.shared().join("go");
    let first = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let attempt =
        site.site.runner.attempt(site.order(&grants[0], &first), None).with_door(site.pass(&grants[0]));
    let running = tokio::spawn(attempt.run());
    let socket = site.socket(&grants[0]);
    file_appears(&socket).await;

    let script = format!(
        r#"(AT={}; ask PUT /v1/state/k stolen)
        (setsid sh -c '. "$0"; ask PUT /v1/state/k daemon' "$WORDS_FILE" > daemon &)
        while ! grep -q version daemon; do sleep 0.02; done; cat daemon"#,
        socket.display()
    );
    let words = site.site.shared().join("words");
    std::fs::write(&words, WORDS).expect("written");
    let mut order = site.order(&grants[1], &script);
    // Confined, it would not even see the other's socket.
    order.agent = site.site.agent("none");
    order.env.insert("WORDS_FILE".to_owned(), words.to_str().expect("text").to_owned());
    let attempt = site.site.runner.attempt(order, None).with_door(site.pass(&grants[1]));
    let end = tokio::time::timeout(DEADLINE, attempt.run()).await.expect("it ends");
    let lines: Vec<String> = result(&end).lines().map(str::to_owned).collect();
    let answers = answers(&lines);
    assert_eq!((answers[0].0, &answers[0].1["error"]["kind"]), (403, &json!("refused")), "{answers:?}");
    assert_eq!(answers[1].0, 200, "{answers:?}");
    assert_eq!(site.store.state("k").await.expect("readable").expect("set").value, json!("daemon"));

    // Nor is this process heard, which is above both.
    let output = tokio::process::Command::new("sh")
        .args(["-c", &format!("{WORDS} ask GET /v1/task")])
        .env("KNOCK", host_program())
        .env("MAESTRO_SOCKET", &socket)
        .output()
        .await
        .expect("a shell exists");
    assert!(String::from_utf8_lossy(&output.stdout).contains("403"), "{output:?}");
    std::fs::write(&go, "").expect("written");
    running.await.expect("no panic");
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_or_was_superseded_changes_nothing() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let [lost, taken] = ["lost", "taken"].map(|name| site.site.shared().join(name));
    let wait = |path: &PathBuf| format!("while [ ! -e {} ]; do sleep 0.02; done", path.display());
    let script = format!(
        "ask PUT /v1/state/k before; : > ready; {}; ask PUT /v1/state/k late; ask DELETE /v1/state/k; {}; ask PUT /v1/state/k later; ask GET /v1/state/k",
        wait(&lost),
        wait(&taken)
    );
    let attempt = site.site.runner.attempt(site.order(&grant, &script), None).with_door(site.pass(&grant));
    let ready = site.site.paths(&site.order(&grant, "")).folder.join("ready");
    let running = tokio::spawn(attempt.run());
    file_appears(&ready).await;
    // The worker's lease ends, as the cluster sees it, and then another worker takes the task over.
    site.store.detach(&site.incarnation).await.expect("detached");
    std::fs::write(&lost, "").expect("written");
    let fenced = || async {
        let (events, _) = site.store.events_after(&EventPosition::start()).await.expect("readable");
        let late =
            |kind: &EventKind| matches!(kind, EventKind::Other { word, .. } if word == "state-refused");
        events.iter().filter(|event| late(&event.kind)).count()
    };
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while fenced().await < 2 {
        assert!(tokio::time::Instant::now() < deadline, "both late changes are in the audit stream");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let successor = attach_worker(&site.store, "w2", Duration::from_secs(600)).await;
    let request = StepRequest {
        lane: 0,
        request_id: 1,
        want: 1,
        queues: vec![QueueName::agent(&"noop".parse().expect("a lawful slug"))],
        reports: Vec::new(),
        state_ttl_ms: 0,
    };
    let grants = site.store.step(&successor, &request).await.expect("answered").grants;
    assert_eq!((&grants[0].task, grants[0].attempt), (&grant.0, Attempt(2)));
    std::fs::write(&taken, "").expect("written");

    let end = running.await.expect("no panic");
    let lines: Vec<String> = result(&end).lines().map(str::to_owned).collect();
    let answers = answers(&lines);
    let codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [200, 403, 403, 403, 200], "{answers:?}");
    assert_eq!(answers[1].1["error"]["details"]["cause"], "fenced");
    assert_eq!(answers[4].1["value"], "before", "nothing of it came through");
}

#[tokio::test]
async fn sizes_are_limited_and_said() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let script = r#"
        fill() { head -c "$1" /dev/zero | tr '\0' x; }
        ask PUT /v1/state/k "$(fill 65536)"
        ask PUT /v1/state/k "$(fill 65537)"
        fill 400000 > large
        { printf 'PUT /v1/state/k HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: 400000\r\n\r\n'; cat large; } | "$KNOCK" __knock "$MAESTRO_SOCKET" | sed -n '1p;/^{/p' | tr -d '\r'
        { printf 'PUT /v1/state/k HTTP/1.1\r\nHost: m\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n'; cat large; printf '\r\n0\r\n\r\n'; } | "$KNOCK" __knock "$MAESTRO_SOCKET" | sed -n '1p;/^{/p' | tr -d '\r'
        ask PUT "/v1/state/$(fill 513)" x
        ask PUT /v1/state/a%0Ab x
        ask PUT /v1/state/task:x:result x
        ask PUT /v1/state/k "$(printf '\377')"
    "#;
    let lines = site.run(&grant, script).await;
    let answers = answers(&lines);
    let codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [200, 413, 413, 413, 413, 400, 400, 400], "{answers:?}");
    let message = "the value of `k` has 65537 bytes; the limit is 65536";
    assert_eq!(answers[1].1["error"]["message"], message);
    assert_eq!(answers[2].1["error"]["details"]["size"], 400_000);
    assert_eq!(site.store.state("k").await.expect("readable").expect("set").version, 1);
}

#[tokio::test]
async fn an_attempt_that_writes_too_often_is_told_to_wait() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    // All at once on one connection, and none of them as far as Redis, so that the bucket cannot fill meanwhile.
    let count = WRITES_BURST + 400;
    let script = format!(
        r#"key=task:x:result
        {{ n=1; while [ $n -lt {count} ]; do say PUT /v1/state/$key $n ''; n=$((n+1)); done; say PUT /v1/state/$key $n "$last"; }} > requests
        "$KNOCK" __knock "$MAESTRO_SOCKET" < requests | tr -d '\r' | grep -E '^(HTTP|[Rr]etry-[Aa]fter)' | sort | uniq -c"#
    );
    let lines = site.run(&grants[0], &script).await;
    let count_of = |text: &str| -> u32 {
        let line = lines.iter().find(|line| line.to_lowercase().contains(text));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let (passed, refused) = (count_of("400 bad"), count_of(" 429 "));
    assert_eq!(passed + refused, count, "{lines:?}");
    assert!(passed >= WRITES_BURST && refused > 0, "{lines:?}");
    assert_eq!(count_of("retry-after: 1"), refused, "{lines:?}");
    // It is one attempt's own fault.
    let lines = site.run(&grants[1], "ask PUT /v1/state/k x").await;
    assert_eq!(read(&lines).0, 200);
}

#[tokio::test]
async fn processes_that_hold_connections_do_not_hold_the_worker() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    // More than it may have, none of which ever says a word; they are closed when they have had their time.
    let script = r#"
        n=0; while [ $n -lt 40 ]; do "$KNOCK" __knock "$MAESTRO_SOCKET" < /dev/zero > /dev/null & n=$((n+1)); done
        : > ready; wait
    "#;
    let script =
        script.replace("< /dev/zero", "< pipe").replace("n=0;", "mkfifo pipe; sleep 600 > pipe & n=0;");
    let attempt =
        site.site.runner.attempt(site.order(&grants[0], &script), None).with_door(site.pass(&grants[0]));
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    file_appears(&site.site.paths(&site.order(&grants[0], "")).folder.join("ready")).await;
    let other = site.site.runner.attempt(site.order(&grants[1], "ask PUT /v1/state/k x"), None);
    let end = tokio::time::timeout(DEADLINE, other.with_door(site.pass(&grants[1])).run()).await;
    let lines: Vec<String> = result(&end.expect("it ends")).lines().map(str::to_owned).collect();
    assert_eq!(read(&lines).0, 200, "another attempt does not notice");
    handle.stop_now(StopKind::Cancel);
    running.await.expect("no panic");
    site.site.assert_no_survivors();
}

#[tokio::test]
async fn a_workspace_far_down_has_its_socket_elsewhere() {
    let site = DoorSite::with_site(Site::below(&"deep/".repeat(25))).await;
    let grant = site.grants(1).await.remove(0);
    let script = "echo \"$MAESTRO_SOCKET\"; ls \"${MAESTRO_SOCKET%/*}\" | wc -l; ask PUT /v1/state/k x";
    let lines = site.run(&grant, script).await;
    let run = site.site.folder.path().join("run");
    assert!(lines[0].starts_with(run.to_str().expect("text")) && lines[0].len() < 108, "{lines:?}");
    assert_eq!(lines[1], "1", "others' sockets are not to be seen there");
    assert_eq!(read(&lines[2..]).0, 200);
    assert!(!PathBuf::from(&lines[0]).exists(), "the socket goes with its attempt");
    let folder = PathBuf::from(&lines[0]).parent().expect("a folder").to_owned();
    let mode = std::fs::metadata(&folder).expect("it stays").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o700);
    drop(site.doors);
    eventually("the short folder goes with the worker", || (!folder.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_cancelled_attempt_is_heard_while_it_puts_its_things_in_order() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let script =
        r#"trap 'ask PUT /v1/state/last words; exit 0' TERM; : > ready; while :; do sleep 0.02; done"#;
    let attempt = site.site.runner.attempt(site.order(&grant, script), None).with_door(site.pass(&grant));
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    file_appears(&site.site.paths(&site.order(&grant, "")).folder.join("ready")).await;
    site.store.cancel_task(&grant.0, "").await.expect("told to end");
    handle.stop(StopKind::Cancel);
    running.await.expect("no panic");
    assert_eq!(site.store.state("last").await.expect("readable").expect("set").value, json!("words"));
    assert!(!site.socket(&grant).exists());
}

#[tokio::test]
async fn an_attempt_that_is_discarded_is_heard_no_more_at_once() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let script = r#"trap '' TERM; : > ready; while :; do sleep 0.02; done"#;
    let attempt = site.site.runner.attempt(site.order(&grant, script), None).with_door(site.pass(&grant));
    let handle = attempt.handle();
    let running = tokio::spawn(attempt.run());
    file_appears(&site.site.paths(&site.order(&grant, "")).folder.join("ready")).await;
    assert!(site.socket(&grant).exists());
    handle.stop_now(StopKind::Return);
    running.await.expect("no panic");
    assert!(!site.socket(&grant).exists());
    site.site.assert_no_survivors();
}

#[tokio::test]
async fn nothing_that_an_agent_can_read_says_where_redis_is() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let secret = site.redis.url();
    let place = secret.strip_prefix("unix://").expect("a socket").to_owned();
    // Itself, its supervisor and the launcher; what is above them is the worker, which is this test program.
    let script = r#"
        env
        pid=$$
        for level in 0 1 2; do
            tr '\0' '\n' < /proc/$pid/environ; tr '\0' '\n' < /proc/$pid/cmdline
            pid=$(sed 's/^.*) . \([0-9]*\) .*/\1/' /proc/$pid/stat)
        done
        echo end
    "#;
    let lines = site.run(&grant, script).await;
    assert_eq!(lines.last().map(String::as_str), Some("end"));
    assert!(lines.iter().any(|line| line == KNOCK_COMMAND || line.contains("__launcher")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(&place)), "{lines:?}");

    // Nor does an error that the door answers when Redis is gone.
    let grant = site.grants(1).await.remove(0);
    let frozen = site.redis.freeze();
    let lines = site.run(&grant, "ask GET /v1/state/k").await;
    drop(frozen);
    assert!(!lines.iter().any(|line| line.contains(&place)), "{lines:?}");
    assert_eq!(read(&lines).0, 503, "{lines:?}");
}

#[tokio::test]
async fn a_result_is_read_under_its_name_and_accesses_are_told() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    finish(&site, &grants[0]).await;
    let by = StateActor::Named("hand");
    site.store.set_state("k", &json!(1), None, WriteCondition::Always, by).await.expect("set");
    let (sender, mut accesses) = mpsc::channel(16);
    let run: &RunId = &grants[0].0.run;
    let script = format!(
        "ask GET /v1/state/task:{}:result; ask GET /v1/state/task:{run}/s{}:result; ask GET /v1/state/task:{}:result; ask GET /v1/state/task:{run}/nope:result; ask GET /v1/state/k; ask PUT /v1/state/k 2; ask DELETE /v1/state/k",
        grants[0].0, grants[0].0.index, grants[1].0
    );
    let attempt = site.site.runner.attempt(site.order(&grants[1], &script), None);
    let end = attempt.with_door(site.pass(&grants[1]).telling(sender)).run().await;
    let lines: Vec<String> = result(&end).lines().map(str::to_owned).collect();
    let answers = answers(&lines);
    assert_eq!(answers[0].1["value"], "done", "{answers:?}");
    assert_eq!(answers[1].1["task"], json!(grants[0].0.to_string()), "{answers:?}");
    assert_eq!((answers[2].0, answers[3].0), (404, 404), "{answers:?}");

    let mut told = Vec::new();
    while let Ok(DoorAccess { task, attempt, key, kind, .. }) = accesses.try_recv() {
        assert_eq!((task, attempt), grants[1]);
        told.push((key, kind));
    }
    let version = answers[5].1["version"].as_u64().expect("a version");
    let end: Vec<(String, AccessKind)> = vec![
        ("k".to_owned(), AccessKind::Read { value: Some(json!(1)) }),
        ("k".to_owned(), AccessKind::Written { value: json!("2"), version }),
        ("k".to_owned(), AccessKind::Deleted),
    ];
    assert_eq!(told[told.len() - 3..], end);
    assert_eq!(told[0].1, AccessKind::Read { value: Some(json!("done")) });
}

async fn finish(site: &DoorSite, (task, attempt): &(TaskId, Attempt)) {
    use maestro_store::step::{Ending, StepReport};
    let report = StepReport {
        task: task.clone(),
        attempt: *attempt,
        ending: Ending::Completed { exit_code: Some(0) },
        output: r#"{"result":"done","outputs":{}}"#.to_owned(),
        publish: Vec::new(),
    };
    let request = StepRequest {
        lane: 0,
        request_id: rand::random(),
        want: 0,
        queues: Vec::new(),
        reports: vec![report],
        state_ttl_ms: 0,
    };
    site.store.step(&site.incarnation, &request).await.expect("answered");
}
