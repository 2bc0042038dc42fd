//! The field `_synapse`: what the texts of a flat entry stand for, and what of the event has no field of its own.
//!
//! A version digit, one character for each data field in their order (`t` text, `n` number, `b` boolean, `j` JSON), and
//! only when there is more to say a space and a JSON object. `1tnb` is the mark of an entry with three data fields.

use bytestring::ByteString;
use serde::{
    Deserialize, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use synapse_hub_core::{Attributes, Event, Timestamp};

/// The version that is written.
const VERSION: u8 = b'1';

/// What the field `data` of the entry holds, when the data is not spread over fields of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DataForm {
    /// There is no data, and no field.
    Empty,
    /// JSON that is no object.
    Json,
    /// Text that is no JSON.
    Text,
    /// Bytes, as base64 in the field `data_base64`.
    Base64,
}

/// What the mark says beyond the types.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rest<'a> {
    /// How the data is kept, unless as an object spread over fields.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub(super) form: Option<DataForm>,
    /// The data keys whose value is null.
    #[serde(rename = "null", skip_serializing_if = "Vec::is_empty")]
    pub(super) nulls: Vec<String>,
    /// The data keys that have the name of an attribute or of a reserved field.
    #[serde(rename = "data", borrow, skip_serializing_if = "Pairs::is_empty")]
    pub(super) shadowed: Pairs<&'a RawValue>,
    /// The attributes that the flat view does not have.
    #[serde(rename = "attributes", skip_serializing_if = "Pairs::is_empty")]
    pub(super) attributes: Pairs<String>,
    #[serde(rename = "extensions", skip_serializing_if = "Pairs::is_empty")]
    pub(super) extensions: Pairs<String>,
}

/// The members of a JSON object, in order and with what is there twice.
#[derive(Debug, Clone)]
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Pairs<V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Pairs<V> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Vec<(String, V)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        from.deserialize_map(Object(std::marker::PhantomData)).map(Self)
    }
}

impl Rest<'_> {
    /// Takes the attributes of the event that the flat view does not have.
    pub(super) fn describe(&mut self, event: &Event) {
        if !event.has_more() {
            return;
        }
        let more = event.more();
        for (name, text) in [
            ("subject", &more.subject),
            ("partitionkey", &more.partition_key),
            ("traceparent", &more.traceparent),
            ("datacontenttype", &more.data_content_type),
            ("dataschema", &more.data_schema),
        ] {
            if !text.is_empty() {
                self.attributes.0.push((name.to_owned(), text.to_string()));
            }
        }
        if let Some(time) = more.expiry_time {
            self.attributes.0.push(("expirytime".to_owned(), time.to_string()));
        }
        self.extensions.0 = more.extensions.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    }

    /// Gives the event its attributes back.
    pub(super) fn apply(&self, event: &mut Event) {
        if self.attributes.is_empty() && self.extensions.is_empty() {
            return;
        }
        let more: &mut Attributes = event.more_mut();
        for (name, text) in &self.attributes.0 {
            let text = || ByteString::from(text.as_str());
            match name.as_str() {
                "subject" => more.subject = text(),
                "partitionkey" => more.partition_key = text(),
                "traceparent" => more.traceparent = text(),
                "datacontenttype" => more.data_content_type = text(),
                "dataschema" => more.data_schema = text(),
                "expirytime" => more.expiry_time = text().parse::<Timestamp>().ok(),
                _ => {}
            }
        }
        more.extensions =
            self.extensions.0.iter().map(|(name, text)| (name.as_str().into(), text.as_str().into())).collect();
    }

    fn says_nothing(&self) -> bool {
        self.form.is_none()
            && self.nulls.is_empty()
            && self.shadowed.is_empty()
            && self.attributes.is_empty()
            && self.extensions.is_empty()
    }
}

/// A mark as it was read.
pub(super) struct Mark<'a> {
    /// One character for each data field.
    pub(super) types: &'a [u8],
    pub(super) rest: Option<Box<Rest<'a>>>,
}

impl<'a> Mark<'a> {
    /// Reads a mark; `None` when it is none that this version understands.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let text = value.strip_prefix(&[VERSION])?;
        match text.iter().position(|&byte| byte == b' ') {
            None => Some(Self { types: text, rest: None }),
            Some(at) => {
                let rest = serde_json::from_slice(&text[at + 1..]).ok()?;
                Some(Self { types: &text[..at], rest: Some(Box::new(rest)) })
            }
        }
    }
}

/// Makes a mark while the fields of an entry are written.
#[derive(Default)]
pub(super) struct MarkWriter {
    out: Vec<u8>,
}

impl MarkWriter {
    pub(super) fn start(&mut self) {
        self.out.clear();
        self.out.push(VERSION);
    }

    /// Notes the type of the next data field.
    pub(super) fn push(&mut self, kind: u8) {
        self.out.push(kind);
    }

    pub(super) fn finish(&mut self, rest: &Rest<'_>) -> &[u8] {
        if !rest.says_nothing() {
            self.out.push(b' ');
            // Writing texts to a vector cannot fail.
            let _ = serde_json::to_writer(&mut self.out, rest);
        }
        &self.out
    }
}
