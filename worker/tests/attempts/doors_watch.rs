//! Watching shared state through side doors, and lists longer than one answer.

use std::path::Path;

use maestro_store::state::{StateActor, WriteCondition};
use serde_json::{Value, json};

use crate::doors::{DoorSite, read};
use crate::support::{DEADLINE, eventually, result};

const BY_HAND: StateActor<'_> = StateActor::Named("hand");

/// The lines of JSON in what a watcher has received so far.
fn changes(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}

async fn set(site: &DoorSite, key: &str, value: Value) -> u64 {
    site.store.set_state(key, &value, None, WriteCondition::Always, BY_HAND).await.expect("set")
}

#[tokio::test]
async fn a_watcher_hears_of_what_others_write_and_of_nothing_else() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    let place = site.site.shared();
    let (seen, go) = (place.join("seen"), place.join("go"));
    set(&site, "build_old", json!("before")).await;
    // The request is sent, the connection stays open: what comes is written to a file until the test has seen it.
    let script = format!(
        r#"say GET '/v1/watch?glob=build*' '' > request
        "$KNOCK" __knock "$MAESTRO_SOCKET" < request > {} & watcher=$!
        while [ ! -e {} ]; do sleep 0.02; done; kill $watcher"#,
        seen.display(),
        go.display()
    );
    let attempt =
        site.site.runner.attempt(site.order(&grants[0], &script), None).with_door(site.pass(&grants[0]));
    let running = tokio::spawn(attempt.run());
    let head = || std::fs::read_to_string(&seen).is_ok_and(|text| text.contains("application/jsonl"));
    eventually("the watch begins", || head().then_some(())).await;

    let version = set(&site, "build_id", json!({"n": 1})).await;
    set(&site, "other", json!("not wanted")).await;
    let script = "ask PUT /v1/state/build_by_agent yes";
    let writer =
        site.site.runner.attempt(site.order(&grants[1], script), None).with_door(site.pass(&grants[1]));
    let end = tokio::time::timeout(DEADLINE, writer.run()).await.expect("it ends");
    let lines: Vec<String> = result(&end).lines().map(str::to_owned).collect();
    assert_eq!(read(&lines).0, 200);
    eventually("both changes", || (changes(&seen).len() >= 2).then_some(())).await;
    assert!(site.store.delete_state("build_id", BY_HAND).await.expect("deleted"));
    let changes = eventually("all changes", || Some(changes(&seen)).filter(|seen| seen.len() >= 3)).await;

    let told = |change: &Value, name: &str| change[name].clone();
    let keys: Vec<Value> = changes.iter().map(|change| told(change, "key")).collect();
    assert_eq!(keys, ["build_id", "build_by_agent", "build_id"]);
    assert_eq!(changes[0]["value"], json!({"n": 1}));
    assert_eq!((&changes[0]["version"], &changes[0]["by"]), (&json!(version), &json!("hand")));
    assert_eq!(changes[1]["by"], json!(format!("{}.1", grants[1].0)));
    assert_eq!((&changes[2]["event"], &changes[2]["value"]), (&json!("deleted"), &Value::Null));
    assert!(changes[0]["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{changes:?}");
    std::fs::write(&go, "").expect("written");
    running.await.expect("no panic");
    site.site.assert_no_survivors();
}

#[tokio::test]
async fn an_attempt_has_so_many_watchers_and_they_end_with_it() {
    let site = DoorSite::new().await;
    let grants = site.grants(2).await;
    let script = r#"
        say GET /v1/watch '' > request
        n=0; while [ $n -lt 8 ]; do "$KNOCK" __knock "$MAESTRO_SOCKET" < request > seen$n & n=$((n+1)); done
        n=0; while [ $n -lt 8 ]; do until grep -q jsonl seen$n; do sleep 0.02; done; n=$((n+1)); done
        ask GET /v1/watch
        ask PUT /v1/state/k still
    "#;
    let attempt =
        site.site.runner.attempt(site.order(&grants[0], script), None).with_door(site.pass(&grants[0]));
    let end = tokio::time::timeout(DEADLINE, attempt.run()).await.expect("it ends");
    let lines: Vec<String> = result(&end).lines().map(str::to_owned).collect();
    assert_eq!((read(&lines[..2]).0, read(&lines[2..]).0), (429, 200), "{lines:?}");
    site.site.assert_no_survivors();
    // With its watchers gone the worker's reader of the audit stream goes, too, and comes back when wanted.
    let blocked = || {
        let mut raw = site.redis.raw();
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut raw).expect("listed");
        clients.lines().filter(|line| line.contains("cmd=xread")).count()
    };
    eventually("nobody reads the audit stream", || (blocked() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_long_list_comes_in_portions() {
    let site = DoorSite::new().await;
    let grant = site.grants(1).await.remove(0);
    let large = "x".repeat(60_000);
    for number in 0..10 {
        set(&site, &format!("large{number}"), json!(large)).await;
    }
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..1_203 {
        let store = site.store.clone();
        writes.spawn(async move {
            let (key, value) = (format!("small{number:04}"), json!(number));
            store.set_state(&key, &value, None, WriteCondition::Always, BY_HAND).await.expect("set");
        });
    }
    while writes.join_next().await.is_some() {}
    let script = r#"
        after=
        while :; do
            ask GET "/v1/state?glob=*&after=$after" > page
            grep -o '"key":"[^"]*"' page | cut -d'"' -f4
            after=$(sed -n 's/.*"next":"\([^"]*\)"}$/\1/p' page)
            echo "page $(wc -c < page)"
            [ -n "$after" ] || break
        done
    "#;
    let attempt = site.site.runner.attempt(site.order(&grant, script), None).with_door(site.pass(&grant));
    let end = tokio::time::timeout(DEADLINE, attempt.run()).await.expect("it ends");
    let lines: Vec<&str> = result(&end).lines().collect();
    let (pages, keys): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.starts_with("page "));
    let expected: Vec<String> = (0..10)
        .map(|number| format!("large{number}"))
        .chain((0..1_203).map(|number| format!("small{number:04}")))
        .collect();
    assert_eq!(keys, expected);
    assert!(pages.len() >= 3, "{pages:?}");
    for page in &pages {
        let bytes: usize = page["page ".len()..].trim().parse().expect("a number");
        assert!(bytes < 1_400_000, "{pages:?}");
    }
}
