//! What people type: filters, fields, events.

use std::{collections::HashMap, time::SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value, value::RawValue};
use synapse_hub_client::{Event, Refusal};

use crate::failure::Failure;

/// The patterns of `--filter`: all KEY=VALUE are one pattern, each JSON pattern is one more.
pub(crate) fn filters(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut equal = Map::new();
    let mut patterns = Vec::new();
    for text in given {
        if text.trim_start().starts_with('{') {
            patterns.push(text.clone());
            continue;
        }
        let (key, value) = field(text, "--filter")?;
        match equal.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            // The same key again is one more alternative.
            Value::Array(values) => values.push(value),
            other => *other = value,
        }
    }
    if !equal.is_empty() {
        patterns.push(Value::Object(equal).to_string());
    }
    Ok(patterns)
}

/// `KEY=VALUE`: the value is JSON where it is, and text otherwise.
pub(crate) fn field(text: &str, flag: &str) -> Result<(String, Value), Failure> {
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err(Failure::usage(format!("{flag} {text:?} is not KEY=VALUE")));
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((key.to_owned(), value))
}

/// One flat event of this type with these fields.
pub(crate) fn event(kind: &str, data: &[String]) -> Result<Bytes, Failure> {
    let mut object = Map::new();
    object.insert("event".into(), kind.into());
    for text in data {
        let (key, value) = field(text, "--data")?;
        object.insert(key, value);
    }
    Ok(Value::Object(object).to_string().into())
}

/// The events of a JSON text: one object, or a list of them. Their text is kept as it is.
pub(crate) fn events(text: &str) -> Vec<Bytes> {
    match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text) {
        Ok(list) => list.into_iter().map(|raw| Bytes::copy_from_slice(raw.get().as_bytes())).collect(),
        // Whatever is wrong with it, the hub says it best.
        Err(_) => vec![Bytes::copy_from_slice(text.as_bytes())],
    }
}

/// The text of an attribute of a flat event; `None` when it has none.
pub(crate) fn attribute(event: &[u8], name: &str) -> Option<String> {
    let mut object: HashMap<String, &RawValue> = serde_json::from_slice(event).ok()?;
    serde_json::from_str(object.remove(name)?.get()).ok()
}

/// The event with this source, unless it has one or is none. Its text is kept as it is.
pub(crate) fn sourced(event: Bytes, source: &str) -> Bytes {
    let Ok(object) = serde_json::from_slice::<HashMap<String, &RawValue>>(&event) else { return event };
    if object.get("source").is_some_and(|source| source.get() != "null") {
        return event;
    }
    let Some(rest) = event.trim_ascii_start().strip_prefix(b"{") else { return event };
    let comma = if object.is_empty() { "" } else { "," };
    let start = format!("{{\"source\":{}{comma}", Value::from(source));
    [start.as_bytes(), rest].concat().into()
}

/// The event with this partition key, for which the flat form has no place; or what is wrong with it.
pub(crate) fn keyed(flat: &[u8], key: &str) -> Result<Event, Refusal> {
    let refused = |code: &str, field: &str, message: String| Refusal {
        code: code.into(),
        field: field.into(),
        message,
        ..Refusal::default()
    };
    let invalid =
        |error: serde_json::Error| refused("invalid_json", "", format!("the event is no JSON object: {error}"));
    // The one knows the order of the keys, the other the text of the values.
    let order: Map<String, Value> = serde_json::from_slice(flat).map_err(invalid)?;
    let texts: HashMap<String, &RawValue> = serde_json::from_slice(flat).map_err(invalid)?;
    let mut event = Event { partitionkey: key.into(), ..Event::default() };
    let mut data = String::from("{");
    for (name, value) in &order {
        let slot = match name.as_str() {
            "event" => &mut event.r#type,
            "source" => &mut event.source,
            "id" => &mut event.id,
            "correlation_id" => &mut event.correlationid,
            "timestamp" => {
                let nanos = match value {
                    Value::Null => Some(0),
                    Value::String(text) => nanos(text),
                    _ => None,
                };
                let advice = "it must be RFC 3339, such as 2025-01-01T12:00:00Z";
                event.time_unix_nanos = nanos.ok_or_else(|| refused("invalid_timestamp", name, advice.into()))?;
                continue;
            }
            _ => {
                let comma = if data.len() > 1 { "," } else { "" };
                let text = texts.get(name).map_or("null", |raw| raw.get());
                data.push_str(&format!("{comma}{}:{text}", Value::from(name.as_str())));
                continue;
            }
        };
        match value {
            Value::Null => {}
            Value::String(text) => slot.clone_from(text),
            _ => return Err(refused("invalid_event", name, "it must be text".into())),
        }
    }
    if event.r#type.is_empty() {
        return Err(refused(
            "invalid_event",
            "event",
            "it has no type; give it an `event` field such as \"model-ready\"".into(),
        ));
    }
    data.push('}');
    event.data = data.into();
    Ok(event)
}

/// Nanoseconds since the epoch of an RFC 3339 time; UTC when it has no zone.
fn nanos(text: &str) -> Option<i64> {
    let (local, behind) = match text.get(19..)?.rfind(['+', '-']) {
        Some(at) => {
            let (local, zone) = text.split_at(19 + at);
            let (hours, minutes) = zone[1..].split_once(':')?;
            let number = |text: &str, limit: i64| {
                text.parse().ok().filter(|number| text.len() == 2 && (0..limit).contains(number))
            };
            let seconds = number(hours, 24)? * 3600 + number(minutes, 60)? * 60;
            (local, if zone.starts_with('-') { seconds } else { -seconds })
        }
        None => (text.trim_end_matches(['Z', 'z']), 0),
    };
    let time = humantime::parse_rfc3339_weak(local).ok()?;
    // Times before 1970 are none that this reads.
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()?.checked_add(behind * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_with_equals_are_one_pattern_and_json_is_one_more() {
        let given =
            ["model_name=a", "success=false", "model_name=b", r#"{"x":[1]}"#, "version=\"1\""].map(str::to_owned);
        let patterns = filters(&given).unwrap();
        assert_eq!(patterns, [r#"{"x":[1]}"#, r#"{"model_name":["a","b"],"success":[false],"version":["1"]}"#]);
        assert!(filters(&["nonsense".into()]).is_err());
    }

    #[test]
    fn events_keep_their_text() {
        assert_eq!(events(r#"[{"a":1.0}, {"b":2}]"#), [r#"{"a":1.0}"#, r#"{"b":2}"#]);
        assert_eq!(events(r#"{"a":1.0}"#), [r#"{"a":1.0}"#]);
        assert_eq!(event("t", &["a=1".into(), "b=x".into()]).unwrap(), r#"{"event":"t","a":1,"b":"x"}"#);
    }

    #[test]
    fn a_source_is_given_to_events_that_have_none() {
        for (given, sourced) in [
            (r#"{"event":"a","n":1.0}"#, r#"{"source":"me","event":"a","n":1.0}"#),
            (r#"{"event":"a","source":null}"#, r#"{"source":"me","event":"a","source":null}"#),
            (r#"{"event":"a","source":"own"}"#, r#"{"event":"a","source":"own"}"#),
            ("{}", r#"{"source":"me"}"#),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(super::sourced(given.into(), "me"), sourced);
        }
    }

    #[test]
    fn a_keyed_event_keeps_its_attributes_and_the_text_of_its_data() {
        let flat = r#"{"z":1.0,"event":"t","id":"1","timestamp":"2025-01-01T01:00:00.5+01:00","source":null,"correlation_id":"c","big":123456789012345678901234567890,"a b":[1, 2]}"#;
        let event = keyed(flat.as_bytes(), "k").unwrap();
        assert_eq!((event.r#type.as_str(), event.id.as_str(), event.partitionkey.as_str()), ("t", "1", "k"));
        assert_eq!((event.source.as_str(), event.correlationid.as_str()), ("", "c"));
        assert_eq!(event.time_unix_nanos, 1_735_689_600_500_000_000);
        assert_eq!(event.data, r#"{"z":1.0,"big":123456789012345678901234567890,"a b":[1, 2]}"#);
        for (flat, code) in [
            ("nonsense", "invalid_json"),
            ("[]", "invalid_json"),
            ("{}", "invalid_event"),
            (r#"{"event":1}"#, "invalid_event"),
            (r#"{"event":"t","timestamp":"yesterday"}"#, "invalid_timestamp"),
        ] {
            assert_eq!(keyed(flat.as_bytes(), "k").unwrap_err().code, code, "{flat}");
        }
        for text in ["2025-01-01T00:00:00Z", "2025-01-01T00:00:00", "2024-12-31T19:00:00-05:00"] {
            assert_eq!(nanos(text), Some(1_735_689_600_000_000_000), "{text}");
        }
        assert_eq!(nanos("2025-01-01T00:00:00+1:00"), None);
    }
}
