//! Topics as resources.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use synapse_hub_proto::v1;

use crate::support::{TestHub, hub, hub_with, ok, problem, refused};

fn put(hub: &TestHub, path: &str, body: &Value) -> reqwest::RequestBuilder {
    hub.request(Method::PUT, path).json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_described_listed_trimmed_and_deleted() {
    let hub = hub().await;
    let settings = json!({"partitions": 2, "retention_ms": 86_400_000, "retention_events": 100});
    let created = put(&hub, "/v1/topics/a", &settings).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
    let created: Value = created.json().await.unwrap();
    assert_eq!((&created["topic"], &created["declared"]), (&json!("a"), &json!(true)));
    assert_eq!(created["settings"]["partitions"], 2);
    assert_eq!(
        (&created["settings"]["retention_ms"], &created["settings"]["retention_bytes"]),
        (&json!(86_400_000), &Value::Null)
    );
    assert_eq!(created["partitions"].as_array().unwrap().len(), 2);

    let again = put(&hub, "/v1/topics/a", &settings).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK, "the same settings are no conflict");
    assert_eq!(refused(put(&hub, "/v1/topics/a", &json!({"partitions": 3}))).await, (409, "topic_exists".into()));
    let new_only = put(&hub, "/v1/topics/a", &settings).header("if-none-match", "*");
    assert_eq!(refused(new_only).await, (409, "topic_exists".into()));

    hub.publish_numbers("b", 0..3).await;
    let list = ok(hub.get("/v1/topics")).await;
    let names: Vec<_> = list["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone()).collect();
    assert_eq!((names, &list["more"]), (vec![json!("a"), json!("b")], &json!(false)));
    let first = ok(hub.get("/v1/topics?limit=1")).await;
    assert_eq!((&first["topics"][0]["topic"], &first["more"]), (&json!("a"), &json!(true)));
    assert_eq!(ok(hub.get("/v1/topics?limit=1&after=a")).await["topics"][0]["topic"], "b");
    assert_eq!(ok(hub.get("/v1/topics?pattern=c.*")).await["topics"], json!([]));

    let described = ok(hub.get("/v1/topics/b")).await;
    assert_eq!(described["partitions"][0]["events"], 3);
    let trimmed = ok(hub.post("/v1/topics/b/trim", "application/json", r#"{"keep_events":1}"#)).await;
    assert_eq!((&trimmed["removed"], &trimmed["topic"]["partitions"][0]["events"]), (&json!(2), &json!(1)));

    let deleted = hub.request(Method::DELETE, "/v1/topics/b").send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(refused(hub.get("/v1/topics/b")).await, (404, "topic_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_left_out_are_as_the_configuration_says() {
    let hub = hub_with(|config| {
        config.topics.default.partitions = 3;
        config.topics.default.retention_bytes = Some(1 << 30);
    })
    .await;
    let response = hub.request(Method::PUT, "/v1/topics/a").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED, "without a body");
    assert_eq!(response.json::<Value>().await.unwrap()["settings"]["partitions"], 3);
    let unlimited = ok(put(&hub, "/v1/topics/b", &json!({"retention_bytes": 0}))).await;
    assert_eq!(
        (&unlimited["settings"]["partitions"], &unlimited["settings"]["retention_bytes"]),
        (&json!(3), &Value::Null)
    );
    let over_grpc = async |topic: &str, settings| {
        let request = v1::CreateTopicRequest { topic: topic.into(), settings, if_not_exists: false };
        let created = hub.topics().await.create_topic(request).await?.into_inner();
        Ok::<_, tonic::Status>(created.settings.unwrap())
    };
    let created = over_grpc("c", None).await.unwrap();
    assert_eq!((created.partitions, created.retention_bytes), (Some(3), Some(1 << 30)));
    let some = v1::TopicSettings { retention_events: Some(7), ..v1::TopicSettings::default() };
    let created = over_grpc("d", Some(some)).await.unwrap();
    assert_eq!(
        (created.partitions, created.retention_bytes, created.retention_events),
        (Some(3), Some(1 << 30), Some(7))
    );
    let off = v1::TopicSettings { retention_bytes: Some(0), ..v1::TopicSettings::default() };
    assert_eq!(over_grpc("e", Some(off)).await.unwrap().retention_bytes, None);
    let none = v1::TopicSettings { partitions: Some(0), ..v1::TopicSettings::default() };
    let refused = over_grpc("f", Some(none)).await.unwrap_err();
    assert_eq!(refused.metadata().get("synapse-error-code").unwrap(), "invalid_topic_settings");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_trims_that_cannot_be_are_refused_by_name() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let (status, told) = problem(put(&hub, "/v1/topics/a", &json!({"partitions": 0}))).await;
    assert_eq!(
        (status.as_u16(), &told["code"], &told["field"]),
        (422, &json!("invalid_topic_settings"), &json!("partitions"))
    );
    let (status, told) = problem(put(&hub, "/v1/topics/a", &json!({"partition": 1}))).await;
    assert_eq!((status.as_u16(), &told["code"]), (400, &json!("invalid_argument")));
    assert!(told["detail"].as_str().unwrap().contains("`partition`"), "{told}");
    assert_eq!(refused(hub.request(Method::PUT, "/v1/topics/a").body("{")).await, (400, "invalid_json".into()));
    let wrong_media = hub.request(Method::PUT, "/v1/topics/a").header("content-type", "text/plain").body("{}");
    assert_eq!(refused(wrong_media).await, (415, "unsupported_media_type".into()));
    let trim = |body: &'static str| hub.post("/v1/topics/t/trim", "application/json", body);
    assert_eq!(refused(trim("{}")).await, (400, "invalid_argument".into()));
    assert_eq!(problem(trim(r#"{"before":"soon"}"#)).await.1["field"], "before");
    assert_eq!(refused(trim(r#"{"keep":1}"#)).await, (400, "invalid_argument".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_the_same_over_grpc() {
    let hub = hub().await;
    let mut topics = hub.topics().await;
    let settings =
        v1::TopicSettings { partitions: Some(2), dedup_window_ms: Some(1000), ..v1::TopicSettings::default() };
    let create = v1::CreateTopicRequest { topic: "a".into(), settings: Some(settings), if_not_exists: false };
    let created = topics.create_topic(create.clone()).await.unwrap().into_inner();
    assert_eq!((created.topic.as_str(), created.partitions.len(), created.declared), ("a", 2, true));
    let settings = created.settings.unwrap();
    assert_eq!((settings.dedup_window_ms, settings.durability()), (Some(1000), v1::Durability::Stored));
    let again = topics.create_topic(create.clone()).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::AlreadyExists);
    assert_eq!(again.metadata().get("synapse-error-code").unwrap(), "topic_exists");
    topics.create_topic(v1::CreateTopicRequest { if_not_exists: true, ..create }).await.unwrap();

    hub.publish_numbers("b", 0..5).await;
    let list = topics.list_topics(v1::ListTopicsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.topics.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let list = topics.list_topics(v1::ListTopicsRequest { pattern: "b".into() }).await.unwrap().into_inner();
    assert_eq!(list.topics.len(), 1);
    let trim = v1::TrimTopicRequest { topic: "b".into(), before: String::new(), keep_events: 2 };
    let trimmed = topics.trim_topic(trim).await.unwrap().into_inner();
    assert_eq!((trimmed.removed, trimmed.partitions[0].events), (Some(3), Some(2)));
    let described = topics.describe_topic(v1::DescribeTopicRequest { topic: "b".into() }).await.unwrap().into_inner();
    assert_eq!(described.partitions, trimmed.partitions);
    assert!(!described.durability.is_empty());
    topics.delete_topic(v1::DeleteTopicRequest { topic: "b".into() }).await.unwrap();
    let gone = topics.describe_topic(v1::DescribeTopicRequest { topic: "b".into() }).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    for (topic, code) in [("", "invalid_topic"), ("a b", "invalid_topic"), ("nowhere", "topic_not_found")] {
        let status = topics.delete_topic(v1::DeleteTopicRequest { topic: topic.into() }).await.unwrap_err();
        assert_eq!(status.metadata().get("synapse-error-code").unwrap(), code);
    }
}
