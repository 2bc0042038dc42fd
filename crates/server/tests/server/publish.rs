//! Publishing over HTTP, in every form.

use std::io::Write as _;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{hub, hub_with, numbers, ok, problem, refused};

const EVENTS: &str = "/v1/topics/t/events";

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_event_an_array_and_lines_are_stored_in_order() {
    let hub = hub().await;
    let reply = ok(hub.post(EVENTS, "application/json", r#"{"event":"tick","n":0,"source":"test","id":"a"}"#)).await;
    assert_eq!(reply["topic"], "t");
    assert_eq!(reply["events"][0]["id"], "a");
    assert_eq!(reply["events"][0]["partition"], 0);
    assert!(!reply["durability"].as_str().unwrap().is_empty());
    assert_eq!(reply["duplicate"], false);
    let array = r#" [{"event":"tick","n":1}, {"event":"tick","n":2}] "#;
    let reply = ok(hub.post(EVENTS, "application/json; charset=utf-8", array)).await;
    assert_eq!(reply["events"].as_array().unwrap().len(), 2);
    assert_eq!(reply["events"][0]["id"].as_str().unwrap().len(), 36, "an id is given");
    let lines = "{\"event\":\"tick\",\"n\":3}\r\n\n{\"event\":\"tick\",\"n\":4}";
    ok(hub.post(EVENTS, "application/x-ndjson", lines)).await;
    ok(hub.request(Method::POST, EVENTS).body(r#"{"event":"tick","n":5}"#)).await;
    let page = hub.page("t", "").await;
    assert_eq!(numbers(&page), [0, 1, 2, 3, 4, 5]);
    assert_eq!(page["events"][0]["source"], "test");
    assert_eq!(page["events"][1]["source"], "unknown");
    assert!(page["events"][1]["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn flat_events_take_their_partition_key_from_the_address() {
    let hub = hub_with(|config| config.topics.default.partitions = 16).await;
    let events = json!((0..32).map(|n| json!({"event": "tick", "n": n})).collect::<Vec<_>>()).to_string();
    let partitions = async |parameter: &str, media: &str, body: &str| {
        let reply = ok(hub.post(&format!("{EVENTS}{parameter}"), media, body.to_owned())).await;
        let stored = reply["events"].as_array().unwrap().clone();
        stored.into_iter().map(|event| event["partition"].as_u64().unwrap()).collect::<std::collections::HashSet<_>>()
    };
    let keyed = partitions("?partitionkey=user+7", "application/json", &events).await;
    assert_eq!(keyed.len(), 1, "one key, one partition");
    assert_eq!(partitions("?partitionkey=user+7", "application/x-ndjson", r#"{"event":"tick","n":99}"#).await, keyed);
    let own = r#"{"specversion":"1.0","id":"1","source":"s","type":"own","partitionkey":"mine"}"#;
    partitions("?partitionkey=user+7", "application/cloudevents+json", own).await;
    let page = hub.page("t", "format=cloudevents").await;
    for event in page["events"].as_array().unwrap() {
        let expected = if event["type"] == "own" { "mine" } else { "user 7" };
        assert_eq!(event["partitionkey"], expected, "{event}");
    }
    let wrong = r#"[{"event":"tick"},{"n":1}]"#;
    let (_, told) = problem(hub.post(&format!("{EVENTS}?partitionkey=k"), "application/json", wrong)).await;
    assert_eq!((&told["index"], &told["refused"][0]["code"]), (&json!(1), &json!("invalid_event")));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_keep_their_text_on_the_way_through() {
    let hub = hub().await;
    let data = r#""version":"1.0","n":1.0,"big":123456789012345678901234567890,"none":null,"deep":{"a":[1,{"b":"ü"}]}"#;
    ok(hub.post(EVENTS, "application/json", format!("{{\"event\":\"x\",{data}}}"))).await;
    let text = hub.get(&format!("{EVENTS}?replay_from=earliest")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(data), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_are_taken_in_all_three_modes() {
    let hub = hub().await;
    let binary = hub
        .post(EVENTS, "application/json", r#"{"n":1}"#)
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/mein%20dienst")
        .header("CE-Type", "tick")
        .header("ce-time", "2018-04-05T03:56:24Z")
        .header("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80")
        .header("ce-myext", "\"a b\"");
    ok(binary).await;
    let structured = r#"{"specversion":"1.0","id":"2","source":"s","type":"tick","myext":5,"data":{"n":2}}"#;
    ok(hub.post(EVENTS, "application/cloudevents+json; charset=UTF-8", structured)).await;
    let batch = r#"[{"specversion":"1.0","id":"3","source":"s","type":"tick","data":{"n":3}},
        {"specversion":"1.0","id":"4","source":"s","type":"blob","datacontenttype":"application/octet-stream","data_base64":"AP8="}]"#;
    ok(hub.post(EVENTS, "application/cloudevents-batch+json", batch)).await;
    let page = hub.page("t", "format=cloudevents").await;
    let events = page["events"].as_array().unwrap();
    assert_eq!(
        events[0],
        json!({"specversion": "1.0", "id": "1", "source": "/mein dienst", "type": "tick", "time": "2018-04-05T03:56:24Z",
               "subject": "Euro € 😀", "datacontenttype": "application/json", "myext": "a b", "data": {"n": 1}})
    );
    assert_eq!(events[1]["myext"], "5");
    assert_eq!(events[2]["data"], json!({"n": 3}));
    assert_eq!((&events[3]["data_base64"], &events[3]["type"]), (&json!("AP8="), &json!("blob")));
    assert_eq!(numbers(&hub.page("t", "filter.event=tick").await), [1, 2, 3], "and are seen flat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_event_may_have_no_data_or_data_that_is_not_json() {
    let hub = hub().await;
    let with_headers = |request: reqwest::RequestBuilder, id: &'static str| {
        request.header("ce-specversion", "1.0").header("ce-id", id).header("ce-source", "s").header("ce-type", "t")
    };
    ok(with_headers(hub.request(Method::POST, EVENTS), "1")).await;
    ok(with_headers(hub.post(EVENTS, "image/png", vec![0x89, b'P', 0xff]), "2")).await;
    ok(with_headers(hub.post(EVENTS, "text/plain; charset=utf-8", "hallo"), "3")).await;
    let page = hub.page("t", "format=cloudevents").await;
    assert_eq!(page["events"][0].get("data"), None);
    assert_eq!(page["events"][1]["data_base64"], "iVD/");
    assert_eq!(page["events"][1]["datacontenttype"], "image/png");
    assert_eq!(page["events"][2]["data"], "hallo");
    let flat = hub.page("t", "").await;
    assert_eq!(flat["events"][1]["data_base64"], "iVD/");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cloudevents_batch_is_no_error() {
    let hub = hub().await;
    let reply = ok(hub.post(EVENTS, "application/cloudevents-batch+json", "[]")).await;
    assert_eq!(reply["events"], json!([]));
    let (status, _) = refused(hub.get("/v1/topics/t")).await;
    assert_eq!(status, 404, "no topic was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_that_are_none_are_refused_by_the_attribute() {
    let hub = hub().await;
    let binary = |pairs: &[(&str, &str)]| {
        let request = hub.post(EVENTS, "application/json", "{}");
        pairs.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let (v, i, s, t) = (("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t"));
    for (pairs, code, field) in [
        (&[i, s, t][..], "invalid_event", "specversion"),
        (&[("ce-specversion", "0.3"), i, s, t], "invalid_event", "specversion"),
        (&[v, s, t], "invalid_event", "id"),
        (&[v, i, t], "invalid_event", "source"),
        (&[v, i, s], "invalid_event", "type"),
        (&[v, i, s, t, ("ce-time", "noon")], "invalid_timestamp", "time"),
        (&[v, i, s, t, ("ce-datacontenttype", "application/json")], "invalid_event", "datacontenttype"),
        (&[v, i, s, t, ("ce-my_ext", "x")], "invalid_event", "my_ext"),
        (&[v, i, s, t, ("ce-ext", "%C0%A0")], "invalid_event", "ext"),
        (&[v, i, s, t, ("ce-ext", "a"), ("ce-ext", "b")], "invalid_event", "ext"),
        (&[v, i, s, t, ("ce-ext", "")], "invalid_event", "ext"),
    ] {
        let (status, problem) = problem(binary(pairs)).await;
        assert_eq!(
            (status.as_u16(), &problem["code"], &problem["field"]),
            (422, &json!(code), &json!(field)),
            "{pairs:?}"
        );
    }
    let request = binary(&[v, i, s, t]).header("ce-ext", header::HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(problem(request).await.1["field"], "ext");
    let partly = hub.post(
        EVENTS,
        "application/cloudevents-batch+json",
        r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"},{"id":"2"}]"#,
    );
    let (_, problem) = problem(partly.try_clone().unwrap()).await;
    assert_eq!(
        problem["refused"],
        json!([{"index": 1, "code": "invalid_event", "field": "specversion", "detail": problem["refused"][0]["detail"]}])
    );
    let partial = ok(hub.post(
        &format!("{EVENTS}?partial=true"),
        "application/cloudevents-batch+json",
        r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"},{"id":"2"}]"#,
    ))
    .await;
    assert_eq!((partial["events"][0]["id"].as_str(), &partial["events"][1]), (Some("1"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_all_or_nothing_unless_partial_acceptance_was_asked_for() {
    let hub = hub_with(|config| config.limits.event_bytes = 1000).await;
    let batch = json!([{"event": "tick", "n": 0}, {"n": 1}, {"event": "tick", "big": "x".repeat(2000)}, {"event": "tick", "n": 3}]).to_string();
    let (status, problem) = problem(hub.post(EVENTS, "application/json", batch.clone())).await;
    assert_eq!((status.as_u16(), &problem["code"], &problem["index"]), (422, &json!("batch_refused"), &json!(1)));
    let refused: Vec<_> =
        problem["refused"].as_array().unwrap().iter().map(|one| (one["index"].clone(), one["code"].clone())).collect();
    assert_eq!(refused, [(json!(1), json!("invalid_event")), (json!(2), json!("event_too_large"))]);
    assert_eq!(crate::support::refused(hub.get("/v1/topics/t")).await.0, 404, "nothing was stored");

    let reply = ok(hub.post(&format!("{EVENTS}?partial=true"), "application/json", batch)).await;
    let stored: Vec<bool> = reply["events"].as_array().unwrap().iter().map(|event| !event.is_null()).collect();
    assert_eq!(stored, [true, false, false, true]);
    assert_eq!(reply["refused"][1]["code"], "event_too_large");
    assert_eq!(numbers(&hub.page("t", "").await), [0, 3]);

    let (status, code) =
        crate::support::refused(hub.post(&format!("{EVENTS}?partial"), "application/json", "[{},{}]")).await;
    assert_eq!((status, code.as_str()), (422, "batch_refused"), "nothing acceptable is an error all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_with_its_number_is_stored_once() {
    let hub = hub().await;
    let send = |sequence: &'static str| {
        let request = hub.post(EVENTS, "application/json", r#"[{"event":"tick","n":0},{"event":"tick","n":1}]"#);
        ok(request.header("Synapse-Producer-Id", "p").header("Synapse-Producer-Sequence", sequence))
    };
    let (first, again) = (send("1").await, send("1").await);
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    let positions = |reply: &Value| [reply["events"][0]["position"].clone(), reply["events"][1]["position"].clone()];
    assert_eq!(positions(&first), positions(&again));
    send("2").await;
    assert_eq!(numbers(&hub.page("t", "").await), [0, 1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_unpacked_and_still_limited() {
    let hub = hub_with(|config| {
        config.limits.body_bytes = 100_000;
        config.limits.event_bytes = 100_000;
    })
    .await;
    let gzip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let zlib = |text: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let deflate = |text: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
    let event = format!(r#"{{"event":"tick","n":1,"pad":"{}"}}"#, "x".repeat(50_000)).into_bytes();
    let bomb = format!(r#"{{"event":"tick","n":1,"pad":"{}"}}"#, "x".repeat(50_000_000)).into_bytes();
    type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let packers: [(&str, Pack<'_>); 4] = [("gzip", &gzip), ("deflate", &zlib), ("deflate", &deflate), ("zstd", &zstd)];
    for (encoding, pack) in packers {
        let send =
            |body: Vec<u8>| hub.post(EVENTS, "application/json", body).header(header::CONTENT_ENCODING, encoding);
        ok(send(pack(&event))).await;
        let (status, problem) = problem(send(pack(&bomb))).await;
        assert_eq!((status.as_u16(), &problem["code"]), (413, &json!("body_too_large")), "{encoding}");
        let (status, code) = refused(send(b"nonsense, not packed at all".to_vec())).await;
        assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{encoding}");
        let cut = pack(&event);
        let (status, code) = refused(send(cut[..cut.len() / 2].to_vec())).await;
        assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{encoding}");
    }
    ok(hub.post(EVENTS, "application/json", event.clone()).header(header::CONTENT_ENCODING, "identity")).await;
    for encoding in ["br", "gzip, zstd", "sdch"] {
        let (status, code) =
            refused(hub.post(EVENTS, "application/json", "{}").header(header::CONTENT_ENCODING, encoding)).await;
        assert_eq!((status, code.as_str()), (415, "unsupported_media_type"), "{encoding}");
    }
    assert_eq!(ok(hub.get("/v1/topics/t")).await["partitions"][0]["events"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_context_of_a_request_goes_to_events_without_one() {
    let hub = hub().await;
    let (outer, own) = (
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let event = |id: &str, rest: &str| format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t"{rest}}}"#);
    let batch = format!("[{},{}]", event("1", ""), event("2", &format!(r#","traceparent":"{own}""#)));
    ok(hub.post(EVENTS, "application/cloudevents-batch+json", batch).header("traceparent", outer)).await;
    ok(hub.post(EVENTS, "application/json", r#"{"event":"t"}"#).header("traceparent", "nonsense")).await;
    let page = hub.page("t", "format=cloudevents").await;
    assert_eq!(page["events"][0]["traceparent"], outer);
    assert_eq!(page["events"][1]["traceparent"], own);
    assert_eq!(page["events"][2].get("traceparent"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_can_be_asked_to_promise_more_or_less() {
    let hub = hub().await;
    for level in ["memory", "stored", "synced"] {
        ok(hub.post(&format!("{EVENTS}?durability={level}"), "application/json", r#"{"event":"t"}"#)).await;
    }
    let (status, problem) = problem(hub.post(&format!("{EVENTS}?durability=eternal"), "application/json", "{}")).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("durability")));
}
