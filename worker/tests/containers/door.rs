//! The side door of an agent in a container: mounted for it, and closed to everybody else.

use std::sync::Arc;
use std::time::Duration;

use maestro_model::plan::QueueName;
use maestro_store::step::StepRequest;
use maestro_worker::side_door::{SideDoors, SideDoorsSettings};
use tokio::sync::watch;

use crate::cluster::{TestRedis, attach_worker, submit_run};
use crate::host::host_program;
use crate::isolation::door_keys;
use crate::support::{DEADLINE, Site, agent_type, file_appears, result};

/// Asks who is behind the door, by way of this program.
const ASK: &str = "printf 'GET /v1/task HTTP/1.1\\r\\nHost: maestro\\r\\nConnection: close\\r\\n\\r\\n' | $KNOCK __knock $MAESTRO_SOCKET";

#[tokio::test]
async fn the_door_answers_its_container_and_nobody_else() {
    let (site, redis) = (Site::new(), TestRedis::start());
    let store = redis.store().await;
    let incarnation = attach_worker(&store, "w1", Duration::from_secs(600)).await;
    submit_run(&store, 1).await;
    let request = StepRequest {
        lane: 0,
        request_id: rand::random(),
        want: 1,
        queues: vec![QueueName::agent(&"noop".parse().expect("a lawful slug"))],
        reports: Vec::new(),
        state_ttl_ms: 0,
    };
    let grant = store.step(&incarnation, &request).await.expect("answered").grants.remove(0);
    let settings = SideDoorsSettings {
        short_folders: vec![site.folder.path().join("run")],
        owner: "w1".to_owned(),
        state_ttl: Duration::from_secs(60),
    };
    let present = watch::Sender::new(store.clone());
    let doors = SideDoors::new(settings, present.subscribe());

    let mut order = site.script(&format!("{ASK}; touch asked; while [ ! -e go ]; do sleep 0.05; done"));
    order.agent = Arc::new(agent_type(&door_keys().to_string()));
    (order.task, order.attempt) = (grant.task.clone(), grant.attempt);
    order.env.insert("KNOCK".to_owned(), host_program().display().to_string());
    let paths = site.paths(&order);
    let pass = doors.pass(grant.task.clone(), grant.attempt, incarnation);
    let running = tokio::spawn(site.runner.attempt(order, None).with_door(pass).run());
    file_appears(&paths.folder.join("asked")).await;

    // This process, which is not in the container, is refused at the same socket.
    let stranger = tokio::process::Command::new("sh")
        .args(["-c", ASK])
        .env("KNOCK", host_program())
        .env("MAESTRO_SOCKET", paths.own.join("box/socket"))
        .output()
        .await
        .expect("a shell exists");
    assert!(String::from_utf8_lossy(&stranger.stdout).contains("403"), "{stranger:?}");

    std::fs::write(paths.folder.join("go"), "").expect("ours");
    let end = tokio::time::timeout(DEADLINE, running).await.expect("it ends").expect("no panic");
    let answer = result(&end);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&grant.task.to_string()), "{answer}");
}
