//! Bells: work is heard of at once, and a token that cannot be used here goes to somebody else.

use std::time::Duration;

use maestro_model::plan::QueueName;
use maestro_worker::bells::{BellTopic, OwnBell, listen};
use maestro_worker::events::WorkerEvent;
use redis::Commands;
use tokio::sync::{mpsc, watch};

use crate::support::{PATIENCE, TestRedis, attach_worker, wait_until};

fn queue() -> QueueName {
    QueueName::agent(&"noop".parse().expect("a lawful slug"))
}

fn blocked(redis: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("clients").query(redis).expect("answered");
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_token_that_a_full_worker_took_is_passed_on() {
    let server = TestRedis::start();
    let store = server.store().await;
    let incarnation = attach_worker(&store, "alpha", Duration::from_secs(60)).await;
    let mut raw = server.raw();
    let bell = store.keys().bell(queue().as_str());
    let topic = watch::Sender::new(BellTopic { who: Some((store, incarnation)), queues: vec![queue()] });
    let (sender, mut events) = mpsc::unbounded_channel();
    let listening = tokio::spawn(listen(topic.subscribe(), OwnBell::default(), sender));
    let rung = async |events: &mut mpsc::UnboundedReceiver<WorkerEvent>| {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("it rings");
        assert!(matches!(event, Some(WorkerEvent::BellRang)), "{event:?}");
    };
    // One look after connecting.
    rung(&mut events).await;
    wait_until("it blocks", || blocked(&mut raw) == 1);
    let _: () = raw.rpush(&bell, "1").expect("pushed");
    rung(&mut events).await;
    wait_until("the token is used up", || raw.llen::<_, u64>(&bell).expect("answered") == 0);

    // Full from now on, but the wait in Redis goes on with the queue's bell for a while.
    wait_until("it blocks", || blocked(&mut raw) == 1);
    topic.send_modify(|topic| topic.queues.clear());
    let _: () = raw.rpush(&bell, "1").expect("pushed");
    rung(&mut events).await;
    wait_until("the token is back", || raw.llen::<_, u64>(&bell).expect("answered") == 1);
    wait_until("it blocks", || blocked(&mut raw) == 1);
    assert_eq!(raw.llen::<_, u64>(&bell).expect("answered"), 1, "and stays");

    // With a slot free again it hears of it at once.
    topic.send_modify(|topic| topic.queues.push(queue()));
    rung(&mut events).await;
    wait_until("the token is used up", || raw.llen::<_, u64>(&bell).expect("answered") == 0);
    drop(topic);
    tokio::time::timeout(PATIENCE, listening).await.expect("it ends with its topic").expect("no bug");
}
