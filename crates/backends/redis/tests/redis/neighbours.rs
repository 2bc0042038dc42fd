//! Programs that use the same streams and know nothing of Synapse.

use std::time::Duration;

use redis::Commands as _;
use serde_json::{Value, json};
use synapse_hub_core::{
    Event, Position, TopicSettings,
    backend::{Append, Backend as _, GapReason, ReadItem, ReadLimits, Trim},
};

use crate::{
    server::{Database, RedisServer},
    support::*,
};

fn xadd(client: &mut redis::Connection, key: &str, fields: &[(&str, &str)]) -> String {
    redis::cmd("XADD").arg(key).arg("*").arg(fields).query(client).unwrap()
}

fn run<T: redis::FromRedisValue>(client: &mut redis::Connection, command: &str) -> T {
    let mut parts = command.split(' ');
    let mut built = redis::cmd(parts.next().unwrap());
    parts.for_each(|part| _ = built.arg(part));
    built.query(client).unwrap()
}

fn data(event: &Event) -> Value {
    serde_json::from_slice(event.data()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_plain_xadd_writes_is_delivered_typed_in_whatever_format() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "inference-events").await;
    let mut items = tail(&log, Position::START);
    let mut client = database.client();
    let flat = xadd(
        &mut client,
        "inference-events",
        &[
            ("event", "inference-complete"),
            ("timestamp", "2025-01-01T00:00:00"),
            ("success", "False"),
            ("version", "1.0"),
            ("latency_ms", "7.5"),
        ],
    );
    xadd(&mut client, "inference-events", &[("event_type", "a"), ("sender", "go"), ("payload", "{\"n\":1}")]);
    xadd(&mut client, "inference-events", &[("payload", "{\"event\":\"job\",\"n\":2}")]);
    xadd(&mut client, "inference-events", &[("created", "1")]);
    store(&log, batch(5..6)).await.unwrap();
    let records = take(&mut items, 5).await;
    assert_eq!(records[0].position.to_string(), flat);
    let kinds: Vec<_> = records.iter().map(|record| record.event.kind().to_string()).collect();
    assert_eq!(kinds, ["inference-complete", "a", "job", "opaque", "tick"]);
    assert_eq!(data(&records[0].event), json!({"success": false, "version": "1.0", "latency_ms": 7.5}));
    assert_eq!(records[0].event.id().to_string(), format!("inference-events/0@{flat}"));
    assert_eq!(data(&records[3].event), json!({"created": "1"}));
    // Replayed they are the same, positions and ids included.
    assert_eq!(contents(&log).await, records);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_make_synapse_tell_of_json_that_is_none() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    xadd(&mut client, "t", &[("event", "x"), ("data", "not json"), ("_synapse", r#"1t {"as":"text"}"#)]);
    xadd(&mut client, "t", &[("event", "x"), ("data_base64", "ew=="), ("_synapse", r#"1t {"as":"base64"}"#)]);
    let told: Vec<Value> = contents(&log).await.iter().map(|record| data(&record.event)).collect();
    assert_eq!(told, [json!({"data": "not json"}), json!({"data_base64": "ew=="})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_synapse_writes_is_read_by_plain_readers_and_groups() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    run::<()>(&mut client, "XGROUP CREATE t workers $ MKSTREAM");
    let mut event = event(1);
    event.set_data(r#"{"name":"ü","ok":true,"none":null,"deep":{"a":[1,2]},"n":1.50}"#);
    let appended = store(&log, Append::new(vec![event.clone(), event.clone()])).await.unwrap();
    type Entries = Vec<(String, Vec<(String, Vec<(String, String)>)>)>;
    let read: Entries = run(&mut client, "XREAD COUNT 10 STREAMS t 0");
    let grouped: Entries = run(&mut client, "XREADGROUP GROUP workers me COUNT 10 STREAMS t >");
    assert_eq!(read, grouped);
    let entries = &read[0].1;
    let ids: Vec<_> = entries.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, appended.positions.iter().map(ToString::to_string).collect::<Vec<_>>());
    let expected = [
        ("event", "tick"),
        ("timestamp", "2025-01-01T00:00:00Z"),
        ("source", "test"),
        ("id", "1"),
        ("name", "ü"),
        ("ok", "true"),
        ("deep", r#"{"a":[1,2]}"#),
        ("n", "1.50"),
        ("_synapse", r#"1tbjn {"null":["none"]}"#),
    ];
    assert_eq!(entries[0].1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trips_lose_no_type_and_no_field() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let deep = "[".repeat(60) + &"]".repeat(60);
    let large = "x".repeat(1 << 20);
    let texts = [
        r#"{"version":"1.0","n":1.0,"big":123456789012345678901234567890,"none":null,"empty":"","yes":true}"#
            .to_owned(),
        format!(r#"{{"deep":{deep}}}"#),
        r#"{"unicode":"ü – 漢字 🙂","line":"a\nb\u0000c","quote":"\"\\"}"#.to_owned(),
        format!(r#"{{"large":"{large}"}}"#),
        r#"{"event":"inner","id":5,"_synapse":"mine","payload":{"a":1},"event_type":"x"}"#.to_owned(),
        "{}".to_owned(),
        "[1,\"two\"]".to_owned(),
        "\"text\"".to_owned(),
        "null".to_owned(),
    ];
    let events: Vec<Event> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let mut event = event(number);
            event.set_data(text.clone()).set_correlation_id("c");
            event.more_mut().extensions.push(("priority".into(), "high".into()));
            event
        })
        .collect();
    store(&log, Append::new(events.clone())).await.unwrap();
    for (record, event) in contents(&log).await.into_iter().zip(events) {
        assert_eq!(data(&record.event), data(&event));
        let mut back = record.event;
        back.set_data(event.data().clone());
        assert_eq!(back, event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_all_streams_and_nothing_else() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let mut client = database.client();
    xadd(&mut client, "document.made", &[("created", "1")]);
    let _: () = client.set("no-stream", "1").unwrap();
    xadd(&mut client, "no topic name", &[("created", "1")]);
    let settings = TopicSettings { partitions: 3, ..TopicSettings::default() };
    for partition in 0..3 {
        let id = synapse_hub_core::PartitionId::new(topic("many"), partition);
        store(&backend.open(&id, &settings).await.unwrap(), produced(0..1, "p", 0)).await.unwrap();
    }
    backend.meta().put("topics/x", "1".into(), synapse_hub_core::meta::Expected::Any).await.unwrap();
    let listed = within(backend.list_topics()).await.unwrap();
    assert_eq!(listed, [topic("document.made"), topic("many")]);
    let keys: Vec<String> = client.keys("*{1}*").unwrap();
    assert!(
        keys.contains(&"many:{1}".to_owned()) && keys.contains(&"synapse:{1}@many:producer:p".to_owned()),
        "{keys:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_trim_ahead_of_a_reader_is_counted_exactly() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    store(&log, batch(0..100)).await.unwrap();
    let mut items = log.read(Position::START, None, ReadLimits { batch_events_max: 10, ..ReadLimits::default() });
    let seen = take(&mut items, 10).await;
    // The first page is read; what comes after it is still in Redis.
    store(&log, batch(100..1000)).await.unwrap();
    run::<u64>(&mut client, "XTRIM t MAXLEN 50");
    let mut records = seen;
    let gap = loop {
        match next(&mut items).await.unwrap() {
            ReadItem::Batch(batch) => records.extend(batch),
            ReadItem::Gap(gap) => break gap,
        }
    };
    assert_eq!(gap.reason, GapReason::Trimmed);
    assert_eq!(gap.after, records.last().unwrap().position);
    assert_eq!(gap.lost, Some(950 - records.len() as u64));
    let rest = take(&mut items, 50).await;
    assert_eq!(gap.earliest, Some(rest[0].position));
    assert!(gap.resume < rest[0].position);
    assert_eq!(ids(&rest), (950..1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_delete_under_a_live_tail_is_counted_exactly() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    let mut items = tail(&log, Position::START);
    store(&log, batch(0..3)).await.unwrap();
    take(&mut items, 3).await;
    // Nobody can have seen these two.
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("XADD").arg("t").arg("9999999999998-0").arg("a").arg("1").ignore();
    pipe.cmd("XADD").arg("t").arg("9999999999998-1").arg("a").arg("2").ignore();
    pipe.cmd("XDEL").arg("t").arg("9999999999998-0").arg("9999999999998-1").ignore();
    pipe.query::<()>(&mut client).unwrap();
    let gap = take_gap(&mut items).await;
    assert_eq!((gap.lost, gap.reason), (Some(2), GapReason::Trimmed));
    store(&log, batch(3..4)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [3]);
    // What was delivered before it was deleted is no loss.
    run::<u64>(&mut client, "XTRIM t MAXLEN 0");
    store(&log, batch(4..5)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [4]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    store(&log, batch(5..6)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_others_delete_and_make_anew_is_survived() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    let mut items = tail(&log, Position::START);
    store(&log, batch(0..10)).await.unwrap();
    let last = take(&mut items, 10).await.pop().unwrap().position;
    run::<u64>(&mut client, "DEL t");
    let gap = take_gap(&mut items).await;
    assert_eq!((gap.after, gap.reason), (last, GapReason::Recreated));
    store(&log, batch(10..12)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 2).await), [10, 11]);
    // Deleted and made anew before anybody could look, with ids that start again.
    let mut pipe = redis::pipe();
    pipe.atomic().del("t").ignore().cmd("XADD").arg("t").arg("1-1").arg("event").arg("again").ignore();
    pipe.query::<()>(&mut client).unwrap();
    assert_eq!(take_gap(&mut items).await.reason, GapReason::Recreated);
    let again = take(&mut items, 1).await;
    assert_eq!((again[0].event.kind().as_ref(), again[0].position.to_string().as_str()), ("again", "1-1"));
    // The same with ids that go on.
    let mut pipe = redis::pipe();
    pipe.atomic().del("t").ignore().cmd("XADD").arg("t").arg("5-1").arg("event").arg("more").ignore();
    pipe.query::<()>(&mut client).unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        match next(&mut items).await.unwrap() {
            ReadItem::Gap(gap) => kinds.push(gap.reason.as_str().to_owned()),
            ReadItem::Batch(batch) => kinds.extend(batch.iter().map(|record| record.event.kind().to_string())),
        }
    }
    kinds.sort();
    assert_eq!(kinds, ["more", "recreated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_emptied_is_survived() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    store(&log, produced(0..5, "p", 0)).await.unwrap();
    take(&mut items, 5).await;
    run::<()>(&mut database.client(), "FLUSHDB");
    assert_eq!(take_gap(&mut items).await.reason, GapReason::Recreated);
    store(&log, produced(5..7, "p", 1)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 2).await), [5, 6]);
    assert_eq!(ids(&contents(&log).await), [5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_at_the_last_trimmed_event_has_no_gap_when_only_synapse_trimmed() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let positions = store(&log, batch(0..10)).await.unwrap().positions;
    tokio::time::sleep(Duration::from_millis(5)).await;
    store(&log, batch(10..12)).await.unwrap();
    log.trim(Trim { events_max: Some(2), ..Trim::default() }).await.unwrap();
    let mut items = tail(&log, positions[9]);
    assert_eq!(ids(&take(&mut items, 2).await), [10, 11]);
    let mut items = tail(&log, positions[8]);
    let gap = take_gap(&mut items).await;
    assert_eq!((gap.lost, gap.after), (None, positions[8]));
    assert_eq!(ids(&take(&mut items, 2).await), [10, 11]);
    // What others trim could have been anything.
    run::<u64>(&mut database.client(), "XTRIM t MAXLEN 1");
    assert_eq!(take_gap(&mut tail(&log, positions[9])).await.reason, GapReason::Trimmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_read_are_gaps_and_reading_goes_on() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let mut client = database.client();
    let mut items = tail(&log, Position::START);
    let id = |id: &str, fields: &[(&str, &str)], client: &mut redis::Connection| {
        redis::cmd("XADD").arg("t").arg(id).arg(fields).query::<String>(client).unwrap()
    };
    id("5-1", &[("event", "first")], &mut client);
    id("5-2", &[("_synapse_batch", "garbage")], &mut client);
    id("5-3", &[("event", "second")], &mut client);
    id("5-1152921504606846976", &[("event", "no position")], &mut client);
    id("5-1152921504606846977", &[("event", "no position")], &mut client);
    id("6-0", &[("event", "third")], &mut client);
    for again in 0..2 {
        let mut seen = Vec::new();
        while seen.len() < 5 {
            match next(&mut items).await.unwrap() {
                ReadItem::Gap(gap) => seen.push(gap.reason.as_str().to_owned()),
                ReadItem::Batch(batch) => seen.extend(batch.iter().map(|record| record.event.kind().to_string())),
            }
        }
        assert_eq!(seen, ["first", "unreadable", "second", "unreadable", "third"], "reading {again}");
        items = tail(&log, Position::START);
    }
    // Reading anew from within what has no position finds nothing of it again.
    let after = synapse_hub_core::Position::new(5, (1 << 56) - 1, (1 << 24) - 1).unwrap();
    assert_eq!(take(&mut tail(&log, after), 1).await[0].event.kind(), "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_others_are_left_as_they_are() {
    let server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut client = server.client();
    store(&log, batch(0..3)).await.unwrap();
    run::<()>(&mut client, "XGROUP CREATE t workers 0");
    run::<redis::Value>(&mut client, "XREADGROUP GROUP workers me COUNT 2 STREAMS t >");
    let pending = |client: &mut redis::Connection| run::<redis::Value>(client, "XPENDING t workers");
    let before = pending(&mut client);
    let mut items = tail(&log, Position::START);
    take(&mut items, 3).await;
    store(&log, produced(3..4, "p", 0)).await.unwrap();
    store(&log, produced(3..4, "p", 0)).await.unwrap();
    take(&mut items, 1).await;
    assert_eq!(pending(&mut client), before);
}
