//! Shared state from inside tasks: agents on several workers, without any address of Redis.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use maestro_store::events::EventKind;
use maestro_store::runs::RunStatus;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ClusterSetup, TestCluster, skip, wait_until};

/// Until something that is only waited for must have happened.
const SOON: Duration = Duration::from_secs(40);

/// What every agent's script begins with: the binary by the name that users type.
fn script(cluster: &TestCluster, text: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_maestro");
    let witness = cluster.witness();
    format!("W={}\nmaestro() {{ {binary} \"$@\"; }}\n{text}", witness.display())
}

fn workflow(name: &str, steps: &[(&str, String)]) -> String {
    let steps: Vec<Value> =
        steps.iter().map(|(id, prompt)| json!({"id": id, "agent": "probe", "prompt": prompt})).collect();
    json!({"name": name, "defaults": {"workspace": "task"}, "steps": steps}).to_string()
}

fn state(cluster: &TestCluster, key: &str) -> Option<Value> {
    let found = cluster.observer().ask(async |store| store.state(key).await).expect("redis is there");
    found.map(|shared| shared.value)
}

/// Waits until a file of the witness folder is there.
fn wait_for_file(cluster: &TestCluster, name: &str) {
    cluster.wait_until(&format!("the file `{name}`"), SOON, |_| {
        if cluster.witness().join(name).exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
}

fn touch(cluster: &TestCluster, name: &str) {
    fs::write(cluster.witness().join(name), "").expect("written");
}

/// Sockets below a folder, at whatever depth.
fn sockets_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets_below(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn two_agents_on_two_workers_hand_a_value_to_each_other() {
    let setup = ClusterSetup { workers: 2, concurrency: 1, ..ClusterSetup::default() };
    let cluster = TestCluster::start(setup);
    let listener = script(
        &cluster,
        r#"
        env > "$W/env-listener"
        maestro -v state watch 'hand*' --format jsonl > lines 2> talk &
        until grep -q watching talk; do sleep 0.05; done
        maestro state set ready yes
        until grep -q handover lines; do sleep 0.05; done
        kill $!
        maestro state set answer "got $(maestro state get handover)" --ttl 1h
        cp lines "$W/lines"
        "#,
    );
    let speaker = script(
        &cluster,
        r#"
        env > "$W/env-speaker"
        until [ "$(maestro state get ready 2> talk)" = yes ]; do sleep 0.1; done
        maestro state set handover '{"port": 8080}' --json
        until maestro state get answer > answer 2> talk; do sleep 0.1; done
        cp answer "$W/answer"
        "#,
    );
    let text = workflow("pair", &[("listener", listener), ("speaker", speaker)]);
    let run = cluster.submit_text("pair", &text);
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed, "{}", cluster.tails());

    let tasks = cluster.observer().tasks(&run);
    let owners: Vec<_> =
        tasks.iter().map(|task| task.record.as_ref().map(|record| record.owner.clone())).collect();
    assert_ne!(owners[0], owners[1], "one worker each");
    assert_eq!(cluster.witnessed("answer"), [r#"got {"port":8080}"#]);
    let lines = cluster.witnessed("lines");
    let change: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let speaker = tasks.iter().find(|task| task.own.step == "speaker").expect("a step");
    let by = format!("{}.1", speaker.id);
    assert_eq!(
        (&change["key"], &change["value"]["port"], &change["by"]),
        (&json!("handover"), &json!(8080), &json!(by))
    );

    let told = cluster.maestro(&["events", "--task", &speaker.id.to_string(), "--format", "json"]);
    let told: Value = serde_json::from_str(&told.out).expect("JSON");
    let write = told.as_array().expect("a list").iter().find(|event| event["event"] == "state-set");
    let write = write.unwrap_or_else(|| panic!("no write among {told}"));
    assert_eq!((&write["attempt"], &write["step"]), (&json!(1), &json!("speaker")), "{write}");

    let redis = cluster.redis.socket();
    for name in ["env-listener", "env-speaker"] {
        let env = cluster.witnessed(name);
        assert!(env.iter().any(|line| line.starts_with("MAESTRO_SOCKET=")), "{env:?}");
        let tells = |line: &&String| {
            line.starts_with("MAESTRO_REDIS_URL") || line.contains(redis.to_str().expect("a plain path"))
        };
        assert_eq!(env.iter().find(tells), None);
    }
    let writers: Vec<String> = cluster
        .observer()
        .events()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::State { key, who, .. } if key == "handover" => Some(who),
            _ => None,
        })
        .collect();
    assert_eq!(writers, [by]);
    assert_eq!(sockets_below(&cluster.root()), Vec::<PathBuf>::new());
}

/// Commands, one a line, in the order in which they are given inside and outside.
const SESSION: &str = r#"
maestro state set PRE_a one
maestro state set PRE_a two --if-version 0
maestro state set PRE_a two --if-version 9999
maestro state set PRE_none two --if-version 9999
maestro state set PRE_n 42 --json --ttl 0 --format table
maestro state set PRE_j {a --json
maestro state set task:x:result x
maestro state get PRE_a
maestro state get PRE_n --format json
maestro state get PRE_a --format name
maestro state get PRE_none
maestro state get PRE_none --format json
maestro state get task:0aaaaaaaaaa1.0:result --format yaml
maestro state list PRE_* --format jsonl
maestro state list PRE_* --format name
maestro state list PRE_z*
maestro state list [a
maestro state watch [a
maestro state delete PRE_a
maestro state delete PRE_a --format json
maestro state delete PRE_n --format table
maestro state set  x
"#;

/// What may differ: versions count all writes of a cluster, times to live run.
fn smoothed(text: &str) -> String {
    let mut smooth = String::new();
    let mut in_number = false;
    for letter in text.chars() {
        let digit = letter.is_ascii_digit() || (in_number && letter == '.');
        if digit && !in_number {
            smooth.push('9');
        } else if !digit {
            smooth.push(letter);
        }
        in_number = digit;
    }
    smooth.replace("inside_", "PRE_").replace("outside_", "PRE_")
}

#[test]
fn the_command_says_inside_a_task_what_it_says_outside() {
    let cluster = TestCluster::start(ClusterSetup::default());
    let commands: Vec<&str> = SESSION.trim().lines().collect();
    let mut inside = String::from("set -f\nset +e\n");
    for line in &commands {
        let line = line.replace("PRE_", "inside_");
        inside += &format!(
            "{line} > out 2> err < /dev/null\ncode=$?\n{{ echo \"$ {line}\"; echo \"exit $code\"; cat out; echo ---; cat err; }} >> \"$W/session\"\n"
        );
    }
    let run = cluster.submit_text("session", &workflow("session", &[("a", script(&cluster, &inside))]));
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed, "{}", cluster.tails());

    let mut outside = String::new();
    for line in &commands {
        let line = line.replace("PRE_", "outside_");
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let answer = cluster.maestro(&words);
        outside += &format!("$ {line}\nexit {}\n{}---\n{}", answer.code, answer.out, answer.err);
    }
    let session = fs::read_to_string(cluster.witness().join("session")).expect("written");
    // The one difference: a worker does not look for tasks by the beginnings of their ids.
    let differs = |text: &str| {
        let blocks: Vec<String> = smoothed(text).split("$ maestro").skip(1).map(str::to_owned).collect();
        assert_eq!(blocks.len(), commands.len(), "{text}");
        blocks
    };
    for (inside, outside) in differs(&session).into_iter().zip(differs(&outside)) {
        if inside.starts_with(" state get task:") {
            let exits = [&inside, &outside].map(|block| block.lines().nth(1).map(str::to_owned));
            assert_eq!(exits, [Some("exit 9".to_owned()), Some("exit 9".to_owned())]);
            continue;
        }
        assert_eq!(inside, outside);
    }
    assert!(
        session.contains("exit 66") && session.contains("exit 77") && session.contains("exit 2"),
        "{session}"
    );
}

#[test]
fn a_worker_that_drains_still_answers_and_takes_its_sockets_along() {
    let env = vec![("MAESTRO_DRAIN_DEADLINE", "30s".to_owned())];
    let mut cluster = TestCluster::start(ClusterSetup { env, ..ClusterSetup::default() });
    let text = script(
        &cluster,
        r#"
        : > "$W/started"
        until [ -e "$W/go" ]; do sleep 0.05; done
        maestro state set drained yes
        "#,
    );
    let run = cluster.submit_text("drain", &workflow("drain", &[("a", text)]));
    wait_for_file(&cluster, "started");
    assert_eq!(sockets_below(&cluster.root()).len(), 1);
    cluster.member("w0").terminate();
    cluster.wait_until("the worker drains", SOON, |observer| {
        let alive = observer.alive();
        let worker = alive.iter().find(|process| process.name == "w0").ok_or("no worker")?;
        if worker.status.draining { Ok(()) } else { Err(format!("{:?}", worker.status)) }
    });
    touch(&cluster, "go");
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    assert_eq!(cluster.member("w0").wait(SOON), Ok(0));
    assert_eq!(state(&cluster, "drained"), Some(json!("yes")));
    assert_eq!(sockets_below(&cluster.root()), Vec::<PathBuf>::new());
}

#[test]
fn what_an_attempt_says_after_it_was_taken_over_changes_nothing() {
    let mut cluster = TestCluster::start(ClusterSetup::default());
    let text = script(
        &cluster,
        r#"
        maestro state set k "$MAESTRO_ATTEMPT"
        : > "$W/began$MAESTRO_ATTEMPT"
        if [ "$MAESTRO_ATTEMPT" = 1 ]; then
            until [ -e "$W/late" ]; do sleep 0.05; done
            set +e
            maestro state set k late
            echo $? > "$W/code"
            sleep 60
        fi
        "#,
    );
    let run = cluster.submit_text("late", &workflow("late", &[("a", text)]));
    wait_for_file(&cluster, "began1");
    // The worker stands still, its agent goes on: what it says is in the socket when the worker wakes up.
    cluster.member("w0").signal(Signal::STOP);
    cluster.start_worker("w1");
    wait_for_file(&cluster, "began2");
    touch(&cluster, "late");
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed);
    cluster.member("w0").signal(Signal::CONT);
    // It comes back as another incarnation, its agent ended.
    cluster.wait_for_worker("w0");
    let gone = wait_until("the agent of the first attempt", SOON, || {
        let left = sockets_below(&cluster.root());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    gone.unwrap_or_else(|error| panic!("{error}\n{}", cluster.tails()));
    assert_eq!(state(&cluster, "k"), Some(json!("2")), "the successor's word stands");
    // It hears that it is refused, if it still hears anything before it is ended.
    let codes = cluster.witnessed("code");
    assert!(codes.iter().all(|code| code == "77" || code == "69"), "{codes:?}");
}

#[test]
fn a_socket_that_nobody_answers_is_unavailable_and_a_named_redis_wins() {
    let cluster = TestCluster::start(ClusterSetup { workers: 0, ..ClusterSetup::default() });
    let socket = cluster.scratch("dead").join("socket");
    let inside = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maestro"));
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("MAESTRO_SOCKET", &socket);
        command.env("MAESTRO_NAMESPACE", "trial").envs(variables.iter().copied());
        let output =
            command.current_dir(cluster.scratch("dead")).stdin(Stdio::null()).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for words in
        [["state", "get", "k"], ["state", "delete", "k"], ["state", "watch", "k"], ["state", "list", "k"]]
    {
        let (code, _, err) = inside(&[], &words);
        assert_eq!(code, Some(69), "{err}");
        assert!(err.starts_with("error: cannot reach the worker at `"), "{err}");
        assert!(err.contains("hint: `MAESTRO_SOCKET` is answered only while its task runs"), "{err}");
    }
    let (code, _, err) = inside(&[], &["state", "get", "k", "--namespace", "other"]);
    assert_eq!((code, err.contains("inside a task")), (Some(2), true), "{err}");

    let url = cluster.redis.url();
    assert_eq!(inside(&[], &["state", "set", "k", "v", "--redis-url", &url]).0, Some(0));
    let (code, out, err) = inside(&[("MAESTRO_REDIS_URL", &url)], &["state", "get", "k"]);
    assert_eq!((code, out.as_str()), (Some(0), "v\n"), "{err}");
}

/// The lines of the documents, if this host has curl.
#[test]
fn curl_does_as_well() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("curl_does_as_well", "curl is not installed");
        return;
    }
    let cluster = TestCluster::start(ClusterSetup::default());
    let text = script(
        &cluster,
        r#"
        curl -sS --unix-socket "$MAESTRO_SOCKET" -X PUT -d 42 'http://maestro/v1/state/build_id?ttl=2h&if_version=0' > put
        curl -sS --unix-socket "$MAESTRO_SOCKET" http://maestro/v1/state/build_id > get
        curl -sS --unix-socket "$MAESTRO_SOCKET" -o body -w '%{http_code}' http://maestro/v1/state/none > none
        head -c 3000000 /dev/zero | tr '\0' x > large
        curl -sS --unix-socket "$MAESTRO_SOCKET" -T large -o body -w '%{http_code}' http://maestro/v1/state/large > large-code
        curl -sS --unix-socket "$MAESTRO_SOCKET" -N 'http://maestro/v1/watch?glob=build*' > changes &
        until grep -q deleted changes; do curl -sS --unix-socket "$MAESTRO_SOCKET" -X PUT -d 43 http://maestro/v1/state/build_id > put2; curl -sS --unix-socket "$MAESTRO_SOCKET" -X DELETE http://maestro/v1/state/build_id > deleted; sleep 0.1; done
        kill $!
        cp put get none large-code "$W"
        "#,
    );
    let run = cluster.submit_text("curl", &workflow("curl", &[("a", text)]));
    assert_eq!(cluster.wait_for_run(&run, SOON).status, RunStatus::Completed, "{}", cluster.tails());
    assert_eq!(cluster.witnessed("put"), [r#"{"key":"build_id","version":1}"#]);
    let got: Value = serde_json::from_str(&cluster.witnessed("get")[0]).expect("JSON");
    assert_eq!((&got["value"], &got["version"]), (&json!("42"), &json!(1)));
    assert_eq!(cluster.witnessed("none"), ["404"]);
    assert_eq!(cluster.witnessed("large-code"), ["413"]);
}
