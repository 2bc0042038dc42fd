//! Writes events in the flat layout: one field for each top-level key of the event's flat view.

use std::{borrow::Cow, io::Write as _, str};

use serde_json::value::RawValue;
use synapse_hub_core::{Event, flat::ATTRIBUTES};

use super::{
    BATCH_FIELD, FieldSink, MARK_FIELD,
    mark::{DataForm, MarkWriter, Rest},
    scan::{self, Kind, Member},
    value,
};

/// Writes events as fields. It keeps its buffers from one event to the next.
#[derive(Default)]
pub(crate) struct FlatEncoder {
    mark: MarkWriter,
    scratch: Vec<u8>,
    /// More data fields than this are kept as one; 0 stands for no limit.
    pub(crate) fields_max: usize,
}

impl FlatEncoder {
    /// Gives all fields of the event to `sink`: attributes, data, and last the mark.
    pub(crate) fn encode(&mut self, event: &Event, sink: &mut impl FieldSink) {
        let mut rest = Rest::default();
        self.mark.start();
        self.attributes(event, sink);
        // The members borrow from the event, and the list of them is not kept: it is small.
        let mut members = Vec::with_capacity(16);
        match self.form(event, &mut members) {
            None => self.members(&members, &mut rest, sink),
            Some(form) => {
                rest.form = Some(form);
                self.whole(event, form, sink);
            }
        }
        rest.describe(event);
        sink.field(MARK_FIELD.as_bytes(), self.mark.finish(&rest));
    }

    fn attributes(&mut self, event: &Event, sink: &mut impl FieldSink) {
        if !event.kind().is_empty() {
            sink.field(b"event", event.kind().as_bytes());
        }
        if event.time().as_nanos() != 0 {
            self.scratch.clear();
            // Writing to a vector cannot fail.
            let _ = write!(self.scratch, "{}", event.time());
            sink.field(b"timestamp", &self.scratch);
        }
        for (name, text) in [("source", event.source()), ("id", event.id()), ("correlation_id", event.correlation_id())]
        {
            if !text.is_empty() {
                sink.field(name.as_bytes(), text.as_bytes());
            }
        }
    }

    /// How the data is kept; `None` when its members become fields.
    fn form<'e>(&self, event: &'e Event, members: &mut Vec<Member<'e>>) -> Option<DataForm> {
        let data: &'e [u8] = event.data();
        let Ok(text) = str::from_utf8(data) else { return Some(DataForm::Base64) };
        if !event.is_json() {
            Some(if data.is_empty() { DataForm::Empty } else { DataForm::Text })
        } else if text.trim_ascii().is_empty() {
            Some(DataForm::Empty)
        } else if scan::members(text, members) && self.can_be_fields(members) {
            None
        } else if value::is_json(text) {
            Some(DataForm::Json)
        } else {
            Some(DataForm::Text)
        }
    }

    /// Whether the members can be fields: not too many, and every key a Unicode text (half a surrogate pair is none).
    fn can_be_fields(&self, members: &[Member<'_>]) -> bool {
        (self.fields_max == 0 || members.len() <= self.fields_max)
            && members.iter().all(|member| !member.key_escaped || unescape(member).is_some())
    }

    fn members<'e>(&mut self, members: &[Member<'e>], rest: &mut Rest<'e>, sink: &mut impl FieldSink) {
        for (index, member) in members.iter().enumerate() {
            let Some(name) = unescape(member) else { continue };
            if is_reserved(&name) {
                if let Ok(raw) = serde_json::from_str::<&RawValue>(member.value) {
                    rest.shadowed.0.push((name.into_owned(), raw));
                }
            } else if member.kind == Kind::Null {
                // Nulls come last when the entry is read, and the last of two equal keys counts.
                if !members[index + 1..].iter().any(|later| later.key == member.key) {
                    rest.nulls.push(name.into_owned());
                }
            } else {
                self.member(&name, member, sink);
            }
        }
    }

    fn member(&mut self, name: &str, member: &Member<'_>, sink: &mut impl FieldSink) {
        let value = member.value;
        let (kind, text) = match member.kind {
            Kind::Text => (b't', Cow::Borrowed(&value[1..value.len() - 1])),
            // A string that is no Unicode text (half a surrogate pair) is kept as the JSON that it is.
            Kind::EscapedText => match serde_json::from_str::<String>(value) {
                Ok(text) => (b't', Cow::Owned(text)),
                Err(_) => (b'j', Cow::Borrowed(value)),
            },
            Kind::Number => (b'n', Cow::Borrowed(value)),
            Kind::Boolean => (b'b', Cow::Borrowed(value)),
            Kind::Null | Kind::Json => (b'j', Cow::Borrowed(value)),
        };
        self.mark.push(kind);
        sink.field(name.as_bytes(), text.as_bytes());
    }

    fn whole(&mut self, event: &Event, form: DataForm, sink: &mut impl FieldSink) {
        match form {
            DataForm::Empty => {}
            DataForm::Json => {
                self.mark.push(b'j');
                sink.field(b"data", event.data().trim_ascii());
            }
            DataForm::Text => {
                self.mark.push(b't');
                sink.field(b"data", event.data());
            }
            // Readers that decode all texts of an entry would fail on anything but UTF-8.
            DataForm::Base64 => {
                self.mark.push(b't');
                sink.field(b"data_base64", value::encode_base64(event.data()).as_bytes());
            }
        }
    }
}

/// Whether a data key of this name cannot be a field of its own.
fn is_reserved(name: &str) -> bool {
    ATTRIBUTES.contains(&name) || name == MARK_FIELD || name == BATCH_FIELD
}

fn unescape<'e>(member: &Member<'e>) -> Option<Cow<'e, str>> {
    if member.key_escaped {
        serde_json::from_str(&format!("\"{}\"", member.key)).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(member.key))
    }
}
