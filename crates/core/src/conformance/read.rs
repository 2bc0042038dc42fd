//! Promises of reading.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;

use super::{
    Harness,
    support::{
        Fixture, append, assert_increasing, bounds, contents, event_of_size, next, numbers, positions, records, store,
        take, within,
    },
};
use crate::{
    Position,
    backend::{Append, EventLog, ReadItem, ReadLimits, Record},
};

pub async fn an_empty_log_has_empty_bounds<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("empty").await;
    let bounds = bounds(&*log).await;
    assert_eq!((bounds.earliest, bounds.latest, bounds.end), (None, None, Position::START));
    assert_eq!(bounds.events.unwrap_or(0), 0);
    assert_eq!(records(&*log, Position::START, bounds.end).await, []);
}

pub async fn bounds_name_the_first_and_the_last_event<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("bounds").await;
    let mut given = append(&*log, 0..5).await;
    let small = bounds(&*log).await;
    given.extend(append(&*log, 5..10).await);
    let bounds = bounds(&*log).await;
    assert_eq!(small.latest, Some(given[4]));
    assert_eq!(bounds.earliest, given.first().copied());
    assert_eq!(bounds.latest, given.last().copied());
    assert_eq!(Some(bounds.end), bounds.latest);
    assert!(bounds.events.is_none_or(|events| events == 10), "{bounds:?}");
    assert!(bounds.bytes.is_none_or(|bytes| bytes > 0 && small.bytes.is_none_or(|small| small <= bytes)), "{bounds:?}");
}

pub async fn a_blocked_reader_gets_what_is_appended_later<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("tail").await;
    for round in 0..10 {
        let end = bounds(&*log).await.end;
        let mut reader = log.read(end, None, ReadLimits::default());
        let waiting = tokio::spawn(async move { (take(&mut reader, 3).await, reader) });
        tokio::task::yield_now().await;
        let mut given = append(&*log, round * 10..round * 10 + 3).await;
        let (seen, mut reader) = within("a blocked reader", waiting).await.unwrap();
        assert_eq!(positions(&seen), given);
        // And again, without a new read.
        given = append(&*log, round * 10 + 3..round * 10 + 5).await;
        assert_eq!(positions(&take(&mut reader, 2).await), given);
    }
}

pub async fn many_readers_of_one_partition_all_get_everything<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("audience").await;
    append(&*log, 0..50).await;
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let mut reader = log.read(Position::START, None, ReadLimits::default());
            tokio::spawn(async move { take(&mut reader, 150).await })
        })
        .collect();
    for start in (50..150).step_by(4) {
        append(&*log, start..start + 4).await;
    }
    for reader in readers {
        assert_eq!(numbers(&within("a reader", reader).await.unwrap()), (0..150).collect::<Vec<_>>());
    }
}

pub async fn reading_goes_on_after_any_position<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("resume").await;
    let mut given = Vec::new();
    for start in (0..30).step_by(6) {
        given.extend(append(&*log, start..start + 6).await);
    }
    let end = bounds(&*log).await.end;
    for (index, &position) in given.iter().enumerate() {
        assert_eq!(positions(&records(&*log, position, end).await), given[index + 1..]);
        // Reading after the position before an event starts with the event.
        assert_eq!(positions(&records(&*log, position.before(), end).await), given[index..]);
    }
}

pub async fn replay_runs_into_live_without_a_gap_or_a_duplicate<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("replay").await;
    for start in (0..1000).step_by(100) {
        append(&*log, start..start + 100).await;
    }
    let limits = ReadLimits { batch_events_max: 7, ..ReadLimits::default() };
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = log.read(Position::START, None, limits);
            tokio::spawn(async move { take(&mut reader, 4000).await })
        })
        .collect();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for round in 0..200 {
                    let first = 1000 + writer * 1000 + round * 5;
                    append(&*log, first..first + 5).await;
                }
            })
        })
        .collect();
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let stored = contents(&*log).await;
    assert_eq!(stored.len(), 4000);
    for reader in readers {
        let seen = within("a reader", reader).await.unwrap();
        assert_eq!(positions(&seen), positions(&stored));
    }
}

pub async fn a_reader_that_starts_anew_all_the_time_misses_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("restless").await;
    let writer = {
        let log = log.clone();
        tokio::spawn(async move {
            for start in (0..600).step_by(3) {
                append(&*log, start..start + 3).await;
            }
        })
    };
    let mut seen: Vec<Record> = Vec::new();
    while seen.len() < 600 {
        let after = seen.last().map_or(Position::START, |record| record.position);
        let mut reader = log.read(after, None, ReadLimits::default());
        seen.extend(take(&mut reader, 1).await);
    }
    within("the writer", writer).await.unwrap();
    assert_increasing(&seen);
    assert_eq!(numbers(&seen), (0..600).collect::<Vec<_>>());
}

pub async fn a_read_ends_with_its_until<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("until").await;
    let mut given = append(&*log, 0..10).await;
    given.extend(append(&*log, 10..20).await);
    // Nothing is between equal positions, nor backwards.
    assert_eq!(records(&*log, Position::START, Position::START).await, []);
    assert_eq!(records(&*log, given[5], given[5]).await, []);
    assert_eq!(records(&*log, given[5], given[2]).await, []);
    for (index, &until) in given.iter().enumerate() {
        assert_eq!(positions(&records(&*log, Position::START, until).await), given[..=index]);
        // Just before an event is after the one before it.
        assert_eq!(positions(&records(&*log, Position::START, until.before()).await), given[..index]);
    }
    assert_eq!(positions(&records(&*log, given[3], given[12]).await), given[4..=12]);
}

pub async fn an_until_ahead_of_the_log_is_waited_for<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("ahead").await;
    let mut given = append(&*log, 0..2).await;
    // So many events ahead for a log that counts, so many milliseconds for one that goes by the clock.
    let until = Position::new(given[1].major() + 600, 0, 0).unwrap();
    let mut reader = log.read(given[0], Some(until), ReadLimits::default());
    let waiting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(item) = reader.next().await {
            match item.unwrap() {
                ReadItem::Batch(batch) => seen.extend(batch),
                ReadItem::Gap(gap) => panic!("nothing is gone, and yet came {gap:?}"),
            }
        }
        seen
    });
    let mut start = 2;
    within("a read with an end ahead", async {
        while !waiting.is_finished() {
            given.extend(append(&*log, start..start + 20).await);
            start += 20;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    given.retain(|&position| position <= until);
    assert!(given.len() > 2, "the read ended at once");
    assert_eq!(positions(&waiting.await.unwrap()), given[1..]);
}

pub async fn a_read_keeps_to_its_limits<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("limits").await;
    for number in 0..100 {
        store(&*log, Append::new(vec![event_of_size(number, 10 << 10)])).await.unwrap();
    }
    let end = bounds(&*log).await.end;
    for (events, bytes) in [(10, 1 << 20), (1000, 64 << 10), (1, 1), (1000, 1)] {
        let limits = ReadLimits { batch_events_max: events, batch_bytes_max: bytes };
        let mut reader = log.read(Position::START, Some(end), limits);
        let mut seen = Vec::new();
        while let Some(item) = next(&mut reader).await {
            let ReadItem::Batch(batch) = item.unwrap() else { panic!("nothing is gone") };
            let size: usize = batch.iter().map(|record| record.event.size()).sum();
            assert!(batch.len() <= events, "{} events instead of {events}", batch.len());
            assert!(batch.len() == 1 || size <= 2 * bytes, "{size} bytes instead of about {bytes}");
            seen.extend(batch);
        }
        assert_eq!(numbers(&seen), (0..100).collect::<Vec<_>>());
    }
}

pub async fn dropping_a_reader_harms_nobody<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log: Arc<dyn EventLog> = fixture.log("leaving").await;
    let mut staying = log.read(Position::START, None, ReadLimits::default());
    for round in 0..20 {
        // One leaves before it was asked for anything, one while it waits, one in the middle.
        drop(log.read(Position::START, None, ReadLimits::default()));
        let end = bounds(&*log).await.end;
        let mut waiting = log.read(end, None, ReadLimits::default());
        assert!(futures::poll!(waiting.next()).is_pending());
        append(&*log, round * 10..round * 10 + 10).await;
        drop(waiting);
        let limits = ReadLimits { batch_events_max: 1, ..ReadLimits::default() };
        let mut leaving = log.read(Position::START, None, limits);
        take(&mut leaving, 1).await;
        drop(leaving);
        assert_eq!(numbers(&take(&mut staying, 10).await), (round * 10..round * 10 + 10).collect::<Vec<_>>());
    }
}
