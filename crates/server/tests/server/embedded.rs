//! The embedded log under a server.

use serde_json::json;
use synapse_hub_core::Code;
use synapse_hub_server::{BackendUrl, Config, Server};

use crate::support::{hub_with, numbers, ok};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_there_after_a_restart_and_a_second_hub_is_refused_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let backend = BackendUrl::embedded(folder.path().join("data"));
    let hub = hub_with(|config| config.backend = backend.clone()).await;
    let sent = hub.post("/v1/topics/t/events?durability=memory", "application/json", r#"{"event":"tick","n":7}"#);
    ok(sent).await;
    let settings = json!({"partitions": 3, "durability": "synced"}).to_string();
    ok(hub.request(reqwest::Method::PUT, "/v1/topics/settings").body(settings)).await;

    let second = Config { listen: "127.0.0.1:0".into(), backend: backend.clone(), ..Config::default() };
    let error = Server::start(second).await.err().unwrap();
    assert_eq!(error.code(), Code::StorageLocked);
    assert!(error.message().contains(folder.path().to_str().unwrap()), "{error}");

    hub.server.shutdown().await;
    let hub = hub_with(|config| config.backend = backend).await;
    assert_eq!(numbers(&hub.page("t", "").await), [7]);
    let described = ok(hub.get("/v1/topics/settings")).await;
    assert_eq!(
        (&described["settings"]["partitions"], &described["settings"]["durability"]),
        (&json!(3), &json!("synced"))
    );
    hub.server.shutdown().await;
}
