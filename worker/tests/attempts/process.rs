//! What an agent process finds around itself: environment, prompt, descriptors, session.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maestro_model::attempt::AttemptOutcome;
use maestro_model::task::Reason;
use maestro_worker::attempt::BrokenPart;
use maestro_worker::launch::{LaunchError, LaunchFds, LaunchSpec, Launcher, LauncherCommand};

use crate::support::{Site, agent_type, failed, result};

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

#[tokio::test]
async fn the_environment_is_exactly_what_the_specification_lists() {
    let site = Site::new();
    let mut order = site.command(&["env"]);
    order.timeout = Duration::from_secs(1000);
    order.env.insert("RUST_LOG".to_owned(), "warn".to_owned());
    let (paths, task) = (site.paths(&order), order.task.clone());
    let end = site.run(order).await;
    let env = variables(result(&end));
    let names: Vec<&str> = env.keys().copied().collect();
    let expected = [
        "HOME",
        "LANG",
        "MAESTRO_AGENT",
        "MAESTRO_ATTEMPT",
        "MAESTRO_DEADLINE",
        "MAESTRO_ERROR_FILE",
        "MAESTRO_OUTPUT_FILE",
        "MAESTRO_RUN_ID",
        "MAESTRO_STEP_ID",
        "MAESTRO_TASK_ID",
        "MAESTRO_WORKER",
        "MAESTRO_WORKFLOW",
        "MAESTRO_WORKSPACE",
        "PATH",
        "RUST_LOG",
        "TEST_MARK",
        "TMPDIR",
    ];
    assert_eq!(names, expected);
    assert_eq!(env["HOME"], paths.home().to_str().expect("UTF-8"));
    assert_eq!(env["TMPDIR"], paths.tmp().to_str().expect("UTF-8"));
    assert_eq!(env["MAESTRO_WORKSPACE"], paths.folder.to_str().expect("UTF-8"));
    assert_eq!(env["MAESTRO_TASK_ID"], task.to_string());
    assert_eq!(
        (env["MAESTRO_STEP_ID"], env["MAESTRO_WORKFLOW"], env["MAESTRO_ATTEMPT"], env["LANG"]),
        ("build", "deploy", "1", "C.UTF-8")
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let deadline: u64 = env["MAESTRO_DEADLINE"].parse().expect("seconds");
    assert!((now + 900..=now + 1000).contains(&deadline), "{deadline}, now {now}");
}

#[tokio::test]
async fn the_workers_environment_passes_only_by_name_and_never_its_own() {
    let site = Site::with_environment([
        ("PATH", "/usr/bin:/bin"),
        ("TZ", "Europe/Vienna"),
        ("LANG", "de_AT.UTF-8"),
        ("API_KEY", "sesame"),
        ("OTHER", "hidden"),
        ("MAESTRO_REDIS_URL", "redis://secret"),
    ]);
    let mut order = site.command(&["env"]);
    order.agent = Arc::new(agent_type(
        r#"{"env_passthrough": ["API_KEY", "MAESTRO_REDIS_URL", "NOT_SET"], "home": {"path": "/somewhere"}}"#,
    ));
    order.env.insert("MAESTRO_ATTEMPT".to_owned(), "99".to_owned());
    let end = site.run(order).await;
    let env = variables(result(&end));
    assert_eq!((env["API_KEY"], env["TZ"], env["LANG"]), ("sesame", "Europe/Vienna", "de_AT.UTF-8"));
    assert_eq!((env["HOME"], env["MAESTRO_ATTEMPT"]), ("/somewhere", "1"));
    for absent in ["OTHER", "MAESTRO_REDIS_URL", "NOT_SET"] {
        assert!(!env.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn secrets_reach_the_agent_and_no_log() {
    let site = Site::with_environment([("PATH", "/usr/bin:/bin"), ("TOKEN", "open-sesame")]);
    let file = site.folder.path().join("secret");
    std::fs::write(&file, "from-a-file\n").expect("ours");
    let secrets = serde_json::json!({"A": "env://TOKEN", "B": format!("file://{}", file.display())});
    let agent = Arc::new(agent_type(&serde_json::json!({"secrets": secrets}).to_string()));
    let script = "printf '%s' \"$A\" | cksum; printf 'A is open-'; sleep 0.1; echo sesame; echo $B >&2; \
                  echo \"no $A\" > $MAESTRO_ERROR_FILE; exit $1";
    for code in ["0", "1"] {
        let mut order = site.command(&["sh", "-c", script, "sh", code]);
        order.agent = agent.clone();
        let log = site.paths(&order).log();
        let (sender, mut receiver) = maestro_worker::log_capture::log_channel();
        let end = site.runner.attempt(order, Some(sender)).run().await;
        let log = std::fs::read_to_string(log).expect("there");
        let sum = log.lines().next().expect("the sum");
        assert!(sum.ends_with(" 11"), "the agent has the secret itself: {sum}");
        assert_eq!(log, format!("{sum}\nA is ***\n***\n"));
        let mut streamed = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            streamed.extend(chunk.bytes);
        }
        assert_eq!(String::from_utf8(streamed).expect("text"), log);
        if code == "0" {
            assert_eq!(result(&end), format!("{sum}\nA is ***"));
        } else {
            assert_eq!(failed(&end), (Reason::Exit, Some(1), "no ***"));
        }
    }
    let mut order = site.script("true");
    order.agent = Arc::new(agent_type(r#"{"secrets": {"A": "env://NOPE"}}"#));
    let end = site.run(order).await;
    let expected = "secret `A` is to come from the variable `NOPE`, which this worker does not have";
    assert_eq!(failed(&end), (Reason::Infra, None, expected));
}

#[tokio::test]
async fn an_agent_starts_with_three_descriptors_no_blocked_signal_and_a_session_of_its_own() {
    let site = Site::new();
    let end = site.run(site.script("readlink /proc/self/fd/0; ls /proc/$$/fd; cat /proc/$$/stat")).await;
    let lines: Vec<&str> = result(&end).lines().collect();
    assert_eq!(lines[..4], ["/dev/null", "0", "1", "2"]);
    let stat: Vec<&str> = lines[4].split(' ').collect();
    assert_eq!((stat[0], stat[0]), (stat[4], stat[5]), "process, group, session");
    let end = site.run(site.command(&["cat", "/proc/self/status"])).await;
    for name in ["SigBlk", "SigIgn", "SigPnd"] {
        let line = result(&end).lines().find(|line| line.starts_with(name)).expect("it is listed");
        assert_eq!(line, format!("{name}:\t0000000000000000"));
    }
}

#[tokio::test]
async fn a_prompt_comes_by_standard_input_as_it_is() {
    let site = Site::new();
    let prompt: String =
        "a 'quote', $(date), \"x\"\n\0<<EOF\n".repeat(9_000).chars().take(256 * 1024).collect();
    let mut order = site.script("cat; echo; wc -c < /dev/stdin");
    order.agent = Arc::new(agent_type(r#"{"prompt_via": "stdin"}"#));
    order.prompt.clone_from(&prompt);
    let paths = site.paths(&order);
    let end = site.run(order).await;
    assert_eq!(end.report.outcome, AttemptOutcome::Completed);
    let log = std::fs::read_to_string(paths.log()).expect("UTF-8 as sent");
    assert!(log.starts_with(&prompt), "{} bytes", log.len());
}

#[tokio::test]
async fn an_agent_that_never_reads_its_prompt_hangs_nobody() {
    let site = Site::new();
    let mut order = site.script("echo done");
    order.agent = Arc::new(agent_type(r#"{"prompt_via": "stdin"}"#));
    order.prompt = "x".repeat(256 * 1024);
    assert_eq!(result(&site.run(order).await), "done");
}

#[tokio::test]
async fn a_prompt_comes_by_file() {
    let site = Site::new();
    let mut order = site.script("cat \"$MAESTRO_PROMPT_FILE\"; cat");
    order.agent = Arc::new(agent_type(r#"{"prompt_via": "file"}"#));
    order.prompt = "say 'hi'".to_owned();
    assert_eq!(result(&site.run(order).await), "say 'hi'");
}

#[tokio::test]
async fn a_prompt_that_fits_no_argument_is_refused_with_a_hint() {
    let site = Site::new();
    let longest = "x".repeat(131_071);
    let end = site.run(site.command(&["sh", "-c", "echo ${#1}", "sh", &longest])).await;
    assert_eq!(result(&end), "131071");

    let end = site.run(site.command(&["echo", &format!("{longest}x")])).await;
    let (reason, code, message) = failed(&end);
    assert_eq!((reason, code), (Reason::Config, None));
    assert_eq!(
        message,
        "an argument of agent `shell` has 131072 bytes, at most 131071 fit; \
         hint: give agent `shell` its prompt with `prompt_via: stdin` or `prompt_via: file`"
    );
    let end = site.run(site.command(&["echo", "a\0b"])).await;
    let (reason, _, message) = failed(&end);
    assert!(reason == Reason::Config && message.contains("holds a NUL"), "{message}");
    assert!(message.ends_with("`prompt_via: stdin` or `prompt_via: file`"), "{message}");
}

#[tokio::test]
async fn a_command_too_large_for_a_packet_still_starts() {
    let site = Site::new();
    let word = "y".repeat(100_000);
    let mut argv = vec!["sh", "-c", "echo $# ${#9}", "sh"];
    argv.extend(std::iter::repeat_n(word.as_str(), 9));
    assert_eq!(result(&site.run(site.command(&argv)).await), "9 100000");

    argv.extend(std::iter::repeat_n(word.as_str(), 40));
    let end = site.run(site.command(&argv)).await;
    let expected = "the command and its environment are too large for this host";
    assert_eq!(failed(&end), (Reason::Config, None, expected));
}

#[tokio::test]
async fn a_working_directory_that_is_gone_is_named() {
    let site = Site::new();
    let null = std::fs::File::open("/dev/null").expect("there");
    let cwd = site.folder.path().join("gone");
    let spec = LaunchSpec {
        argv: vec!["/bin/true".into()],
        env: Vec::new(),
        cwd: cwd.clone(),
        walls: None,
        data_bytes_max: None,
    };
    let fds = || LaunchFds { stdin: null.as_fd(), stdout: null.as_fd(), stderr: null.as_fd(), groups: &[] };
    let refused = site.launcher.launch(&spec, fds()).await.err().expect("there is no such folder");
    let expected =
        format!("cannot enter the workspace `{}`: No such file or directory (os error 2)", cwd.display());
    assert_eq!(refused.to_string(), expected);

    let spec = LaunchSpec { argv: Vec::new(), ..spec };
    assert!(matches!(site.launcher.launch(&spec, fds()).await, Err(LaunchError::Malformed { .. })));
    let spec = LaunchSpec {
        argv: vec!["/bin/true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        walls: None,
        data_bytes_max: None,
    };
    let nowhere = Launcher::new(LauncherCommand::of(cwd));
    assert!(matches!(nowhere.launch(&spec, fds()).await, Err(LaunchError::LauncherLost { .. })));
}

#[tokio::test]
async fn a_type_for_containers_is_never_run_bare() {
    let site = Site::new();
    let mut order = site.script("true");
    order.agent = Arc::new(agent_type(r#"{"isolate_with": "docker", "image": "x"}"#));
    let end = site.run(order).await;
    let expected = "the container engine cannot be used: this worker was set up without one";
    assert_eq!(failed(&end), (Reason::Infra, None, expected));
    assert_eq!(end.broken, Some(BrokenPart::Engine));
}
