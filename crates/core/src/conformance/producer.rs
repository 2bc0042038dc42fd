//! Promises of the recognition of retries.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Harness,
    support::{
        End, Fixture, append, assert_code, bounds, contents, event, events, numbers, open_log, positions, store, trim,
        within,
    },
};
use crate::{
    Code, Position,
    backend::{Append, EventLog, PRODUCER_WINDOW_BATCHES, ProducerBatch, Trim},
};

/// The batch `sequence` of a producer, of three events.
fn numbered(id: &str, sequence: u64) -> Append {
    let first = (sequence % 1_000_000) as usize * 3;
    let producer = Some(ProducerBatch { id: id.into(), sequence });
    Append { producer, ..Append::new(events(first..first + 3)) }
}

async fn first_try(log: &dyn EventLog, id: &str, sequence: u64) -> Vec<Position> {
    let appended = store(log, numbered(id, sequence)).await.unwrap();
    assert!(!appended.duplicate, "batch {sequence} of {id} is new");
    assert_eq!(appended.positions.len(), 3);
    appended.positions
}

async fn assert_retry(log: &dyn EventLog, id: &str, sequence: u64, positions: &[Position]) {
    let before = bounds(log).await;
    let appended = store(log, numbered(id, sequence)).await.unwrap();
    assert!(appended.duplicate, "the retry of batch {sequence} of {id} was not recognised");
    assert_eq!(appended.positions, positions);
    assert_eq!(bounds(log).await, before, "a retry stored something");
}

pub async fn a_retry_is_answered_with_its_first_positions_and_stores_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("retries").await;
    let mut given = Vec::new();
    for sequence in 0..10 {
        given.push(first_try(&*log, "p", sequence).await);
        append(&*log, [1000 + sequence as usize]).await;
        assert_retry(&*log, "p", sequence, &given[sequence as usize]).await;
    }
    for sequence in [0, 9, 3] {
        assert_retry(&*log, "p", sequence, &given[sequence as usize]).await;
    }
    assert_eq!(contents(&*log).await.len(), 40);
}

pub async fn a_retry_that_overtakes_its_first_try_stores_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("overtaken").await;
    let first = log.append(numbered("p", 7)).await.unwrap();
    let retry = log.append(numbered("p", 7)).await.unwrap();
    let next = log.append(numbered("p", 8)).await.unwrap();
    let first = within("a commit", first).await.unwrap();
    let retry = within("a commit", retry).await.unwrap();
    assert!(!first.duplicate && retry.duplicate);
    assert_eq!(first.positions, retry.positions);
    assert!(!within("a commit", next).await.unwrap().duplicate);
    assert_eq!(numbers(&contents(&*log).await), [21, 22, 23, 24, 25, 26]);
}

pub async fn concurrent_retries_store_once<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("storm").await;
    for sequence in 0..10 {
        let tries: Vec<_> = (0..12)
            .map(|_| {
                let log: Arc<dyn EventLog> = log.clone();
                tokio::spawn(async move { store(&*log, numbered("p", sequence)).await.unwrap() })
            })
            .collect();
        let (mut firsts, mut given) = (0, BTreeSet::new());
        for one in tries {
            let appended = within("a try", one).await.unwrap();
            firsts += usize::from(!appended.duplicate);
            given.insert(appended.positions);
        }
        assert_eq!((firsts, given.len()), (1, 1));
    }
    assert_eq!(numbers(&contents(&*log).await), (0..30).collect::<Vec<_>>());
}

pub async fn batches_that_come_out_of_order_are_stored<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("disorder").await;
    let order = [5, 3, 8, 6, 4, 20, 7, 12];
    let mut given = Vec::new();
    for sequence in order {
        given.push(first_try(&*log, "p", sequence).await);
    }
    for (sequence, positions) in order.into_iter().zip(&given) {
        assert_retry(&*log, "p", sequence, positions).await;
    }
    assert_eq!(positions(&contents(&*log).await), given.concat());
}

pub async fn what_is_older_than_the_window_is_refused<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("window").await;
    let window = PRODUCER_WINDOW_BATCHES as u64;
    let mut given = Vec::new();
    // Number 10 is left out, to come later.
    for sequence in (0..window + 6).filter(|&sequence| sequence != 10) {
        given.push((sequence, first_try(&*log, "p", sequence).await));
    }
    let remembered = given.split_off(given.len() - window as usize);
    for (sequence, _) in &given {
        let refused = store(&*log, numbered("p", *sequence)).await;
        assert_code(refused, Code::ProducerSequenceTooOld);
    }
    for (sequence, positions) in &remembered {
        assert_retry(&*log, "p", *sequence, positions).await;
    }
    // It was never stored, and is not older than all that are remembered.
    first_try(&*log, "p", 10).await;
    assert_eq!(contents(&*log).await.len() as u64, (window + 6) * 3);
    // A great leap leaves the window as long as it was.
    first_try(&*log, "p", u64::MAX).await;
    let (sequence, positions) = &remembered[window as usize - 1];
    assert_retry(&*log, "p", *sequence, positions).await;
}

pub async fn producers_and_partitions_have_numbers_of_their_own<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    fixture.settings.partitions = 2;
    let longest = "p".repeat(64);
    let producers = ["p", "p1", "p 1", "π", longest.as_str()];
    for partition in 0..2 {
        let log = fixture.partition("own", partition).await;
        let mut given = Vec::new();
        for id in producers {
            given.push(first_try(&*log, id, 1).await);
        }
        for (id, positions) in producers.into_iter().zip(&given) {
            assert_retry(&*log, id, 1, positions).await;
        }
        assert_eq!(contents(&*log).await.len(), 15);
    }
}

async fn survive<H: Harness>(end: End) {
    let mut fixture = Fixture::<H>::new().await;
    if !fixture.survives() {
        return;
    }
    let log = fixture.log("survivor").await;
    let mut given = Vec::new();
    for sequence in 0..80 {
        given.push(first_try(&*log, "p", sequence).await);
    }
    drop(log);
    fixture.reopen(end).await;
    let log = fixture.log("survivor").await;
    let too_old = store(&*log, numbered("p", 15)).await;
    assert_code(too_old, Code::ProducerSequenceTooOld);
    for (sequence, positions) in given.iter().enumerate().skip(16) {
        assert_retry(&*log, "p", sequence as u64, positions).await;
    }
    first_try(&*log, "p", 80).await;
    assert_eq!(contents(&*log).await.len(), 81 * 3);
}

pub async fn retries_are_recognised_after_a_shutdown<H: Harness>() {
    survive::<H>(End::Shutdown).await;
}

pub async fn retries_are_recognised_after_a_crash<H: Harness>() {
    survive::<H>(End::Crash).await;
}

pub async fn retries_are_recognised_across_hubs<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let Some(second) = fixture.second_hub().await else { return };
    let here = fixture.log("hubs").await;
    let there = open_log(&*second, "hubs", 0, &fixture.settings).await;
    for sequence in 0..10 {
        let (first, other) = if sequence % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let given = first_try(&**first, "p", sequence).await;
        assert_retry(&**other, "p", sequence, &given).await;
        assert_retry(&**first, "p", sequence, &given).await;
    }
    assert_eq!(positions(&contents(&*here).await), positions(&contents(&*there).await));
    within("shutdown", second.shutdown(super::PATIENCE)).await;
}

pub async fn a_retry_after_a_trim_stores_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("late").await;
    let given = first_try(&*log, "p", 1).await;
    first_try(&*log, "p", 2).await;
    trim(&*log, Trim { up_to: given.last().copied(), ..Trim::default() }).await;
    let before = bounds(&*log).await;
    let retry = store(&*log, numbered("p", 1)).await.unwrap();
    assert!(retry.duplicate);
    // They are gone: their batch's first stands for those that cannot be told any more.
    assert_eq!(retry.positions.first(), given.first());
    assert!(retry.positions.iter().all(|position| given.contains(position)), "{retry:?}");
    assert_eq!(bounds(&*log).await, before);
}

pub async fn a_retry_of_a_partly_deduplicated_batch_has_the_same_positions<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("partly").await;
    let batch = |sequence, numbers: &[usize]| Append {
        dedup_window: Some(Duration::from_secs(3600)),
        producer: Some(ProducerBatch { id: "p".into(), sequence }),
        ..Append::new(numbers.iter().map(|&number| event(number)).collect())
    };
    let batches: [&[usize]; 4] = [&[0, 1, 2], &[3, 1, 4, 4, 0], &[2, 3], &[5]];
    let mut first = Vec::new();
    for (sequence, numbers) in batches.into_iter().enumerate() {
        first.push(store(&*log, batch(sequence as u64, numbers)).await.unwrap());
    }
    for (sequence, numbers) in batches.into_iter().enumerate() {
        let retry = store(&*log, batch(sequence as u64, numbers)).await.unwrap();
        assert!(retry.duplicate);
        assert_eq!(retry.positions, first[sequence].positions, "batch {sequence}");
    }
    assert_eq!(numbers(&contents(&*log).await), [0, 1, 2, 3, 4, 5]);
}
