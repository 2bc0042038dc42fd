//! Reads what other programs write by hand.

use std::{borrow::Cow, io::Write as _, str, time::Duration};

use serde_json::value::RawValue;
use synapse_hub_core::{Timestamp, fields::FieldKind, flat, json};

use super::{
    EntryId, Field,
    decode::{Decoder, Draft, Span, is_data},
    value,
};

/// The type of an event whose entry does not say it.
const UNKNOWN: &str = "unknown";
/// The type of an event that is made of an entry in no known format.
const OPAQUE: &str = "opaque";
/// How deep a payload may nest to be taken as JSON.
const PAYLOAD_DEPTH_MAX: usize = 64;

/// Reads an entry that Synapse did not write, whatever it is.
pub(super) fn read(decoder: &mut Decoder<'_>, draft: &mut Draft, id: EntryId, fields: &[Field<'_>]) {
    let payload = get(fields, b"payload");
    if get(fields, b"event").is_some() {
        flat(decoder, draft, fields);
    } else if let (Some(kind), Some(payload)) = (get(fields, b"event_type"), payload) {
        envelope(decoder, draft, id, fields, (kind, payload));
    } else if let (Some(payload), 1) = (payload.and_then(as_json), fields.len()) {
        let inner = Payload::of(payload);
        draft.kind = decoder.share(inner.kind().as_bytes());
        inner.attributes(decoder, draft);
        draft.data = decoder.share(payload.as_bytes());
    } else {
        draft.kind = decoder.share(OPAQUE.as_bytes());
        draft.data = object(decoder, OPAQUE, fields, |_| true);
    }
    complete(decoder, draft, id);
}

/// One field a top-level key, all of them text.
fn flat(decoder: &mut Decoder<'_>, draft: &mut Draft, fields: &[Field<'_>]) {
    let kind = present(fields, b"event").unwrap_or(Cow::Borrowed(UNKNOWN));
    draft.kind = decoder.share(kind.as_bytes());
    for (name, span) in
        [("source", &mut draft.source), ("id", &mut draft.id), ("correlation_id", &mut draft.correlation_id)]
    {
        if let Some(text) = present(fields, name.as_bytes()) {
            *span = decoder.share(text.as_bytes());
        }
    }
    let mut keep_timestamp = false;
    if let Some(text) = present(fields, b"timestamp") {
        match text.parse() {
            Ok(time) => _ = draft.event.set_time(time),
            // What is no time stays reachable as data.
            Err(_) => keep_timestamp = true,
        }
    }
    draft.data = object(decoder, &kind, fields, |name| is_data(name) || keep_timestamp && name == b"timestamp");
}

/// An event as JSON text within an envelope of its own fields.
fn envelope(
    decoder: &mut Decoder<'_>,
    draft: &mut Draft,
    id: EntryId,
    fields: &[Field<'_>],
    (kind, payload): (&[u8], &[u8]),
) {
    draft.kind = decoder.share_lossy(if kind.is_empty() { UNKNOWN.as_bytes() } else { kind });
    for (name, span) in [("sender", &mut draft.source), ("message_id", &mut draft.id)] {
        if let Some(text) = present(fields, name.as_bytes()) {
            *span = decoder.share(text.as_bytes());
        }
    }
    if let Some(time) = present(fields, b"timestamp").and_then(|text| text.parse().ok()) {
        draft.event.set_time(time);
    }
    match as_json(payload) {
        Some(text) => {
            Payload::of(text).attributes(decoder, draft);
            draft.data = decoder.share(text.as_bytes());
        }
        None => draft.data = object(decoder, UNKNOWN, fields, |name| name == b"payload"),
    }
    let time = if draft.event.time() == Timestamp::default() { id.time() } else { draft.event.time() };
    for &(name, value) in fields {
        match name {
            b"event_type" | b"sender" | b"payload" | b"timestamp" | b"message_id" => {}
            b"ttl_sec" => match time_to_live(value) {
                Some(ttl) => {
                    let expiry = time.as_nanos().saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
                    draft.event.more_mut().expiry_time = Some(Timestamp::from_nanos(expiry));
                }
                None => extension(draft, name, value),
            },
            _ => extension(draft, name, value),
        }
    }
}

/// Keeps a field of an envelope as an extension attribute, whose names have only lower-case letters and digits.
fn extension(draft: &mut Draft, name: &[u8], value: &[u8]) {
    let name: String =
        name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| byte.to_ascii_lowercase() as char).collect();
    let text = String::from_utf8_lossy(value);
    if !name.is_empty() && !text.is_empty() && text != "undefined" {
        draft.event.more_mut().extensions.push((name.into(), text.as_ref().into()));
    }
}

fn time_to_live(value: &[u8]) -> Option<Duration> {
    let seconds: f64 = str::from_utf8(value).ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|ttl| !ttl.is_zero())
}

/// The attributes that a payload has when it is itself a flat event.
struct Payload<'a> {
    members: Vec<(&'a RawValue, &'a RawValue)>,
}

impl<'a> Payload<'a> {
    fn of(text: &'a str) -> Self {
        let members = if json::is_object(text.as_bytes()) { flat::data_fields(text.as_bytes()) } else { Vec::new() };
        Self { members }
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.members.iter().find(|(key, _)| flat::raw_text(key) == name)?;
        let text = value.get().starts_with('"').then(|| flat::raw_text(value))?;
        (!text.is_empty() && text != "undefined").then_some(text)
    }

    fn kind(&self) -> Cow<'a, str> {
        self.text("event").or_else(|| self.text("type")).unwrap_or(Cow::Borrowed(UNKNOWN))
    }

    /// Gives the event the attributes that its entry did not.
    fn attributes(&self, decoder: &mut Decoder<'_>, draft: &mut Draft) {
        for (name, span) in
            [("source", &mut draft.source), ("id", &mut draft.id), ("correlation_id", &mut draft.correlation_id)]
        {
            if span.is_empty()
                && let Some(text) = self.text(name)
            {
                *span = decoder.share(text.as_bytes());
            }
        }
        if draft.event.time() == Timestamp::default()
            && let Some(time) = self.text("timestamp").and_then(|text| text.parse().ok())
        {
            draft.event.set_time(time);
        }
    }
}

/// Writes the chosen fields as one JSON object, with the types that are known for events of this type.
fn object(decoder: &mut Decoder<'_>, kind: &str, fields: &[Field<'_>], wanted: impl Fn(&[u8]) -> bool) -> Span {
    let start = decoder.out.len();
    decoder.out.push(b'{');
    for (name, bytes) in fields.iter().filter(|(name, _)| wanted(name)) {
        let name = String::from_utf8_lossy(name);
        match str::from_utf8(bytes) {
            Ok(text) => {
                let known: Option<FieldKind> = decoder.types.kind(decoder.topic, kind, &name);
                value::write_key(&name, start, &mut decoder.out);
                value::write_foreign(text, known, &mut decoder.out);
            }
            Err(_) => value::write_binary(&name, bytes, start, &mut decoder.out),
        }
    }
    decoder.out.push(b'}');
    decoder.since(start)
}

/// Fills in what the entry did not say.
fn complete(decoder: &mut Decoder<'_>, draft: &mut Draft, id: EntryId) {
    if draft.source.is_empty() {
        draft.source = decoder.share(UNKNOWN.as_bytes());
    }
    if draft.id.is_empty() {
        let start = decoder.out.len();
        // Writing to a vector cannot fail.
        let _ = write!(decoder.out, "{}/{}@{id}", decoder.topic, decoder.partition);
        draft.id = decoder.since(start);
    }
    if draft.event.time() == Timestamp::default() {
        draft.event.set_time(id.time());
    }
}

fn get<'a>(fields: &[Field<'a>], name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value)
}

/// A field's text, unless it says that there is none.
fn present<'a>(fields: &[Field<'a>], name: &[u8]) -> Option<Cow<'a, str>> {
    let text = String::from_utf8_lossy(get(fields, name)?);
    (!text.is_empty() && text != "undefined").then_some(text)
}

fn as_json(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?.trim_ascii();
    json::check(text.as_bytes(), PAYLOAD_DEPTH_MAX).is_ok().then_some(text)
}
