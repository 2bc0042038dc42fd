//! The flat view of an event: what ModelKit users know, what filters match on.
//!
//! `{"event": type, "timestamp": time, "source": …, "id": …, "correlation_id": …, …the data's own top-level keys}`.
//! Data that is JSON but no object is under `data`; data that is not JSON is under `data_base64`. An attribute wins over
//! a data key of the same name. Values keep their text: `1.0` does not become `1`.

use std::{borrow::Cow, fmt};

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Code, Error, Event, Result, Timestamp, json};

/// The keys of the flat view that are attributes, in the order in which they are written.
pub const ATTRIBUTES: [&str; 5] = ["event", "timestamp", "source", "id", "correlation_id"];

/// Reads one flat JSON object. What is absent or null stays empty; nothing is filled in.
///
/// # Errors
/// `invalid_json`, `json_too_deep`, `invalid_event` and `invalid_timestamp`, naming the field.
pub fn decode(text: &[u8], depth_max: usize) -> Result<Event> {
    decode_into(text, depth_max, &mut BytesMut::with_capacity(text.len()))
}

/// As [`decode`], with the event's bytes split off `buffer`: the events of a batch share one allocation.
///
/// # Errors
/// As [`decode`].
pub fn decode_into(text: &[u8], depth_max: usize, buffer: &mut BytesMut) -> Result<Event> {
    json::check_depth(text, depth_max)?;
    if !json::is_object(text) {
        let what = "an event is a JSON object such as {\"event\": \"model-ready\", …}";
        json::check(text, depth_max)?;
        return Err(Error::new(Code::InvalidEvent, what));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut flat = Flat { texts: Texts::default(), data: buffer, error: None };
    flat.data.extend_from_slice(b"{");
    let outcome = deserializer.deserialize_map(&mut flat).and_then(|()| deserializer.end());
    flat.data.extend_from_slice(b"}");
    let Flat { texts, error, .. } = flat;
    let data = buffer.split().freeze();
    if let Some(error) = error {
        return Err(error);
    }
    outcome.map_err(|error| json::invalid(&error))?;
    let mut share = |text: Cow<'_, str>| {
        buffer.extend_from_slice(text.as_bytes());
        ByteString::try_from(buffer.split().freeze()).unwrap_or_default()
    };
    Ok(Event {
        kind: share(texts.event),
        source: share(texts.source),
        id: share(texts.id),
        correlation_id: share(texts.correlation_id),
        time: texts.timestamp,
        data,
        ..Event::default()
    })
}

/// The attributes of a flat event, as they stand in its text.
#[derive(Default)]
struct Texts<'de> {
    event: Cow<'de, str>,
    source: Cow<'de, str>,
    id: Cow<'de, str>,
    correlation_id: Cow<'de, str>,
    timestamp: Timestamp,
}

struct Flat<'de, 'b> {
    texts: Texts<'de>,
    data: &'b mut BytesMut,
    error: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Flat<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.data.len();
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            let value: &'de RawValue = map.next_value()?;
            let name = unquote(key);
            match self.attribute(&name, value) {
                Ok(true) => {}
                Ok(false) => {
                    if self.data.len() > start {
                        self.data.extend_from_slice(b",");
                    }
                    self.data.extend_from_slice(key.get().as_bytes());
                    self.data.extend_from_slice(b":");
                    self.data.extend_from_slice(value.get().as_bytes());
                }
                Err(error) => {
                    let error = error.field(name.into_owned());
                    self.error.get_or_insert(error);
                }
            }
        }
        Ok(())
    }
}

impl<'de> Flat<'de, '_> {
    /// Takes the value if the key is an attribute's.
    fn attribute(&mut self, name: &str, value: &'de RawValue) -> Result<bool> {
        if !ATTRIBUTES.contains(&name) {
            return Ok(false);
        }
        let raw = value.get();
        if raw == "null" {
            return Ok(true);
        }
        if !raw.starts_with('"') {
            let what = format!("`{name}` must be text, not {}; put other values under another name", kind_of(raw));
            let code = if name == "timestamp" { Code::InvalidTimestamp } else { Code::InvalidEvent };
            return Err(Error::new(code, what));
        }
        let text = unquote(value);
        match name {
            "event" => self.texts.event = text,
            "source" => self.texts.source = text,
            "id" => self.texts.id = text,
            "correlation_id" => self.texts.correlation_id = text,
            _ if text.is_empty() => {}
            _ => self.texts.timestamp = text.parse()?,
        }
        Ok(true)
    }
}

fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

/// The text of a JSON string, borrowed unless it has escapes.
fn unquote(raw: &RawValue) -> Cow<'_, str> {
    let text = raw.get();
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') {
        serde_json::from_str::<String>(text).map_or(Cow::Borrowed(inner), Cow::Owned)
    } else {
        Cow::Borrowed(inner)
    }
}

/// Appends the flat JSON object of the event, as one line.
pub fn encode_into(event: &Event, out: &mut Vec<u8>) {
    out.reserve(event.size() + 64);
    let start = out.len();
    out.extend_from_slice(b"{\"event\":");
    json::write_string(&event.kind, out);
    out.extend_from_slice(b",\"timestamp\":\"");
    {
        use std::io::Write as _;
        let _ = write!(out, "{}", event.time);
    }
    out.extend_from_slice(b"\",\"source\":");
    json::write_string(&event.source, out);
    out.extend_from_slice(b",\"id\":");
    json::write_string(&event.id, out);
    if !event.correlation_id.is_empty() {
        out.extend_from_slice(b",\"correlation_id\":");
        json::write_string(&event.correlation_id, out);
    }
    write_data(event, out);
    out.push(b'}');
    json::join_lines(&mut out[start..]);
}

/// The flat JSON object of the event.
pub fn encode(event: &Event) -> Bytes {
    let mut out = Vec::new();
    encode_into(event, &mut out);
    out.into()
}

fn write_data(event: &Event, out: &mut Vec<u8>) {
    let data = event.data.trim_ascii();
    if data.is_empty() {
        return;
    }
    if !event.is_json() {
        out.extend_from_slice(b",\"data_base64\":\"");
        out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(&event.data).as_bytes());
        out.push(b'"');
    } else if !json::is_object(data) {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    } else if may_shadow(data) {
        for (key, value) in data_fields(data) {
            if !ATTRIBUTES.contains(&unquote(key).as_ref()) {
                out.push(b',');
                out.extend_from_slice(key.get().as_bytes());
                out.push(b':');
                out.extend_from_slice(value.get().as_bytes());
            }
        }
    } else {
        // Data that was not checked may end where it begins.
        let inner = data.get(1..data.len() - 1).unwrap_or_default().trim_ascii();
        if !inner.is_empty() {
            out.push(b',');
            out.extend_from_slice(inner);
        }
    }
}

/// Whether a top-level key might be an attribute's name. Says yes too often, never too seldom.
fn may_shadow(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some(at) = rest.iter().position(|&byte| byte == b'"') {
        rest = &rest[at + 1..];
        // A key may be written with escapes.
        if rest.first() == Some(&b'\\') || ATTRIBUTES.iter().any(|name| starts_key(rest, name.as_bytes())) {
            return true;
        }
    }
    data.contains(&b'\\')
}

fn starts_key(rest: &[u8], name: &[u8]) -> bool {
    rest.len() > name.len() && rest.starts_with(name) && rest[name.len()] == b'"'
}

/// The top-level members of a JSON object, as raw text; empty when it is none.
pub fn data_fields(data: &[u8]) -> Vec<(&RawValue, &RawValue)> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(entry) = map.next_entry()? {
                fields.push(entry);
            }
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_slice(data).deserialize_map(Fields).unwrap_or_default()
}

/// The decoded text of a raw JSON string such as the keys of [`data_fields`].
pub fn raw_text(raw: &RawValue) -> Cow<'_, str> {
    unquote(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        String::from_utf8(encode(&decode(text.as_bytes(), 64).unwrap()).to_vec()).unwrap()
    }

    #[test]
    fn a_flat_event_becomes_attributes_and_data_and_comes_back() {
        let text = r#"{"event":"model-ready","timestamp":"2025-01-01T00:00:00Z","source":"helox","id":"1","correlation_id":"c","version":"1.0","n":1.0,"big":123456789012345678901234567890,"none":null,"deep":{"a":[1,{"b":"ü"}]}}"#;
        assert_eq!(round(text), text);
        let event = decode(text.as_bytes(), 64).unwrap();
        assert_eq!(event.kind(), "model-ready");
        assert_eq!(event.source(), "helox");
        assert!(event.data().starts_with(br#"{"version":"1.0","n":1.0"#));
    }

    #[test]
    fn an_attribute_wins_over_a_data_key_of_the_same_name() {
        let mut event = Event::new("t", r#"{"source":"inner","\u0069d":"inner","x":1,"y":"source"}"#);
        event.set_id("1").set_source("outer");
        let flat: serde_json::Value = serde_json::from_slice(&encode(&event)).unwrap();
        assert_eq!(flat["source"], "outer");
        assert_eq!(flat["id"], "1");
        assert_eq!(flat["x"], 1);
        assert_eq!(encode(&event).windows(8).filter(|part| part == b"\"source\"").count(), 2, "a key and a value");
    }

    #[test]
    fn data_that_is_no_object_is_under_data() {
        let flat: serde_json::Value = serde_json::from_slice(&encode(&Event::new("t", "[1]"))).unwrap();
        assert_eq!(flat["data"][0], 1);
        let mut event = Event::new("t", vec![0xff]);
        event.more_mut().data_content_type = "application/octet-stream".into();
        let flat: serde_json::Value = serde_json::from_slice(&encode(&event)).unwrap();
        assert_eq!(flat["data_base64"], "/w==");
    }

    #[test]
    fn data_that_was_not_checked_does_no_harm() {
        for data in ["{", "{}", "{{", " { ", "{\"a"] {
            assert!(encode(&Event::new("t", data)).ends_with(b"}"), "{data}");
        }
    }

    #[test]
    fn an_event_is_one_line_however_it_was_written() {
        let text = "{\n \"event\": \"t\",\r\n \"deep\": {\n  \"a\": \"x\\ny\"\r }\n}";
        let flat = round(text);
        assert!(!flat.contains(['\n', '\r']), "{flat}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&flat).unwrap()["deep"]["a"], "x\ny");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, code, field) in [
            (r#"{"event":5}"#, Code::InvalidEvent, Some("event")),
            (r#"{"event":"x","id":{}}"#, Code::InvalidEvent, Some("id")),
            (r#"{"event":"x","timestamp":"yesterday"}"#, Code::InvalidTimestamp, Some("timestamp")),
            (r#"{"event":"x","timestamp":5}"#, Code::InvalidTimestamp, Some("timestamp")),
            (r#"[]"#, Code::InvalidEvent, None),
            (r#"{"event":"x""#, Code::InvalidJson, None),
            (r#"{"event":"x"} y"#, Code::InvalidJson, None),
        ] {
            let error = decode(text.as_bytes(), 64).unwrap_err();
            assert_eq!((error.code(), error.field_path()), (code, field), "{text}");
        }
    }
}
