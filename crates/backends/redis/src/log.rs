//! One partition as the contract wants it: what it holds, where a moment is, what is removed.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use synapse_hub_core::{
    Error, Layout, PartitionId, Position, Result, Timestamp,
    backend::{Append, Bounds, Commit, EventLog, ReadItem, ReadLimits, Trim, Trimmed},
};

use crate::{
    Shared,
    entry::{BATCH_FIELD, EntryId},
    errors,
    keys::Keys,
    link::Request,
    read,
    resp::{self, Cursor, View},
    scripts,
    snapshot::Snapshot,
    write,
};

/// A partition and where it is kept.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) keys: Keys,
    /// Entries hold several events.
    pub(crate) packed: bool,
}

/// The log of a partition.
pub(crate) struct Log {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>, partition: Partition) -> Self {
        Self { shared, partition: Arc::new(partition) }
    }

    fn named(&self, error: Error) -> Error {
        error.topic(self.partition.id.topic.as_str())
    }

    /// Sends commands that only look, and returns the walk over their replies.
    async fn ask(&self, commands: Vec<u8>, values: u32) -> Result<resp::Replies> {
        let request = Request::new(commands, values, self.shared.options.response_timeout);
        self.shared.bulk.call(request).await.inspect_err(|_| self.shared.outage.failure())
    }

    async fn look(&self) -> Result<Bounds> {
        let keys = &self.partition.keys;
        let mut out = Vec::new();
        resp::command(&mut out, &[b"MULTI"]);
        Snapshot::ask(&mut out, [keys].into_iter());
        resp::command(&mut out, &[b"XREVRANGE", keys.stream.as_bytes(), b"+", b"-", b"COUNT", b"1"]);
        resp::command(&mut out, &[b"EXEC"]);
        // Outside of the transaction: not every user may ask this, and the rest is known without it.
        resp::command(&mut out, &[b"MEMORY", b"USAGE", keys.stream.as_bytes()]);
        let replies = self.ask(out, 5).await?;
        let mut cursor = replies.cursor();
        for _ in 0..3 {
            errors::refused(cursor.next())?;
        }
        cursor.array().ok_or_else(|| errors::unexpected("EXEC"))?;
        cursor.array().ok_or_else(|| errors::unexpected("a script"))?;
        let snapshot = Snapshot::read(&mut cursor)?;
        let latest = last_entry(&mut cursor)?;
        let bytes = cursor.next().and_then(View::number);
        Ok(self.bounds_of(&snapshot, latest, bytes))
    }

    fn bounds_of(&self, snapshot: &Snapshot, latest: Option<Position>, bytes: Option<u64>) -> Bounds {
        let gone = match snapshot.last {
            EntryId::ZERO => Position::START,
            last if self.partition.packed => last.position_last(),
            last => last.position(0).unwrap_or_else(|| last.position_last()),
        };
        Bounds {
            earliest: snapshot.first.map(|first| first.position(0).unwrap_or_else(|| first.position_last())),
            latest,
            // The last id may be of an entry that is gone.
            end: latest.filter(|latest| EntryId::of(*latest) == snapshot.last).unwrap_or(gone),
            events: (!self.partition.packed).then_some(snapshot.length),
            bytes: if snapshot.exists { bytes } else { Some(0) },
        }
    }

    async fn seek(&self, time: Timestamp) -> Result<Position> {
        let Ok(ms) = u64::try_from(time.as_millis()) else { return Ok(Position::START) };
        let bounds = self.look().await?;
        match (bounds.earliest, bounds.latest) {
            (Some(earliest), _) if earliest.major() >= ms => Ok(Position::START),
            (_, Some(latest)) if latest.major() >= ms => Ok(EntryId { ms, seq: 0 }.position_before()),
            _ => Ok(bounds.end),
        }
    }

    async fn remove(&self, trim: Trim) -> Result<Trimmed> {
        let mut trim = trim;
        if self.partition.packed
            && let Some(events) = trim.events_max.take()
        {
            trim.up_to = trim.up_to.max(self.before_latest(events).await?);
        }
        let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let up_to = trim.up_to.map_or(String::new(), |up_to| self.last_removable(up_to).to_string());
        let keys = &self.partition.keys;
        let mut out = Vec::new();
        scripts::TRIM.write(
            &mut out,
            &[keys.stream.as_bytes(), keys.state.as_bytes()],
            &[up_to.as_bytes(), number(trim.events_max).as_bytes(), number(trim.bytes_max).as_bytes()],
        );
        let replies = self.ask(out, 1).await?;
        let reply = replies.cursor().next();
        errors::refused(reply)?;
        let entries = reply.and_then(View::number).ok_or_else(|| errors::unexpected("a script"))?;
        self.shared.tail.check(&keys.stream);
        Ok(Trimmed { removed: (!self.partition.packed || entries == 0).then_some(entries) })
    }

    /// The last entry that has no event after this position. Whether a packed entry ends at a position in it is not
    /// known, so it is kept.
    fn last_removable(&self, up_to: Position) -> EntryId {
        let id = EntryId::of(up_to);
        let ends_within = self.partition.packed && up_to < id.position_last();
        match (ends_within, id.seq, id.ms) {
            (false, _, _) => id,
            (true, 0, 0) => EntryId::ZERO,
            (true, 0, ms) => EntryId { ms: ms - 1, seq: u64::MAX },
            (true, seq, ms) => EntryId { ms, seq: seq - 1 },
        }
    }

    /// In a packed log, the position before the entries that hold the latest so many events.
    async fn before_latest(&self, events: u64) -> Result<Option<Position>> {
        const PAGE: u64 = 16;
        let (mut before, mut found) = (EntryId::MAX.to_string(), 0);
        loop {
            let mut out = Vec::new();
            let page = PAGE.to_string();
            let stream = self.partition.keys.stream.as_bytes();
            resp::command(&mut out, &[b"XREVRANGE", stream, before.as_bytes(), b"-", b"COUNT", page.as_bytes()]);
            let replies = self.ask(out, 1).await?;
            let mut cursor = replies.cursor();
            errors::refused(cursor.peek())?;
            let count = cursor.array().unwrap_or_default();
            for _ in 0..count {
                let (id, entry) = sized_entry(&mut cursor).ok_or_else(|| errors::unexpected("XREVRANGE"))?;
                found += entry;
                if found >= events {
                    return Ok(Some(id.position_before()));
                }
                before = format!("({id}");
            }
            if (count as u64) < PAGE {
                return Ok(None);
            }
        }
    }
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, batch: Append) -> Result<Commit> {
        let layout = if self.partition.packed { Layout::Packed } else { Layout::Flat };
        let topic = self.partition.id.topic.clone();
        let commit = write::append(&self.shared, &self.partition.keys, layout, batch)
            .await
            .map_err(|error| self.named(error))?;
        Ok(Box::pin(async move { commit.await.map_err(|error| error.topic(topic.as_str())) }))
    }

    fn read(
        &self,
        after: Position,
        until: Option<Position>,
        limits: ReadLimits,
    ) -> BoxStream<'static, Result<ReadItem>> {
        read::read(self.shared.clone(), self.partition.clone(), after, until, limits)
    }

    async fn bounds(&self) -> Result<Bounds> {
        self.look().await.map_err(|error| self.named(error))
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        self.seek(time).await.map_err(|error| self.named(error))
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        self.remove(trim).await.map_err(|error| self.named(error))
    }
}

/// The position of the last event in the array of at most one entry that comes next.
fn last_entry(cursor: &mut Cursor<'_>) -> Result<Option<Position>> {
    match cursor.array() {
        Some(0) => Ok(None),
        Some(_) => {
            let (id, events) = sized_entry(cursor).ok_or_else(|| errors::unexpected("XREVRANGE"))?;
            let index = u32::try_from(events.saturating_sub(1)).unwrap_or(u32::MAX);
            Ok(Some(id.position(index).unwrap_or_else(|| id.position_last())))
        }
        None => {
            errors::refused(cursor.next())?;
            Err(errors::unexpected("XREVRANGE"))
        }
    }
}

/// The id of the entry that comes next, and how many events it holds.
fn sized_entry(cursor: &mut Cursor<'_>) -> Option<(EntryId, u64)> {
    cursor.array()?;
    let id = EntryId::parse(cursor.bytes()?)?;
    let mut events = 1;
    for _ in 0..cursor.array()? / 2 {
        let (name, value) = (cursor.bytes()?, cursor.bytes()?);
        if name == BATCH_FIELD.as_bytes() {
            let batch = synapse_hub_core::batch::decode_stored(bytes::Bytes::copy_from_slice(value));
            events = batch.map_or(1, |batch| batch.len() as u64);
        }
    }
    Some((id, events))
}
