//! Promises of opening, closing, crashing and sharing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;

use super::{
    Harness, PATIENCE,
    support::{
        End, Fixture, append, assert_code, assert_increasing, bounds, contents, events, name, number, numbers,
        open_log, positions, records, store, take, within,
    },
};
use crate::{
    Code, Durability, PartitionId, Position,
    backend::{Append, EventLog, ReadItem, ReadLimits, Sharing},
};

pub async fn capabilities_are_plausible_and_the_backend_is_healthy<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let backend = fixture.backend();
    let capabilities = backend.capabilities();
    assert!(!backend.name().is_empty());
    assert!(capabilities.layouts.contains(&fixture.settings.layout), "{capabilities:?}");
    assert!(capabilities.event_bytes_max >= 1 << 20, "{capabilities:?}");
    assert!(capabilities.find_precision < Duration::from_secs(1), "{capabilities:?}");
    let health = within("health", backend.health()).await;
    assert!(health.readable && health.writable, "{health:?}");
}

pub async fn acknowledged_events_survive_a_shutdown<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    if !fixture.survives() {
        return;
    }
    let log = fixture.log("kept").await;
    let mut given = Vec::new();
    for round in 0..3 {
        let log = if round == 0 { log.clone() } else { fixture.log("kept").await };
        given.extend(append(&*log, round * 100..round * 100 + 100).await);
        let before = bounds(&*log).await;
        drop(log);
        fixture.reopen(End::Shutdown).await;
        let log = fixture.log("kept").await;
        assert_eq!(positions(&contents(&*log).await), given);
        let after = bounds(&*log).await;
        assert_eq!((after.earliest, after.latest), (before.earliest, before.latest));
        assert_eq!((after.events, after.bytes), (before.events, before.bytes));
        let names = within("list_topics", fixture.backend().list_topics()).await.unwrap();
        assert_eq!(names, [name("kept")]);
    }
}

pub async fn acknowledged_events_survive_what_is_claimed_and_no_more<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    let log = fixture.log("claimed").await;
    let given = append(&*log, 0..100).await;
    drop(log);
    let survives = fixture.survives();
    fixture.reopen(End::Crash).await;
    let left = positions(&contents(&*fixture.log("claimed").await).await);
    if survives {
        assert_eq!(left, given, "acknowledged events did not survive");
    } else {
        assert_eq!(left, [], "more survives than is claimed");
    }
}

pub async fn positions_are_never_given_again<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    if !fixture.survives() {
        return;
    }
    let mut largest = Position::START;
    let ends = [End::Crash, End::Shutdown, End::Crash, End::Crash, End::Shutdown, End::Shutdown, End::Crash];
    for (round, end) in ends.into_iter().enumerate() {
        let log = fixture.log("given").await;
        assert!(bounds(&*log).await.end >= largest, "before {round}");
        // What is only in memory may be lost, but its position may have been seen. In some rounds nothing else follows.
        let durability = Durability::Memory;
        let append = Append { durability, ..Append::new(events([round * 2 + 1])) };
        let mut given = store(&*log, append).await.unwrap().positions;
        if round % 3 != 2 {
            given.extend(super::support::append(&*log, [round * 2]).await);
        }
        assert!(largest < given[0] && given.is_sorted(), "round {round}: {largest} {given:?}");
        largest = *given.last().unwrap();
        drop(log);
        fixture.reopen(end).await;
    }
    // What was skipped or lost is no gap for a reader.
    let log = fixture.log("given").await;
    let end = bounds(&*log).await.end;
    assert!(end >= largest);
    let mut seen = numbers(&records(&*log, Position::START, end).await);
    seen.retain(|number| number.is_multiple_of(2));
    assert_eq!(seen, [0, 2, 6, 8, 12]);
    let mut reader = log.read(end, None, ReadLimits::default());
    append(&*log, [100]).await;
    assert_eq!(numbers(&take(&mut reader, 1).await), [100]);
}

pub async fn several_crashes_in_a_row_lose_nothing<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    if !fixture.survives() {
        return;
    }
    let mut given = Vec::new();
    for round in 0..5 {
        let log = fixture.log("unlucky").await;
        given.extend(append(&*log, round * 10..round * 10 + 10).await);
        drop(log);
        fixture.reopen(End::Crash).await;
        // Also when nothing happens between two of them.
        fixture.reopen(End::Crash).await;
    }
    let log = fixture.log("unlucky").await;
    let stored = contents(&*log).await;
    assert_eq!(numbers(&stored), (0..50).collect::<Vec<_>>());
    assert_eq!(positions(&stored), given);
    assert_eq!(positions(&records(&*log, given[24], bounds(&*log).await.end).await), given[25..]);
}

/// Appends until the hub is gone or it is told to stop, and notes what it was told.
async fn load(log: Arc<dyn EventLog>, writer: usize, acknowledged: Arc<Mutex<BTreeMap<usize, Position>>>) {
    for round in 0.. {
        let first = writer * 1_000_000 + round * 4;
        let Ok(commit) = log.append(Append::new(events(first..first + 4))).await else { return };
        let Ok(appended) = commit.await else { return };
        acknowledged.lock().unwrap().extend((first..first + 4).zip(appended.positions));
    }
}

pub async fn a_crash_in_the_middle_of_a_load_loses_nothing_acknowledged<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    if !fixture.survives() {
        return;
    }
    let log = fixture.log("loaded").await;
    let mut reader = log.read(Position::START, None, ReadLimits::default());
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let writers: Vec<_> = (0..3).map(|writer| tokio::spawn(load(log.clone(), writer, acknowledged.clone()))).collect();
    take(&mut reader, 300).await;
    drop((reader, log));
    // What is acknowledged from here on may have happened after the hub was dead.
    let before = acknowledged.lock().unwrap().clone();
    fixture.reopen(End::Crash).await;
    for writer in writers {
        writer.abort();
    }
    let stored = contents(&*fixture.log("loaded").await).await;
    assert_increasing(&stored);
    let mut found = BTreeMap::new();
    for record in &stored {
        assert_eq!(found.insert(number(&record.event), record.position), None, "an event is there twice");
    }
    assert!(before.len() > 100, "only {} events were acknowledged", before.len());
    for (number, position) in before {
        assert_eq!(found.get(&number), Some(&position), "event {number}");
    }
    // Batches are there whole or not at all.
    assert!(found.len().is_multiple_of(4) && found.keys().all(|number| found.contains_key(&(number / 4 * 4 + 3))));
}

pub async fn shutdown_stores_what_was_accepted<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    let log = fixture.log("accepted").await;
    let mut commits = Vec::new();
    for start in (0..400).step_by(4) {
        commits.push(within("append", log.append(Append::new(events(start..start + 4)))).await.unwrap());
    }
    let survives = fixture.survives();
    drop(log);
    fixture.reopen(End::Shutdown).await;
    let mut given = Vec::new();
    for commit in commits {
        given.extend(within("a commit", commit).await.expect("what was accepted was not stored").positions);
    }
    if survives {
        assert_eq!(positions(&contents(&*fixture.log("accepted").await).await), given);
    }
}

pub async fn shutdown_ends_blocked_readers<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("blocked").await;
    append(&*log, 0..3).await;
    let readers: Vec<_> = (0..20)
        .map(|index| {
            let partition = log.clone();
            tokio::spawn(async move {
                let until = (index % 2 == 1).then_some(Position::MAX);
                let mut reader = partition.read(Position::START, until, ReadLimits::default());
                take(&mut reader, 3).await;
                let last = reader.next().await.expect("the read ended without a word");
                (last.map(|item| matches!(item, ReadItem::Batch(_))), reader.next().await.is_none())
            })
        })
        .collect();
    let mut watch = fixture.meta().watch("", 0);
    let watching = tokio::spawn(async move { watch.next().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    within("shutdown", fixture.backend().shutdown(PATIENCE / 2)).await;
    for reader in readers {
        let (last, ended) = within("a blocked reader", reader).await.unwrap();
        assert_code(last, Code::ShuttingDown);
        assert!(ended, "a read goes on after its end");
    }
    let last = within("a watch", watching).await.unwrap();
    assert!(!matches!(last, Some(Ok(_))), "nothing was changed, and yet came {last:?}");
}

pub async fn nothing_is_accepted_after_a_shutdown<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("closed").await;
    append(&*log, 0..3).await;
    within("shutdown", fixture.backend().shutdown(PATIENCE / 2)).await;
    assert_code(store(&*log, Append::new(events([3]))).await, Code::ShuttingDown);
    // Closing twice is no harm.
    within("shutdown", fixture.backend().shutdown(PATIENCE / 2)).await;
}

pub async fn a_second_hub_shares_or_is_refused<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let here = fixture.log("shared").await;
    append(&*here, [0]).await;
    let second = within("opening a second hub", fixture.harness.second_hub()).await;
    if fixture.backend().capabilities().sharing == Sharing::Exclusive {
        // Where there is a way in for a second hub, it must be shut.
        if let Some(second) = second {
            assert_code(second.map(|_| "a second hub"), Code::StorageLocked);
        }
        append(&*here, [1]).await;
        assert_eq!(numbers(&contents(&*here).await), [0, 1]);
        return;
    }
    let second = second.expect("a shared backend has a second hub").expect("the second hub does not open");
    let there = open_log(&*second, "shared", 0, &fixture.settings).await;
    let mut readers = [&here, &there].map(|log| log.read(Position::START, None, ReadLimits::default()));
    for number in 1..20 {
        let log = if number % 2 == 0 { &here } else { &there };
        append(&**log, [number]).await;
    }
    for reader in &mut readers {
        assert_eq!(numbers(&take(reader, 20).await), (0..20).collect::<Vec<_>>());
    }
    let names = within("list_topics", second.list_topics()).await.unwrap();
    assert_eq!(names, [name("shared")]);
    // One leaves, the other stays.
    within("shutdown", second.shutdown(PATIENCE / 2)).await;
    append(&*here, [20]).await;
    assert_eq!(numbers(&take(&mut readers[0], 1).await), [20]);
    let partition = PartitionId::new(name("shared"), 0);
    within("opening", fixture.backend().open(&partition, &fixture.settings)).await.unwrap();
}
