//! Subscriptions while the backend is away.

use std::time::Duration;

use synapse_hub_core::{Point, Timestamp};
use synapse_hub_hub::{EndReason, Item, Subscription};

use crate::{faulty::Faulty, support::*};

fn in_millis(millis: i64) -> Timestamp {
    Timestamp::from_nanos(Timestamp::now().as_nanos() + millis * 1_000_000)
}

/// Lets the subscription meet a backend that is away, which comes back then.
async fn numbers_over_an_outage(backend: &Faulty, subscription: &mut Subscription, at_least: usize) -> Vec<usize> {
    let heal = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        backend.faults.set_away(false);
    };
    tokio::join!(numbers(subscription, at_least), heal).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_end_comes_during_an_outage_waits_for_it() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |_| {}).await;
    let mut request = request(&["ticks"], Point::Earliest);
    request.until = Some(Point::Time(in_millis(300)));
    let mut subscription = hub.subscribe(request).await.unwrap();
    publish(&hub, "ticks", [0]).await;
    assert_eq!(numbers(&mut subscription, 1).await, [0]);
    backend.faults.set_away(true);
    let outage = tokio::time::timeout(Duration::from_millis(600), subscription.next()).await;
    assert!(outage.is_err(), "{outage:?}");
    backend.faults.set_away(false);
    assert!(matches!(next(&mut subscription).await, Item::Ended { reason: EndReason::Until, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_falls_behind_during_an_outage_waits_for_it() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |options| options.limits.tail_bytes = 1).await;
    let mut subscription = hub.subscribe(request(&["ticks"], Point::Latest)).await.unwrap();
    settle(&mut subscription).await;
    for number in 0..3 {
        publish(&hub, "ticks", [number]).await;
        let read = format!("synapse_log_batches_read_total{{topic=\"ticks\"}} {}", number + 1);
        eventually("the tail has read it", async || hub.metrics().registry_text().contains(&read)).await;
    }
    backend.faults.set_away(true);
    assert_eq!(numbers_over_an_outage(&backend, &mut subscription, 3).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_during_an_outage_is_waited_for() {
    let backend = Faulty::default();
    let hub = hub_on(backend.clone(), |_| {}).await;
    let mut subscription = hub.subscribe(request(&["p.>"], Point::Latest)).await.unwrap();
    settle(&mut subscription).await;
    backend.faults.set_away(true);
    write_behind_its_back(&backend.memory, "p.new", 0..3).await;
    assert_eq!(numbers_over_an_outage(&backend, &mut subscription, 3).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_at_the_end_of_a_bounded_subscription_resumes_with_what_came_after() {
    let hub = hub().await;
    let mut bounded = request(&["ticks"], Point::Latest);
    bounded.until = Some(Point::Time(in_millis(500)));
    let mut subscription = hub.subscribe(bounded).await.unwrap();
    settle(&mut subscription).await;
    publish(&hub, "ticks", 0..3).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    publish(&hub, "ticks", 3..6).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(numbers(&mut subscription, 3).await, [0, 1, 2]);
    let Item::Ended { cursor, reason: EndReason::Until } = next(&mut subscription).await else { panic!("no end") };
    let mut resumed = hub.subscribe(request(&["ticks"], Point::Cursor(cursor))).await.unwrap();
    assert_eq!(numbers(&mut resumed, 3).await, [3, 4, 5]);
}
