//! The formats of stream entries: what Synapse writes, and what it understands of what others write.
//!
//! Formats are mixed on one stream, so every entry is classified by itself:
//!
//! | format | told by | becomes |
//! |---|---|---|
//! | packed | the field `_synapse_batch` | the events of the batch |
//! | flat, by Synapse | the field `_synapse` | the event, exactly as it was published |
//! | flat, by others | the field `event` | attributes, and data whose types come from [`FieldTypes`] |
//! | envelope | the fields `event_type` and `payload` | attributes of the envelope, data of the payload |
//! | payload only | nothing but `payload`, which is JSON | data; its own `event` or `type` is the type |
//! | opaque | everything else | an event of type `opaque` with the fields as data |
//!
//! What an entry of others does not say is filled in the same way each time it is read: the id is
//! `<topic>/<partition>@<redis id>`, the source `unknown`, the time that of the Redis id.

mod decode;
mod flat;
mod foreign;
mod mark;
mod scan;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

use synapse_hub_core::{Code, Error, Event, Position, Result, Timestamp, backend::Record, fields::FieldTypes};

pub use decode::Decoder;
pub(crate) use flat::FlatEncoder;

/// The field that says what the texts of a flat entry stand for. It comes last.
pub const MARK_FIELD: &str = "_synapse";
/// The field that holds a whole batch.
pub const BATCH_FIELD: &str = "_synapse_batch";

/// The most events that a packed entry may hold: their index is part of their position.
pub const PACKED_EVENTS_MAX: usize = 1 << 24;

/// A field of an entry: its name and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The id of a stream entry: milliseconds and a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Milliseconds since the epoch, by the clock of Redis.
    pub ms: u64,
    /// Counts the entries of one millisecond.
    pub seq: u64,
}

const MAJOR_MAX: u64 = (1 << 48) - 1;
const MINOR_MAX: u64 = (1 << 56) - 1;
const INDEX_MAX: u32 = (1 << 24) - 1;

impl EntryId {
    /// Before every entry.
    pub const ZERO: EntryId = EntryId { ms: 0, seq: 0 };
    /// After every entry.
    pub const MAX: EntryId = EntryId { ms: u64::MAX, seq: u64::MAX };

    /// Reads the id as Redis writes it: `1735689600000-0`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        Some(Self { ms: digits(&text[..dash])?, seq: digits(&text[dash + 1..])? })
    }

    /// The position of the entry's event, or of one of its events. `None` when the id has more bits than a position.
    pub const fn position(self, index: u32) -> Option<Position> {
        Position::new(self.ms, self.seq, index)
    }

    /// The largest position that an event of this entry or an earlier one can have.
    pub fn position_last(self) -> Position {
        let (ms, seq) = if self.ms > MAJOR_MAX { (MAJOR_MAX, MINOR_MAX) } else { (self.ms, self.seq.min(MINOR_MAX)) };
        Position::new(ms, seq, INDEX_MAX).unwrap_or(Position::MAX)
    }

    /// The last entry that can have an event at or before this position.
    ///
    /// The largest minor part stands for every sequence from there on, because those have no position of their own.
    pub const fn of(position: Position) -> Self {
        match (position.major(), position.minor()) {
            (MAJOR_MAX, MINOR_MAX) => Self::MAX,
            (ms, MINOR_MAX) => Self { ms, seq: u64::MAX },
            (ms, seq) => Self { ms, seq },
        }
    }

    /// The position just before this entry.
    pub fn position_before(self) -> Position {
        match self.position(0) {
            Some(position) => position.before(),
            None => self.position_last(),
        }
    }

    /// When Redis took the entry.
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.ms).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Reads one entry. An entry holds one event, or several when it is packed.
///
/// A pure function of its arguments, which never panics, whatever the bytes: it is also what the fuzz target calls.
///
/// # Errors
/// `storage_corrupt` when the entry says that it is a batch and is none, or its id cannot be a position.
pub fn decode(
    topic: &str,
    partition: u32,
    id: EntryId,
    fields: &[Field<'_>],
    types: &dyn FieldTypes,
) -> Result<Vec<Record>> {
    let mut decoder = Decoder::new(topic, partition, types, 0);
    decoder.push(id, fields)?;
    Ok(decoder.finish())
}

/// The fields of an event in the flat layout, as they are given to `XADD`.
pub fn encode(event: &Event) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Vec::new();
    FlatEncoder::default().encode(event, &mut fields);
    fields
}

/// Takes the fields of an entry, one by one.
pub(crate) trait FieldSink {
    fn field(&mut self, name: &[u8], value: &[u8]);
}

impl FieldSink for Vec<(Vec<u8>, Vec<u8>)> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.push((name.to_vec(), value.to_vec()));
    }
}

fn unreadable(id: EntryId, why: &str) -> Error {
    Error::new(Code::StorageCorrupt, format!("the entry {id} cannot be read: {why}"))
}
