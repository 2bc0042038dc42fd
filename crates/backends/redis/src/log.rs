//! One partition as the contract wants it: what it holds, where a moment is, what is removed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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
    /// Something was stored through this log: the topic exists.
    stored: Arc<AtomicBool>,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>, partition: Partition) -> Self {
        Self { shared, partition: Arc::new(partition), stored: Arc::default() }
    }

    fn named(&self, error: Error) -> Error {
        error.topic(self.partition.id.topic.as_str())
    }

    /// Sends commands that only look, and returns the walk over their replies.
    async fn ask(&self, commands: Vec<u8>, values: u32) -> Result<resp::Replies> {
        let request = Request::new(commands, values, self.shared.options.response_timeout);
        self.shared.bulk.call(request).await.inspect_err(|_| self.shared.outage.failure())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let mut out = Vec::new();
        Snapshot::ask(&mut out, [&self.partition.keys].into_iter());
        let replies = self.ask(out, 1).await?;
        let mut cursor = replies.cursor();
        if cursor.array().is_none() {
            errors::refused(cursor.next())?;
        }
        Snapshot::read(&mut cursor)
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
        let last = snapshot.last;
        // The last id may be of an entry that is gone.
        let gone = match last {
            EntryId::ZERO => Position::START,
            last if EntryId::of(snapshot.trimmed) == last => snapshot.trimmed,
            last if self.partition.packed => last.position_last(),
            last => last.position(0).unwrap_or_else(|| last.position_last()),
        };
        Bounds {
            earliest: snapshot.start().1,
            latest,
            end: latest.filter(|latest| EntryId::of(*latest) == last).unwrap_or(gone),
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
        let removed = if self.partition.packed {
            self.remove_packed(trim).await?
        } else {
            let up_to = trim.up_to.map(EntryId::of);
            Some(self.run_trim(up_to, trim.events_max, trim.bytes_max, None).await?)
        };
        self.shared.tail.check(&self.partition.keys.stream);
        Ok(Trimmed { removed })
    }

    /// Removes entries, and says how many.
    async fn run_trim(
        &self,
        up_to: Option<EntryId>,
        entries_max: Option<u64>,
        bytes_max: Option<u64>,
        last_gone: Option<Position>,
    ) -> Result<u64> {
        let keys = &self.partition.keys;
        let arguments = [text(up_to), text(entries_max), text(bytes_max), text(last_gone.map(exact))];
        let mut out = Vec::new();
        scripts::TRIM.write(
            &mut out,
            &[keys.stream.as_bytes(), keys.state.as_bytes()],
            &arguments.each_ref().map(|argument| argument.as_bytes()),
        );
        let replies = self.ask(out, 1).await?;
        let reply = replies.cursor().next();
        errors::refused(reply)?;
        reply.and_then(View::number).ok_or_else(|| errors::unexpected("a script"))
    }

    /// Removes events of a log whose entries hold several: finds the last event to go, removes the entries before its
    /// own, and its own when nothing of it is left. Otherwise the events that go are hidden, or kept when about is enough.
    async fn remove_packed(&self, trim: Trim) -> Result<Option<u64>> {
        let mut last: Option<Position> = None;
        if let Some(up_to) = trim.up_to {
            last = last.max(self.last_event(up_to).await?);
        }
        if let Some(events) = trim.events_max {
            last = last.max(self.before_latest(events).await?);
        }
        if let Some(bytes) = trim.bytes_max {
            // By bytes only whole entries go.
            self.run_trim(None, None, Some(bytes), None).await?;
        }
        let Some(last) = last else { return Ok(trim.bytes_max.is_none().then_some(0)) };
        let id = EntryId::of(last);
        let whole = self.last_event(id.position_last()).await? == Some(last);
        let before = self.last_event(id.position_before()).await?;
        let gone = if whole || !trim.approximate { Some(last) } else { before };
        let up_to = if whole { Some(id) } else { before.map(EntryId::of) };
        if gone.is_none() || gone <= Some(self.snapshot().await?.trimmed) {
            return Ok(Some(0));
        }
        self.run_trim(up_to, None, None, gone).await?;
        Ok(None)
    }

    /// The last event at or before a position.
    async fn last_event(&self, up_to: Position) -> Result<Option<Position>> {
        let mut out = Vec::new();
        let id = EntryId::of(up_to).to_string();
        let stream = self.partition.keys.stream.as_bytes();
        resp::command(&mut out, &[b"XREVRANGE", stream, id.as_bytes(), b"-", b"COUNT", b"1"]);
        let replies = self.ask(out, 1).await?;
        Ok(last_entry(&mut replies.cursor())?.map(|last| last.min(up_to)))
    }

    /// The last of the events before the latest so many; `None` when there are no more than those.
    async fn before_latest(&self, events: u64) -> Result<Option<Position>> {
        const PAGE: usize = 16;
        let (mut before, mut found) = ("+".to_owned(), 0);
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
                let (id, held) = sized_entry(&mut cursor).ok_or_else(|| errors::unexpected("XREVRANGE"))?;
                found += held;
                if found > events {
                    let index = u32::try_from(found - events - 1).unwrap_or(u32::MAX);
                    return Ok(id.position(index));
                }
                before = format!("({id}");
            }
            if count < PAGE {
                return Ok(None);
            }
        }
    }
}

/// An argument that may be missing.
fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// A position with all its parts, whatever they are, so that scripts need to know one form only.
fn exact(position: Position) -> String {
    format!("{}-{}.{}", position.major(), position.minor(), position.index())
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, batch: Append) -> Result<Commit> {
        let layout = if self.partition.packed { Layout::Packed } else { Layout::Flat };
        let (topic, shared, stored) = (self.partition.id.topic.clone(), self.shared.clone(), self.stored.clone());
        let commit = write::append(&self.shared, &self.partition.keys, layout, batch)
            .await
            .map_err(|error| self.named(error))?;
        Ok(Box::pin(async move {
            let appended = commit.await.map_err(|error| error.topic(topic.as_str()))?;
            if !stored.swap(true, Ordering::Relaxed) {
                shared.topics_changed();
            }
            Ok(appended)
        }))
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
