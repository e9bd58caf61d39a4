//! Names: one worker has one; a successor takes it over at once, a stranger does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use maestro_store::{Refusal, Store, StoreError};
use maestro_worker::attaching::{Attachment, attach_again};
use maestro_worker::events::Life;
use maestro_worker::identity::{attach, hold_name, host_name};

use crate::support::{PATIENCE, TestRedis, attach_worker, settings, submit_run};

#[tokio::test]
async fn a_name_that_another_host_has_is_refused_and_one_of_a_dead_process_here_is_taken_over() {
    let redis = TestRedis::start();
    let store = redis.store().await;
    let root = tempfile::tempdir().expect("a folder");
    let settings = settings(root.path(), Some("alpha"));
    let types = ["noop".parse().expect("a lawful slug")];
    let held = hold_name(root.path(), Some("alpha")).expect("free");

    attach_worker(&store, "alpha", Duration::from_secs(60)).await;
    let refused = attach(&store, &settings, &held.name, &types).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::NameTaken { .. }))), "{refused:?}");

    // The holder said that it was on this host, and no process of that number is.
    let mut child = std::process::Command::new("true").spawn().expect("a process");
    let pid = child.id();
    child.wait().expect("it ended");
    let incarnation = attach_worker(&store, "beta", Duration::from_secs(60)).await;
    let about = serde_json::json!({
        "role": "worker", "host": host_name(), "pid": pid, "slots": 1, "version": "0",
    });
    let key = store.keys().worker(incarnation.as_str());
    let _: () = redis::Commands::hset(&mut redis.raw(), key, "about", about.to_string()).expect("written");
    submit_run(&store, 1).await;
    let beta = hold_name(root.path(), Some("beta")).expect("free");
    let begun = Instant::now();
    let successor = attach(&store, &settings, &beta.name, &types).await.expect("taken over");
    assert!(begun.elapsed() < Duration::from_secs(2));
    let named: Vec<_> =
        store.processes().await.expect("answered").into_iter().filter(|one| one.name == "beta").collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].incarnation, successor);
}

async fn attached_again(redis: &TestRedis, root: &std::path::Path) -> Attachment {
    let settings = Arc::new(settings(root, Some("alpha")));
    let name = "alpha".parse().expect("a lawful name");
    let types = vec!["noop".parse().expect("a lawful slug")];
    let former = "the one before".to_owned();
    let again = attach_again(redis.options(), settings, name, types, Life(2), former);
    tokio::time::timeout(PATIENCE, again).await.expect("it comes back")
}

async fn names(store: &Store) -> Vec<String> {
    store.processes().await.expect("answered").into_iter().map(|process| process.name).collect()
}

#[tokio::test]
async fn a_worker_comes_back_to_a_redis_that_was_emptied_with_the_types_it_has() {
    let redis = TestRedis::start();
    let root = tempfile::tempdir().expect("a folder");
    let old = redis.store().await;
    attach_worker(&old, "alpha", Duration::from_secs(60)).await;
    let _: () = redis::cmd("FLUSHALL").query(&mut redis.raw()).expect("emptied");
    let again = attached_again(&redis, root.path()).await;
    assert_eq!(again.life, Life(2));
    assert_ne!(again.store.cluster_id(), old.cluster_id(), "it is another cluster");
    assert_eq!(names(&again.store).await, ["alpha"]);
    assert_eq!(again.store.agent_types().await.expect("answered").len(), 1, "its own types are registered");
}

#[tokio::test]
async fn a_worker_waits_for_a_redis_that_is_away_and_for_its_name() {
    let mut redis = TestRedis::start();
    let root = tempfile::tempdir().expect("a folder");
    let stranger = attach_worker(&redis.store().await, "alpha", Duration::from_secs(600)).await;
    redis.kill();
    let while_away = tokio::time::timeout(Duration::from_millis(600), attached_again(&redis, root.path()));
    assert!(while_away.await.is_err(), "it attached to nothing");
    redis.restart();
    let store = redis.store().await;
    let while_taken = tokio::time::timeout(Duration::from_millis(600), attached_again(&redis, root.path()));
    assert!(while_taken.await.is_err(), "the name is another host's");
    store.detach(&stranger).await.expect("gone");
    let again = attached_again(&redis, root.path()).await;
    assert_eq!(names(&again.store).await, ["alpha"]);
    assert_ne!(again.incarnation, stranger);
}
