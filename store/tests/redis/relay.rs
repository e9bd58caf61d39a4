//! Bytes that travel through Redis: all of them or an error, never more at once than a window, nothing stored.

use std::time::Duration;

use maestro_store::Store;
use maestro_store::relay::{FRAME_BYTES_MAX, RelayError, RelayId, RelayReceiver, WINDOW_FRAMES};

use crate::support::TestRedis;

/// Until what only needs to be scheduled must have happened.
const SOON: Duration = Duration::from_secs(10);

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|place| (place as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

async fn received(mut receiver: RelayReceiver) -> Result<Vec<u8>, RelayError> {
    let mut all = Vec::new();
    while let Some(bytes) = receiver.next().await? {
        all.extend(bytes);
    }
    Ok(all)
}

async fn pair() -> (TestRedis, Store, Store) {
    let redis = TestRedis::start();
    let (here, there) = (redis.store().await, redis.store().await);
    (redis, here, there)
}

#[tokio::test]
async fn what_is_sent_comes_whole_and_in_order_and_leaves_no_key() {
    let (redis, here, there) = pair().await;
    let before: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.raw()).expect("keys");
    let id = RelayId::random();
    let receiver = here.relay_receiver(&id).await.expect("ready");
    let sent = [pattern(1, 1), Vec::new(), pattern(5 * FRAME_BYTES_MAX + 3, 2), pattern(20_000_000, 3)];
    let expected = sent.concat();
    let sending = tokio::spawn(async move {
        let mut sender = there.relay_sender(&id).await.expect("ready");
        for bytes in &sent {
            sender.send(bytes).await?;
        }
        sender.finish().await
    });
    assert!(received(receiver).await.expect("received") == expected);
    sending.await.expect("no panic").expect("sent");
    let after: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.raw()).expect("keys");
    assert_eq!(after.len(), before.len(), "{after:?}");
}

#[tokio::test]
async fn the_sender_waits_for_a_receiver_that_is_a_window_behind() {
    let (_redis, here, there) = pair().await;
    let id = RelayId::random();
    let mut receiver = here.relay_receiver(&id).await.expect("ready");
    let (progress, mut seen) = tokio::sync::watch::channel(0_u64);
    let sending = tokio::spawn(async move {
        let mut sender = there.relay_sender(&id).await.expect("ready");
        for frame in 0..3 * WINDOW_FRAMES {
            sender.send(&pattern(100, frame as u8)).await?;
            progress.send_replace(frame + 1);
        }
        sender.finish().await
    });
    let full = seen.wait_for(|sent| *sent == WINDOW_FRAMES);
    tokio::time::timeout(SOON, full).await.expect("it fills the window").expect("it goes on");
    // A whole second of waiting would have been enough for thousands of frames.
    let further = seen.wait_for(|sent| *sent > WINDOW_FRAMES);
    assert!(tokio::time::timeout(Duration::from_secs(1), further).await.is_err(), "it ran ahead");
    let mut frames = 0;
    while receiver.next().await.expect("received").is_some() {
        frames += 1;
        assert!(*seen.borrow() <= frames + WINDOW_FRAMES, "{} sent, {frames} used", *seen.borrow());
    }
    assert_eq!(frames, 3 * WINDOW_FRAMES);
    sending.await.expect("no panic").expect("sent");
}

#[tokio::test]
async fn a_side_that_is_gone_is_noticed_by_the_other() {
    let (_redis, here, there) = pair().await;
    let id = RelayId::random();
    let mut sender = there.relay_sender(&id).await.expect("ready");
    assert!(matches!(sender.send(b"to nobody").await, Err(RelayError::NobodyListens)));

    let receiver = here.relay_receiver(&id).await.expect("ready");
    let mut sender = there.relay_sender(&id).await.expect("ready");
    sender.send(b"to somebody").await.expect("sent");
    drop(receiver);
    let bytes = pattern(FRAME_BYTES_MAX, 0);
    let until_noticed = async {
        loop {
            if let Err(error) = sender.send(&bytes).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(SOON, until_noticed).await.expect("it is noticed");
    assert!(matches!(error, RelayError::NobodyListens), "{error}");
}

#[tokio::test]
async fn who_gives_up_says_why() {
    let (_redis, here, there) = pair().await;
    let id = RelayId::random();
    let mut receiver = here.relay_receiver(&id).await.expect("ready");
    let mut sender = there.relay_sender(&id).await.expect("ready");
    sender.send(b"first").await.expect("sent");
    sender.give_up("the folder is gone").await;
    assert_eq!(receiver.next().await.expect("received").as_deref(), Some(&b"first"[..]));
    let error = receiver.next().await.expect_err("no more comes");
    assert_eq!(error.to_string(), "the other side gave up: the folder is gone");

    let id = RelayId::random();
    let receiver = here.relay_receiver(&id).await.expect("ready");
    let sender = there.relay_sender(&id).await.expect("ready");
    receiver.give_up("the disk is full").await;
    let error = sender.finish().await.expect_err("it is not wanted");
    assert!(matches!(error, RelayError::GivenUp { .. } | RelayError::NobodyListens), "{error}");
}

#[tokio::test]
async fn a_frame_that_is_missing_or_strange_ends_the_transfer() {
    let (redis, here, there) = pair().await;
    let id = RelayId::random();
    let mut receiver = here.relay_receiver(&id).await.expect("ready");
    let channel = format!(
        "{}relay:{}:b",
        here.keys().prefix(),
        serde_json::to_value(&id).expect("text").as_str().expect("text")
    );
    redis::cmd("PUBLISH").arg(&channel).arg("strange").exec(&mut redis.raw()).expect("published");
    assert!(matches!(receiver.next().await, Err(RelayError::Lost)));

    // The first frame went to a receiver that is no more.
    let id = RelayId::random();
    let early = here.relay_receiver(&id).await.expect("ready");
    let mut sender = there.relay_sender(&id).await.expect("ready");
    sender.send(b"first").await.expect("sent");
    drop(early);
    let mut late = here.relay_receiver(&id).await.expect("ready");
    sender.send(b"second").await.expect("sent");
    assert!(matches!(late.next().await, Err(RelayError::Lost)));
}

#[tokio::test]
async fn a_cut_connection_ends_the_transfer() {
    let (redis, here, there) = pair().await;
    let id = RelayId::random();
    let mut receiver = here.relay_receiver(&id).await.expect("ready");
    let mut sender = there.relay_sender(&id).await.expect("ready");
    sender.send(b"first").await.expect("sent");
    receiver.next().await.expect("received");
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec(&mut redis.raw()).expect("cut");
    let error = tokio::time::timeout(SOON, receiver.next()).await.expect("it is noticed");
    assert!(matches!(error, Err(RelayError::Lost)), "{error:?}");
    assert!(sender.send(b"second").await.is_err());
}
