//! An event: CloudEvents 1.0 attributes plus data, with shared bytes.

use bytes::Bytes;
use bytestring::ByteString;

use crate::Timestamp;

/// An event. Cheap to clone: its texts and data are slices of the batch they came in.
///
/// Absent attributes are empty texts; CloudEvents allows no empty attribute, so nothing is lost by that.
#[derive(Clone, Default)]
pub struct Event {
    pub(crate) id: ByteString,
    pub(crate) source: ByteString,
    pub(crate) kind: ByteString,
    pub(crate) time: Timestamp,
    pub(crate) correlation_id: ByteString,
    pub(crate) data: Bytes,
    pub(crate) more: Option<Box<Attributes>>,
    /// The protobuf encoding of exactly this event, where it is known.
    pub(crate) encoded: Bytes,
}

/// The attributes that few events have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// What the event is about, within its source.
    pub subject: ByteString,
    /// Events with one key keep their order.
    pub partition_key: ByteString,
    /// W3C trace context.
    pub traceparent: ByteString,
    /// After this moment the event is of no use.
    pub expiry_time: Option<Timestamp>,
    /// Media type of the data; empty means `application/json`.
    pub data_content_type: ByteString,
    /// A URI of the schema of the data.
    pub data_schema: ByteString,
    /// Further extension attributes in their text form: names are lower-case ASCII letters and digits.
    pub extensions: Vec<(ByteString, ByteString)>,
}

static NO_ATTRIBUTES: Attributes = Attributes {
    subject: ByteString::new(),
    partition_key: ByteString::new(),
    traceparent: ByteString::new(),
    expiry_time: None,
    data_content_type: ByteString::new(),
    data_schema: ByteString::new(),
    extensions: Vec::new(),
};

impl Event {
    /// An event of this type with this data, and nothing else yet.
    pub fn new(kind: impl Into<ByteString>, data: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), data: data.into(), ..Self::default() }
    }

    /// With [`Event::source`], the event's identity.
    pub fn id(&self) -> &ByteString {
        &self.id
    }

    /// Who says so.
    pub fn source(&self) -> &ByteString {
        &self.source
    }

    /// What happened: the CloudEvents `type`, the `event` field of ModelKit.
    pub fn kind(&self) -> &ByteString {
        &self.kind
    }

    /// When it happened. The epoch itself means "not given".
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// What this event belongs to.
    pub fn correlation_id(&self) -> &ByteString {
        &self.correlation_id
    }

    /// The payload: JSON text unless [`Attributes::data_content_type`] says otherwise. May be empty.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The attributes that few events have.
    pub fn more(&self) -> &Attributes {
        self.more.as_deref().unwrap_or(&NO_ATTRIBUTES)
    }

    /// Whether it has any attribute of [`Attributes`].
    pub fn has_more(&self) -> bool {
        self.more.as_deref().is_some_and(|more| *more != NO_ATTRIBUTES)
    }

    /// Whether the data is JSON.
    pub fn is_json(&self) -> bool {
        let media = self.more().data_content_type.split(';').next().unwrap_or_default().trim();
        media.is_empty()
            || media.eq_ignore_ascii_case("application/json")
            || media.eq_ignore_ascii_case("text/json")
            || media.len() > 5 && media[media.len() - 5..].eq_ignore_ascii_case("+json")
    }

    /// Sets the id.
    pub fn set_id(&mut self, id: impl Into<ByteString>) -> &mut Self {
        self.change().id = id.into();
        self
    }

    /// Sets the source.
    pub fn set_source(&mut self, source: impl Into<ByteString>) -> &mut Self {
        self.change().source = source.into();
        self
    }

    /// Sets the type.
    pub fn set_kind(&mut self, kind: impl Into<ByteString>) -> &mut Self {
        self.change().kind = kind.into();
        self
    }

    /// Sets the time.
    pub fn set_time(&mut self, time: Timestamp) -> &mut Self {
        self.change().time = time;
        self
    }

    /// Sets the correlation id.
    pub fn set_correlation_id(&mut self, id: impl Into<ByteString>) -> &mut Self {
        self.change().correlation_id = id.into();
        self
    }

    /// Sets the payload.
    pub fn set_data(&mut self, data: impl Into<Bytes>) -> &mut Self {
        self.change().data = data.into();
        self
    }

    /// The attributes that few events have, to be changed.
    pub fn more_mut(&mut self) -> &mut Attributes {
        self.change().more.get_or_insert_default()
    }

    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        if !self.encoded.is_empty() {
            return self.encoded.len();
        }
        let more = self.more.as_deref().map_or(0, |more| {
            let texts =
                [&more.subject, &more.partition_key, &more.traceparent, &more.data_content_type, &more.data_schema];
            texts.iter().map(|text| text.len() + 2).sum::<usize>()
                + more.extensions.iter().map(|(name, value)| name.len() + value.len() + 6).sum::<usize>()
        });
        self.id.len() + self.source.len() + self.kind.len() + self.correlation_id.len() + self.data.len() + 24 + more
    }

    /// A copy with bytes of its own, which does not keep the batch alive that it came in.
    #[must_use]
    pub fn detached(&self) -> Self {
        let mut encoded = Vec::with_capacity(self.size());
        crate::batch::encode_event(self, &mut encoded);
        crate::batch::decode_event(Bytes::from(encoded)).unwrap_or_else(|_| self.clone())
    }

    fn change(&mut self) -> &mut Self {
        self.encoded = Bytes::new();
        self
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.source == other.source
            && self.kind == other.kind
            && self.time == other.time
            && self.correlation_id == other.correlation_id
            && self.data == other.data
            && self.more() == other.more()
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("kind", &self.kind)
            .field("time", &self.time)
            .field("correlation_id", &self.correlation_id)
            .field("data", &String::from_utf8_lossy(&self.data))
            .field("more", &self.more())
            .finish()
    }
}
