//! Promises of appending.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    Harness,
    support::{
        Fixture, append, assert_increasing, bounds, contents, event, event_of_size, events, number, numbers, positions,
        store, take, within,
    },
};
use crate::{
    Code, Durability, Event, Position, Timestamp,
    backend::{Append, Bounds, EventLog, ReadLimits},
};

pub async fn events_stand_in_the_order_of_their_appends<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("order").await;
    for start in (0..200).step_by(10) {
        append(&*log, start..start + 10).await;
    }
    assert_eq!(numbers(&contents(&*log).await), (0..200).collect::<Vec<_>>());
}

pub async fn positions_increase_and_survive_their_text_form<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("positions").await;
    let mut given = Vec::new();
    for start in (0..60).step_by(3) {
        given.extend(append(&*log, start..start + 3).await);
    }
    assert!(given[0] > Position::START);
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
    assert_eq!(positions(&contents(&*log).await), given);
    for position in given {
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    }
}

pub async fn partitions_are_independent<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    fixture.settings.partitions = 3;
    for round in 0..5 {
        for partition in 0..3 {
            let log = fixture.partition("partitioned", partition).await;
            append(&*log, [(partition as usize) * 100 + round]).await;
        }
    }
    for partition in 0..3 {
        let log = fixture.partition("partitioned", partition).await;
        let expected: Vec<_> = (0..5).map(|round| partition as usize * 100 + round).collect();
        assert_eq!(numbers(&contents(&*log).await), expected);
    }
}

/// Writers that append batches of several sizes; returns the numbers of each batch with its positions.
async fn write_concurrently(log: &Arc<dyn EventLog>, writers: usize) -> Vec<Vec<(usize, Position)>> {
    let tasks = (0..writers).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut batches = Vec::new();
            let mut next = writer * 10_000;
            for round in 0..30 {
                let batch: Vec<_> = (next..next + 1 + (writer + round) % 7).collect();
                next += batch.len();
                let given = append(&*log, batch.iter().copied()).await;
                batches.push(batch.into_iter().zip(given).collect::<Vec<_>>());
            }
            batches
        })
    });
    let mut batches = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        batches.extend(within("a writer", task).await.unwrap());
    }
    batches
}

pub async fn the_events_of_a_batch_are_neighbours_among_concurrent_writers<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("neighbours").await;
    let batches = write_concurrently(&log, 6).await;
    let stored: Vec<_> = contents(&*log).await.iter().map(|record| (number(&record.event), record.position)).collect();
    assert_eq!(stored.len(), batches.iter().map(Vec::len).sum::<usize>());
    for batch in batches {
        let first = stored.iter().position(|entry| *entry == batch[0]).expect("an acknowledged event is missing");
        assert_eq!(stored[first..first + batch.len()], batch);
    }
}

pub async fn each_writer_finds_its_events_in_its_own_order<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("writers").await;
    let mut reader = log.read(Position::START, None, ReadLimits::default());
    let batches = write_concurrently(&log, 6).await;
    let seen = take(&mut reader, batches.iter().map(Vec::len).sum()).await;
    assert_increasing(&seen);
    let seen = numbers(&seen);
    for writer in 0..6 {
        let own: Vec<_> = seen.iter().copied().filter(|number| number / 10_000 == writer).collect();
        let first = writer * 10_000;
        assert_eq!(own, (first..first + own.len()).collect::<Vec<_>>());
    }
}

pub async fn commits_resolve_in_the_order_of_the_appends<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("commits").await;
    for round in 0..20 {
        let mut commits = Vec::new();
        for batch in 0..20 {
            commits.push(log.append(Append::new(events([round * 20 + batch]))).await.unwrap());
        }
        // When one has resolved, so have all before it.
        let middle = commits.remove(9 + round % 10);
        let middle = within("a commit", middle).await.unwrap().positions[0];
        for commit in commits.drain(..9 + round % 10) {
            let earlier = commit.now_or_never().expect("a later commit resolved first").unwrap();
            assert!(earlier.positions[0] < middle);
        }
        for commit in commits {
            assert!(within("a commit", commit).await.unwrap().positions[0] > middle);
        }
    }
    assert_eq!(numbers(&contents(&*log).await), (0..400).collect::<Vec<_>>());
}

pub async fn a_dropped_commit_does_not_take_its_batch_back<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("dropped").await;
    for start in 0..20 {
        drop(log.append(Append::new(events([start]))).await.unwrap());
    }
    append(&*log, [20]).await;
    assert_eq!(numbers(&contents(&*log).await), (0..=20).collect::<Vec<_>>());
}

pub async fn a_writer_that_never_waits_is_held_back_and_loses_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("pressed").await;
    let mut commits = Vec::new();
    for batch in 0..128 {
        let append = Append::new(vec![event_of_size(2 * batch, 64 << 10), event_of_size(2 * batch + 1, 64 << 10)]);
        commits.push(within("append", log.append(append)).await.unwrap());
    }
    let mut given = Vec::new();
    for commit in commits {
        given.extend(within("a commit", commit).await.unwrap().positions);
    }
    let stored = contents(&*log).await;
    assert_eq!(positions(&stored), given);
    assert_eq!(numbers(&stored), (0..256).collect::<Vec<_>>());
}

pub async fn an_oversize_event_is_refused_with_its_whole_batch<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("oversize").await;
    let max = fixture.backend().capabilities().event_bytes_max;
    let mut oversize = event(1);
    oversize.set_data(Bytes::from(vec![b'x'; max + 1])).more_mut().data_content_type = "text/plain".into();
    let refused = store(&*log, Append::new(vec![event(0), oversize, event(2)])).await;
    let error = refused.expect_err("an event over `event_bytes_max` was stored");
    assert_eq!(error.code(), Code::EventTooLarge, "{error}");
    assert_eq!(error.event_index(), Some(1), "{error}");
    assert_eq!(bounds(&*log).await.latest, None);
    append(&*log, [3]).await;
    assert_eq!(numbers(&contents(&*log).await), [3]);
}

pub async fn every_durability_is_acknowledged<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("durability").await;
    for (index, durability) in [Durability::Memory, Durability::Stored, Durability::Synced].into_iter().enumerate() {
        let guarantee = within("guarantee", fixture.backend().guarantee(durability)).await.unwrap();
        assert!(!guarantee.text.is_empty());
        store(&*log, Append { durability, ..Append::new(events([index])) }).await.unwrap();
    }
    assert_eq!(numbers(&contents(&*log).await), [0, 1, 2]);
}

/// Events that are hard to store.
fn unusual_events() -> Vec<Event> {
    let mut all = event(1);
    all.set_kind("ünïcode.型/😀").set_source("https://example.org/a b?c=d#e").set_correlation_id("korrelation ✓");
    all.set_time(Timestamp::from_nanos(-1_234_567_891))
        .set_data(r#"{"text":"a\u0000b\nc \"q\" 語","list":[1,-2.5,null,true]}"#);
    let more = all.more_mut();
    more.subject = "a/b c".into();
    more.partition_key = "k=1&x".into();
    more.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    more.expiry_time = Some(Timestamp::from_nanos(4_102_444_800_123_456_789));
    more.data_content_type = "application/vnd.example+json; charset=utf-8".into();
    more.data_schema = "https://example.org/schemas/1#/$defs/x".into();
    more.extensions = vec![("priority".into(), "high".into()), ("x1".into(), "väl ue\n".into())];

    let mut binary = event(2);
    binary.set_data((0..=255).cycle().take(1000).collect::<Vec<u8>>()).more_mut().data_content_type =
        "application/octet-stream".into();
    let mut text = event(3);
    text.set_data("plain, not JSON").more_mut().data_content_type = "text/plain".into();
    let mut nothing = event(4);
    nothing.set_data("");

    // Data whose keys are called as attributes are, and values that look like others.
    let data = [
        r#"{"event":"other","timestamp":"never","source":7,"id":null,"correlation_id":{},"data":{"data":1},"time":[]}"#,
        r#"{"version":"1.0","count":"7","yes":"true","null":"null","empty":"","space":" "}"#,
        r#"{"int":1,"float":1.0,"big":18446744073709551615,"small":-9223372036854775808,"tiny":1e-300,"no":false}"#,
        r#"{"deep":{"a":[{"b":[[],{}]}]},"nothing":null,"":"no name","a.b":"dot","ключ":"значение"}"#,
        "{}",
        "[1,2,3]",
        r#""just text""#,
        "42",
        "null",
    ];
    let json = data.iter().enumerate().map(|(index, data)| {
        let mut event = event(10 + index);
        event.set_data(*data);
        event
    });
    [all, binary, text, nothing].into_iter().chain(json).collect()
}

/// The same event; JSON data may be written in another way.
fn assert_same(stored: &Event, published: &Event) {
    let json = |event: &Event| serde_json::from_slice::<serde_json::Value>(event.data());
    if published.is_json()
        && let (Ok(before), Ok(after)) = (json(published), json(stored))
    {
        assert_eq!(after, before);
        let mut stored = stored.clone();
        assert_eq!(stored.set_data(published.data().clone()), &mut published.clone());
    } else {
        assert_eq!(stored, published);
    }
}

pub async fn whatever_an_event_holds_comes_back<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("unusual").await;
    let mut tail = log.read(Position::START, None, ReadLimits::default());
    let published = unusual_events();
    store(&*log, Append::new(published.clone())).await.unwrap();
    for event in &published {
        store(&*log, Append::new(vec![event.clone()])).await.unwrap();
    }
    let expected: Vec<_> = published.iter().chain(&published).collect();
    for stored in [contents(&*log).await, take(&mut tail, expected.len()).await] {
        assert_eq!(stored.len(), expected.len());
        for (stored, published) in stored.iter().zip(&expected) {
            assert_same(&stored.event, published);
        }
    }
}

pub async fn large_events_come_back<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("large").await;
    let mut published = vec![event_of_size(0, 1 << 20), event(1), event_of_size(2, 1 << 20)];
    published[2].set_data("é".repeat(1 << 19)).more_mut().data_content_type = "text/plain".into();
    store(&*log, Append::new(published.clone())).await.unwrap();
    store(&*log, Append::new(vec![published[0].clone()])).await.unwrap();
    published.push(published[0].clone());
    let stored: Vec<_> = contents(&*log).await.into_iter().map(|record| record.event).collect();
    assert!(stored == published, "a large event was changed");
}

pub async fn an_empty_batch_changes_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("nothing").await;
    match store(&*log, Append::new(Vec::new())).await {
        Ok(appended) => assert_eq!(appended.positions, []),
        Err(error) => assert_eq!(error.code(), Code::EmptyBatch, "{error}"),
    }
    let Bounds { earliest, latest, end, .. } = bounds(&*log).await;
    assert_eq!((earliest, latest, end), (None, None, Position::START));
    append(&*log, [1]).await;
    assert_eq!(numbers(&contents(&*log).await), [1]);
}
