//! Reading a partition: pages of history, then the shared tail, with every loss noticed.
//!
//! A reader knows how many of the entries that were ever added stand at or before its place (`count`), as soon as it has
//! once been at the end or at the start of the log. From then on the difference to what the stream says of itself is the
//! number of entries that were lost, however they were lost.

use std::{collections::VecDeque, sync::Arc};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use synapse_hub_core::{
    Code, Error, Position, Result,
    backend::{Gap, GapReason, ReadItem, ReadLimits, Record},
};
use tokio::sync::mpsc;

use crate::{
    Shared,
    backoff::Backoff,
    entry::{Decoder, EntryId, Field},
    errors,
    link::Request,
    log::Partition,
    resp::{self, Cursor, Replies, View},
    snapshot::Snapshot,
    tail::TailItem,
};

/// How many entries the first page has: a short replay should not pay for more.
const PAGE_FIRST: usize = 100;
const PAGE_FIRST_PACKED: usize = 4;
const PAGE_MAX: usize = 5000;

/// The stream of what is read. See `EventLog::read`.
pub(crate) fn read(
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    after: Position,
    until: Option<Position>,
    limits: ReadLimits,
) -> BoxStream<'static, Result<ReadItem>> {
    let reads = shared.reads.clone();
    let packed = partition.packed;
    let reader = Reader {
        shared,
        partition,
        limits,
        until,
        after,
        cursor: EntryId::of(after),
        partly: after != Position::START,
        count: (after == Position::START).then_some(0),
        packed,
        known: None,
        deletion: None,
        checkpoint: None,
        finished: false,
        page: if packed { PAGE_FIRST_PACKED } else { PAGE_FIRST }.min(limits.batch_events_max.max(1)),
        read_events: 0,
        items: VecDeque::new(),
    };
    let items = reader.run();
    async_stream::stream! {
        tokio::pin!(items);
        loop {
            tokio::select! {
                biased;
                () = reads.cancelled() => {
                    yield Err(errors::shutting_down());
                    return;
                }
                item = items.next() => match item {
                    Some(item) => yield item,
                    None => return,
                },
            }
        }
    }
    .boxed()
}

struct Reader {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    limits: ReadLimits,
    until: Option<Position>,
    /// Everything up to here was yielded.
    after: Position,
    /// The last entry that was read.
    cursor: EntryId,
    /// The entry at the cursor may hold events after `after`.
    partly: bool,
    /// How many of the entries that were ever added stand at or before the cursor, where that is known.
    count: Option<u64>,
    /// Entries with several events were seen: entries that are lost are then no number of events.
    packed: bool,
    /// The earliest entry that this reader has met in the stream.
    known: Option<EntryId>,
    /// The mark of the topic's last deletion when reading began.
    deletion: Option<String>,
    /// Once this entry was passed, so many entries must have been seen.
    checkpoint: Option<(EntryId, u64)>,
    /// An event after `until` was seen.
    finished: bool,
    /// How many entries the next page has.
    page: usize,
    /// How many events were read so far.
    read_events: usize,
    /// What is to be yielded next.
    items: VecDeque<ReadItem>,
}

/// What a page of history was.
enum Page {
    /// There is more.
    More,
    /// Everything that was there has been read.
    End,
    /// Everything up to `until` has been read.
    Done,
}

impl Reader {
    fn run(mut self) -> impl Stream<Item = Result<ReadItem>> + Send {
        async_stream::stream! {
            let mut backoff = Backoff::new();
            let mut live: Option<mpsc::Receiver<TailItem>> = None;
            while !self.done() {
                let outcome = match &mut live {
                    None => self.page().await.map(|page| match page {
                        Page::More => true,
                        Page::End => {
                            live = Some(self.follow());
                            true
                        }
                        Page::Done => false,
                    }),
                    Some(tail) => match tail.recv().await {
                        Some(item) => self.take(item).map(|keep| {
                            if !keep {
                                live = None;
                            }
                            true
                        }),
                        // It did not keep up: history is read until it has.
                        None => {
                            live = None;
                            Ok(true)
                        }
                    },
                };
                while let Some(item) = self.items.pop_front() {
                    yield Ok(item);
                }
                match outcome {
                    Ok(true) => backoff = Backoff::new(),
                    Ok(false) => return,
                    Err(error) if error.code() == Code::Overloaded => self.page = (self.page / 8).max(1),
                    Err(error) if error.retryable() && error.code() != Code::ShuttingDown => {
                        tracing::debug!(partition = %self.partition.id, %error, "reading waits");
                        backoff.pause().await;
                    }
                    Err(error) => {
                        yield Err(error.topic(self.partition.id.topic.as_str()));
                        return;
                    }
                }
            }
        }
    }

    fn done(&self) -> bool {
        self.finished || self.until.is_some_and(|until| self.after >= until)
    }

    fn follow(&self) -> mpsc::Receiver<TailItem> {
        let keys = &self.partition.keys;
        self.shared.tail.follow(&keys.stream, Some(keys.clone()), self.cursor)
    }

    /// Reads the next page of history, together with what the stream says of itself at that moment.
    async fn page(&mut self) -> Result<Page> {
        let mut out = Vec::new();
        resp::command(&mut out, &[b"MULTI"]);
        let from = match (self.cursor, self.partly) {
            (EntryId::ZERO, _) => "-".to_owned(),
            (cursor, true) => cursor.to_string(),
            (cursor, false) => format!("({cursor}"),
        };
        let to = self.until.map_or("+".to_owned(), |until| EntryId::of(until).to_string());
        let count = self.page.to_string();
        let keys = &self.partition.keys;
        let range =
            [&b"XRANGE"[..], keys.stream.as_bytes(), from.as_bytes(), to.as_bytes(), b"COUNT", count.as_bytes()];
        resp::command(&mut out, &range);
        Snapshot::ask(&mut out, [keys].into_iter());
        resp::command(&mut out, &[b"EXEC"]);
        let mut request = Request::new(out, 4, self.shared.options.response_timeout);
        // The one entry that is asked for last is taken whatever its size.
        request.reply_bytes_max = if self.page == 1 { u32::MAX as usize } else { self.shared.options.reply_bytes_max };
        let replies = self.shared.bulk.call(request).await?;
        self.take_page(&replies)
    }

    fn take_page(&mut self, replies: &Replies) -> Result<Page> {
        let mut cursor = replies.cursor();
        for _ in 0..3 {
            if let Some(View::Error(text)) = cursor.next() {
                return Err(errors::from_redis(text));
            }
        }
        cursor.array().ok_or_else(|| errors::unexpected("EXEC"))?;
        let entries = cursor;
        if let Some(View::Error(text)) = cursor.peek() {
            return Err(errors::from_redis(text));
        }
        cursor.pass();
        cursor.array().ok_or_else(|| errors::unexpected("a script"))?;
        let snapshot = Snapshot::read(&mut cursor)?;
        let asked = self.page;
        if self.look(&snapshot)? {
            // What was read belongs to another place than where reading goes on.
            return Ok(Page::More);
        }
        let before = self.read_events;
        let count = self.take_entries(entries)?;
        self.partly = false;
        self.size_next_page(count, replies.len(), self.read_events - before);
        if count == asked {
            return Ok(Page::More);
        }
        match self.until {
            Some(until) if snapshot.last.position_last() >= until => Ok(Page::Done),
            _ => {
                self.pass(&snapshot);
                Ok(Page::End)
            }
        }
    }

    /// Chooses how many entries the next page has, by how large those of this one were.
    fn size_next_page(&mut self, entries: usize, bytes: usize, events: usize) {
        if let (Some(bytes), Some(events)) = (bytes.checked_div(entries), events.checked_div(entries)) {
            let by_bytes = self.limits.batch_bytes_max / bytes.max(1);
            let by_events = self.limits.batch_events_max / events.max(1);
            self.page = by_bytes.min(by_events).clamp(1, PAGE_MAX);
        }
    }

    /// Takes what the tail says. False when history must be read again.
    fn take(&mut self, item: TailItem) -> Result<bool> {
        match item {
            TailItem::Entries(replies, place) => {
                self.take_entries(replies.cursor_at(place))?;
                Ok(true)
            }
            TailItem::Snapshot { snapshot, caught_up } => self.take_snapshot(&snapshot, caught_up),
            TailItem::Lost(_) => Ok(true),
            TailItem::Failed(error) => Err(error),
        }
    }

    /// Takes a snapshot that was made after the entries that were read so far and before those that will be.
    fn take_snapshot(&mut self, snapshot: &Snapshot, caught_up: bool) -> Result<bool> {
        if self.look(snapshot)? {
            return Ok(false);
        }
        // Nothing came since the last snapshot, and the tail does not lag: what was there then has all been read.
        if let Some((last, kept)) = self.checkpoint.take()
            && last == snapshot.last
            && caught_up
        {
            self.compare(kept);
        } else if self.cursor >= snapshot.last {
            self.compare(snapshot.kept);
        } else {
            self.checkpoint = Some((snapshot.last, snapshot.kept));
        }
        Ok(true)
    }

    /// Concludes from a snapshot what is gone. True when reading goes on at another place.
    fn look(&mut self, snapshot: &Snapshot) -> Result<bool> {
        let deletion = self.deletion.get_or_insert_with(|| snapshot.deletion.clone());
        if !snapshot.deletion.is_empty() && *deletion != snapshot.deletion {
            return Err(deleted());
        }
        if snapshot.last.position_last() < self.after {
            self.go_back(snapshot);
            return Ok(true);
        }
        self.known = snapshot.first.or(self.known);
        let (start, _) = snapshot.start();
        // Of a packed entry that is still there the first events may be gone.
        let partly_gone = snapshot.first == Some(EntryId::of(start)) && start > self.after;
        // Or the rest of the entry within which reading starts went with it.
        let rest_gone = self.partly && EntryId::of(snapshot.trimmed) == self.cursor && snapshot.trimmed > self.after;
        let ahead = snapshot.first.is_none_or(|first| first > self.cursor);
        if !(ahead && (rest_gone || snapshot.last > self.cursor)) {
            if partly_gone {
                self.gap(start, snapshot, None, GapReason::Trimmed);
            }
            return Ok(false);
        }
        let removed = snapshot.removed();
        let lost = match self.count {
            Some(count) if count > removed => {
                // Fewer were removed than were seen: this is another stream, whose entries all come later.
                self.gap(self.after, snapshot, None, GapReason::Recreated);
                self.count = Some(removed);
                self.checkpoint = None;
                return Ok(false);
            }
            Some(count) => Some(removed - count),
            None => self.removed_before(snapshot),
        };
        self.count = Some(removed);
        self.checkpoint = None;
        if lost == Some(0) && !partly_gone {
            return Ok(false);
        }
        self.gap(start, snapshot, lost.filter(|_| !partly_gone), GapReason::Trimmed);
        if snapshot.first.is_none() {
            self.cursor = snapshot.last;
        }
        self.partly = false;
        Ok(false)
    }

    /// How many entries were removed after the cursor, for a reader that was not here before.
    fn removed_before(&self, snapshot: &Snapshot) -> Option<u64> {
        let only_ours = snapshot.removed() == snapshot.trimmed_count;
        (only_ours && snapshot.trimmed <= self.after).then_some(0)
    }

    /// The log ends before the place of this reader. When it was deleted, and perhaps made anew, reading goes on at its
    /// start. When what this reader knows is still there, Redis came back without its newest entries: then everything up
    /// to the end is read, and only what comes next is new.
    fn go_back(&mut self, snapshot: &Snapshot) {
        let same =
            self.known.zip(snapshot.first).is_some_and(|(known, first)| first <= known && known <= snapshot.last);
        let (resume, cursor, count) = if same {
            (snapshot.last.position_last(), snapshot.last, snapshot.kept)
        } else {
            (Position::START, EntryId::ZERO, 0)
        };
        self.gap(resume, snapshot, None, GapReason::Recreated);
        self.known = snapshot.first;
        self.cursor = cursor;
        self.partly = false;
        self.count = Some(count);
        self.checkpoint = None;
    }

    /// Everything that was there when the snapshot was made has been read.
    fn pass(&mut self, snapshot: &Snapshot) {
        self.compare(snapshot.kept);
        self.cursor = self.cursor.max(snapshot.last);
    }

    /// Compares what was seen with what was there up to the cursor.
    fn compare(&mut self, kept: u64) {
        let count = self.count.replace(kept);
        let earliest = None;
        let (lost, reason) = match count {
            Some(count) if count < kept => (self.events(Some(kept - count)), GapReason::Trimmed),
            Some(count) if count > kept => (None, GapReason::Recreated),
            _ => return,
        };
        let (after, resume) = (self.after, self.after);
        self.items.push_back(ReadItem::Gap(Gap { after, resume, earliest, lost, reason }));
    }

    fn gap(&mut self, resume: Position, snapshot: &Snapshot, lost: Option<u64>, reason: GapReason) {
        let (_, earliest) = snapshot.start();
        let lost = self.events(lost);
        self.items.push_back(ReadItem::Gap(Gap { after: self.after, resume, earliest, lost, reason }));
        self.after = resume;
    }

    /// A number of entries as a number of events, where an entry is an event.
    fn events(&self, entries: Option<u64>) -> Option<u64> {
        entries.filter(|_| !self.packed)
    }

    /// Takes entries, an array of which comes next. Says how many there were.
    fn take_entries(&mut self, mut cursor: Cursor<'_>) -> Result<usize> {
        let Some(count) = cursor.array() else {
            return match cursor.next() {
                Some(View::Error(text)) => Err(errors::from_redis(text)),
                _ => Err(errors::unexpected("a read of a stream")),
            };
        };
        let partition = self.partition.clone();
        let types = self.shared.options.field_types.clone();
        let new = || Decoder::new(partition.id.topic.as_str(), partition.id.partition, &*types, 0);
        let mut decoder = new();
        decoder.reserve(count);
        let mut fields: Vec<Field<'_>> = Vec::new();
        for _ in 0..count {
            let Some(id) = entry(&mut cursor, &mut fields) else { return Err(errors::unexpected("an entry")) };
            if id < self.cursor || id == self.cursor && !self.partly {
                continue;
            }
            if let Some((_, kept)) = self.checkpoint.take_if(|(last, _)| id > *last) {
                // What is missing is missing somewhere before this entry.
                self.yield_records(std::mem::replace(&mut decoder, new()).finish());
                self.compare(kept);
            }
            if id > self.cursor
                && let Some(count) = &mut self.count
            {
                *count += 1;
            }
            self.known.get_or_insert(id);
            let before = decoder.len();
            if let Err(error) = decoder.push(id, &fields) {
                tracing::warn!(partition = %partition.id, %error, "an entry cannot be read and is skipped");
                self.yield_records(std::mem::replace(&mut decoder, new()).finish());
                self.unreadable(id);
            }
            self.packed |= decoder.len() > before + 1;
            self.cursor = id;
        }
        self.yield_records(decoder.finish());
        if let Some((_, kept)) = self.checkpoint.take_if(|(last, _)| self.cursor >= *last) {
            self.compare(kept);
        }
        Ok(count)
    }

    fn unreadable(&mut self, id: EntryId) {
        let resume = id.position_last();
        // Entries that have no position of their own share the one that stands for all of them.
        if resume > self.after {
            let gap = Gap { after: self.after, resume, earliest: None, lost: None, reason: GapReason::Unreadable };
            self.items.push_back(ReadItem::Gap(gap));
            self.after = resume;
        }
    }

    /// Queues records in portions, leaving out what was yielded before or is past the end.
    fn yield_records(&mut self, mut records: Vec<Record>) {
        self.read_events += records.len();
        if records.first().is_some_and(|first| first.position <= self.after) {
            records.retain(|record| record.position > self.after);
        }
        if let Some(until) = self.until {
            let wanted = records.partition_point(|record| record.position <= until);
            self.finished |= wanted < records.len();
            records.truncate(wanted);
        }
        let Some(last) = records.last() else { return };
        self.after = last.position;
        let bytes = records.iter().map(|record| record.event.size()).sum::<usize>();
        if records.len() <= self.limits.batch_events_max && bytes <= self.limits.batch_bytes_max {
            self.items.push_back(ReadItem::Batch(records));
            return;
        }
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let mut portion = Vec::with_capacity(rest.len().min(self.limits.batch_events_max));
            let mut bytes = 0;
            while let Some(record) = rest.next_if(|record| {
                let fits = portion.len() < self.limits.batch_events_max.max(1)
                    && bytes + record.event.size() <= self.limits.batch_bytes_max;
                portion.is_empty() || fits
            }) {
                bytes += record.event.size();
                portion.push(record);
            }
            self.items.push_back(ReadItem::Batch(portion));
        }
    }
}

/// Reads the entry that comes next. An entry that was deleted while it was read has no fields.
fn entry<'a>(cursor: &mut Cursor<'a>, fields: &mut Vec<Field<'a>>) -> Option<EntryId> {
    fields.clear();
    cursor.array()?;
    let id = EntryId::parse(cursor.bytes()?)?;
    match cursor.array() {
        Some(count) => {
            for _ in 0..count / 2 {
                fields.push((cursor.bytes()?, cursor.bytes()?));
            }
        }
        None => _ = cursor.next(),
    }
    Some(id)
}

/// The topic was deleted while it was read.
fn deleted() -> Error {
    Error::new(Code::TopicNotFound, "the topic was deleted; subscribe again once it exists")
}
