//! Pages of events as JSON.

use serde_json::json;

use crate::support::{hub, hub_with, numbers, ok};

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_by_cursor_without_a_gap_or_a_duplicate() {
    let hub = hub().await;
    for round in 0..4 {
        hub.publish_numbers("a", round * 10..round * 10 + 5).await;
        hub.publish_numbers("b", round * 10 + 5..round * 10 + 10).await;
    }
    let (mut seen, mut from, mut rounds) = (Vec::new(), "earliest".to_owned(), 0);
    loop {
        let page = hub.page("a,b", &format!("limit=7&replay_from={from}")).await;
        let events = numbers(&page);
        assert_eq!(page["places"].as_array().unwrap().len(), events.len());
        assert!(events.len() <= 7);
        seen.extend(events);
        from = page["cursor"].as_str().unwrap().to_owned();
        rounds += 1;
        if page["more"] == json!(false) {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert!(rounds >= 6);
    let page = hub.page("a,b", &format!("replay_from={from}")).await;
    assert_eq!((numbers(&page), &page["more"]), (vec![], &json!(false)), "a page never waits");
    hub.publish_numbers("a", 40..41).await;
    assert_eq!(numbers(&hub.page("a,b", &format!("replay_from={from}")).await), [40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_tells_of_gaps_and_places() {
    let hub = hub().await;
    let positions = hub.publish_numbers("t", 0..10).await;
    ok(hub.post("/v1/topics/t/trim", "application/json", json!({"before": positions[4]}).to_string())).await;
    let page = hub.page("t", &format!("replay_from={}&limit=2", positions[2])).await;
    assert_eq!(page["gaps"].as_array().unwrap().len(), 1);
    assert_eq!((&page["gaps"][0]["reason"], &page["gaps"][0]["lost"]), (&json!("trimmed"), &json!(2)));
    assert_eq!(numbers(&page), [4, 5]);
    assert_eq!(page["places"][0], json!({"topic": "t", "partition": 0, "position": positions[4]}));
    assert_eq!(page["more"], true);
    let bounded = hub.page("t", &format!("replay_from={}&until={}", positions[5], positions[7])).await;
    assert_eq!((numbers(&bounded), &bounded["more"]), (vec![5, 6, 7], &json!(false)));
    let never = hub.page("t", "replay_from=latest&until=2100-01-01").await;
    assert_eq!(numbers(&never), [] as [u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_no_more_bytes_than_a_body_may() {
    let hub = hub_with(|config| config.limits.body_bytes = 100_000).await;
    for n in 0..20 {
        hub.publish("t", &json!({"event": "tick", "n": n, "pad": "x".repeat(20_000)})).await;
    }
    let page = hub.page("t", "limit=20").await;
    let events = numbers(&page);
    assert!((5..20).contains(&events.len()), "{}", events.len());
    assert_eq!(page["more"], true);
    let rest = hub.page("t", &format!("limit=20&replay_from={}", page["cursor"].as_str().unwrap())).await;
    assert_eq!(numbers(&rest)[0], events.len() as u64);
}
