//! Many subscribers, and slow ones.

use std::time::Duration;

use synapse_hub_client::{Client, ClientOptions, Item, PublisherOptions, SubscribeOptions};

use crate::support::{Hub, PATIENCE, number, numbered};

async fn publish(client: &Client, events: u64) {
    let publisher = client.publisher("ticks", PublisherOptions::default());
    for number in 0..events {
        let mut event = numbered(number);
        event.subject = "x".repeat(500);
        publisher.send(event).await.unwrap();
    }
    assert_eq!(publisher.finish().await.unwrap().stored, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_slows_nobody_and_holds_no_memory() {
    const EVENTS: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::embedded(folder.path());
    let client = hub.client();
    // Each on a connection of its own, as different programs are.
    let own = || Client::new(&hub.url(), ClientOptions::default()).unwrap();
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(own().subscribe(SubscribeOptions::new(["ticks"])).await.unwrap());
    }
    let mut reader = own().subscribe(SubscribeOptions::new(["ticks"])).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut seen = 0;
        while seen < EVENTS {
            match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the reader is held back").unwrap() {
                Some(Item::Batch(batch)) => seen += batch.len() as u64,
                Some(Item::Heartbeat) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    publish(&client, EVENTS).await;
    reading.await.unwrap();
    // 20 subscribers that hold 130 MB of events back each would be 2.6 GB.
    let resident = hub.process.resident_bytes();
    assert!(resident < 400 << 20, "{} MiB are resident", resident >> 20);
    // Whoever comes back has lost nothing.
    let mut late = stalled.pop().unwrap();
    let mut expected = 0;
    while expected < EVENTS {
        match tokio::time::timeout(PATIENCE, late.next()).await.expect("it does not come back").unwrap() {
            Some(Item::Batch(batch)) => {
                for event in &batch.events {
                    assert_eq!(number(event), expected);
                    expected += 1;
                }
            }
            Some(Item::Heartbeat) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscriptions_each_get_what_they_filter_for() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::embedded(folder.path());
    let client = hub.client();
    let mut subscriptions = Vec::new();
    for shard in 0..1000 {
        let mut options = SubscribeOptions::new(["ticks"]);
        options.filters.push(format!(r#"{{"n":[{shard}]}}"#));
        subscriptions.push(client.subscribe(options).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    publish(&client, 1000).await;
    for (shard, subscription) in subscriptions.iter_mut().enumerate() {
        let received = tokio::time::timeout(PATIENCE, subscription.next_event()).await.expect("it did not arrive");
        assert_eq!(number(&received.unwrap().unwrap().event), shard as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_clients_that_do_not_read_hold_little_memory() {
    const CLIENTS: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::embedded(folder.path());
    publish(&hub.client(), 1).await;
    let request = "GET /v1/topics/ticks/events HTTP/1.1\r\nhost: hub\r\naccept: text/event-stream\r\n\r\n";
    let mut stalled = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", hub.port)).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        stalled.push(stream);
    }
    let before = hub.process.resident_bytes();
    // More than the sockets of the operating system take up.
    publish(&hub.client(), 60_000).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = hub.process.resident_bytes().saturating_sub(before + (64 << 20)) / CLIENTS;
    // One that reads history holds a batch as it was stored; of the 36 MB that wait for it, nothing more.
    assert!(each < 2 << 20, "{} KiB are held for each", each >> 10);
}
