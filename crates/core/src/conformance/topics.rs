//! Promises of topics.

use futures::StreamExt as _;

use super::{
    Harness,
    support::{
        End, Fixture, append, bounds, contents, events, items, name, next, numbers, records, store, take, within,
    },
};
use crate::{
    Code, Position, Timestamp, TopicName,
    backend::{Append, ProducerBatch, ReadLimits},
};

async fn list<H: Harness>(fixture: &Fixture<H>) -> Vec<String> {
    let names = within("list_topics", fixture.backend().list_topics()).await.unwrap();
    names.iter().map(TopicName::to_string).collect()
}

async fn delete<H: Harness>(fixture: &Fixture<H>, topic: &str) {
    within("delete_topic", fixture.backend().delete_topic(&name(topic), &fixture.settings)).await.unwrap();
}

pub async fn all_topics_are_listed_once_and_in_order<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    assert_eq!(list(&fixture).await, Vec::<String>::new());
    let longest = "x".repeat(249);
    let mut names: Vec<_> = (0..100).map(|number| format!("topic-{number}")).collect();
    names.extend(["a", "A", "a.b", "a:b", "a-b", "a_b", "a.b.c", "0", "document.created"].map(str::to_owned));
    names.push(longest);
    for topic in &names {
        append(&*fixture.log(topic).await, [1]).await;
    }
    fixture.settings.partitions = 4;
    for partition in [1, 3] {
        append(&*fixture.partition("partitioned", partition).await, [1]).await;
    }
    names.push("partitioned".into());
    names.sort_unstable();
    assert_eq!(list(&fixture).await, names);
}

pub async fn reading_what_nobody_wrote_leaves_nothing_behind<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    let mut waiting = Vec::new();
    for number in 0..20 {
        let log = fixture.log(&format!("unknown-{number}")).await;
        assert_eq!(bounds(&*log).await.end, Position::START);
        assert_eq!(within("find", log.find(Timestamp::now())).await.unwrap(), Position::START);
        assert_eq!(items(&*log, Position::START, Position::START).await.len(), 0);
        waiting.push(log.read(Position::START, None, ReadLimits::default()));
    }
    for reader in &mut waiting {
        assert!(futures::poll!(reader.next()).is_pending());
    }
    assert_eq!(list(&fixture).await, Vec::<String>::new());
    // One of them begins, and those who waited see it.
    append(&*fixture.log("unknown-7").await, 0..3).await;
    assert_eq!(numbers(&take(&mut waiting[7], 3).await), [0, 1, 2]);
    assert_eq!(list(&fixture).await, ["unknown-7"]);
    drop(waiting);
    fixture.reopen(End::Shutdown).await;
    let expected = if fixture.survives() { vec!["unknown-7".to_owned()] } else { Vec::new() };
    assert_eq!(list(&fixture).await, expected);
}

pub async fn topics_do_not_mix<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let names: Vec<_> = (0..50).map(|number| format!("t{number}")).collect();
    for round in 0..3 {
        for (index, topic) in names.iter().enumerate() {
            append(&*fixture.log(topic).await, [index * 10 + round]).await;
        }
    }
    for (index, topic) in names.iter().enumerate() {
        assert_eq!(numbers(&contents(&*fixture.log(topic).await).await), [index * 10, index * 10 + 1, index * 10 + 2]);
    }
}

pub async fn creating_a_topic_again_loses_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let topic = name("created");
    for round in 0..3 {
        within("create_topic", fixture.backend().create_topic(&topic, &fixture.settings)).await.unwrap();
        append(&*fixture.log("created").await, [round]).await;
    }
    assert_eq!(numbers(&contents(&*fixture.log("created").await).await), [0, 1, 2]);
}

pub async fn a_deleted_topic_is_gone<H: Harness>() {
    let mut fixture = Fixture::<H>::new().await;
    append(&*fixture.log("a").await, 0..10).await;
    append(&*fixture.log("a.b").await, 0..10).await;
    delete(&fixture, "a").await;
    assert_eq!(list(&fixture).await, ["a.b"]);
    assert_eq!(contents(&*fixture.log("a.b").await).await.len(), 10);
    // With all its partitions.
    fixture.settings.partitions = 3;
    for partition in 0..3 {
        append(&*fixture.partition("c", partition).await, 0..10).await;
    }
    delete(&fixture, "c").await;
    assert_eq!(list(&fixture).await, ["a.b"]);
    for partition in 0..3 {
        assert_eq!(bounds(&*fixture.partition("c", partition).await).await.latest, None);
    }
}

pub async fn deleting_ends_its_readers<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("deleted").await;
    append(&*log, 0..10).await;
    let mut blocked = log.read(Position::START, None, ReadLimits::default());
    take(&mut blocked, 10).await;
    let waiting = tokio::spawn(async move { next(&mut blocked).await });
    tokio::task::yield_now().await;
    delete(&fixture, "deleted").await;
    let last = within("a reader of a deleted topic", waiting).await.unwrap();
    let error = last.expect("the read ended without a word").expect_err("a deleted topic has nothing to read");
    assert_eq!(error.code(), Code::TopicNotFound, "{error}");
}

pub async fn deleting_what_is_not_there_is_no_error<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    delete(&fixture, "never").await;
    append(&*fixture.log("once").await, [1]).await;
    delete(&fixture, "once").await;
    delete(&fixture, "once").await;
    assert_eq!(list(&fixture).await, Vec::<String>::new());
}

pub async fn a_topic_made_anew_starts_empty<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let numbered = |sequence| Append {
        producer: Some(ProducerBatch { id: "p".into(), sequence }),
        dedup_window: Some(std::time::Duration::from_secs(3600)),
        ..Append::new(events(0..3))
    };
    for _ in 0..3 {
        let log = fixture.log("anew").await;
        assert_eq!(bounds(&*log).await.latest, None);
        // Neither numbers nor identities are remembered.
        let appended = store(&*log, numbered(5)).await.unwrap();
        assert!(!appended.duplicate && appended.deduplicated.is_empty(), "{appended:?}");
        let mut reader = log.read(Position::START, None, ReadLimits::default());
        assert_eq!(numbers(&take(&mut reader, 3).await), [0, 1, 2]);
        let bounds = bounds(&*log).await;
        assert_eq!(numbers(&records(&*log, Position::START, bounds.end).await), [0, 1, 2]);
        delete(&fixture, "anew").await;
    }
}

pub async fn a_deleted_topic_stays_away_after_a_reopening<H: Harness>() {
    for end in [End::Shutdown, End::Crash] {
        let mut fixture = Fixture::<H>::new().await;
        append(&*fixture.log("deleted").await, 0..10).await;
        append(&*fixture.log("kept").await, 0..10).await;
        delete(&fixture, "deleted").await;
        fixture.reopen(end).await;
        let expected = if fixture.survives() { vec!["kept".to_owned()] } else { Vec::new() };
        assert_eq!(list(&fixture).await, expected, "{end:?}");
        assert_eq!(bounds(&*fixture.log("deleted").await).await.latest, None, "{end:?}");
    }
}
