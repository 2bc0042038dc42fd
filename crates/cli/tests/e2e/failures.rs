//! Hubs and Redis are killed in the middle of a load: every acknowledged event stands in the log exactly once.

use std::{collections::HashMap, time::Duration};

use synapse_hub_client::{Client, Item, PublisherOptions, PublisherReport, SubscribeOptions};
use tokio::task::JoinHandle;

use crate::support::{Hub, PATIENCE, Redis, eventually, history, http, number, numbered};

const EVENTS: u64 = 30_000;

fn publish_all(client: &Client) -> JoinHandle<PublisherReport> {
    let options =
        PublisherOptions { batch_events_max: 50, timeout: Duration::from_secs(120), ..PublisherOptions::default() };
    let publisher = client.publisher("ticks", options);
    tokio::spawn(async move {
        for number in 0..EVENTS {
            publisher.send(numbered(number)).await.unwrap();
            if number % 500 == 0 {
                // Long enough under way for something to happen to it.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        publisher.finish().await.unwrap()
    })
}

/// Follows the topic from its start; resumes by itself.
fn follow(client: &Client) -> JoinHandle<Vec<u64>> {
    let client = client.clone();
    tokio::spawn(async move {
        let mut options = SubscribeOptions::new(["ticks"]);
        options.replay_from = "earliest".into();
        let mut subscription = client.subscribe(options).await.unwrap();
        let mut seen = Vec::new();
        while (seen.len() as u64) < EVENTS {
            let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
            match next.unwrap_or_else(|_| panic!("{} of {EVENTS} events arrived", seen.len())).unwrap() {
                Some(Item::Batch(batch)) => seen.extend(batch.events.iter().map(number)),
                Some(Item::Heartbeat) => {}
                other => panic!("{other:?}"),
            }
        }
        seen
    })
}

fn exactly_once(report: &PublisherReport, found: &HashMap<u64, u32>) {
    assert_eq!((report.stored, report.failed), (EVENTS, 0), "{:?}", report.failures.first());
    assert_eq!(found.len() as u64, EVENTS);
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count != 1).take(5).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

async fn kill_the_hub(backend: &str) {
    let mut hub = Hub::start(backend, &[]);
    let client = hub.client();
    client.topics().create("ticks", Default::default(), true).await.unwrap();
    let (publishing, following) = (publish_all(&client), follow(&client));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        tokio::task::block_in_place(|| hub.restart());
    }
    let report = publishing.await.unwrap();
    exactly_once(&report, &history(&hub.client(), "ticks").await);
    // Retries may store batches out of their order; the subscriber sees each event once all the same.
    let mut seen = following.await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_an_embedded_log_killed_under_load_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    kill_the_hub(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_redis_killed_under_load_keeps_what_it_acknowledged() {
    let redis = Redis::start(&[]);
    kill_the_hub(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_is_survived_and_said() {
    let mut redis = Redis::durable();
    let hub = Hub::start(&redis.url(), &[]);
    let client = hub.client();
    client.topics().create("ticks", Default::default(), true).await.unwrap();
    let http = http();
    let status = async |path: &str| http.get(format!("{}{path}", hub.url())).send().await.unwrap().status().as_u16();
    assert_eq!(status("/readyz").await, 200);
    let (publishing, following) = (publish_all(&client), follow(&client));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        redis.process.kill();
        eventually("/readyz says that Redis is away", async || status("/readyz").await == 503).await;
        assert_eq!(status("/health").await, 503);
        assert_eq!(status("/livez").await, 200);
        tokio::task::block_in_place(|| redis.restart());
        eventually("/readyz says that Redis is back", async || status("/readyz").await == 200).await;
    }
    let report = publishing.await.unwrap();
    exactly_once(&report, &history(&hub.client(), "ticks").await);
    assert_eq!(following.await.unwrap().len() as u64, EVENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_while_redis_is_away_fails_within_a_deadline_and_says_that_a_retry_helps() {
    let mut redis = Redis::start(&[]);
    let hub = Hub::start(&redis.url(), &[]);
    hub.client().publish("ticks", vec![numbered(0)]).await.unwrap();
    redis.process.kill();
    let request = http()
        .post(format!("{}/v1/topics/ticks/events", hub.url()))
        .header("content-type", "application/json")
        .body(r#"{"event":"tick"}"#);
    let response = tokio::time::timeout(Duration::from_secs(30), request.send()).await.expect("it hangs").unwrap();
    assert_eq!(response.status(), 503);
    let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["retryable"], true, "{problem}");
    assert!(problem["code"].as_str().unwrap().starts_with("backend_"), "{problem}");
}
