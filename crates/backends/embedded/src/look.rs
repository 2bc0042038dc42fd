//! Looking into the stored log. Everything here blocks on the disk.

use bytes::Bytes;
use fjall::Guard;
use synapse_hub_core::{
    Code, Position, Result, Timestamp,
    backend::{Gap, GapReason, ReadItem, ReadLimits, Record},
    batch,
};

use crate::{
    keys::{BATCH_HEADER_BYTES, BatchHeader, PartitionKey, PartitionState, batch_key, offset_of},
    partition::Partition,
    store::{Engine, failed},
};

/// What a look into the log found.
pub(crate) enum Look {
    /// This, up to this offset.
    Item(ReadItem, u64),
    /// Nothing between the wanted place and this offset: those were skipped.
    Nothing(u64),
}

/// A batch as it is stored.
struct Stored {
    base: u64,
    header: BatchHeader,
    value: Bytes,
}

impl Stored {
    fn read(guard: Guard) -> Result<Self> {
        let (key, value) = guard.into_inner().map_err(failed)?;
        Ok(Self { base: offset_of(&key), header: BatchHeader::decode(&value), value: value.into() })
    }

    fn last(&self) -> u64 {
        self.header.last(self.base)
    }

    /// Adds its events between two offsets. False when they cannot be read.
    fn records(&self, after: u64, until: u64, records: &mut Vec<Record>) -> bool {
        let stored = Timestamp::from_nanos(self.header.stored_nanos);
        let batch = self.value.slice(BATCH_HEADER_BYTES.min(self.value.len())..);
        let Ok(events) = batch::decode_stored(batch) else { return false };
        if events.len() != self.header.events as usize {
            return false;
        }
        let wanted = (self.base..).zip(events).filter(|(offset, _)| *offset > after && *offset <= until);
        records.extend(wanted.map(|(offset, event)| Record { position: Position::offset(offset), stored, event }));
        true
    }
}

/// Reads the log after `after` and up to `until`.
pub(crate) fn look(
    partition: &Partition,
    engine: &Engine,
    key: &PartitionKey,
    after: u64,
    until: u64,
    limits: ReadLimits,
) -> Result<Look> {
    let start = match batch_at(engine, key, partition.state().first, after + 1) {
        Ok(found) => found.map_or(after + 1, |(base, _)| base),
        Err(error) if error.code() == Code::StorageCorrupt => after + 1,
        Err(error) => return Err(error),
    };
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    for guard in engine.log.range(batch_key(key, start)..=batch_key(key, until)) {
        let stored = match Stored::read(guard) {
            Ok(stored) => stored,
            Err(error) if error.code() == Code::StorageCorrupt => {
                if !records.is_empty() {
                    break;
                }
                let resume = next_readable(engine, key, after, until).map_or(until, |base| base.max(after + 2) - 1);
                return Ok(unreadable(partition, after, resume, error.message()));
            }
            Err(error) => return Err(error),
        };
        let last = stored.last();
        if last <= after {
            continue;
        }
        let full = records.len() + stored.header.events as usize > limits.batch_events_max
            || bytes + stored.value.len() > limits.batch_bytes_max;
        if full && !records.is_empty() {
            break;
        }
        bytes += stored.value.len();
        if !stored.records(after, until, &mut records) {
            if !records.is_empty() {
                break;
            }
            return Ok(unreadable(partition, after.max(stored.base - 1), last, "a batch is not what was stored"));
        }
    }
    Ok(match records.last() {
        Some(record) => {
            let last = record.position.major();
            Look::Item(ReadItem::Batch(records), last)
        }
        None => Look::Nothing(until),
    })
}

fn unreadable(partition: &Partition, after: u64, resume: u64, why: &str) -> Look {
    tracing::error!(partition = %partition.id, after, resume, why, "stored events cannot be read and are skipped");
    let gap = Gap {
        after: Position::offset(after),
        resume: Position::offset(resume),
        earliest: Some(Position::offset(resume + 1)),
        lost: partition.state().distance(after, resume),
        reason: GapReason::Unreadable,
    };
    Look::Item(ReadItem::Gap(gap), resume)
}

/// The first batch after `after` that can be read again: tried further and further ahead, then nearer and nearer.
fn next_readable(engine: &Engine, key: &PartitionKey, after: u64, until: u64) -> Option<u64> {
    let try_from = |start: u64| {
        let mut found = engine.log.range(batch_key(key, start)..=batch_key(key, until));
        found.next().map(Stored::read)
    };
    let (mut bad, mut step) = (after, 1);
    let mut good = loop {
        let start = after + step;
        if start > until {
            return None;
        }
        match try_from(start)? {
            Ok(_) => break start,
            Err(_) => (bad, step) = (start, step * 2),
        }
    };
    while bad + 1 < good {
        let middle = bad + (good - bad) / 2;
        match try_from(middle) {
            Some(Ok(_)) => good = middle,
            _ => bad = middle,
        }
    }
    try_from(good)?.ok().map(|stored| stored.base)
}

/// The batch that holds `offset`, or else the last one before it, if it is not before `first`.
pub(crate) fn batch_at(
    engine: &Engine,
    key: &PartitionKey,
    first: u64,
    offset: u64,
) -> Result<Option<(u64, BatchHeader)>> {
    if first > offset {
        return Ok(None);
    }
    let mut before = engine.log.range(batch_key(key, first)..=batch_key(key, offset));
    let Some(guard) = before.next_back() else { return Ok(None) };
    let stored = Stored::read(guard)?;
    Ok(Some((stored.base, stored.header)))
}

/// The earliest and the latest event that are still there.
pub(crate) fn edges(engine: &Engine, key: &PartitionKey, state: PartitionState) -> Result<[Option<Position>; 2]> {
    let mut earliest = None;
    for guard in engine.log.range(batch_key(key, state.first)..=batch_key(key, u64::MAX)) {
        let stored = Stored::read(guard)?;
        if stored.last() > state.low {
            earliest = Some(Position::offset(stored.base.max(state.low + 1)));
            break;
        }
    }
    let latest = batch_at(engine, key, state.first, state.last)?.map(|(base, header)| header.last(base));
    Ok([earliest, latest.filter(|&latest| latest > state.low).map(Position::offset)])
}

/// Halves the offsets until the first batch is found that was stored at `time` or later.
pub(crate) fn find(engine: &Engine, key: &PartitionKey, state: PartitionState, time: Timestamp) -> Result<Position> {
    let nanos = time.as_nanos();
    // No event up to `before` was stored at that time or later; all from `from` on were.
    let (mut before, mut from) = (state.low, state.last + 1);
    let mut earlier = (state.low > 0 && state.low_stored_nanos < nanos).then_some(state.low);
    while before + 1 < from {
        let middle = before + (from - before) / 2;
        let found = match batch_at(engine, key, state.first, middle) {
            // What cannot be read may be of that time: it is not passed over.
            Err(error) if error.code() == Code::StorageCorrupt => {
                from = middle;
                continue;
            }
            found => found?,
        };
        match found {
            Some((base, header)) if header.last(base) > before => {
                if header.stored_nanos < nanos {
                    before = header.last(base).max(middle);
                    earlier = Some(header.last(base));
                } else {
                    from = base.max(before + 1);
                }
            }
            // Nothing is here, because offsets were skipped.
            _ => before = middle,
        }
    }
    Ok(match earlier {
        Some(_) if from > state.last => Position::offset(state.last),
        Some(earlier) => Position::offset(earlier),
        None => Position::START,
    })
}
