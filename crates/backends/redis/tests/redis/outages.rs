//! Redis that goes away, hangs, hangs up, or comes late.

use std::time::Duration;

use futures::future::join_all;
use synapse_hub_core::{
    Code, Position,
    backend::{Backend as _, GapReason},
    meta::Expected,
};
use synapse_hub_redis::{RedisBackend, RedisOptions};

use crate::{
    server::{RedisServer, free_port},
    support::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_gone_appends_fail_in_time_and_readers_wait_and_resume() {
    let logs = captured_logs();
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    store(&log, batch(0..1)).await.unwrap();
    take(&mut items, 1).await;
    server.kill();
    // Each waits for the connection as long as it may, all of them together no longer than one.
    let errors = within(join_all((0..50).map(|_| store(&log, batch(1..2))))).await;
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!((error.code(), error.retryable()), (Code::BackendUnavailable, true), "{error}");
    }
    let health = within(backend.health()).await;
    assert!(!health.readable && !health.writable && health.notes.len() == 1, "{health:?}");
    assert!(health.errors > 0);
    assert_eq!(backend.meta().revision().await.unwrap_err().code(), Code::BackendUnavailable);
    server.start_again();
    within(async { while store(&log, produced(2..3, "p", 0)).await.is_err() {} }).await;
    assert_eq!(ids(&take(&mut items, 1).await), [2]);
    within(async {
        while !(backend.health().await.readable && logs.about(server.port, "connected to Redis again") == 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(backend.health().await.reconnects >= 4, "each connection was made again");
    assert_eq!(logs.about(server.port, "lost the connection to Redis"), 1, "one warning, however much was lost");
    assert_eq!(logs.about(server.port, ""), 3, "connected, lost, connected again: nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_a_timeout_and_heals() {
    let server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    store(&log, produced(0..5, "p", 0)).await.unwrap();
    take(&mut items, 5).await;
    redis::cmd("CLIENT").arg("PAUSE").arg(4000).arg("ALL").query::<()>(&mut server.client()).unwrap();
    let error = store(&log, produced(5..10, "p", 1)).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), (Code::BackendTimeout, true), "{error}");
    // Whether it was stored is not known; trying again settles it.
    within(async { while store(&log, produced(5..10, "p", 1)).await.is_err() {} }).await;
    assert_eq!(ids(&take(&mut items, 5).await), [5, 6, 7, 8, 9]);
    assert_eq!(contents(&log).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_and_repeat_nothing_for_readers() {
    let server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    let cutter = tokio::task::spawn_blocking({
        let mut client = server.client();
        move || {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(30));
                let cut = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
                redis::cmd("CLIENT").arg(&cut).query::<u64>(&mut client).unwrap();
            }
        }
    });
    for sequence in 0..200usize {
        while store(&log, produced(sequence * 10..sequence * 10 + 10, "p", sequence as u64)).await.is_err() {}
    }
    within(cutter).await.unwrap();
    assert_eq!(ids(&take(&mut items, 2000).await), (0..2000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_without_its_newest_entries_repeats_nothing_for_readers() {
    let mut server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    // One that was there from the beginning, and one that never read what is kept.
    let mut all = tail(&log, Position::START);
    let kept = store(&log, batch(0..50)).await.unwrap().positions;
    take(&mut all, 50).await;
    let mut latest = tail(&log, log.bounds().await.unwrap().end);
    redis::cmd("SAVE").query::<()>(&mut server.client()).unwrap();
    store(&log, batch(50..54)).await.unwrap();
    for items in [&mut all, &mut latest] {
        assert_eq!(ids(&take(items, 4).await), [50, 51, 52, 53]);
    }
    server.kill();
    server.start_again();
    for items in [&mut all, &mut latest] {
        let gap = take_gap(items).await;
        assert_eq!((gap.reason, gap.earliest), (GapReason::Recreated, Some(kept[0])));
        assert!(gap.resume >= kept[49] && gap.resume < gap.after, "{gap:?}");
    }
    store(&log, batch(54..55)).await.unwrap();
    for items in [&mut all, &mut latest] {
        assert_eq!(ids(&take(items, 1).await), [54]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_a_little_late_is_waited_for() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let connecting = tokio::spawn({
        let url = server.url();
        async move { RedisBackend::connect(&url, RedisOptions { connect_timeout: PATIENCE, ..options() }).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!connecting.is_finished());
    server.start_again();
    let backend = within(connecting).await.unwrap().unwrap();
    store(&open(&backend, "t").await, batch(0..1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_without_redis_keeps_its_deadline_and_tells_everybody() {
    let mut server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    store(&log, batch(0..1)).await.unwrap();
    take(&mut items, 1).await;
    server.kill();
    let waiting = log.append(batch(1..2)).await.unwrap();
    within(backend.shutdown(Duration::from_secs(1))).await;
    let code = within(waiting).await.unwrap_err().code();
    assert!(matches!(code, Code::ShuttingDown | Code::BackendUnavailable), "{code:?}");
    assert_eq!(next(&mut items).await.unwrap_err().code(), Code::ShuttingDown);
    assert_eq!(log.append(batch(1..2)).await.err().map(|error| error.code()), Some(Code::ShuttingDown));
    assert_eq!(log.bounds().await.unwrap_err().code(), Code::ShuttingDown);
    assert!(!within(backend.health()).await.readable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_reports_an_outage_once_and_goes_on_by_itself() {
    use futures::StreamExt as _;
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let backend = connect(&server.url()).await;
    let meta = backend.meta();
    let mut changes = meta.watch("topics/", 0);
    meta.put("topics/a", "1".into(), Expected::Absent).await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().key, "topics/a");
    server.kill();
    assert!(within(changes.next()).await.unwrap().unwrap_err().retryable());
    server.start_again();
    within(async { while meta.put("topics/b", "2".into(), Expected::Any).await.is_err() {} }).await;
    assert_eq!(within(changes.next()).await.unwrap().unwrap().key, "topics/b");
    // Somebody empties the database: what is there afterwards is shown.
    redis::cmd("FLUSHALL").query::<()>(&mut server.client()).unwrap();
    meta.put("topics/c", "3".into(), Expected::Absent).await.unwrap();
    assert_eq!(within(changes.next()).await.unwrap().unwrap().key, "topics/c");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_kept_waiting_for_an_address_without_a_server() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    assert_eq!(within(async { connect_error(&url).await }).await.code(), Code::BackendUnavailable);
}
