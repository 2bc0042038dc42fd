//! CloudEvents 1.0, JSON format: structured and batched mode.
//!
//! Follows the [JSON event format](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
//! Data that is JSON keeps its text; data that is not travels as a JSON string when it is text, else as `data_base64`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Code, Error, Event, Result, Timestamp, flat, json};

/// The version of the specification: the only `specversion` that is read and written.
pub const SPEC_VERSION: &str = "1.0";

/// Members of the JSON object that are no attributes.
const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";

/// Reads one event in structured mode.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, and `invalid_event` or `invalid_timestamp` naming the attribute.
pub fn decode(text: &[u8], depth_max: usize) -> Result<Event> {
    json::check_depth(text, depth_max)?;
    if !json::is_object(text) {
        json::check(text, depth_max)?;
        return Err(invalid("a CloudEvent is a JSON object such as {\"specversion\": \"1.0\", \"type\": …}"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut reader = Reader::default();
    let outcome = deserializer.deserialize_map(&mut reader).and_then(|()| deserializer.end());
    outcome.map_err(|error| json::invalid(&error))?;
    reader.finish()
}

/// Reads a batch: a JSON array of events. Each event is read on its own, so that one bad event does not hide the others.
///
/// # Errors
/// `invalid_json`, `json_too_deep`; `batch_too_large` when there are more than `events_max`.
pub fn decode_batch(text: &[u8], depth_max: usize, events_max: usize) -> Result<Vec<Result<Event>>> {
    // The array itself is one level more.
    json::check_depth(text, depth_max + 1)?;
    Ok(split_array(text, events_max)?.into_iter().map(|raw| decode(raw.get().as_bytes(), depth_max)).collect())
}

/// The raw items of a JSON array, at most `items_max`.
///
/// # Errors
/// `invalid_json`; `batch_too_large` when there are more.
pub fn split_array(text: &[u8], items_max: usize) -> Result<Vec<&RawValue>> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut items = Items { items: Vec::new(), items_max };
    let outcome = deserializer.deserialize_seq(&mut items).and_then(|()| deserializer.end());
    if items.items.len() > items_max {
        let what =
            format!("more than {items_max} events in one request (`limits.batch_events`); send several requests");
        return Err(Error::new(Code::BatchTooLarge, what));
    }
    outcome.map_err(|error| json::invalid(&error))?;
    Ok(items.items)
}

/// Sets an attribute from its text form, as binary mode and JSON both carry it. Empty text is an error, as the
/// specification demands; `specversion` and `datacontenttype` are checked and set like all others.
///
/// # Errors
/// `invalid_event` and `invalid_timestamp`, naming the attribute.
pub fn set_attribute(event: &mut Event, name: &str, value: ByteString) -> Result<()> {
    let wrong = |what: &str| Err(invalid(what).field(name.to_owned()));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return wrong("attribute names are lower-case ASCII letters and digits (CloudEvents 1.0, section 3.1)");
    }
    if value.is_empty() {
        return wrong("an attribute is not empty; leave it out instead");
    }
    if value.chars().any(|c| c.is_control()) {
        return wrong("an attribute has no control characters (CloudEvents 1.0, section 3.2)");
    }
    let time = |value: &str| value.parse::<Timestamp>().map_err(|error| error.field(name.to_owned()));
    match name {
        "specversion" if value != SPEC_VERSION => {
            return wrong("this is not CloudEvents 1.0; `specversion` must be \"1.0\"");
        }
        "specversion" => {}
        "id" => event.id = value,
        "source" => event.source = value,
        "type" => event.kind = value,
        "time" => event.time = time(&value)?,
        "correlationid" => event.correlation_id = value,
        "subject" => event.more_mut().subject = value,
        "partitionkey" => event.more_mut().partition_key = value,
        "traceparent" => event.more_mut().traceparent = value,
        "expirytime" => event.more_mut().expiry_time = Some(time(&value)?),
        "datacontenttype" => event.more_mut().data_content_type = value,
        "dataschema" => event.more_mut().data_schema = value,
        DATA => return wrong("`data` is no attribute"),
        _ => event.more_mut().extensions.push((name.into(), value)),
    }
    Ok(())
}

/// Checks that an event has what every CloudEvent has.
///
/// # Errors
/// `invalid_event` naming the attribute.
pub fn check_required(event: &Event, has_version: bool) -> Result<()> {
    let version = if has_version { SPEC_VERSION } else { "" };
    let attributes = [("specversion", version), ("id", &event.id), ("source", &event.source), ("type", &event.kind)];
    match attributes.into_iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => {
            let what = format!("a CloudEvent has the attribute `{name}`; the flat form needs no more than `event`");
            Err(invalid(what).field(name))
        }
        None => Ok(()),
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidEvent, what)
}

struct Items<'de> {
    items: Vec<&'de RawValue>,
    items_max: usize,
}

impl<'de> Visitor<'de> for &mut Items<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        // One more than allowed is enough to know.
        while self.items.len() <= self.items_max
            && let Some(item) = items.next_element()?
        {
            self.items.push(item);
        }
        Ok(())
    }
}

/// Reads the members of an event's object in whatever order they come.
#[derive(Default)]
struct Reader<'de> {
    event: Event,
    has_version: bool,
    names: Vec<ByteString>,
    data: Option<&'de RawValue>,
    data_base64: Option<&'de RawValue>,
    error: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Reader<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let value: &'de RawValue = map.next_value()?;
            if let Err(error) = self.member(&flat::raw_text(key), value) {
                self.error.get_or_insert(error);
            }
        }
        Ok(())
    }
}

impl<'de> Reader<'de> {
    fn member(&mut self, name: &str, value: &'de RawValue) -> Result<()> {
        let twice = || Err(invalid("it is given twice").field(name.to_owned()));
        match name {
            DATA if self.data.replace(value).is_some() => return twice(),
            DATA => return Ok(()),
            // Like an attribute, but unlike data, a null here is the same as nothing.
            DATA_BASE64 if value.get() == "null" => return Ok(()),
            DATA_BASE64 if self.data_base64.replace(value).is_some() => return twice(),
            DATA_BASE64 => return Ok(()),
            _ => {}
        }
        if self.names.iter().any(|known| known == name) {
            return twice();
        }
        self.names.push(name.into());
        let text: ByteString = match value.get().as_bytes().first() {
            Some(b'n') => return Ok(()),
            Some(b'"') => flat::raw_text(value).as_ref().into(),
            Some(b't' | b'f') => value.get().into(),
            Some(b'-' | b'0'..=b'9') if value.get().bytes().skip(1).all(|byte| byte.is_ascii_digit()) => {
                value.get().into()
            }
            _ => {
                let what = "an attribute is a text, an integer or a boolean; objects and lists belong into `data`";
                return Err(invalid(what).field(name.to_owned()));
            }
        };
        self.has_version |= name == "specversion";
        set_attribute(&mut self.event, name, text)
    }

    fn finish(mut self) -> Result<Event> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        check_required(&self.event, self.has_version)?;
        self.event.data = match (self.data, self.data_base64) {
            (None, None) => Bytes::new(),
            (Some(data), None) if self.event.is_json() => Bytes::copy_from_slice(data.get().as_bytes()),
            (Some(data), None) if data.get().starts_with('"') => {
                Bytes::copy_from_slice(flat::raw_text(data).as_bytes())
            }
            (Some(_), None) => {
                let what = "data whose `datacontenttype` is not JSON is a text; send bytes as `data_base64`";
                return Err(invalid(what).field(DATA));
            }
            (None, Some(encoded)) => decode_base64(encoded)?,
            (Some(_), Some(_)) => {
                return Err(invalid("an event has either `data` or `data_base64`").field(DATA_BASE64));
            }
        };
        Ok(self.event)
    }
}

fn decode_base64(encoded: &RawValue) -> Result<Bytes> {
    let wrong = |why: String| invalid(format!("it is no Base64 text: {why}")).field(DATA_BASE64);
    if !encoded.get().starts_with('"') {
        return Err(wrong("it is not even a text".into()));
    }
    let decoded = STANDARD.decode(flat::raw_text(encoded).as_bytes());
    decoded.map(Bytes::from).map_err(|error| wrong(error.to_string()))
}

/// Appends the event in structured mode: one JSON object, as one line.
pub fn encode_into(event: &Event, out: &mut Vec<u8>) {
    out.reserve(event.size() + 128);
    let start = out.len();
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    for_each_attribute(event, |name, value| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        json::write_string(value, out);
    });
    write_data(event, out);
    out.push(b'}');
    json::join_lines(&mut out[start..]);
}

/// The event in structured mode: one JSON object.
pub fn encode(event: &Event) -> Bytes {
    let mut out = Vec::new();
    encode_into(event, &mut out);
    out.into()
}

/// Events in batched mode: one JSON array.
pub fn encode_batch<'a>(events: impl IntoIterator<Item = &'a Event>) -> Bytes {
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        encode_into(event, &mut out);
    }
    out.push(b']');
    out.into()
}

/// Calls back with every attribute that the event has but `specversion`, in its text form.
pub fn for_each_attribute(event: &Event, mut each: impl FnMut(&str, &str)) {
    let more = event.more();
    let time = (event.time != Timestamp::default()).then(|| event.time.to_string());
    let expiry = more.expiry_time.map(|time| time.to_string());
    let attributes: [(&str, &str); 11] = [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.kind),
        ("time", time.as_deref().unwrap_or_default()),
        ("subject", &more.subject),
        ("datacontenttype", &more.data_content_type),
        ("dataschema", &more.data_schema),
        ("partitionkey", &more.partition_key),
        ("correlationid", &event.correlation_id),
        ("traceparent", &more.traceparent),
        ("expirytime", expiry.as_deref().unwrap_or_default()),
    ];
    attributes.into_iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| each(name, value));
    more.extensions.iter().for_each(|(name, value)| each(name, value));
}

fn write_data(event: &Event, out: &mut Vec<u8>) {
    if event.data.is_empty() {
        return;
    }
    if event.is_json() {
        let data = event.data.trim_ascii();
        if !data.is_empty() {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data);
        }
        return;
    }
    match std::str::from_utf8(&event.data) {
        Ok(text) if is_textual(&event.more().data_content_type) => {
            out.extend_from_slice(b",\"data\":");
            json::write_string(text, out);
        }
        _ => {
            out.extend_from_slice(b",\"data_base64\":\"");
            out.extend_from_slice(STANDARD.encode(&event.data).as_bytes());
            out.push(b'"');
        }
    }
}

/// Whether data of this media type is meant to be read as text.
fn is_textual(media_type: &str) -> bool {
    let media = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.starts_with("text/")
        || media.ends_with("+xml")
        || media.ends_with("+yaml")
        || matches!(
            media.as_str(),
            "application/xml"
                | "application/yaml"
                | "application/x-yaml"
                | "application/javascript"
                | "application/x-ndjson"
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Event {
        decode(text.as_bytes(), 64).unwrap()
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let common = r#""specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"A234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"unsetextension":null,"subject":null"#;
        for (rest, media, data) in [
            (
                r#""datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"AP8=""#,
                "application/vnd.apache.thrift.binary",
                &b"\0\xff"[..],
            ),
            (
                r#""datacontenttype":"application/xml","data":"<much wow=\"xml\"/>""#,
                "application/xml",
                b"<much wow=\"xml\"/>",
            ),
            (
                r#""datacontenttype":"application/json","data":{"appinfoA":"abc","appinfoB":1.0}"#,
                "application/json",
                br#"{"appinfoA":"abc","appinfoB":1.0}"#,
            ),
            (r#""data":"I'm just a string""#, "", br#""I'm just a string""#),
            (r#""data":null"#, "", b"null"),
            (r#""datacontenttype":"text/plain""#, "text/plain", b""),
        ] {
            let event = decoded(&format!("{{{rest},{common}}}"));
            assert_eq!(
                (event.kind(), event.source(), event.id()),
                (&"com.example.someevent".into(), &"/mycontext".into(), &"A234-1234-1234".into())
            );
            assert_eq!(event.time().to_string(), "2018-04-05T17:31:00Z");
            assert_eq!(event.more().data_content_type, media);
            assert_eq!(event.data(), data);
            let extensions =
                [("comexampleextension1".into(), "value".into()), ("comexampleothervalue".into(), "5".into())];
            assert_eq!(event.more().extensions, extensions);
            assert_eq!(decode(&encode(&event), 64).unwrap(), event);
        }
    }

    #[test]
    fn what_is_no_cloudevent_is_refused_with_its_place() {
        let with = |rest: &str| format!(r#"{{"specversion":"1.0","type":"t","source":"s","id":"1"{rest}}}"#);
        for (text, code, field) in [
            (r#"{"type":"t","source":"s","id":"1"}"#.to_owned(), Code::InvalidEvent, Some("specversion")),
            (
                r#"{"specversion":"0.3","type":"t","source":"s","id":"1"}"#.to_owned(),
                Code::InvalidEvent,
                Some("specversion"),
            ),
            (
                r#"{"specversion":1.0,"type":"t","source":"s","id":"1"}"#.to_owned(),
                Code::InvalidEvent,
                Some("specversion"),
            ),
            (r#"{"specversion":"1.0","source":"s","id":"1"}"#.to_owned(), Code::InvalidEvent, Some("type")),
            (r#"{"specversion":"1.0","type":"t","id":"1"}"#.to_owned(), Code::InvalidEvent, Some("source")),
            (r#"{"specversion":"1.0","type":"t","source":"s","id":null}"#.to_owned(), Code::InvalidEvent, Some("id")),
            (with(r#","subject":"""#), Code::InvalidEvent, Some("subject")),
            (with(r#","Upper":"x""#), Code::InvalidEvent, Some("Upper")),
            (with(r#","my_ext":"x""#), Code::InvalidEvent, Some("my_ext")),
            (with(r#","ext":{"a":1}"#), Code::InvalidEvent, Some("ext")),
            (with(r#","ext":1.5"#), Code::InvalidEvent, Some("ext")),
            (with(r#","ext":"a\u0007""#), Code::InvalidEvent, Some("ext")),
            (with(r#","ext":"a","ext":"b""#), Code::InvalidEvent, Some("ext")),
            (with(r#","time":"noon""#), Code::InvalidTimestamp, Some("time")),
            (with(r#","expirytime":"never""#), Code::InvalidTimestamp, Some("expirytime")),
            (with(r#","data":1,"data_base64":"AA==""#), Code::InvalidEvent, Some("data_base64")),
            (with(r#","data":1,"data":2"#), Code::InvalidEvent, Some("data")),
            (with(r#","data_base64":"%%""#), Code::InvalidEvent, Some("data_base64")),
            (with(r#","data_base64":5"#), Code::InvalidEvent, Some("data_base64")),
            (with(r#","datacontenttype":"text/plain","data":{}"#), Code::InvalidEvent, Some("data")),
            ("[]".into(), Code::InvalidEvent, None),
            ("{".into(), Code::InvalidJson, None),
            (format!(r#"{{"data":{}1{}}}"#, "[".repeat(64), "]".repeat(64)), Code::JsonTooDeep, None),
        ] {
            let error = decode(text.as_bytes(), 64).unwrap_err();
            assert_eq!((error.code(), error.field_path()), (code, field), "{text}: {error}");
        }
    }

    #[test]
    fn one_bad_event_of_a_batch_does_not_hide_the_others() {
        let good = r#"{"specversion":"1.0","type":"t","source":"s","id":"1","data":{"a":[1]}}"#;
        let batch = format!(r#" [{good}, {{"type":"t"}},{good} ]"#);
        let events = decode_batch(batch.as_bytes(), 64, 3).unwrap();
        assert_eq!(events.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(decode_batch(batch.as_bytes(), 64, 2).unwrap_err().code(), Code::BatchTooLarge);
        assert!(decode_batch(b"[]", 64, 2).unwrap().is_empty());
        for text in ["{}", "[", "[1,]", "[{}] x", ""] {
            assert_eq!(decode_batch(text.as_bytes(), 64, 2).unwrap_err().code(), Code::InvalidJson, "{text}");
        }
    }

    fn attribute() -> impl Strategy<Value = String> {
        "[^\\p{Cc}]{1,12}"
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Data with its media type: JSON, text, or bytes.
    fn payload() -> impl Strategy<Value = (String, Bytes)> {
        let media = |list: &'static [&'static str]| prop::sample::select(list).prop_map(str::to_owned);
        prop_oneof![
            (media(&["", "application/json", "application/vnd.x+json; v=1"]), json_value())
                .prop_map(|(media, value)| (media, value.to_string().into())),
            (media(&["text/plain", "application/xml"]), any::<String>()).prop_map(|(media, text)| (media, text.into())),
            (media(&["application/octet-stream", "text/plain"]), any::<Vec<u8>>())
                .prop_map(|(media, bytes)| (media, bytes.into())),
        ]
    }

    prop_compose! {
        fn any_event()(
            (id, source, kind) in (attribute(), attribute(), attribute()),
            nanos in any::<i64>(),
            optional in prop::collection::vec(prop::option::of(attribute()), 5),
            expiry in prop::option::of(any::<i64>()),
            extensions in prop::collection::btree_map("x[a-z0-9]{0,8}", attribute(), 0..3),
            (media, data) in payload(),
        ) -> Event {
            let mut event = Event::new(kind, data);
            event.set_id(id).set_source(source).set_time(Timestamp::from_nanos(nanos));
            let mut optional = optional.into_iter().map(|text| ByteString::from(text.unwrap_or_default()));
            event.set_correlation_id(optional.next().unwrap());
            let more = event.more_mut();
            more.subject = optional.next().unwrap();
            more.partition_key = optional.next().unwrap();
            more.traceparent = optional.next().unwrap();
            more.data_schema = optional.next().unwrap();
            more.expiry_time = expiry.map(Timestamp::from_nanos);
            more.data_content_type = media.into();
            more.extensions = extensions.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            event
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_back_as_it_was(event in any_event()) {
            prop_assert_eq!(&decode(&encode(&event), 64).unwrap(), &event);
            let batch = encode_batch([&event, &event]);
            let events: Vec<Event> = decode_batch(&batch, 64, 2).unwrap().into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(events, [event.clone(), event]);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}\":,a-e0-9\\\\]{0,60}") {
            let _ = decode(&bytes, 8);
            let _ = decode(text.as_bytes(), 8);
            let _ = decode_batch(text.as_bytes(), 8, 10);
        }
    }
}
