//! What a stream holds at one moment, and what readers conclude from it.

use synapse_hub_core::{Code, Error, Position, Result};

use crate::{
    entry::EntryId,
    errors,
    keys::Keys,
    resp::{Cursor, View},
    scripts,
};

/// What a stream holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// Whether the key exists.
    pub(crate) exists: bool,
    /// Entries in it.
    pub(crate) length: u64,
    /// Entries that were ever added to it, without those that were taken out again before anybody saw them.
    pub(crate) kept: u64,
    /// The largest id that was ever given to an entry that could be seen.
    pub(crate) last: EntryId,
    /// The first entry that is there; `None` when there is none.
    pub(crate) first: Option<EntryId>,
    /// The last event that Synapse trimmed away; [`Position::START`] when none is known. When its entry is still the first
    /// one, only the events after it count.
    pub(crate) trimmed: Position,
    /// How many entries Synapse trimmed away.
    pub(crate) trimmed_count: u64,
    /// Changes when the topic is deleted by Synapse; empty when it was not, lately.
    pub(crate) deletion: String,
}

impl Snapshot {
    /// Appends the command that asks for the snapshots of these streams.
    pub(crate) fn ask<'k>(out: &mut Vec<u8>, keys: impl ExactSizeIterator<Item = &'k Keys>) {
        scripts::SNAPSHOT.call(out, keys.len() * 3, 0);
        for keys in keys {
            for key in [&keys.stream, &keys.state, &keys.deleted] {
                crate::resp::bulk(out, key.as_bytes());
            }
        }
    }

    /// Reads the next of the rows that were asked for.
    ///
    /// # Errors
    /// `backend_wrong_type` when the key is no stream.
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let mut row = *cursor;
        cursor.pass();
        if let Some(View::Error(text)) = row.peek() {
            return Err(errors::from_redis(text));
        }
        Self::parse(&mut row).ok_or_else(|| errors::unexpected("a script"))?
    }

    fn parse(row: &mut Cursor<'_>) -> Option<Result<Self>> {
        row.array()?;
        let exists = match row.bytes()? {
            b"stream" => true,
            b"none" => false,
            kind => return Some(Err(wrong_type(&String::from_utf8_lossy(kind)))),
        };
        let (length, added) = (row.next()?.number()?, row.next()?.number()?);
        let last = EntryId::parse(row.bytes()?)?;
        let first = EntryId::parse(row.bytes()?)?;
        let (state_added, withdrawn) = (row.next()?.number()?, row.next()?.number()?);
        let trimmed = std::str::from_utf8(row.bytes()?).ok()?.parse().unwrap_or_default();
        let trimmed_count = row.next()?.number()?;
        let (hidden, visible) = (EntryId::parse(row.bytes()?), EntryId::parse(row.bytes()?)?);
        let deletion = String::from_utf8_lossy(row.bytes()?).into_owned();
        let mut snapshot = Self {
            exists,
            length,
            kept: added,
            last,
            first: (length > 0).then_some(first),
            trimmed: Position::START,
            trimmed_count: 0,
            deletion,
        };
        // What was noted of a stream that had more entries than this one ever had is of an earlier stream.
        if state_added <= added {
            snapshot.kept = added.saturating_sub(withdrawn);
            (snapshot.trimmed, snapshot.trimmed_count) = (trimmed, trimmed_count);
            if hidden == Some(last) {
                snapshot.last = visible;
            }
        }
        Some(Ok(snapshot))
    }

    /// The position after which reading finds everything that is there, and the first event that it finds.
    pub(crate) fn start(&self) -> (Position, Option<Position>) {
        let Some(first) = self.first else { return (self.last.position_last(), None) };
        if EntryId::of(self.trimmed) == first {
            return (self.trimmed, Position::new(first.ms, first.seq, self.trimmed.index() + 1));
        }
        (first.position_before(), Some(first.position(0).unwrap_or_else(|| first.position_last())))
    }

    /// How many entries were removed, by anybody.
    pub(crate) fn removed(&self) -> u64 {
        self.kept.saturating_sub(self.length)
    }
}

fn wrong_type(kind: &str) -> Error {
    Error::new(
        Code::BackendWrongType,
        format!("the topic's key in Redis is a {kind} and not a stream; choose another topic name, or delete the key"),
    )
}
