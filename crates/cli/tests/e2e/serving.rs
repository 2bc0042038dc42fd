//! Starting and stopping the hub.

use std::{process::Stdio, time::Duration};

use crate::support::{Hub, Redis, history, numbered, synapse};

#[test]
fn serve_says_where_it_listens_what_it_stores_in_and_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::embedded(folder.path());
    let banner = hub.banner.join("\n");
    assert!(banner.contains(&hub.url()), "{banner}");
    assert!(banner.contains(&folder.path().display().to_string()), "{banner}");
    assert!(banner.contains("synapse publish"), "{banner}");
    assert_eq!(hub.process.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_kept_over_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::embedded(folder.path());
    let client = hub.client();
    client.publish("ticks", (0..1000).map(numbered).collect()).await.unwrap();
    assert_eq!(hub.process.stop(), 0);
    let hub = Hub::embedded(folder.path());
    let found = history(&hub.client(), "ticks").await;
    assert_eq!(found.len(), 1000);
    assert!(found.values().all(|&count| count == 1));
}

#[test]
fn a_second_hub_on_one_folder_is_refused_with_a_clear_message() {
    let folder = tempfile::tempdir().unwrap();
    let _hub = Hub::embedded(folder.path());
    let backend = format!("embedded:{}", folder.path().display());
    let output = synapse(&["serve", "--listen", "127.0.0.1:0", "--backend", &backend]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("storage_locked") && told.contains(&folder.path().display().to_string()), "{told}");
}

#[test]
fn what_cannot_be_served_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::embedded(folder.path());
    let taken = format!("127.0.0.1:{}", hub.port);
    for (arguments, code, said) in [
        (vec!["--listen", &taken, "--backend", "memory:"], 1, "in use"),
        (vec!["--listen", "127.0.0.1:0", "--backend", "mongodb://x"], 1, "backend"),
        (vec!["--listen", "127.0.0.1:0", "--backend", "redis://127.0.0.1:1"], 3, "backend_unavailable"),
        (vec!["--listen", "127.0.0.1:0", "--backend", "memory:", "--set", "limits.nonsense=1"], 1, "nonsense"),
        (vec!["--listen", "nowhere", "--backend", "memory:"], 1, "listen"),
        (vec!["--listen", "8002", "--backend", "memory:"], 1, "error: `listen` is an address and a port, such as"),
        (vec!["--backend", "memory:", "--set", "limits=5"], 1, "error: the setting `limits` in the flag for"),
        (vec!["--backend", "memory:", "--set", "limits=5"], 1, "is a table of settings, not `5`"),
    ] {
        let output = synapse(&["serve"]).args(&arguments).stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::embedded(folder.path());
    let client = hub.client();
    let publisher = client.publisher(
        "ticks",
        synapse_hub_client::PublisherOptions { timeout: Duration::from_secs(120), ..Default::default() },
    );
    let sending = tokio::spawn(async move {
        for number in 0..50_000 {
            publisher.send(numbered(number)).await.unwrap();
        }
        publisher.finish().await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(hub.process.stop(), 0);
    hub.restart();
    let report = sending.await.unwrap();
    assert_eq!((report.stored, report.failed), (50_000, 0), "{:?}", report.failures.first());
    let found = history(&hub.client(), "ticks").await;
    assert_eq!(found.len(), 50_000);
    assert!(found.values().all(|&count| count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_on_one_redis_serve_the_same_topics() {
    let redis = Redis::start(&[]);
    let (one, two) = (Hub::start(&redis.url(), &[]), Hub::start(&redis.url(), &[]));
    let mut options = synapse_hub_client::SubscribeOptions::new(["pipeline.*"]);
    options.replay_from = "latest".into();
    let mut subscription = two.client().subscribe(options).await.unwrap();
    let published = one.client().publish("pipeline.a", vec![numbered(7)]).await.unwrap();
    let received =
        tokio::time::timeout(crate::support::PATIENCE, subscription.next_event()).await.unwrap().unwrap().unwrap();
    assert_eq!(received.position, published.positions[0]);
    assert_eq!(received.topic, "pipeline.a");
}

#[test]
fn what_a_program_adds_to_redis_by_hand_is_delivered_typed_and_filtered() {
    let redis = Redis::start(&[]);
    let hub = Hub::start(&redis.url(), &[]);
    let entry =
        ["event", "inference-complete", "timestamp", "2025-01-01T10:00:00", "source", "cyrex", "model_name", "a"];
    let typed = ["version", "1.0", "latency_ms", "12.5", "success", "True", "metadata", r#"{"region":"eu"}"#];
    // Also right after the hub has looked at what there is.
    hub.must(&["topics", "list"]);
    let position = redis.cli(&[["XADD", "inference-events", "*"].as_slice(), &entry, &typed].concat());
    assert!(hub.must(&["topics", "describe", "inference-events"]).contains(position.trim()));
    let filter = r#"{"success":[true],"latency_ms":[{"numeric":[">",12]}],"metadata.region":["eu"],"version":["1.0"]}"#;
    let received =
        hub.must(&["subscribe", "inference-events", "--from", "earliest", "-n", "1", "--filter", filter, "-o", "json"]);
    let received: serde_json::Value = serde_json::from_str(&received).unwrap();
    assert_eq!(received["position"], position.trim());
    assert_eq!(received["event"]["timestamp"], "2025-01-01T10:00:00Z");
    let published =
        hub.must(&["publish", "inference-events", r#"{"event":"x","n":1.0,"flag":true,"none":null}"#, "-o", "json"]);
    let published: serde_json::Value = serde_json::from_str(&published).unwrap();
    let entry = redis.cli(&["XRANGE", "inference-events", published["position"].as_str().unwrap(), "+"]);
    assert!(entry.contains("\nn\n1.0\n") && entry.contains("\nflag\ntrue\n") && !entry.contains("\nnone\n"), "{entry}");
}
