//! The promises of the hub, on the memory backend.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

mod faulty;
mod outages;
mod support;
mod tails;
mod topics;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use synapse_hub_core::{
    Code, Cursor, Point, Position, Timestamp, TopicSettings,
    backend::{GapReason, ProducerBatch},
};
use synapse_hub_hub::{EndReason, Item, Payload, Publication, SubscribeRequest, TrimRequest};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn replay_runs_into_live_without_a_gap_or_a_duplicate() {
    let hub = hub().await;
    let publisher = hub.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..5000 {
            publish(&publisher, "ticks", [number]).await;
        }
    });
    let mut readers = Vec::new();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
        readers.push(tokio::spawn(async move { numbers(&mut subscription, 5000).await }));
    }
    publishing.await.unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (0..5000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_read_of_the_log_serves_all_subscriptions() {
    let hub = hub().await;
    let mut subscriptions = Vec::new();
    for index in 0..50 {
        let request = request(&["ticks"], Point::Latest);
        let request = if index % 2 == 0 { filtered(request, &[r#"{"parity":"even"}"#]) } else { request };
        subscriptions.push(hub.subscribe(request).await.unwrap());
    }
    let readers: Vec<_> = subscriptions
        .into_iter()
        .enumerate()
        .map(|(index, mut subscription)| {
            tokio::spawn(async move { numbers(&mut subscription, if index % 2 == 0 { 50 } else { 100 }).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for number in 0..100 {
        publish(&hub, "ticks", [number]).await;
    }
    for (index, reader) in readers.into_iter().enumerate() {
        let step = if index % 2 == 0 { 2 } else { 1 };
        assert_eq!(reader.await.unwrap(), (0..100).step_by(step).collect::<Vec<_>>());
    }
    let read = metric(&hub, "synapse_log_batches_read_total{topic=\"ticks\"}");
    assert!(read <= 100, "{read} batches were read for 100 appends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_neither_holds_back_another_nor_loses_anything() {
    let hub = hub_with(|options| options.limits.tail_bytes = 10_000).await;
    let mut slow = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    let mut picky = hub.subscribe(filtered(request(&["ticks"], Point::Latest), &[r#"{"n":[7]}"#])).await.unwrap();
    publish(&hub, "ticks", [0]).await;
    assert_eq!(numbers(&mut slow, 1).await, [0]);
    let mut fast = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    for first in (1..2001).step_by(10) {
        publish(&hub, "ticks", first..first + 10).await;
        assert_eq!(numbers(&mut fast, 10).await, (first..first + 10).collect::<Vec<_>>());
    }
    assert_eq!(numbers(&mut slow, 2000).await, (1..2001).collect::<Vec<_>>());
    assert_eq!(numbers(&mut picky, 1).await, [7]);
    publish(&hub, "ticks", [2001]).await;
    assert_eq!(numbers(&mut slow, 1).await, [2001], "it follows the tail again");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_several_filters_delivers_an_event_once() {
    let hub = hub().await;
    let filters = [
        r#"{"n":[{"numeric":["<",3]}]}"#,
        r#"{"parity":["even"],"n":[{"numeric":["<",5]}]}"#,
        r#"{"topic":["other"]}"#,
    ];
    publish(&hub, "ticks", 0..10).await;
    let mut history = hub.subscribe(filtered(request(&["ticks"], Point::Earliest), &filters)).await.unwrap();
    assert_eq!(numbers(&mut history, 4).await, [0, 1, 2, 4]);
    publish(&hub, "ticks", 0..10).await;
    assert_eq!(numbers(&mut history, 4).await, [0, 1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wildcards_include_topics_that_come_later() {
    let hub = hub().await;
    publish(&hub, "pipeline.a", [0]).await;
    publish(&hub, "other", [99]).await;
    let mut subscription = hub.subscribe(request(&["pipeline.*", "document.>"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 1).await, [0]);
    publish(&hub, "pipeline.b", [1]).await;
    assert_eq!(numbers(&mut subscription, 1).await, [1]);
    publish(&hub, "pipeline.b.c", [98]).await;
    publish(&hub, "document.x.y", [2]).await;
    assert_eq!(numbers(&mut subscription, 1).await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_resumes_all_topics_where_they_were() {
    let hub = hub().await;
    let mut seen = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for round in 0..5 {
        publish(&hub, "a", round * 20..round * 20 + 10).await;
        publish(&hub, "b", round * 20 + 10..round * 20 + 20).await;
        let from = cursor.clone().map_or(Point::Earliest, Point::Cursor);
        let mut request = request(&["a", "b"], from);
        request.batch_events_max = Some(3);
        let mut subscription = hub.subscribe(request).await.unwrap();
        while seen.len() < round * 20 + 13 {
            if let Item::Delivery(delivery) = next(&mut subscription).await {
                assert!(delivery.len() <= 3);
                seen.extend(delivery.records().map(|record| number(record.event.data())));
                let last = delivery.last_position();
                cursor = Some(delivery.cursor_text(last).parse().unwrap());
                assert_eq!(cursor.as_ref(), Some(subscription.cursor()));
            }
        }
    }
    let mut rest = hub.subscribe(request(&["a", "b"], Point::Cursor(cursor.unwrap()))).await.unwrap();
    seen.extend(numbers(&mut rest, 100 - seen.len()).await);
    assert_eq!(seen.len(), 100);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_was_trimmed_away_is_a_visible_gap() {
    let hub = hub().await;
    let published = publish(&hub, "ticks", 0..10).await;
    let second = published.positions[1].unwrap().position;
    let trim = TrimRequest { keep_events: Some(4), before: None };
    assert_eq!(hub.topics().trim(&name("ticks"), trim).await.unwrap().0, Some(6));
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Position(second))).await.unwrap();
    let Item::Gap { gap, cursor, .. } = next(&mut subscription).await else { panic!("no gap") };
    assert_eq!(gap.reason, GapReason::Trimmed);
    assert_eq!(gap.earliest, published.positions[6].map(|placed| placed.position));
    assert_eq!(gap.lost, Some(5));
    let mut resumed = hub.subscribe(request(&["ticks"], Point::Cursor(cursor))).await.unwrap();
    for subscription in [&mut subscription, &mut resumed] {
        assert_eq!(numbers(subscription, 4).await, [6, 7, 8, 9]);
    }
    assert_eq!(metric(&hub, "synapse_events_lost_total{topic=\"ticks\"}"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_earliest_event_on_nothing_is_missing() {
    let hub = hub().await;
    publish(&hub, "ticks", 0..10).await;
    hub.topics().trim(&name("ticks"), TrimRequest { keep_events: Some(4), before: None }).await.unwrap();
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 4).await, [6, 7, 8, 9]);
    hub.topics().trim(&name("ticks"), TrimRequest { keep_events: Some(0), before: None }).await.unwrap();
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    publish(&hub, "ticks", [10]).await;
    assert_eq!(numbers(&mut subscription, 1).await, [10]);
    assert_eq!(metric(&hub, "synapse_events_lost_total{topic=\"ticks\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_that_of_those_who_follow_live() {
    let hub = hub().await;
    publish(&hub, "ticks", [0]).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 1).await, [0]);
    let lag = |hub: &_| metric_text(hub, "synapse_delivery_lag_seconds{topic=\"ticks\"}").parse::<f64>().unwrap();
    assert_eq!(lag(&hub), 0.0, "what is replayed is old");
    let waiting = tokio::spawn(async move {
        let seen = numbers(&mut subscription, 1).await;
        (subscription, seen)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    publish(&hub, "ticks", [1]).await;
    let (subscription, seen) = waiting.await.unwrap();
    assert_eq!(seen, [1]);
    assert!(lag(&hub) > 0.0);
    drop(subscription);
    assert_eq!(lag(&hub), 0.0, "nobody follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_is_counted_as_stalled() {
    let hub = hub_with(|options| options.limits.tail_bytes = 10_000).await;
    publish(&hub, "ticks", [0]).await;
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    settle(&mut subscription).await;
    for first in (1..1001).step_by(10) {
        publish(&hub, "ticks", first..first + 10).await;
    }
    let stalled = async |count| {
        eventually("it is counted", async || metric(&hub, "synapse_subscription_partitions_stalled") == count).await
    };
    stalled(1).await;
    assert_eq!(numbers(&mut subscription, 1000).await, (1..1001).collect::<Vec<_>>());
    stalled(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_nobody_made_take_no_labels_of_metrics() {
    let hub = hub_with(|options| options.limits.metric_topics = 2).await;
    for number in 0..10 {
        let _subscription = hub.subscribe(request(&[&format!("missing-{number}")], Point::Earliest)).await.unwrap();
    }
    publish(&hub, "ticks", [0]).await;
    assert_eq!(metric(&hub, "synapse_events_published_total{topic=\"ticks\",type=\"tick\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_replay_ends_with_its_end() {
    let hub = hub().await;
    let published = publish(&hub, "ticks", 0..10).await;
    let fifth = published.positions[4].unwrap().position;
    let soon = Timestamp::from_nanos(Timestamp::now().as_nanos() + 300_000_000);
    for (until, expected) in [
        (Point::Latest, 0..10),
        (Point::Position(fifth), 0..5),
        (Point::Earliest, 0..0),
        (Point::Time(soon), 0..10),
        (Point::Time(Timestamp::from_nanos(1)), 0..0),
    ] {
        let mut request = request(&["ticks"], Point::Earliest);
        request.until = Some(until.clone());
        let mut subscription = hub.subscribe(request).await.unwrap();
        let mut seen = Vec::new();
        loop {
            match next(&mut subscription).await {
                Item::Delivery(delivery) => seen.extend(delivery.records().map(|record| number(record.event.data()))),
                Item::Ended { reason, .. } => {
                    assert_eq!(reason, EndReason::Until);
                    break;
                }
                _ => {}
            }
        }
        assert_eq!(seen, expected.collect::<Vec<_>>(), "{until:?}");
        assert!(subscription.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_refused_whole_unless_partial_acceptance_was_asked_for() {
    let hub = hub_with(|options| options.limits.event_bytes = 1000).await;
    let texts: Vec<Bytes> = vec![
        event(0),
        Bytes::from_static(b"{\"n\":1}"),
        event(2),
        Bytes::from(format!(r#"{{"event":"x","big":"{}"}}"#, "x".repeat(2000))),
        Bytes::from_static(b"{nonsense"),
        event(5),
    ];
    let mut publication = Publication::new(name("ticks"), Payload::Flat(texts));
    let whole = hub.publish(publication.clone()).await.unwrap().await.unwrap();
    let codes: Vec<_> = whole.refused.iter().map(|refusal| (refusal.index, refusal.error.code())).collect();
    assert_eq!(codes, [(1, Code::InvalidEvent), (3, Code::EventTooLarge), (4, Code::InvalidJson)]);
    assert!(whole.positions.iter().all(Option::is_none));
    assert_eq!(hub.topics().list(None).await.unwrap(), [], "nothing was stored and no topic made");
    publication.partial = true;
    let part = hub.publish(publication).await.unwrap().await.unwrap();
    let stored: Vec<_> = (0..6).filter(|&index| part.positions[index].is_some()).collect();
    assert_eq!(stored, [0, 2, 5]);
    assert!(stored.iter().all(|&index| !part.ids[index].is_empty()));
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 3).await, [0, 2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_is_stored_once_in_whatever_partition_it_was() {
    let hub = hub().await;
    let settings = TopicSettings { partitions: 4, ..TopicSettings::default() };
    hub.topics().create(&name("ticks"), settings, false).await.unwrap();
    let publication = |sequence| Publication {
        producer: Some(ProducerBatch { id: "p".into(), sequence }),
        ..Publication::new(name("ticks"), Payload::Flat((0..10).map(event).collect()))
    };
    let first = hub.publish(publication(1)).await.unwrap().await.unwrap();
    let again = hub.publish(publication(1)).await.unwrap().await.unwrap();
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(first.positions, again.positions);
    hub.publish(publication(2)).await.unwrap().await.unwrap();
    let held: u64 =
        hub.topics().describe(&name("ticks")).await.unwrap().partitions.iter().filter_map(|p| p.bounds.events).sum();
    assert_eq!(held, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_with_one_key_keep_their_partition() {
    let hub = hub().await;
    let settings = TopicSettings { partitions: 8, ..TopicSettings::default() };
    hub.topics().create(&name("ticks"), settings, false).await.unwrap();
    let mut partitions = BTreeSet::new();
    for round in 0..5 {
        let events = (0..16)
            .map(|key| {
                let mut event = synapse_hub_core::Event::new("tick", format!(r#"{{"n":{round}}}"#));
                event.more_mut().partition_key = format!("key-{key}").into();
                event
            })
            .collect();
        let published =
            hub.publish(Publication::new(name("ticks"), Payload::Events(events))).await.unwrap().await.unwrap();
        let placed: Vec<u32> = published.positions.iter().map(|placed| placed.unwrap().partition).collect();
        assert!(placed.iter().collect::<BTreeSet<_>>().len() > 1);
        partitions.insert(placed);
    }
    assert_eq!(partitions.len(), 1);
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 80).await.len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_when_their_topic_is_deleted_and_when_the_hub_stops() {
    let hub = hub().await;
    publish(&hub, "a", [0]).await;
    publish(&hub, "b", [0]).await;
    let mut deleted = hub.subscribe(request(&["a"], Point::Latest)).await.unwrap();
    let mut stopped = hub.subscribe(request(&["b"], Point::Latest)).await.unwrap();
    let waiting = tokio::spawn(async move { next(&mut stopped).await });
    hub.topics().delete(&name("a")).await.unwrap();
    assert!(matches!(next(&mut deleted).await, Item::Ended { reason: EndReason::TopicDeleted, .. }));
    hub.shutdown(Duration::from_secs(1)).await;
    let Item::Ended { reason: EndReason::Shutdown, cursor } = waiting.await.unwrap() else { panic!("not told") };
    assert!(!cursor.is_empty());
    let error = hub.publish(Publication::new(name("b"), Payload::Flat(vec![event(1)]))).await.err().unwrap();
    assert_eq!(error.code(), Code::ShuttingDown);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_and_subscriptions_are_counted_out() {
    let hub = hub_with(|options| {
        options.limits.subscriptions = 2;
        options.limits.batch_events = 5;
        options.auto_create = false;
    })
    .await;
    let missing = hub.publish(Publication::new(name("ticks"), Payload::Flat(vec![event(0)]))).await.err().unwrap();
    assert_eq!((missing.code(), missing.topic_name()), (Code::TopicNotFound, Some("ticks")));
    let missing = hub.subscribe(request(&["ticks"], Point::Latest)).await.err().unwrap();
    assert_eq!(missing.code(), Code::TopicNotFound);
    hub.topics().create(&name("ticks"), TopicSettings::default(), false).await.unwrap();
    let too_many =
        hub.publish(Publication::new(name("ticks"), Payload::Flat((0..6).map(event).collect()))).await.err().unwrap();
    assert_eq!(too_many.code(), Code::BatchTooLarge);
    let open: Vec<_> = [(); 2].map(|()| hub.subscribe(request(&["ticks"], Point::Latest))).into_iter().collect();
    let open = futures::future::join_all(open).await;
    assert!(open.iter().all(Result::is_ok));
    let refused = hub.subscribe(request(&["ticks"], Point::Latest)).await.err().unwrap();
    assert_eq!(refused.code(), Code::TooManySubscriptions);
    drop(open);
    assert!(hub.subscribe(request(&["ticks"], Point::Latest)).await.is_ok());
    assert_eq!(metric(&hub, "synapse_subscriptions "), 0);
    let single =
        SubscribeRequest { replay_from: Point::Position(Position::START), ..request(&["a", "b"], Point::Latest) };
    hub.topics().create(&name("a"), TopicSettings::default(), false).await.unwrap();
    hub.topics().create(&name("b"), TopicSettings::default(), false).await.unwrap();
    assert_eq!(hub.subscribe(single).await.err().unwrap().code(), Code::InvalidReplayPoint);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_a_topic_no_longer_keeps() {
    let hub = hub_with(|options| options.retention_interval = Duration::from_millis(50)).await;
    let settings = TopicSettings { retention_events: Some(10), ..TopicSettings::default() };
    hub.topics().create(&name("ticks"), settings, false).await.unwrap();
    for first in 0..50 {
        publish(&hub, "ticks", [first]).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let held = hub.topics().describe(&name("ticks")).await.unwrap().partitions[0].bounds.events;
        if held == Some(10) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{held:?} events are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
