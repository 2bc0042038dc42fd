//! Promises of the recognition of events by `source` and `id`.

use std::{sync::Arc, time::Duration};

use super::{
    Harness,
    support::{End, Fixture, contents, event, events, numbers, open_log, store, within},
};
use crate::{
    Event,
    backend::{Append, Appended, EventLog},
};

const HOUR: Duration = Duration::from_secs(3600);
const NONE: &[u32] = &[];

async fn store_within(log: &dyn EventLog, window: Duration, events: Vec<Event>) -> Appended {
    store(log, Append { dedup_window: Some(window), ..Append::new(events) }).await.unwrap()
}

pub async fn within_the_window_an_event_is_stored_once<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("once").await;
    let first = store_within(&*log, HOUR, events(0..3)).await;
    assert_eq!(first.deduplicated, NONE);
    let again = store_within(&*log, HOUR, events(0..3)).await;
    assert_eq!(again.positions, first.positions);
    assert_eq!(again.deduplicated, [0, 1, 2]);
    assert!(!again.duplicate, "no producer has sent it");
    let mixed = store_within(&*log, HOUR, events([3, 1, 4])).await;
    assert_eq!(mixed.deduplicated, [1]);
    assert_eq!(mixed.positions[1], first.positions[1]);
    assert!(first.positions[2] < mixed.positions[0] && mixed.positions[0] < mixed.positions[2]);
    let stored = contents(&*log).await;
    assert_eq!(numbers(&stored), [0, 1, 2, 3, 4]);
    assert_eq!((stored[3].position, stored[4].position), (mixed.positions[0], mixed.positions[2]));
}

pub async fn repeats_within_a_batch_are_stored_once<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("within").await;
    let appended = store_within(&*log, HOUR, events([0, 1, 0, 2, 1, 1])).await;
    assert_eq!(appended.deduplicated, [2, 4, 5]);
    let stored = contents(&*log).await;
    assert_eq!(numbers(&stored), [0, 1, 2]);
    let expected = [0, 1, 0, 2, 1, 1].map(|index: usize| stored[index].position);
    assert_eq!(appended.positions, expected);
}

pub async fn an_identity_is_source_and_id<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("identity").await;
    // However they are put together, these must not look alike.
    let identities = [("a", "bc"), ("ab", "c"), ("a\n", "bc"), ("a b", "c"), ("a", "b c"), ("A", "bc"), ("a:b", "c")];
    let all = identities.map(|(source, id)| {
        let mut event = event(0);
        event.set_source(source).set_id(id);
        event
    });
    for event in &all {
        assert_eq!(store_within(&*log, HOUR, vec![event.clone()]).await.deduplicated, NONE, "{event:?}");
    }
    // Other content does not make it another event.
    let mut changed = all.to_vec();
    changed.iter_mut().for_each(|event| {
        event.set_kind("other").set_data("{}");
    });
    assert_eq!(store_within(&*log, HOUR, changed).await.deduplicated.len(), all.len());
    assert_eq!(contents(&*log).await.len(), all.len());
}

pub async fn after_the_window_it_is_stored_again<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("later").await;
    let window = Duration::from_millis(300);
    let first = store_within(&*log, window, events([0])).await;
    tokio::time::sleep(window * 2).await;
    let again = store_within(&*log, window, events([0])).await;
    assert_eq!(again.deduplicated, NONE);
    assert!(again.positions > first.positions);
    assert_eq!(numbers(&contents(&*log).await), [0, 0]);
    // Now the second is the one that is known.
    assert_eq!(store_within(&*log, HOUR, events([0])).await.positions, again.positions);
}

pub async fn without_a_window_nothing_is_recognised<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("without").await;
    for _ in 0..2 {
        let appended = store(&*log, Append::new(events([0, 1, 0]))).await.unwrap();
        assert_eq!(appended.deduplicated, NONE);
    }
    assert_eq!(numbers(&contents(&*log).await), [0, 1, 0, 0, 1, 0]);
}

pub async fn concurrent_repeats_are_stored_once<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("many").await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let log: Arc<dyn EventLog> = log.clone();
            tokio::spawn(async move {
                let mut fresh = 0;
                for round in 0..20 {
                    // All of them send the same, from different places.
                    let start = (round + writer * 3) % 20;
                    let appended = store_within(&*log, HOUR, events(start * 5..start * 5 + 5)).await;
                    fresh += appended.positions.len() - appended.deduplicated.len();
                }
                fresh
            })
        })
        .collect();
    let mut fresh = 0;
    for writer in writers {
        fresh += within("a writer", writer).await.unwrap();
    }
    let mut stored = numbers(&contents(&*log).await);
    stored.sort_unstable();
    assert_eq!(stored, (0..100).collect::<Vec<_>>());
    assert_eq!(fresh, 100);
}

pub async fn identities_are_known_after_a_reopening<H: Harness>() {
    for end in [End::Shutdown, End::Crash] {
        let mut fixture = Fixture::<H>::new().await;
        if !fixture.survives() {
            return;
        }
        let log = fixture.log("reopened").await;
        let first = store_within(&*log, HOUR, events(0..50)).await;
        drop(log);
        fixture.reopen(end).await;
        let log = fixture.log("reopened").await;
        let again = store_within(&*log, HOUR, events(0..50)).await;
        assert_eq!(again.positions, first.positions, "{end:?}");
        assert_eq!(contents(&*log).await.len(), 50);
    }
}

pub async fn identities_are_known_across_hubs<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let Some(second) = fixture.second_hub().await else { return };
    let here = fixture.log("hubs").await;
    let there = open_log(&*second, "hubs", 0, &fixture.settings).await;
    let first = store_within(&*here, HOUR, events(0..5)).await;
    let again = store_within(&*there, HOUR, events(0..6)).await;
    assert_eq!(again.positions[..5], first.positions);
    assert_eq!(store_within(&*here, HOUR, events(0..6)).await.positions, again.positions);
    assert_eq!(numbers(&contents(&*here).await), (0..6).collect::<Vec<_>>());
    within("shutdown", second.shutdown(super::PATIENCE)).await;
}
