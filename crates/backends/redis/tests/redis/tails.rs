//! The one connection that follows all streams.

use futures::future::join_all;
use synapse_hub_core::{
    Event, Position,
    backend::{Append, ReadItem, ReadLimits},
};
use synapse_hub_redis::{RedisBackend, RedisOptions};

use crate::{
    server::{Database, RedisServer},
    support::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn all_tails_share_one_connection() {
    let server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let mut followed = Vec::new();
    for number in 0..30 {
        let log = open(&backend, &format!("topic.{number}")).await;
        let mut items = tail(&log, Position::START);
        store(&log, batch(0..1)).await.unwrap();
        take(&mut items, 1).await;
        followed.push((log, items));
    }
    join_all(followed.iter().map(|(log, _)| store(log, batch(1..11)))).await;
    for (_, items) in &mut followed {
        assert_eq!(take(items, 10).await.len(), 10);
    }
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
    assert_eq!(list.lines().filter(|line| line.contains("name=synapse-hub")).count(), 4, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_keep_up_holds_nobody_back_and_gets_everything() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let (mut slow, mut fast) = (tail(&log, Position::START), tail(&log, Position::START));
    store(&log, batch(0..1)).await.unwrap();
    take(&mut slow, 1).await;
    take(&mut fast, 1).await;
    for part in 0..100 {
        store(&log, batch(part * 500 + 1..part * 500 + 501)).await.unwrap();
        take(&mut fast, 500).await;
    }
    assert_eq!(ids(&take(&mut slow, 50_000).await), (1..50_001).collect::<Vec<_>>());
    store(&log, batch(50_001..50_002)).await.unwrap();
    assert_eq!(ids(&take(&mut slow, 1).await), [50_001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_that_join_at_different_places_each_get_what_is_theirs() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let publisher = tokio::spawn({
        let log = log.clone();
        async move {
            for part in 0..200 {
                store(&log, batch(part * 10..part * 10 + 10)).await.unwrap();
            }
        }
    });
    let readers = (0..20).map(|reader| {
        let log = log.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(reader * 7)).await;
            ids(&take(&mut tail(&log, Position::START), 2000).await)
        }
    });
    for seen in join_all(readers).await {
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
    }
    within(publisher).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_too_large_are_asked_for_in_smaller_parts() {
    let database = Database::new();
    let options = RedisOptions { reply_bytes_max: 64 << 10, ..options() };
    let backend = RedisBackend::connect(&database.url(), options).await.unwrap();
    let log = open(&backend, "t").await;
    let large = |number: usize, bytes: usize| {
        let mut event: Event = event(number);
        event.set_data(format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes)));
        event
    };
    let mut items = tail(&log, Position::START);
    let first: Vec<Event> = (0..100).map(|number| large(number, 10_000)).collect();
    store(&log, Append::new(first)).await.unwrap();
    // Larger than any answer may be: it is asked for alone.
    store(&log, Append::new(vec![large(100, 300_000), large(101, 1)])).await.unwrap();
    assert_eq!(ids(&take(&mut items, 102).await), (0..102).collect::<Vec<_>>());
    assert_eq!(ids(&contents(&log).await), (0..102).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_ends_between_two_events_ends_when_the_second_comes() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let log = open(&backend, "t").await;
    let last = store(&log, batch(0..3)).await.unwrap().positions[2];
    let until = Position::new(last.major(), last.minor() + 5, 0).unwrap();
    let mut items = log.read(Position::START, Some(until), ReadLimits::default());
    take(&mut items, 3).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    store(&log, batch(3..4)).await.unwrap();
    let rest: Vec<_> = within(futures::StreamExt::collect(items)).await;
    assert!(rest.iter().all(|item: &synapse_hub_core::Result<ReadItem>| item.is_err()) && rest.is_empty(), "{rest:?}");
}
