//! Round trips of what Synapse writes, and tables of what others write.

use std::collections::BTreeMap;

use proptest::prelude::*;
use synapse_hub_core::{
    Event, Position, Timestamp, batch,
    fields::{FieldKind, FieldTypes, WellKnown},
    flat,
};

use super::{BATCH_FIELD, EntryId, decode, encode, value};

const ID: EntryId = EntryId { ms: 1_735_689_600_000, seq: 3 };

fn read(fields: &[(&[u8], &[u8])]) -> Event {
    let mut records = decode("topic", 0, ID, fields, &WellKnown).unwrap();
    assert_eq!(records.len(), 1);
    let record = records.remove(0);
    assert_eq!((record.position.to_string().as_str(), record.stored), ("1735689600000-3", ID.time()));
    record.event
}

fn texts<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn round(event: &Event) -> Event {
    let fields = encode(event);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    read(&fields)
}

/// The members of a JSON object by name: texts decoded, everything else as it is written, the last of two that counts.
fn members(data: &[u8]) -> BTreeMap<String, String> {
    let mut members = BTreeMap::new();
    for (key, value) in flat::data_fields(data) {
        let raw = value.get();
        let value = serde_json::from_str::<String>(raw).map_or(raw.to_owned(), |text| format!("text {text}"));
        members.insert(flat::raw_text(key).into_owned(), value);
    }
    members
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""aA\/\n""#.to_owned()),
    ]
}

fn json() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[ {}]", items.join(", "))),
            prop::collection::vec((any::<String>(), inner), 0..5).prop_map(|members| object(&members)),
        ]
    })
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(key, value)| format!("{}: {value}", serde_json::to_string(key).unwrap())).collect();
    format!("{{{}}}", members.join(" ,"))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{1,10}",
        any::<String>(),
        prop::sample::select(vec![
            "event",
            "timestamp",
            "source",
            "id",
            "correlation_id",
            "data",
            "_synapse",
            "_synapse_batch",
            "payload",
            "event_type",
            "",
            "data_base64",
        ])
        .prop_map(str::to_owned),
    ]
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z0-9-]{1,20}", any::<String>()]
}

fn event(data: impl Strategy<Value = Vec<u8>>, content_type: &'static str) -> impl Strategy<Value = Event> {
    let texts =
        (attribute(), attribute(), attribute(), attribute(), attribute(), attribute(), attribute(), attribute());
    let rest = (any::<i64>(), proptest::option::of(any::<i64>()));
    (texts, rest, prop::collection::vec(("[a-z0-9]{1,8}", attribute()), 0..3), data).prop_map(
        move |(texts, (time, expiry), extensions, data)| {
            let mut event = Event::new(texts.0, data);
            event.set_source(texts.1).set_id(texts.2).set_correlation_id(texts.3).set_time(Timestamp::from_nanos(time));
            let more = event.more_mut();
            more.subject = texts.4.into();
            more.partition_key = texts.5.into();
            more.traceparent = texts.6.into();
            more.data_schema = texts.7.into();
            more.data_content_type = content_type.into();
            more.expiry_time = expiry.map(Timestamp::from_nanos);
            more.extensions = extensions.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
            event
        },
    )
}

/// What somebody might write into the field `_synapse`.
fn mark() -> impl Strategy<Value = String> {
    let types = prop::sample::select(vec!["1", "1t", "1j", "1n", "1tt", "1jt"]);
    let form =
        prop::sample::select(vec!["empty", "json", "text", "base64"]).prop_map(|form| format!(r#""as":"{form}""#));
    let media = prop::sample::select(vec!["", "text/plain", "application/json", "a/b+json"])
        .prop_map(|media| format!(r#""attributes":{{"datacontenttype":"{media}"}}"#));
    let rest = prop::collection::vec(prop_oneof![4 => form, 1 => media], 0..3);
    (types, rest).prop_map(|(types, rest)| format!("{types} {{{}}}", rest.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_round_trip_loses_no_type_and_no_field(
        members_in in prop::collection::vec((key(), json()), 0..12),
        event in event(Just(Vec::new()), ""),
    ) {
        let mut event = event;
        event.set_data(object(&members_in).into_bytes());
        let mut back = round(&event);
        prop_assert_eq!(members(back.data()), members(event.data()));
        back.set_data(event.data().clone());
        prop_assert_eq!(back, event);
    }

    #[test]
    fn data_that_is_no_object_comes_back_byte_by_byte(
        event in prop_oneof![
            event(json().prop_map(String::into_bytes), "application/json"),
            event(any::<Vec<u8>>(), "application/octet-stream"),
            event(any::<String>().prop_map(String::into_bytes), "text/plain"),
        ],
    ) {
        let mut back = round(&event);
        if event.is_json() && event.data().trim_ascii().starts_with(b"{") {
            prop_assert_eq!(members(back.data()), members(event.data()));
            back.set_data(event.data().clone());
        } else if event.is_json() {
            // White space around a JSON text means nothing.
            prop_assert_eq!(back.data().trim_ascii(), event.data().trim_ascii());
            back.set_data(event.data().clone());
        }
        prop_assert_eq!(back, event);
    }

    #[test]
    fn no_entry_is_refused_or_loses_its_texts(
        fields in prop::collection::vec((
            prop_oneof![key().prop_map(String::into_bytes), any::<Vec<u8>>()],
            prop_oneof![any::<String>().prop_map(String::into_bytes), json().prop_map(String::into_bytes), any::<Vec<u8>>()],
        ), 0..8),
    ) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
            .filter(|(name, _)| *name != BATCH_FIELD.as_bytes()).collect();
        let event = read(&fields);
        prop_assert!(!event.kind().is_empty() && !event.id().is_empty() && !event.source().is_empty());
        let data: serde_json::Value = serde_json::from_slice(event.data())
            .map_err(|error| TestCaseError::fail(format!("{error}: {event:?}")))
            .or_else(|error| if event.data().windows(2).any(|two| two == b"\\u") { Ok(serde_json::Value::Null) } else { Err(error) })?;
        if event.kind() == "opaque" {
            for (name, value) in &fields {
                if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                    let last = fields.iter().rev().find(|field| field.0 == name.as_bytes()).unwrap();
                    if last.1 == value.as_bytes() && !name.ends_with("_base64") {
                        prop_assert_eq!(&data[name], value);
                    }
                }
            }
        }
        // The same entry is the same event, each time it is read.
        prop_assert_eq!(read(&fields), event);
    }

    #[test]
    fn whatever_a_mark_says_data_that_is_told_as_json_is_json(
        values in prop::collection::vec((
            prop_oneof![Just("data".to_owned()), Just("data_base64".to_owned()), key()],
            prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>(), Just(b"bm8=".to_vec())],
        ), 0..3),
        mark in mark(),
    ) {
        let mut fields = vec![("event".as_bytes(), "x".as_bytes())];
        fields.extend(values.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()))
            .filter(|(name, _)| *name != BATCH_FIELD.as_bytes()));
        fields.push((b"_synapse", mark.as_bytes()));
        let event = read(&fields);
        let text = std::str::from_utf8(event.data());
        prop_assert!(!event.is_json() || event.data().is_empty() || text.is_ok_and(value::is_json), "{:?}", event);
    }
}

#[test]
fn what_synapse_writes_is_plain_text_for_every_flat_reader() {
    let mut event = Event::new(
        "inference-complete",
        r#"{"model_name":"m","version":"1.0","latency_ms":12.50,"success":true,"metadata":{"a":[1]},"cost":null,"s":"a\nb"}"#,
    );
    event.set_source("cyrex").set_id("i").set_time("2025-01-01T00:00:00Z".parse().unwrap()).set_correlation_id("c");
    let fields = encode(&event);
    let fields: Vec<_> =
        fields.iter().map(|(a, b)| (std::str::from_utf8(a).unwrap(), std::str::from_utf8(b).unwrap())).collect();
    let expected = [
        ("event", "inference-complete"),
        ("timestamp", "2025-01-01T00:00:00Z"),
        ("source", "cyrex"),
        ("id", "i"),
        ("correlation_id", "c"),
        ("model_name", "m"),
        ("version", "1.0"),
        ("latency_ms", "12.50"),
        ("success", "true"),
        ("metadata", r#"{"a":[1]}"#),
        ("s", "a\nb"),
        ("_synapse", r#"1ttnbjt {"null":["cost"]}"#),
    ];
    assert_eq!(fields, expected);
    // Data that is no UTF-8 never reaches a reader that decodes all texts.
    let mut binary = Event::new("t", vec![0xff, 0x00]);
    binary.more_mut().data_content_type = "image/png".into();
    assert_eq!(encode(&binary)[1], (b"data_base64".to_vec(), b"/wA=".to_vec()));
}

#[test]
fn what_a_python_client_writes_is_typed_by_the_schema_of_its_event() {
    let event = read(&texts(&[
        ("event", "inference-complete"),
        ("timestamp", "2025-01-01T12:00:00.123456"),
        ("source", "cyrex"),
        ("version", "1.0"),
        ("latency_ms", "12.5"),
        ("success", "False"),
        ("confidence", ""),
        ("cost", "undefined"),
        ("metadata", r#"{"gpu": true}"#),
        ("note", ""),
    ]));
    assert_eq!(event.kind(), "inference-complete");
    assert_eq!(event.time().to_string(), "2025-01-01T12:00:00.123456Z");
    assert_eq!(event.source(), "cyrex");
    assert_eq!(event.id(), "topic/0@1735689600000-3");
    let expected = r#"{"version":"1.0","latency_ms":12.5,"success":false,"confidence":null,"cost":null,"metadata":{"gpu": true},"note":""}"#;
    assert_eq!(event.data(), expected);
}

#[test]
fn what_a_flat_entry_does_not_say_is_filled_in() {
    let event = read(&texts(&[
        ("event", "undefined"),
        ("correlation_id", "undefined"),
        ("source", ""),
        ("timestamp", "soon"),
        ("x", "1"),
    ]));
    assert_eq!((event.kind().as_ref(), event.source().as_ref()), ("unknown", "unknown"));
    assert_eq!(event.time(), ID.time());
    assert_eq!(event.correlation_id(), "");
    assert_eq!(event.data(), r#"{"timestamp":"soon","x":"1"}"#);
}

#[test]
fn an_envelope_becomes_an_event_with_the_payload_as_its_data() {
    let event = read(&texts(&[
        ("event_type", "task-created"),
        ("sender", "sidecar"),
        ("priority", "high"),
        ("payload", r#"{"task_id": 7, "n": 1.0, "correlation_id": "c"}"#),
        ("timestamp", "2025-01-01T00:00:00.123456789Z"),
        ("recipient", "helox"),
        ("ttl_sec", "60"),
        ("message_id", "m1"),
        ("retry_count", "0"),
        ("max_retries", "3"),
    ]));
    assert_eq!(
        (event.kind().as_ref(), event.source().as_ref(), event.id().as_ref()),
        ("task-created", "sidecar", "m1")
    );
    assert_eq!(event.correlation_id(), "c");
    assert_eq!(event.data(), r#"{"task_id": 7, "n": 1.0, "correlation_id": "c"}"#);
    assert_eq!(event.more().expiry_time.unwrap().to_string(), "2025-01-01T00:01:00.123456789Z");
    let extensions: Vec<_> = event.more().extensions.iter().map(|(a, b)| (a.as_ref(), b.as_ref())).collect();
    assert_eq!(extensions, [("priority", "high"), ("recipient", "helox"), ("retrycount", "0"), ("maxretries", "3")]);
    let no_json = read(&texts(&[("event_type", "x"), ("sender", "s"), ("payload", "{broken")]));
    assert_eq!(no_json.data(), r#"{"payload":"{broken"}"#);
}

#[test]
fn a_payload_alone_is_the_event() {
    let event = read(&texts(&[("payload", r#"{"type":"train","id":"j1","lr":1e-4}"#)]));
    assert_eq!((event.kind().as_ref(), event.id().as_ref()), ("train", "j1"));
    assert_eq!(event.data(), r#"{"type":"train","id":"j1","lr":1e-4}"#);
    assert_eq!(read(&texts(&[("payload", "[1]")])).kind(), "unknown");
    assert_eq!(read(&texts(&[("payload", "no json")])).kind(), "opaque");
    assert_eq!(read(&texts(&[("payload", "{}"), ("more", "1")])).kind(), "opaque");
}

#[test]
fn anything_else_is_an_opaque_event() {
    let event = read(&[(b"created", b"1"), (b"blob", &[0xff, 0xfe]), (b"text", "\"ü\"".as_bytes())]);
    assert_eq!((event.kind().as_ref(), event.source().as_ref()), ("opaque", "unknown"));
    assert_eq!(event.data(), "{\"created\":\"1\",\"blob_base64\":\"//4=\",\"text\":\"\\\"ü\\\"\"}");
    assert_eq!(read(&[]).data(), "{}");
}

#[test]
fn a_mark_that_does_not_fit_its_entry_is_not_believed() {
    // Somebody copied an entry of Synapse and added a field.
    let event = read(&texts(&[("event", "inference-complete"), ("success", "True"), ("x", "1"), ("_synapse", "1b")]));
    assert_eq!(event.data(), r#"{"success":true,"x":"1"}"#);
    // Or changed a value.
    let event = read(&texts(&[("event", "e"), ("n", "many"), ("j", "{"), ("b", "True"), ("_synapse", "1njb")]));
    assert_eq!(event.data(), r#"{"n":"many","j":"{","b":"True"}"#);
    // Or says of a text that it is no JSON, but not what else it is: then it is told as JSON.
    for data in [("data", "not json"), ("data_base64", "bm90IGpzb24=")] {
        let form = if data.0 == "data" { "text" } else { "base64" };
        let mark = format!(r#"1t {{"as":"{form}","attributes":{{"subject":"s"}}}}"#);
        let event = read(&texts(&[("event", "e"), data, ("_synapse", &mark)]));
        assert_eq!(event.data(), &format!(r#"{{"{}":"{}"}}"#, data.0, data.1));
        assert_eq!((event.kind().as_ref(), event.has_more()), ("e", false));
    }
    // Or made one up.
    for mark in ["", "2t", "1t {", "1t []", "1t {\"as\":\"base64\"}", "1 {\"as\":\"json\"}", "x"] {
        let event = read(&texts(&[("event", "e"), ("x", "1"), ("_synapse", mark)]));
        assert_eq!(event.kind(), "e", "{mark}");
    }
}

#[test]
fn a_packed_entry_is_its_batch_and_damage_is_noticed() {
    let mut first = Event::new("a", "{}");
    first.set_id("1").set_source("s");
    let events = [first, Event::new("b", "[1]")];
    let stored = batch::encode_stored(&batch::encode(&events), None);
    let records = decode("t", 0, ID, &[(b"_synapse_batch", &stored)], &WellKnown).unwrap();
    let positions: Vec<_> = records.iter().map(|record| record.position.to_string()).collect();
    assert_eq!(positions, ["1735689600000-3", "1735689600000-3.1"]);
    assert_eq!(records.into_iter().map(|record| record.event).collect::<Vec<_>>(), events);
    let mut damaged = stored;
    damaged[10] ^= 1;
    assert!(decode("t", 0, ID, &[(b"_synapse_batch", &damaged)], &WellKnown).is_err());
}

#[test]
fn types_come_from_whoever_knows_them() {
    struct AllNumbers;
    impl FieldTypes for AllNumbers {
        fn kind(&self, topic: &str, _: &str, _: &str) -> Option<FieldKind> {
            (topic == "numbers").then_some(FieldKind::Number)
        }
    }
    let fields = texts(&[("event", "e"), ("n", "5")]);
    for (topic, expected) in [("numbers", r#"{"n":5}"#), ("others", r#"{"n":"5"}"#)] {
        let records = decode(topic, 0, ID, &fields, &AllNumbers).unwrap();
        assert_eq!(records[0].event.data(), expected);
    }
}

#[test]
fn every_position_finds_its_entry_and_ids_that_are_too_large_are_noticed() {
    let id = EntryId::parse(b"1735689600000-3").unwrap();
    assert_eq!(EntryId::of(id.position(5).unwrap()), id);
    assert_eq!(id.position_before(), Position::new(1_735_689_600_000, 2, (1 << 24) - 1).unwrap());
    // The position before the first of a millisecond stands for everything before it.
    let first = EntryId { ms: 5, seq: 0 };
    assert_eq!(EntryId::of(first.position_before()), EntryId { ms: 4, seq: u64::MAX });
    let too_large = EntryId { ms: 5, seq: 1 << 60 };
    assert_eq!(too_large.position(0), None);
    assert_eq!(EntryId::of(too_large.position_last()), EntryId { ms: 5, seq: u64::MAX });
    assert_eq!(EntryId::of(EntryId::MAX.position_last()), EntryId::MAX);
    assert!(decode("t", 0, too_large, &[], &WellKnown).is_err());
    for text in ["", "-", "1", "1-", "-1", "a-1", "1-18446744073709551616", "1-1-1", "+1-1"] {
        assert_eq!(EntryId::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(EntryId::parse(b"18446744073709551615-18446744073709551615"), Some(EntryId::MAX));
}
