//! Reads entries: classifies each, and builds the events of a read in one shared buffer.

use std::str;

use bytes::Bytes;
use bytestring::ByteString;
use synapse_hub_core::{Event, Position, Result, Timestamp, backend::Record, batch, fields::FieldTypes};

use super::{
    BATCH_FIELD, EntryId, Field, MARK_FIELD, PACKED_EVENTS_MAX, foreign,
    mark::{DataForm, Mark, Rest},
    unreadable, value,
};

/// Reads the entries of one partition, in order. The events share one buffer.
pub struct Decoder<'t> {
    pub(super) topic: &'t str,
    pub(super) partition: u32,
    pub(super) types: &'t dyn FieldTypes,
    /// The texts and data of all events.
    pub(super) out: Vec<u8>,
    drafts: Vec<Draft>,
}

/// A part of the shared buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

/// An event whose texts are still parts of the shared buffer.
pub(super) struct Draft {
    position: Position,
    stored: Timestamp,
    pub(super) kind: Span,
    pub(super) source: Span,
    pub(super) id: Span,
    pub(super) correlation_id: Span,
    pub(super) data: Span,
    /// The time and the rare attributes; all of the event when it came packed.
    pub(super) event: Event,
    whole: bool,
}

impl<'t> Decoder<'t> {
    /// A reader of entries of this partition, with room for about so many bytes.
    pub fn new(topic: &'t str, partition: u32, types: &'t dyn FieldTypes, bytes: usize) -> Self {
        Self { topic, partition, types, out: Vec::with_capacity(bytes), drafts: Vec::new() }
    }

    /// Takes one entry.
    ///
    /// # Errors
    /// `storage_corrupt` when the entry says that it is a batch and is none, or its id cannot be a position. The entry
    /// is then left out.
    pub fn push(&mut self, id: EntryId, fields: &[Field<'_>]) -> Result<()> {
        let Some(position) = id.position(0) else {
            return Err(unreadable(id, "its id has more bits than a position"));
        };
        if let Some((_, packed)) = fields.iter().find(|(name, _)| *name == BATCH_FIELD.as_bytes()) {
            return self.packed(id, packed);
        }
        let draft = self.draft(position, id, fields);
        self.drafts.push(draft);
        Ok(())
    }

    /// Makes room for so many more events.
    pub fn reserve(&mut self, events: usize) {
        self.drafts.reserve(events);
    }

    /// How many events were read so far.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether nothing was read so far.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// The events that were read, in order.
    pub fn finish(self) -> Vec<Record> {
        let shared = Bytes::from(self.out);
        self.drafts.into_iter().map(|draft| draft.record(&shared)).collect()
    }

    /// Takes the events of a batch as they are: the checksum says that they are what Synapse checked and wrote.
    fn packed(&mut self, id: EntryId, packed: &[u8]) -> Result<()> {
        let events = batch::decode_stored(Bytes::copy_from_slice(packed))
            .map_err(|error| unreadable(id, error.message()).caused_by(error))?;
        if events.len() > PACKED_EVENTS_MAX {
            return Err(unreadable(id, "it holds more events than a position can count"));
        }
        self.drafts.reserve(events.len());
        for (index, event) in events.into_iter().enumerate() {
            let position = id.position(index as u32).unwrap_or(Position::MAX);
            let mut draft = Draft::new(position, id);
            draft.event = event;
            draft.whole = true;
            self.drafts.push(draft);
        }
        Ok(())
    }

    fn draft(&mut self, position: Position, id: EntryId, fields: &[Field<'_>]) -> Draft {
        let mark = match fields.last() {
            Some((name, value)) if *name == MARK_FIELD.as_bytes() => Some(value),
            _ => fields.iter().find(|(name, _)| *name == MARK_FIELD.as_bytes()).map(|(_, value)| value),
        };
        if let Some(mark) = mark.and_then(|value| Mark::parse(value)) {
            let (mut draft, start) = (Draft::new(position, id), self.out.len());
            if self.own(&mut draft, fields, &mark) {
                return draft;
            }
            self.out.truncate(start);
        }
        let mut draft = Draft::new(position, id);
        foreign::read(self, &mut draft, id, fields);
        draft
    }

    /// Reads what Synapse wrote. False when the mark does not fit the fields: somebody else wrote or changed them.
    fn own(&mut self, draft: &mut Draft, fields: &[Field<'_>], mark: &Mark<'_>) -> bool {
        let count = fields.iter().filter(|(name, _)| is_data(name)).count();
        let form = mark.rest.as_ref().and_then(|rest| rest.form);
        let expected = match form {
            None => count,
            Some(DataForm::Empty) => 0,
            Some(_) => 1,
        };
        if count != mark.types.len() || count != expected {
            return false;
        }
        let written = match form {
            None => self.own_members(draft, fields, mark),
            Some(form) => self.own_whole(draft, fields, form),
        };
        if !written {
            return false;
        }
        for &(name, value) in fields {
            match name {
                b"event" => draft.kind = self.share_lossy(value),
                b"source" => draft.source = self.share_lossy(value),
                b"id" => draft.id = self.share_lossy(value),
                b"correlation_id" => draft.correlation_id = self.share_lossy(value),
                b"timestamp" => {
                    if let Some(time) = str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                        draft.event.set_time(time);
                    }
                }
                _ => {}
            }
        }
        if let Some(rest) = &mark.rest {
            rest.apply(&mut draft.event);
        }
        // Members, and what says that it is JSON, were written as JSON just now. Other data of an event that is told as
        // JSON would be believed by everybody who reads the event.
        let as_it_is = matches!(form, Some(DataForm::Text | DataForm::Base64));
        let is_json = |data| str::from_utf8(data).is_ok_and(value::is_json);
        !(as_it_is && draft.event.is_json()) || is_json(&self.out[draft.data.start..draft.data.end])
    }

    /// Reads data that is spread over fields. False when a field is no text, which Synapse never writes.
    fn own_members(&mut self, draft: &mut Draft, fields: &[Field<'_>], mark: &Mark<'_>) -> bool {
        let object = self.out.len();
        self.out.push(b'{');
        let mut types = mark.types.iter();
        for (name, bytes) in fields.iter().filter(|(name, _)| is_data(name)) {
            let (Ok(name), Ok(text), Some(&kind)) = (str::from_utf8(name), str::from_utf8(bytes), types.next()) else {
                return false;
            };
            value::write_key(name, object, &mut self.out);
            value::write_own(text, kind, &mut self.out);
        }
        if let Some(rest) = &mark.rest {
            self.rest_members(object, rest);
        }
        self.out.push(b'}');
        draft.data = self.since(object);
        true
    }

    fn rest_members(&mut self, object: usize, rest: &Rest<'_>) {
        for (name, raw) in &rest.shadowed.0 {
            value::write_key(name, object, &mut self.out);
            self.out.extend_from_slice(raw.get().as_bytes());
        }
        for name in &rest.nulls {
            value::write_key(name, object, &mut self.out);
            self.out.extend_from_slice(b"null");
        }
    }

    /// Reads data that is in one field. False when it is not in the form that the mark names.
    fn own_whole(&mut self, draft: &mut Draft, fields: &[Field<'_>], form: DataForm) -> bool {
        let Some((_, bytes)) = fields.iter().find(|(name, _)| is_data(name)) else { return form == DataForm::Empty };
        draft.data = match form {
            DataForm::Empty => Span::default(),
            DataForm::Text => self.share(bytes),
            DataForm::Base64 => match value::decode_base64(bytes) {
                Some(decoded) => self.share(&decoded),
                None => return false,
            },
            DataForm::Json => {
                let Ok(text) = str::from_utf8(bytes) else { return false };
                let start = self.out.len();
                value::write_own(text, b'j', &mut self.out);
                self.since(start)
            }
        };
        true
    }

    /// Copies bytes into the shared buffer.
    pub(super) fn share(&mut self, bytes: &[u8]) -> Span {
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        self.since(start)
    }

    /// Copies a text into the shared buffer. What is not UTF-8 is replaced.
    pub(super) fn share_lossy(&mut self, bytes: &[u8]) -> Span {
        match str::from_utf8(bytes) {
            Ok(_) => self.share(bytes),
            Err(_) => self.share(String::from_utf8_lossy(bytes).as_bytes()),
        }
    }

    /// What was written to the shared buffer since it was this long.
    pub(super) fn since(&self, start: usize) -> Span {
        Span { start, end: self.out.len() }
    }
}

impl Draft {
    fn new(position: Position, id: EntryId) -> Self {
        let none = Span::default();
        Self {
            position,
            stored: id.time(),
            kind: none,
            source: none,
            id: none,
            correlation_id: none,
            data: none,
            event: Event::default(),
            whole: false,
        }
    }

    fn record(self, shared: &Bytes) -> Record {
        let mut event = self.event;
        if !self.whole {
            let slice = |span: Span| shared.slice(span.start..span.end);
            // The spans of texts were checked when they were written.
            let text = |span: Span| ByteString::try_from(slice(span)).unwrap_or_default();
            event.set_kind(text(self.kind)).set_source(text(self.source)).set_id(text(self.id));
            if !self.correlation_id.is_empty() {
                event.set_correlation_id(text(self.correlation_id));
            }
            event.set_data(slice(self.data));
        }
        Record { position: self.position, stored: self.stored, event }
    }
}

impl Span {
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Whether a field of a flat entry is data: neither an attribute nor the mark.
pub(super) fn is_data(name: &[u8]) -> bool {
    !matches!(name, b"event" | b"timestamp" | b"source" | b"id" | b"correlation_id" | b"_synapse")
}
