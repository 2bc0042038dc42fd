//! Publishers that try again, across hubs and across the death of Redis.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use synapse_hub_core::{
    Code, Position,
    backend::{Append, EventLog, PRODUCER_WINDOW_BATCHES},
};

use crate::{
    server::{Database, RedisServer},
    support::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_never_seen_by_anybody_and_is_no_loss() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    let first = store(&log, produced(0..250, "p", 7)).await.unwrap();
    take(&mut items, 250).await;
    for _ in 0..3 {
        let again = store(&log, produced(0..250, "p", 7)).await.unwrap();
        assert!(again.duplicate && again.positions == first.positions);
    }
    // Longer than the tail needs to look at what the stream says of itself.
    tokio::time::sleep(Duration::from_millis(300)).await;
    store(&log, produced(250..251, "p", 8)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [250]);
    assert_eq!(ids(&contents(&log).await), (0..=250).collect::<Vec<_>>());
    // A trim after retries is still counted for a reader of everything.
    log.trim(synapse_hub_core::backend::Trim { events_max: Some(1), ..Default::default() }).await.unwrap();
    assert_eq!(take_gap(&mut tail(&log, Position::START)).await.lost, Some(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_id_of_a_batch_is_known_however_many_milliseconds_it_took() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    for (sequence, size) in [1usize, 2, 3000, 10_000].into_iter().enumerate() {
        let first = store(&log, produced(0..size, "p", sequence as u64)).await.unwrap();
        let spread = first.positions.iter().map(|position| position.major()).collect::<std::collections::BTreeSet<_>>();
        assert!(size < 10_000 || spread.len() > 1, "the largest batch takes several milliseconds");
        let again = store(&log, produced(0..size, "p", sequence as u64)).await.unwrap();
        assert_eq!(again.positions, first.positions, "{size} events");
    }
    // Ids that somebody made up, so large that a script cannot count with them.
    let mut client = database.client();
    redis::cmd("XADD")
        .arg("t")
        .arg("9999999999999-9007199254740993")
        .arg("a")
        .arg("1")
        .query::<String>(&mut client)
        .unwrap();
    let first = store(&log, produced(0..3, "p", 9)).await.unwrap();
    assert_eq!(store(&log, produced(0..3, "p", 9)).await.unwrap().positions, first.positions);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_that_are_given_the_same_batch_store_it_once() {
    let database = Database::new();
    let (one, two) = (connect(&database.url()).await, connect(&database.url()).await);
    let logs = [open(&one, "t").await, open(&two, "t").await];
    for sequence in 0..20u64 {
        let numbers = sequence as usize * 10..sequence as usize * 10 + 10;
        let tries = (0..6).map(|at| store(&logs[at % 2], produced(numbers.clone(), "p", sequence)));
        let appended: Vec<_> = join_all(tries).await.into_iter().map(|appended| appended.unwrap()).collect();
        assert_eq!(appended.iter().filter(|appended| !appended.duplicate).count(), 1);
        assert!(appended.windows(2).all(|two| two[0].positions == two[1].positions));
    }
    assert_eq!(ids(&contents(&logs[0]).await), (0..200).collect::<Vec<_>>());
}

/// Batches are appended in different ways: one small script, or a transaction that a script ends.
const SIZES: [usize; 2] = [2, 20];

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_old_stores_nothing_and_harms_nobody() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let window = PRODUCER_WINDOW_BATCHES as u64;
    for size in SIZES {
        let log = open(&backend, &format!("t{size}")).await;
        let mut items = tail(&log, Position::START);
        for sequence in [5].into_iter().chain(100..100 + window) {
            store(&log, produced(0..size, "p", sequence)).await.unwrap();
        }
        let stored = size * (1 + window as usize);
        take(&mut items, stored).await;
        let before = log.bounds().await.unwrap();
        let error = store(&log, produced(0..size, "p", 7)).await.unwrap_err();
        assert_eq!(error.code(), Code::ProducerSequenceTooOld);
        assert_eq!(contents(&log).await.len(), stored);
        let after = log.bounds().await.unwrap();
        assert_eq!((after.end, after.events), (before.end, before.events));
        // The largest number is one like any other.
        for duplicate in [false, true] {
            assert_eq!(store(&log, produced(0..size, "p", u64::MAX)).await.unwrap().duplicate, duplicate);
        }
        assert_eq!(take(&mut items, size).await.len(), size);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_known_whichever_way_it_comes() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    // The first time alone, the second as one of many, as when a publisher was started anew with other limits.
    let first = store(&log, produced(0..5, "p", 0)).await.unwrap();
    let again = store(&log, produced(0..50, "p", 0)).await.unwrap();
    assert!(again.duplicate && again.positions[45..] == first.positions);
    let first = store(&log, produced(0..50, "p", 1)).await.unwrap();
    let again = store(&log, produced(0..5, "p", 1)).await.unwrap();
    assert!(again.duplicate && again.positions == first.positions[..5]);
    assert_eq!(contents(&log).await.len(), 55);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_forgets_and_values_in_their_way_change_nothing() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    for (sequence, size) in SIZES.into_iter().enumerate() {
        let producer = format!("q{sequence}");
        let key = format!("synapse:{{t}}:producer:{producer}");
        redis::cmd("SET").arg(key).arg("mine").query::<()>(&mut client).unwrap();
        redis::cmd("SET").arg("synapse:{t}:state").arg("mine").query::<()>(&mut client).unwrap();
        assert_eq!(log.bounds().await.unwrap().events, Some(2 * sequence as u64));
        let batch = || produced(0..size, &producer, 0);
        assert!(!store(&log, batch()).await.unwrap().duplicate);
        redis::cmd("SCRIPT").arg("FLUSH").query::<()>(&mut client).unwrap();
        assert!(store(&log, batch()).await.unwrap().duplicate);
    }
    assert_eq!(contents(&log).await.len(), SIZES.iter().sum::<usize>());
    let trim = synapse_hub_core::backend::Trim { events_max: Some(1), ..Default::default() };
    assert_eq!(log.trim(trim).await.unwrap().removed, Some(21));
}

/// Publishes batches one after the other until it is stopped, and tries each again until it is acknowledged.
async fn publish(
    log: Arc<dyn EventLog>,
    producer: String,
    stop: Arc<AtomicBool>,
) -> (usize, BTreeMap<u64, Vec<Position>>) {
    let (mut retries, mut acknowledged) = (0, BTreeMap::new());
    for sequence in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let numbers = sequence as usize * 20..sequence as usize * 20 + 20;
        loop {
            let append: Append = produced(numbers.clone(), &producer, sequence);
            match store(&log, append).await {
                Ok(appended) => {
                    acknowledged.insert(sequence, appended.positions);
                    break;
                }
                Err(error) => {
                    assert!(error.retryable(), "{error}");
                    retries += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    (retries, acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_there_exactly_once_after_redis_was_killed_under_load() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> =
        (0..4).map(|number| tokio::spawn(publish(log.clone(), format!("p{number}"), stop.clone()))).collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill();
        server.start_again();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    let mut retries = 0;
    for publisher in publishers {
        let (tries, acknowledged) = within(publisher).await.unwrap();
        retries += tries;
        for (sequence, positions) in acknowledged {
            for (index, position) in positions.into_iter().enumerate() {
                let before = expected.insert(position, sequence as usize * 20 + index);
                assert_eq!(before, None, "a position was given twice");
            }
        }
    }
    assert!(retries > 0, "the load was never interrupted");
    let found: BTreeMap<_, _> = contents(&log)
        .await
        .into_iter()
        .map(|record| (record.position, record.event.id().parse::<usize>().unwrap()))
        .collect();
    let missing: Vec<_> = expected.iter().filter(|(position, _)| !found.contains_key(position)).collect();
    let twice: Vec<_> = found.iter().filter(|(position, _)| !expected.contains_key(position)).collect();
    assert!(missing.is_empty() && twice.is_empty(), "missing: {missing:?}; not acknowledged: {twice:?}");
    assert_eq!(found, expected);
    // The reader that was there all the time has seen the same, without a gap.
    let live = take(&mut items, expected.len()).await;
    assert!(live.iter().map(|record| record.position).eq(expected.keys().copied()));
}
