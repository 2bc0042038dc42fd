//! Topics that come and go, and those that nobody made.

use std::time::Duration;

use synapse_hub_core::{Code, Point, TopicSettings, backend::ProducerBatch};
use synapse_hub_hub::{EndReason, Item, Payload, Publication};
use synapse_hub_memory::Memory;

use crate::{faulty::Faulty, support::*};

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_follows_topics_that_are_deleted_and_made_again_however_often() {
    let backend = Faulty::default();
    // The log tells its reader of the deletion before the catalog knows.
    *backend.faults.deletion_takes.lock() = Duration::from_millis(20);
    backend.faults.changes_held.send_replace(true);
    let hub = hub_on(backend.clone(), |_| {}).await;
    publish(&hub, "p.a", [0]).await;
    let mut subscription = hub.subscribe(request(&["p.>"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 1).await, [0]);
    for round in 1..20 {
        let anew = async {
            hub.topics().delete(&name("p.a")).await.unwrap();
            publish(&hub, "p.a", [round]).await;
        };
        let (seen, ()) = tokio::join!(numbers(&mut subscription, 1), anew);
        assert_eq!(seen, [round]);
    }
    eventually("only what there is now is held", async || backend.faults.partitions_held() <= 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_word_of_a_deletion_does_not_end_the_topic_that_was_made_since() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |_| {}).await;
    hub.topics().create(&name("a"), TopicSettings::default(), false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    backend.faults.changes_held.send_replace(true);
    hub.topics().delete(&name("a")).await.unwrap();
    let settings = TopicSettings { partitions: 2, ..TopicSettings::default() };
    hub.topics().create(&name("a"), settings, false).await.unwrap();
    let mut subscription = hub.subscribe(request(&["a"], Point::Latest)).await.unwrap();
    settle(&mut subscription).await;
    backend.faults.changes_held.send_replace(false);
    settle(&mut subscription).await;
    publish(&hub, "a", [1]).await;
    assert_eq!(numbers(&mut subscription, 1).await, [1]);
    assert_eq!(hub.topics().list(None).await.unwrap(), [name("a")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_of_a_deleted_topic_are_told_also_when_it_was_made_again_at_once() {
    let hub = hub().await;
    publish(&hub, "a", [0]).await;
    let mut subscription = hub.subscribe(request(&["a"], Point::Latest)).await.unwrap();
    settle(&mut subscription).await;
    hub.topics().delete(&name("a")).await.unwrap();
    publish(&hub, "a", 1..5).await;
    assert!(matches!(next(&mut subscription).await, Item::Ended { reason: EndReason::TopicDeleted, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn default_retention_leaves_alone_what_other_programs_keep() {
    let memory = Memory::new();
    let hub = hub_on(memory.clone(), |options| {
        options.default_topic.retention_events = Some(2);
        options.retention_interval = Duration::from_millis(20);
    })
    .await;
    write_behind_its_back(&memory, "ext", 0..5).await;
    let mut subscription = hub.subscribe(request(&["ext"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 5).await, [0, 1, 2, 3, 4]);
    for number in 0..5 {
        publish(&hub, "own", [number]).await;
    }
    eventually("its own topics are trimmed", async || held(&hub, "own").await == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(held(&hub, "ext").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_trimmed_does_not_keep_others_from_it() {
    let backend = Faulty::default();
    *backend.faults.untrimmable.lock() = Some("broken");
    let hub = hub_on(backend, |options| {
        options.default_topic.retention_events = Some(2);
        options.retention_interval = Duration::from_millis(20);
    })
    .await;
    let topics: Vec<_> = (0..8).flat_map(|number| [format!("broken-{number}"), format!("fine-{number}")]).collect();
    for topic in &topics {
        publish(&hub, topic, 0..5).await;
    }
    for topic in topics.iter().filter(|topic| topic.starts_with("fine")) {
        eventually("it is trimmed", async || held(&hub, topic).await == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_topics_that_nobody_made_leaves_nothing_behind() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |_| {}).await;
    for number in 0..500 {
        let mut request = request(&[&format!("missing-{number}")], Point::Earliest);
        request.until = Some(Point::Latest);
        let mut subscription = hub.subscribe(request).await.unwrap();
        assert!(matches!(next(&mut subscription).await, Item::Ended { reason: EndReason::Until, .. }));
    }
    eventually("no partition is held", async || backend.faults.partitions_held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_nobody_made_count_towards_the_limit_while_they_are_read() {
    let hub = hub_with(|options| options.limits.topics = 3).await;
    publish(&hub, "made", [0]).await;
    let first = hub.subscribe(request(&["missing-1"], Point::Latest)).await.unwrap();
    let _second = hub.subscribe(request(&["missing-2"], Point::Latest)).await.unwrap();
    let refused = hub.subscribe(request(&["missing-3"], Point::Latest)).await.err().unwrap();
    assert_eq!((refused.code(), refused.topic_name()), (Code::Overloaded, Some("missing-3")));
    for known in ["made", "missing-1"] {
        assert!(hub.subscribe(request(&[known], Point::Latest)).await.is_ok());
    }
    drop(first);
    assert!(hub.subscribe(request(&["missing-3"], Point::Latest)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_another_program_stay_readable_when_the_default_is_several_partitions() {
    let memory = Memory::new();
    let hub = hub_on(memory.clone(), |options| options.default_topic.partitions = 3).await;
    write_behind_its_back(&memory, "ext", 0..3).await;
    let three = TopicSettings { partitions: 3, ..TopicSettings::default() };
    let refused = hub.topics().create(&name("ext"), three.clone(), true).await.err().unwrap();
    assert_eq!(refused.code(), Code::TopicExists);
    publish(&hub, "ext", [3]).await;
    let described = hub.topics().describe(&name("ext")).await.unwrap();
    assert_eq!((described.declared, described.settings.partitions), (true, 1));
    let mut subscription = hub.subscribe(request(&["ext"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut subscription, 4).await, [0, 1, 2, 3]);
    publish(&hub, "new", [0]).await;
    assert_eq!(hub.topics().describe(&name("new")).await.unwrap().settings, three);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recognised_retry_is_never_answered_with_ids_that_were_not_stored() {
    let hub = hub().await;
    let texts = vec![event(0), r#"{"event":"tick","n":1,"id":"mine"}"#.into(), event(2)];
    let publication = Publication {
        producer: Some(ProducerBatch { id: "p".into(), sequence: 1 }),
        ..Publication::new(name("ticks"), Payload::Flat(texts))
    };
    let first = hub.publish(publication.clone()).await.unwrap().await.unwrap();
    assert!(first.ids_given && first.ids.iter().all(|id| !id.is_empty()));
    let again = hub.publish(publication).await.unwrap().await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.ids, ["", "mine", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduplication_window_holds_over_all_partitions_of_a_topic() {
    let hub = hub().await;
    let settings = TopicSettings { partitions: 4, dedup_window: Some(Duration::from_secs(60)), ..Default::default() };
    hub.topics().create(&name("once"), settings, false).await.unwrap();
    for _ in 0..8 {
        let event = r#"{"event":"tick","id":"same","source":"s"}"#.into();
        let publication = Publication::new(name("once"), Payload::Flat(vec![event]));
        hub.publish(publication).await.unwrap().await.unwrap();
    }
    assert_eq!(held(&hub, "once").await, 1);
    // A retry finds its first partition, also when the hub gives the ids, and anew each time.
    for attempt in 0..8 {
        let events = (0..5).map(event).collect();
        let mut publication = Publication::new(name("once"), Payload::Flat(events));
        publication.producer = Some(ProducerBatch { id: "p".into(), sequence: 1 });
        let published = hub.publish(publication).await.unwrap().await.unwrap();
        assert_eq!(published.duplicate, attempt > 0);
    }
    assert_eq!(held(&hub, "once").await, 6);
}
