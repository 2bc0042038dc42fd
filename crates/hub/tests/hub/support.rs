//! What the tests of the hub share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use synapse_hub_core::{
    Event, PartitionId, Point, TopicName, TopicSettings,
    backend::{Append, Backend},
};
use synapse_hub_hub::{
    Filters, Hub, HubOptions, Item, Limits, Payload, Publication, Published, SubscribeRequest, Subscription,
};
use synapse_hub_memory::Memory;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn hub_on(backend: impl Backend, change: impl FnOnce(&mut HubOptions)) -> Hub {
    let mut options = HubOptions { topic_discovery: Duration::from_millis(50), ..HubOptions::default() };
    change(&mut options);
    Hub::start(Arc::new(backend), options).await.unwrap()
}

pub(crate) async fn hub_with(change: impl FnOnce(&mut HubOptions)) -> Hub {
    hub_on(Memory::new(), change).await
}

pub(crate) async fn hub() -> Hub {
    hub_with(|_| {}).await
}

pub(crate) fn name(text: &str) -> TopicName {
    text.parse().unwrap()
}

pub(crate) fn event(number: usize) -> Bytes {
    format!(r#"{{"event":"tick","n":{number},"parity":"{}"}}"#, if number.is_multiple_of(2) { "even" } else { "odd" })
        .into()
}

pub(crate) async fn publish(hub: &Hub, topic: &str, numbers: impl IntoIterator<Item = usize>) -> Published {
    let texts = numbers.into_iter().map(event).collect();
    hub.publish(Publication::new(name(topic), Payload::Flat(texts))).await.unwrap().await.unwrap()
}

pub(crate) fn request(topics: &[&str], from: Point) -> SubscribeRequest {
    let topics = topics.iter().map(|topic| topic.parse().unwrap()).collect();
    SubscribeRequest { replay_from: from, ..SubscribeRequest::new(topics) }
}

pub(crate) fn filtered(mut request: SubscribeRequest, filters: &[&str]) -> SubscribeRequest {
    request.filters = Filters::parse(filters, &Limits::default()).unwrap();
    request
}

pub(crate) async fn next(subscription: &mut Subscription) -> Item {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("the subscription hangs").expect("the subscription has ended").unwrap()
}

/// The numbers of the next events, at least so many.
pub(crate) async fn numbers(subscription: &mut Subscription, at_least: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    let read = async {
        while numbers.len() < at_least {
            match next(subscription).await {
                Item::Delivery(delivery) => {
                    numbers.extend(delivery.records().map(|record| number(record.event.data())))
                }
                Item::Heartbeat(_) => {}
                other => panic!("{other:?} instead of {at_least} events"),
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, read).await;
    assert!(done.is_ok(), "only {} of {at_least} events came", numbers.len());
    numbers
}

pub(crate) fn number(data: &[u8]) -> usize {
    serde_json::from_slice::<serde_json::Value>(data).unwrap()["n"].as_u64().unwrap() as usize
}

pub(crate) fn metric(hub: &Hub, line_start: &str) -> u64 {
    metric_text(hub, line_start).parse().unwrap()
}

pub(crate) fn metric_text(hub: &Hub, line_start: &str) -> String {
    let text = hub.metrics().registry_text();
    let line =
        text.lines().find(|line| line.starts_with(line_start)).unwrap_or_else(|| panic!("no {line_start} in\n{text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

/// Lets the subscription reach the live tail, where nothing waits for it.
pub(crate) async fn settle(subscription: &mut Subscription) {
    let next = tokio::time::timeout(Duration::from_millis(150), subscription.next()).await;
    assert!(next.is_err(), "{next:?}");
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many events a partition holds.
pub(crate) async fn held(hub: &Hub, topic: &str) -> u64 {
    let described = hub.topics().describe(&name(topic)).await.unwrap();
    described.partitions.iter().filter_map(|partition| partition.bounds.events).sum()
}

/// Stores events as another program does: without the hub, in one partition.
pub(crate) async fn write_behind_its_back(backend: &Memory, topic: &str, numbers: impl IntoIterator<Item = usize>) {
    let log = backend.open(&PartitionId::new(name(topic), 0), &TopicSettings::default()).await.unwrap();
    let events = numbers.into_iter().map(|number| Event::new("tick", format!(r#"{{"n":{number}}}"#))).collect();
    log.append(Append::new(events)).await.unwrap().await.unwrap();
}
