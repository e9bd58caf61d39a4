//! A Redis that cannot be used: each kind of trouble has words of its own, and an exit code.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::sandbox::Sandbox;
use crate::support::TestRedis;

/// One call against a Redis; exit code and messages in one picture.
fn picture(url: &str, words: &[&str]) -> String {
    let sandbox = Sandbox::new();
    let answer = sandbox.maestro(&[words, &["--redis-url", url]].concat());
    answer.picture().replace(url, "[REDIS]")
}

fn configured(settings: &[(&str, &str)]) -> TestRedis {
    let redis = TestRedis::start();
    let mut connection = redis.raw();
    for (name, value) in settings {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut connection).expect("configured");
    }
    redis
}

/// Something that answers as a Redis of that version would, as far as looking at its version goes.
fn pretender(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || pretend(stream, version));
        }
    });
    url
}

fn pretend(stream: TcpStream, version: &str) {
    let mut replies = stream.try_clone().expect("a second handle");
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(head)) = lines.next() {
        let count: usize = head.trim_start_matches('*').parse().expect("an array of words");
        let mut words = Vec::new();
        for _ in 0..count {
            let _length = lines.next();
            words.push(lines.next().expect("a word").expect("text"));
        }
        let info = format!("# Server\r\nredis_version:{version}\r\n");
        let reply = match words[0].as_str() {
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            _ => "+OK\r\n".to_owned(),
        };
        if replies.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn nobody_at_the_address_is_said_with_the_way_to_have_one() {
    insta::assert_snapshot!(picture("unix:///nowhere/redis.sock", &["workflow", "runs"]), @r"
    exit 69
    --- stderr
    error: cannot reach redis at `[REDIS]`
      caused by: No such file or directory (os error 2)

    hint: start a cluster here with `maestro up`, or name its redis with `--redis-url`
    ");
}

#[test]
fn a_missing_or_wrong_password_is_no_silence() {
    let redis = configured(&[("requirepass", "open sesame")]);
    insta::assert_snapshot!(picture(&redis.url(), &["workflow", "runs"]), @r#"
    exit 69
    --- stderr
    error: redis refuses the user or password: "NOAUTH": Authentication required.

    hint: put user and password into the url: `redis://USER:PASSWORD@HOST:PORT`
    "#);
    let wrong = format!("{}?pass=guess", redis.url());
    insta::assert_snapshot!(picture(&wrong, &["workflow", "runs"]), @r"
    exit 69
    --- stderr
    error: redis refuses the user or password: Password authentication failed - AuthenticationFailed

    hint: put user and password into the url: `redis://USER:PASSWORD@HOST:PORT`
    ");
    let right = format!("{}?pass=open%20sesame", redis.url());
    assert!(picture(&right, &["workflow", "runs"]).starts_with("exit 0"));
}

#[test]
fn a_redis_that_may_evict_keys_is_refused() {
    let redis = configured(&[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")]);
    insta::assert_snapshot!(picture(&redis.url(), &["workflow", "runs"]), @r"
    exit 69
    --- stderr
    error: redis may evict keys: `maxmemory-policy` is `allkeys-lru`

    hint: set `maxmemory-policy noeviction`: an evicted key is a lost task
    ");
}

#[test]
fn a_redis_that_is_too_old_is_refused() {
    insta::assert_snapshot!(picture(&pretender("6.2.14"), &["workflow", "runs"]), @r"
    exit 69
    --- stderr
    error: redis is version 6.2.14; maestro needs 7.0 or newer, or valkey

    hint: install redis 7, or valkey
    ");
}

#[test]
fn data_of_another_format_is_refused() {
    let redis = TestRedis::start();
    redis::cmd("HSET").arg("maestro:ctl").arg(&["schema", "99"]).exec(&mut redis.raw()).expect("written");
    insta::assert_snapshot!(picture(&redis.url(), &["workflow", "runs"]), @r"
    exit 69
    --- stderr
    error: the cluster is stored in format 99, and this version reads format 1

    hint: use the version of maestro that wrote it
    ");
}

#[test]
fn a_redis_without_memory_refuses_a_run_and_says_why() {
    let redis = configured(&[]);
    let sandbox = Sandbox::new();
    sandbox.write("here/one.yaml", "name: one\nsteps:\n  - id: a\n    agent: noop\n");
    let url = redis.url();
    assert_eq!(sandbox.maestro(&["workflow", "runs", "--redis-url", &url]).code, 0);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut redis.raw()).expect("configured");
    let answer = sandbox.maestro(&["workflow", "run", "one.yaml", "--detach", "--redis-url", &url]);
    insta::assert_snapshot!(answer.picture().replace(&url, "[REDIS]"), @r"
    exit 69
    --- stderr
    error: redis is out of memory (`maxmemory` reached)

    hint: running work goes on; raise `maxmemory`, or lower `MAESTRO_RUN_BYTES` or `MAESTRO_RUN_RETENTION`
    ");
}
