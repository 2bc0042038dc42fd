//! What subscribers of a live tail must not notice of each other, and of its beginnings and ends.

use std::{sync::mpsc, time::Duration};

use futures::StreamExt as _;
use synapse_hub_core::{Code, Error, Point, TopicSettings};
use tokio::sync::watch;

use crate::{faulty::Faulty, support::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tail_reader_that_was_stopped_at_work_does_nothing_to_the_next() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |_| {}).await;
    let (entered, at_work) = mpsc::channel();
    let (go_on, stopped) = mpsc::channel::<()>();
    *backend.faults.next_tail.lock() = Some(Box::new(move |mut items| {
        let items = async_stream::stream! {
            if let Some(first) = items.next().await {
                yield first;
            }
            // A thread that is at work hears nothing of its cancellation.
            entered.send(()).unwrap();
            stopped.recv().unwrap();
            yield Err(Error::new(Code::Internal, "the tail that was stopped"));
        };
        items.boxed()
    }));
    hub.topics().create(&name("ticks"), TopicSettings::default(), false).await.unwrap();
    let mut first = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    settle(&mut first).await;
    publish(&hub, "ticks", [0]).await;
    tokio::task::block_in_place(|| at_work.recv_timeout(PATIENCE)).unwrap();
    drop(first);
    publish(&hub, "ticks", 1..5).await;
    let mut second = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    settle(&mut second).await;
    go_on.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    publish(&hub, "ticks", [5]).await;
    assert_eq!(numbers(&mut second, 1).await, [5]);
    let mut third = hub.subscribe(request(&["ticks"], Point::Earliest)).await.unwrap();
    assert_eq!(numbers(&mut third, 6).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_ahead_of_the_tail_gets_nothing_twice() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |options| {
        options.limits.tail_bytes = 1;
        options.limits.delivery_events = 10;
    })
    .await;
    publish(&hub, "ticks", [0]).await;
    let gate = watch::Sender::new(false);
    let opening = gate.subscribe();
    *backend.faults.next_tail.lock() = Some(Box::new(move |items| {
        let slow = items.then(move |item| {
            let mut opening = opening.clone();
            async move {
                opening.wait_for(|open| *open).await.unwrap();
                item
            }
        });
        slow.boxed()
    }));
    let mut lagging = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    settle(&mut lagging).await;
    for number in 1..=100 {
        publish(&hub, "ticks", [number]).await;
    }
    let latest = filtered(request(&["ticks"], Point::Latest), &[r#"{"n":[100,101]}"#]);
    let mut ahead = hub.subscribe(latest).await.unwrap();
    settle(&mut ahead).await;
    gate.send_replace(true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    publish(&hub, "ticks", [101]).await;
    assert_eq!(numbers(&mut ahead, 1).await, [101]);
}
