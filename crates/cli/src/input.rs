//! What people type: filters, fields, events.

use bytes::Bytes;
use serde_json::{Map, Value};

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
}
