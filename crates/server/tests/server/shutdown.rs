//! Stopping cleanly.

use std::time::{Duration, Instant};

use synapse_hub_proto::v1::{self, publish_request::Payload, subscribe_response::Item};
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{EventSource, TestHub, hub, hub_with};

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_and_publishers_answered() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let mut source = EventSource::open(hub.get("/v1/topics/t/events")).await;
    source.block().await.unwrap();
    let mut events = hub.events().await;
    let wanted = v1::SubscribeRequest { topics: vec!["t".into()], ..v1::SubscribeRequest::default() };
    let mut subscription = events.subscribe(wanted).await.unwrap().into_inner();
    assert!(matches!(subscription.message().await.unwrap().unwrap().item, Some(Item::Started(_))));
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut acknowledgements = events.publish_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let batch = v1::FlatBatch { events: vec![r#"{"event":"tick","n":1}"#.into()] };
    let request =
        v1::PublishRequest { topic: "t".into(), payload: Some(Payload::Flat(batch)), ..v1::PublishRequest::default() };
    sender.send(request).await.unwrap();
    assert_eq!(acknowledgements.message().await.unwrap().unwrap().positions.len(), 1);
    assert_eq!(source.numbers(1).await, [1]);

    let TestHub { server, .. } = hub;
    let stopped = tokio::spawn(server.shutdown());
    let end = source.next().await;
    assert_eq!((end.event.as_deref(), end.json()["reason"].as_str()), (Some("end"), Some("shutdown")));
    assert_eq!(end.id.as_deref(), end.json()["cursor"].as_str(), "and resumes elsewhere by it");
    assert_eq!(source.block().await, None);
    loop {
        match subscription.message().await.unwrap().unwrap().item.unwrap() {
            Item::Ended(ended) => {
                assert_eq!(ended.reason(), v1::ended::Reason::Shutdown);
                assert!(!ended.cursor.is_empty());
                break;
            }
            _ => continue,
        }
    }
    let status = acknowledgements.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.metadata().get("synapse-error-code").unwrap(), "shutting_down");
    drop((sender, subscription, acknowledgements, events));
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_idle_connections_and_the_port_is_free_after_it() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let address = hub.server.address();
    let silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    hub.server.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(9), "the deadline of ten seconds was not needed");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(silent);
    let again = hub_with(|config| config.listen = address.to_string()).await;
    assert_eq!(again.server.address(), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_cannot_hold_up_a_stop() {
    let hub = hub_with(|config| config.shutdown_deadline = Duration::from_millis(300)).await;
    let pad = "x".repeat(500_000);
    for n in 0..40 {
        hub.publish("t", &serde_json::json!({"event": "tick", "n": n, "pad": pad})).await;
    }
    let response =
        hub.get("/v1/topics/t/events?replay_from=earliest").header("accept", "text/event-stream").send().await.unwrap();
    let TestHub { server, .. } = hub;
    tokio::time::timeout(Duration::from_secs(20), server.shutdown()).await.expect("the stop hangs");
    drop(response);
}
